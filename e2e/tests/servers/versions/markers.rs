//! Own writes are read, by markers: while the replica that readers fill from stands still, and while no delete comes either, because the
//! invalidator is frozen.

use client::Marked;
use e2e::{
    cache::Cache,
    servers::{Kind, Link},
};

use super::{DEADLINE, Stage, ask};
use crate::{
    look_aside::{client_of, is_cached, key_of, read, text, write},
    support::{enter_alone, tenth_unless_long, until},
};

const THING: u32 = 9;
/// Written as often, without a mark: it shows what marks are for.
const UNMARKED: u32 = 10;
const OTHER: u32 = 11;
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
    let client = client_of(&stage);
    for thing in [THING, UNMARKED] {
        until("the node serves what it was given", DEADLINE, async || {
            let got = read(&stage, &client, thing, None).await;
            is_cached(&got) && text(&got) == "v0"
        })
        .await;
    }
    let mut writer = stage.chain[0].connect().await.expect("a connection");
    // Its epoch is known before nobody answers.
    let first = write(kind, &mut writer, OTHER, "v1").await;
    assert!(client.version_of(&first).await.is_some(), "the epoch is announced");

    stage.chain[1].stop_applying().await.expect("the replica stands still");
    stage.mcsqueal.freeze().expect("no delete comes");
    let writes = tenth_unless_long(WRITES);
    for number in 1..=writes {
        let value = format!("v{number}");
        let mark = client.mark(&[key_of(THING)]).await.expect("one key");
        write(kind, &mut writer, UNMARKED, &value).await;
        let commit = write(kind, &mut writer, THING, &value).await;
        assert_eq!(client.committed(mark, &commit).await.marked, Marked::All);
        // Without the token of the write, as everybody reads.
        let seen = read(&stage, &client, THING, None).await;
        assert_eq!(text(&seen), value, "one's own write is not there");
    }
    let unmarked = read(&stage, &client, UNMARKED, None).await;
    assert_eq!(text(&unmarked), "v0", "without a mark, an own write would be seen just as well");

    stage.mcsqueal.thaw().expect("deletes come");
    stage.chain[1].start_applying().await.expect("the replica goes on");
    for thing in [THING, UNMARKED] {
        let last = format!("v{writes}");
        until("the region has the last write", DEADLINE, async || {
            let got = read(&stage, &client, thing, None).await;
            is_cached(&got) && text(&got) == last
        })
        .await;
    }
    stage.mcsqueal.stop().await.expect("a clean stop");
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
