//! What monitoring reads: `stats` as the exporter for Prometheus parses it, hot keys, counts by prefix, and dumps.

use std::collections::BTreeMap;

use e2e::http;

use super::wire::Wire;
use crate::support::enter;

const NEEDS: [&str; 1] = ["mcsqueal"];

/// How the exporter reads a value.
#[derive(Clone, Copy, Debug)]
enum Read {
    Number,
    /// Seconds, a dot, microseconds.
    Time,
    YesOrNo,
    Text,
}

type Names = (Read, &'static [&'static str]);

/// Names that the exporter reads, with `stats items` and `stats slabs` by their names behind the class.
const FORMS: [(&str, &[Names]); 4] = [
    (
        "stats",
        &[
            (Read::Text, &["version"]),
            (Read::Time, &["rusage_user", "rusage_system"]),
            (
                Read::Number,
                &[
                    "uptime",
                    "time",
                    "get_hits",
                    "get_misses",
                    "delete_hits",
                    "delete_misses",
                    "incr_hits",
                    "incr_misses",
                    "decr_hits",
                    "decr_misses",
                    "cas_hits",
                    "cas_misses",
                    "cas_badval",
                    "touch_hits",
                    "touch_misses",
                    "cmd_flush",
                    "cmd_set",
                    "bytes",
                    "limit_maxbytes",
                    "curr_items",
                    "total_items",
                    "bytes_read",
                    "bytes_written",
                    "curr_connections",
                    "total_connections",
                    "rejected_connections",
                    "conn_yields",
                    "listen_disabled_num",
                    "evictions",
                    "reclaimed",
                    "store_too_large",
                    "store_no_memory",
                    "crawler_reclaimed",
                    "accepting_conns",
                ],
            ),
        ],
    ),
    (
        "stats settings",
        &[
            (Read::Number, &["maxconns", "maxbytes", "tcpport", "item_size_max", "num_threads"]),
            (Read::YesOrNo, &["cas_enabled", "flush_enabled", "dump_enabled", "shutdown_command"]),
        ],
    ),
    (
        "stats items",
        &[(
            Read::Number,
            &[
                "items:1:number",
                "items:1:age",
                "items:1:evicted",
                "items:1:evicted_nonzero",
                "items:1:evicted_time",
                "items:1:evicted_unfetched",
                "items:1:expired_unfetched",
                "items:1:outofmemory",
                "items:1:reclaimed",
                "items:1:tailrepairs",
                "items:1:crawler_reclaimed",
                "items:1:mem_requested",
                "items:1:number_hot",
                "items:1:number_warm",
                "items:1:number_cold",
                "items:1:hits_to_cold",
            ],
        )],
    ),
    (
        "stats slabs",
        &[(
            Read::Number,
            &[
                "1:chunk_size",
                "1:chunks_per_page",
                "1:total_pages",
                "1:total_chunks",
                "1:used_chunks",
                "1:free_chunks",
                "1:free_chunks_end",
                "1:get_hits",
                "1:cmd_set",
                "1:delete_hits",
                "1:incr_hits",
                "1:decr_hits",
                "1:cas_hits",
                "1:cas_badval",
                "1:touch_hits",
                "active_slabs",
                "total_malloced",
            ],
        )],
    ),
];

#[tokio::test]
async fn stats_are_what_the_exporter_parses() {
    let Some(lab) = enter("stats_are_what_the_exporter_parses", &NEEDS).await else { return };
    let node = lab.servers.cache_node(&[]).await.expect("the node starts");
    let mut wire = Wire::connect(&node.address()).await.expect("connect");
    // An empty node has no class.
    for form in ["stats items", "stats slabs"] {
        stats(&mut wire, form).await;
    }
    wire.ask(b"set a 0 0 1\r\n1\r\nget a\r\nget b\r\n").await.expect("an answer");
    for (form, expected) in FORMS {
        let stats = stats(&mut wire, form).await;
        for (read, names) in expected {
            for &name in *names {
                let value =
                    stats.get(name).unwrap_or_else(|| panic!("{form}: no {name}: {stats:?}"));
                assert!(read.takes(value), "{form}: {name} {value:?} is no {read:?}");
            }
        }
        // Whatever is of a class must be a number, or the exporter gives up.
        for (name, value) in stats.iter().filter(|(name, _)| name.contains(':')) {
            assert!(Read::Number.takes(value), "{form}: {name} {value:?}");
        }
    }
    let general = stats(&mut wire, "stats").await;
    let counted = ["cmd_set", "get_hits", "curr_items"].map(|name| &*general[name]);
    assert_eq!(counted, ["1", "1", "1"]);
    let conns = stats(&mut wire, "stats conns").await;
    assert!(conns.keys().any(|name| name.ends_with(":addr")), "{conns:?}");
    assert_eq!(wire.ask(b"stats reset\r\n").await.expect("an answer"), b"RESET\r\n");
    let after = stats(&mut wire, "stats").await;
    assert_eq!((&*after["cmd_set"], &*after["curr_items"]), ("0", "1"));
}

