//! Own writes are read at once, with marks and with tokens, here and in another cluster; what others see may lag, but never
//! goes back.

use client::{Client, Marked};
use e2e::{
    cache::Nodes,
    servers::{Kind, Link, options_of},
};

use super::{DEADLINE, client, client_of, is_cached, key_of, read, text, write};
use crate::{
    support::{enter_alone, tenth_unless_long, until},
    versions::Stage,
};

/// Written with marks.
const MARKED: u32 = 21;
/// Written without; only the writer's token protects him.
const UNMARKED: u32 = 22;
const WRITES: u32 = 200;
const VERSIONS: &str = "marker_ttl_ms_max = 5000\nstaleness_ms_max = 60000\nfill_age_ms_max = 2000";

#[tokio::test(flavor = "multi_thread")]
async fn the_client_reads_own_writes_on_mysql() {
    own_writes("the_client_reads_own_writes_on_mysql", Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_reads_own_writes_on_mariadb() {
    own_writes("the_client_reads_own_writes_on_mariadb", Kind::Mariadb).await;
}

async fn own_writes(test: &str, kind: Kind) {
    let Some(lab) = enter_alone(test, &[kind.name(), "mcsqueal"]).await else { return };
    let links = [Link::Plain, Link::Plain];
    let mut stage = Stage::start(lab, kind, &links, &[1], VERSIONS).await;
    let (writer, other) = (client_of(&stage), client_of(&stage));
    for thing in [MARKED, UNMARKED] {
        is_served(&stage, &writer, thing, "v0").await;
    }
    stage.chain[1].stop_applying().await.expect("the replica stands still");

    let mut conn = stage.chain[0].connect().await.expect("a connection");
    let mut seen = [0, 0];
    for number in 1..=tenth_unless_long(WRITES) {
        let value = format!("v{number}");
        let mark = writer.mark(&[key_of(MARKED)]).await.expect("one key");
        let commit = write(kind, &mut conn, MARKED, &value).await;
        let written = writer.committed(mark, &commit).await;
        assert_eq!(written.marked, Marked::All);
        let got = read(&stage, &writer, MARKED, Some(written.token)).await;
        assert_eq!(text(&got), value, "one's own write is not there");

        let unmarked = writer.mark(&[]).await.expect("no key");
        let commit = write(kind, &mut conn, UNMARKED, &value).await;
        let token = writer.committed(unmarked, &commit).await.token;
        let got = read(&stage, &writer, UNMARKED, Some(token)).await;
        assert_eq!(text(&got), value, "one's own write is not there");

        for (at, thing) in [MARKED, UNMARKED].into_iter().enumerate() {
            let got = read(&stage, &other, thing, None).await;
            let now: u32 = text(&got)[1..].parse().expect("a number");
            assert!(now >= seen[at], "thing {thing} goes back from {} to {now}", seen[at]);
            seen[at] = now;
        }
        assert_eq!(seen[0], number, "who reads a marked key reads the primary");
    }
    stage.chain[1].start_applying().await.expect("the replica goes on");
    stage.mcsqueal.stop().await.expect("a clean stop");
}

async fn is_served(stage: &Stage, client: &Client, thing: u32, value: &str) {
    until("the node serves what it was given", DEADLINE, async || {
        let got = read(stage, client, thing, None).await;
        is_cached(&got) && text(&got) == value
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_in_a_second_cluster() {
    let test = "a_token_is_good_in_a_second_cluster";
    let Some(lab) = enter_alone(test, &["mysql", "mcsqueal"]).await else { return };
    let (kind, mut chain) = (Kind::Mysql, Vec::new());
    for number in 1..=2 {
        let options = options_of(kind, number, Link::Plain);
        chain.push(lab.servers.database(kind, &options).await.expect("a database"));
    }
    chain[1].replicate(&chain[0]).await.expect("replication");
    let node = lab.servers.versioned_node(VERSIONS).await.expect("a node");
    let second = lab.servers.versioned_node(VERSIONS).await.expect("a node");
    let control = second.control().expect("a control port");
    // The nodes of the first cluster, and the head of the second, whose nodes the stage writes behind these lines.
    let cluster = format!(
        "nodes = [{{ address = \"{}\", control = \"{control}\" }}]\n\
         [[cluster]]\nname = \"second\"\nhashing = \"ketama\"\nfill_age_ms_max = 2000",
        second.address()
    );
    let mut stage = Stage::around(lab, node, chain, &[1], &cluster).await;
    let here = client_of(&stage);
    let elsewhere = client(&[second.address()], None);
    for reader in [&here, &elsewhere] {
        is_served(&stage, reader, UNMARKED, "v0").await;
    }
    let mut conn = stage.chain[0].connect().await.expect("a connection");
    // The epochs are known before nobody answers.
    let first = write(kind, &mut conn, MARKED, "v1").await;
    assert!(here.version_of(&first).await.is_some(), "the epoch is announced");

    stage.chain[1].stop_applying().await.expect("the replica stands still");
    stage.mcsqueal.freeze().expect("no delete comes");
    let unmarked = here.mark(&[]).await.expect("no key");
    let commit = write(kind, &mut conn, UNMARKED, "v1").await;
    let token = here.committed(unmarked, &commit).await.token.to_string();
    let unknowing = read(&stage, &elsewhere, UNMARKED, None).await;
    assert_eq!(text(&unknowing), "v0", "without a token the write would be seen just as well");
    let token = Some(token.parse().expect("a token"));
    let got = read(&stage, &elsewhere, UNMARKED, token).await;
    assert_eq!(text(&got), "v1", "one's own write is not there");
    let others = read(&stage, &elsewhere, UNMARKED, None).await;
    assert_eq!(text(&others), "v0", "what one reader may not see is not taken from others");

    stage.mcsqueal.thaw().expect("deletes come");
    stage.chain[1].start_applying().await.expect("the replica goes on");
    until("the token is no hindrance", DEADLINE, async || {
        let got = read(&stage, &elsewhere, UNMARKED, token).await;
        assert_eq!(text(&got), "v1");
        is_cached(&got)
    })
    .await;
    assert_eq!(Nodes::addresses(&stage.nodes), [stage.node.address()]);
    stage.mcsqueal.stop().await.expect("a clean stop");
}
