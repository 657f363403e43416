//! Commands on their way to nodes and back.

use super::{NEEDS, file};
use crate::{node::wire::Wire, support::enter};

/// Each answer is what a single memcached would say.
#[tokio::test]
async fn commands_are_answered_as_by_one_memcached() {
    let Some(lab) = enter("commands_are_answered_as_by_one_memcached", &NEEDS).await else {
        return;
    };
    let nodes = lab.servers.memcached_nodes(3).await.expect("nodes");
    let addresses: Vec<String> = nodes.iter().map(e2e::servers::Memcached::address).collect();
    let router = lab.servers.router(&file(&addresses, None)).await.expect("a router");
    let mut wire = Wire::connect(&router.address()).await.expect("connect");
    for (asked, answered) in [
        ("set a 5 0 3\r\nabc\r\n", "STORED\r\n"),
        ("get a\r\n", "VALUE a 5 3\r\nabc\r\nEND\r\n"),
        ("add a 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
        ("get /eu/main/a\r\n", "VALUE /eu/main/a 5 3\r\nabc\r\nEND\r\n"),
        ("get /us/main/a\r\n", "SERVER_ERROR no such routing prefix\r\n"),
        ("mg a v f Oxyz k\r\n", "VA 3 f5 Oxyz ka\r\nabc\r\n"),
        ("mg /eu/main/a s k\r\n", "HD s3 k/eu/main/a\r\n"),
        ("mg none v\r\n", "EN\r\n"),
        ("mg none v q\r\nmd none q\r\nms b 1 q\r\nx\r\nmn\r\n", "NF\r\nMN\r\n"),
        (
            "set n 0 0 1 noreply\r\n5\r\nincr n 3\r\ndecr n 9 noreply\r\nget n\r\n",
            "8\r\nVALUE n 0 1\r\n0\r\nEND\r\n",
        ),
        (
            "touch n 100\r\ndelete n\r\ndelete n\r\ndelete n noreply\r\n",
            "TOUCHED\r\nDELETED\r\nNOT_FOUND\r\n",
        ),
        ("incr b 1\r\n", "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
        ("flush_all\r\n", "SERVER_ERROR Command not supported\r\n"),
        ("nonsense\r\n", "ERROR\r\n"),
        ("get\r\n", "CLIENT_ERROR bad command line format\r\n"),
        ("set a 0 0 2000000\r\n", ""),
    ] {
        if answered.is_empty() {
            let large = [asked.as_bytes(), &vec![b'x'; 2_000_000], b"\r\nget a\r\n"].concat();
            let said = wire.ask(&large).await.expect("an answer");
            let expected = "SERVER_ERROR object too large for cache\r\nEND\r\n";
            assert_eq!(String::from_utf8_lossy(&said), expected, "what was there before is gone");
            continue;
        }
        let said = wire.ask(asked.as_bytes()).await.expect("an answer");
        assert_eq!(String::from_utf8_lossy(&said), answered, "{asked}");
    }
    let said = wire.ask(b"config get cluster\r\n").await.expect("an answer");
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.starts_with("CONFIG cluster 0 ") && said.matches("127.0.0.1|127.0.0.1|").count() == 3,
        "{said}"
    );
}

/// Values of several nodes come as one reply, and large ones whole.
#[tokio::test]
async fn many_keys_are_read_at_once() {
    let Some(lab) = enter("many_keys_are_read_at_once", &NEEDS).await else { return };
    let nodes = lab.servers.memcached_nodes(3).await.expect("nodes");
    let addresses: Vec<String> = nodes.iter().map(e2e::servers::Memcached::address).collect();
    let router = lab.servers.router(&file(&addresses, None)).await.expect("a router");
    let mut wire = Wire::connect(&router.address()).await.expect("connect");
    let value = |key: usize| "v".repeat(1 + key * 100);
    let mut sets = String::new();
    for key in 0..1000_usize {
        sets += &format!("set k{key} 0 0 {} noreply\r\n{}\r\n", value(key).len(), value(key));
    }
    assert_eq!(wire.ask(sets.as_bytes()).await.expect("an answer"), b"");
    for prefix in ["", "/eu/main/"] {
        let keys: Vec<String> = (0..1200).map(|key| format!("{prefix}k{key}")).collect();
        let said =
            wire.ask(format!("get {}\r\n", keys.join(" ")).as_bytes()).await.expect("values");
        let said = String::from_utf8(said).expect("text");
        assert!(said.ends_with("\r\nEND\r\n") && said.matches("END").count() == 1);
        for (key, name) in keys.iter().enumerate().take(1000) {
            let one = format!("VALUE {name} 0 {}\r\n{}\r\n", value(key).len(), value(key));
            assert!(said.contains(&one), "{name}");
        }
        assert_eq!(said.matches("VALUE ").count(), 1000);
    }
    // Each node has a part of them.
    for address in addresses {
        let mut node = Wire::connect(&address).await.expect("connect");
        let said = node.ask(b"stats\r\n").await.expect("an answer");
        let said = String::from_utf8(said).expect("text");
        let items = said.lines().find_map(|line| line.strip_prefix("STAT curr_items "));
        let items: usize = items.expect("a number").parse().expect("a number");
        assert!((100..700).contains(&items), "{items}");
    }
}