impl Read {
    fn takes(self, value: &str) -> bool {
        match self {
            Read::Number => value.parse::<f64>().is_ok(),
            Read::Time => {
                let parts: Vec<&str> = value.split('.').collect();
                parts.len() == 2 && parts.iter().all(|part| part.parse::<u64>().is_ok())
            }
            Read::YesOrNo => ["yes", "no"].contains(&value),
            Read::Text => !value.is_empty(),
        }
    }
}

/// Names and values; every line must be one, or the end.
async fn stats(wire: &mut Wire, form: &str) -> BTreeMap<String, String> {
    let answer = wire.ask(format!("{form}\r\n").as_bytes()).await.expect("an answer");
    let text = String::from_utf8(answer).expect("text");
    let lines = text.strip_suffix("END\r\n").unwrap_or_else(|| panic!("{form}: {text}"));
    let pair = |line: &str| {
        let mut words = line.split(' ');
        let (stat, name, value) = (words.next()?, words.next()?, words.next()?);
        (stat == "STAT" && words.next().is_none()).then(|| (name.to_owned(), value.to_owned()))
    };
    lines.lines().map(|line| pair(line).unwrap_or_else(|| panic!("{form}: {line}"))).collect()
}

#[tokio::test]
async fn hot_keys_and_prefixes_show() {
    let Some(lab) = enter("hot_keys_and_prefixes_show", &NEEDS).await else { return };
    let node = lab.servers.cache_node(&["-D", "/"]).await.expect("the node starts");
    let mut wire = Wire::connect(&node.address()).await.expect("connect");
    for round in 0..200 {
        // One access in two is to the same key, the others to keys that come once.
        let reads = (0..100).map(|n| format!("get hot/key\r\nget cold/{}\r\n", round * 100 + n));
        wire.ask(reads.collect::<Vec<_>>().concat().as_bytes()).await.expect("an answer");
    }
    wire.ask(b"set hot/key 0 0 1\r\n1\r\nget hot/key\r\ndelete hot/key\r\n").await.expect("done");
    let hot = stats(&mut wire, "stats hotkeys").await;
    let share: f64 = hot["hot%2Fkey"].parse().expect("a number");
    assert!((30.0..70.0).contains(&share), "{hot:?}");
    let detail = wire.ask(b"stats detail dump\r\n").await.expect("an answer");
    let expected = "PREFIX cold get 20000 hit 0 set 0 del 0\r\nPREFIX hot get 20001 hit 1 set 1 del 1\r\nEND\r\n";
    assert_eq!(String::from_utf8_lossy(&detail), expected);
    let side = node.http().expect("a side port");
    let (status, metrics) = http::get(side, "/metrics").await.expect("metrics");
    assert_eq!(status, 200);
    for line in [
        "mcsqueal_node_prefix_gets_total{prefix=\"hot\"} 20001",
        "mcsqueal_node_prefix_hits_total{prefix=\"hot\"} 1",
        "mcsqueal_node_hot_key_share_ppm{key=\"hot/key\"} ",
    ] {
        assert!(metrics.lines().any(|it| it.starts_with(line)), "no {line} in\n{metrics}");
    }
}

#[tokio::test]
async fn keys_are_dumped() {
    let Some(lab) = enter("keys_are_dumped", &NEEDS).await else { return };
    let node = lab.servers.cache_node(&[]).await.expect("the node starts");
    let mut wire = Wire::connect(&node.address()).await.expect("connect");
    wire.ask(b"set a 5 0 1\r\n1\r\nms YSBi 1 b\r\n2\r\n").await.expect("an answer");
    let mut ask = async |request: &str| {
        let answer = wire.ask(request.as_bytes()).await.expect("an answer");
        String::from_utf8(answer).expect("text")
    };
    let facts = ask("lru_crawler metadump all\r\n").await;
    let lines: Vec<&str> = facts.lines().collect();
    assert_eq!((lines.len(), lines.first(), lines.last()), (4, Some(&"OK"), Some(&"END")));
    for key in ["key=a exp=-1 la=", "key=a%20b exp=-1 la="] {
        assert!(lines.iter().any(|line| line.starts_with(key)), "{facts}");
    }
    let commands = ask("lru_crawler mgdump all\r\n").await;
    for line in ["OK", "mg a", "mg YSBi b", "EN"] {
        assert!(commands.lines().any(|it| it == line), "{commands}");
    }
    let keys = ask("stats cachedump 1 0\r\n").await;
    assert!(keys.contains("ITEM a [1 b; 0 s]\r\n") && keys.ends_with("END\r\n"), "{keys}");
    let without = lab.servers.cache_node(&["-X", "-F"]).await.expect("the node starts");
    let mut wire = Wire::connect(&without.address()).await.expect("connect");
    for (request, refusal) in [
        ("lru_crawler metadump all", "ERROR metadump not allowed"),
        ("lru_crawler mgdump all", "ERROR key dump not allowed"),
        ("stats cachedump 1 0", "CLIENT_ERROR stats cachedump not allowed"),
        ("stats detail dump", "CLIENT_ERROR stats detail not allowed"),
        ("flush_all", "CLIENT_ERROR flush_all not allowed"),
    ] {
        let answer = wire.ask(format!("{request}\r\n").as_bytes()).await.expect("an answer");
        assert_eq!(String::from_utf8_lossy(&answer), format!("{refusal}\r\n"));
    }
}
