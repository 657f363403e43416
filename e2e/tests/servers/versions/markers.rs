//! Own writes are read, by markers: while the replica that readers fill from stands still, and while no delete comes either, because the
//! invalidator is frozen.

use e2e::{
    cache::{Cache, From, Looked},
    servers::{Kind, Link},
};
use mysql_async::{Conn, prelude::Queryable};
use tokio::time::sleep;

use super::{DEADLINE, POLL, Stage, TTL_S, ask, value_of};
use crate::support::{enter_alone, tenth_unless_long, until};

const THING: u32 = 9;
/// Written as often, without a mark: it shows what marks are for.
const UNMARKED: u32 = 10;
const WRITES: u32 = 200;

#[tokio::test(flavor = "multi_thread")]
async fn own_writes_are_read_on_mysql() {
    own_writes_are_read("own_writes_are_read_on_mysql", Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn own_writes_are_read_on_mariadb() {
    own_writes_are_read("own_writes_are_read_on_mariadb", Kind::Mariadb).await;
}

async fn own_writes_are_read(test: &str, kind: Kind) {
    let Some(lab) = enter_alone(test, &[kind.name(), "mcsqueal"]).await else { return };
    // The node must stay fresh while its invalidator is frozen.
    let versions = "marker_ttl_ms_max = 5000\nstaleness_ms_max = 60000\nfill_age_ms_max = 2000";
    let mut stage = Stage::start(lab, kind, &[Link::Plain, Link::Plain], &[1], versions).await;
    let mut cache = Cache::new(&stage.nodes);
    for thing in [THING, UNMARKED] {
        until("the node serves what it was given", DEADLINE, async || {
            stage.fill(&mut cache, 1, thing).await;
            cache.look(&format!("thing:{thing}")).await.ok() == Some(value("v0"))
        })
        .await;
    }
    let epoch = epoch(&mut cache).await;

    stage.chain[1].stop_applying().await.expect("the replica stands still");
    stage.mcsqueal.freeze().expect("no delete comes");
    let mut writer = stage.chain[0].connect().await.expect("a connection");
    let writes = tenth_unless_long(WRITES);
    for nonce in 1..=writes {
        let mark = format!("md thing:{THING} m{nonce}");
        assert_eq!(ask(&mut cache, &format!("{mark}\r\n")).await.0, "HD");
        for thing in [THING, UNMARKED] {
            let change = format!("UPDATE shop.things SET value = 'v{nonce}' WHERE id = {thing}");
            writer.query_drop(change).await.expect("a write");
        }
        let version = epoch << 48 | number(kind, &mut writer).await;
        let named = ask(&mut cache, &format!("{mark} V{version}\r\n")).await.0;
        assert!(named == "HD" || named == "NF", "{named}");
        let seen = read(&stage, &mut cache, THING).await;
        assert_eq!(seen, format!("v{nonce}"), "one's own write is not there");
    }
    let unmarked = read(&stage, &mut cache, UNMARKED).await;
    assert_eq!(unmarked, "v0", "without a mark, an own write would be seen just as well");

    stage.mcsqueal.thaw().expect("deletes come");
    stage.chain[1].start_applying().await.expect("the replica goes on");
    for thing in [THING, UNMARKED] {
        let last = format!("v{writes}");
        until("the region has the last write", DEADLINE, async || {
            stage.fill(&mut cache, 1, thing).await == last
        })
        .await;
    }
    stage.mcsqueal.stop().await.expect("a clean stop");
}

fn value(text: &str) -> Looked {
    Looked::Value(text.to_owned())
}

/// The one in which the node's values were read.
async fn epoch(cache: &mut Cache) -> u64 {
    let (line, _) = ask(cache, &format!("mg thing:{THING} V\r\n")).await;
    let version = line.strip_prefix("HD V").and_then(|bits| bits.parse::<u64>().ok());
    version.unwrap_or_else(|| panic!("no version: {line}")) >> 48
}

/// Of the last transaction of this server.
async fn number(kind: Kind, conn: &mut Conn) -> u64 {
    let asked = match kind {
        Kind::Mysql => "SELECT @@global.gtid_executed",
        Kind::Mariadb => "SELECT @@last_gtid",
    };
    let said: String = conn.query_first(asked).await.expect("an answer").expect("a row");
    let last = said.rsplit(['-', ':']).next().and_then(|number| number.parse().ok());
    last.unwrap_or_else(|| panic!("no number: {said}"))
}

/// What a reader of this region sees: through the node, by its leases and hints.
async fn read(stage: &Stage, cache: &mut Cache, thing: u32) -> String {
    let key = format!("thing:{thing}");
    let mut seen = None;
    until("a reader gets a value", DEADLINE, async || {
        let (lease, from) = match cache.look(&key).await {
            Ok(Looked::Value(value)) => {
                seen = Some(value);
                return true;
            }
            Ok(Looked::Lease { cas, from }) => (Some(cas), from),
            Ok(Looked::Miss { from }) => (None, from),
            _ => {
                sleep(POLL).await;
                return false;
            }
        };
        let at = usize::from(from == From::Anywhere);
        let mut conn = stage.chain[at].connect().await.expect("a connection");
        let value = value_of(&mut conn, thing).await;
        if let Some(cas) = lease {
            cache.fill(&key, cas, TTL_S, &value).await.expect("the node answers");
        }
        seen = Some(value);
        true
    })
    .await;
    seen.expect("the loop has ended")
}

/// What memcached says to the words that only our node knows: a client asks once, and knows.
#[tokio::test]
async fn memcached_refuses_our_flags() {
    let Some(lab) = crate::support::enter("memcached_refuses_our_flags", &["memcached"]).await
    else {
        return;
    };
    let memcached = lab.servers.memcached().await.expect("memcached");
    let nodes = e2e::cache::Nodes::new(vec![memcached.address()]).expect("a ring");
    for request in ["mg a v V", "mg a v V1", "mg a v c N30 G", "md a m1", "md a m1 V1"] {
        let mut cache = Cache::new(&nodes);
        let (line, _) = ask(&mut cache, &format!("{request}\r\n")).await;
        assert_eq!(line, "CLIENT_ERROR invalid flag", "{request}");
    }
    let mut cache = Cache::new(&nodes);
    let (line, _) = ask(&mut cache, "ms a 1 V1\r\n1\r\n").await;
    assert_eq!(line, "CLIENT_ERROR invalid flag");
}
