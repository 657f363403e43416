//! The stream is gone, and the node begins empty: the database keeps its shield, and everything recovers by itself. `tests/kafka` tells the
//! same of a stream on Kafka, where Kafka alone is gone.

use std::time::Duration;

use e2e::{
    cache::Cache,
    servers::{Kind, Link},
    shield::Shield,
};

use super::{DEADLINE, Stage, ask};
use crate::support::{enter_alone, tenth_unless_long, until};

const READERS: u32 = 1000;
const KEYS: u32 = 40;
/// Times of entries are whole seconds, and rounded towards older: of four, three are certain.
const DEGRADED_TTL: Duration = Duration::from_secs(3);
const LENGTH: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn without_the_stream_the_database_is_shielded() {
    let test = "without_the_stream_the_database_is_shielded";
    let Some(lab) = enter_alone(test, &["mysql", "mcsqueal"]).await else { return };
    let versions = "degraded_ttl_ms = 4000\nstaleness_ms_max = 1000\nfill_age_ms_max = 1000";
    let mut stage = Stage::start(lab, Kind::Mysql, &[Link::Plain], &[], versions).await;
    let mut cache = Cache::new(&stage.nodes);
    until("the node is up to date", DEADLINE, async || {
        stage.fill(&mut cache, 0, 1).await;
        let (line, _) = ask(&mut cache, "mg thing:1 v V\r\n").await;
        line.starts_with("VA") && !line.ends_with(" D")
    })
    .await;

    stage.mcsqueal.kill9().expect("the stream and its invalidator are gone");
    stage.node.kill9().expect("the node dies");
    stage.node.restart().await.expect("the node is there again, and empty");
    let shield = Shield {
        nodes: stage.nodes.clone(),
        database: stage.chain[0].root(),
        keys: KEYS,
        readers: tenth_unless_long(READERS),
        length: LENGTH,
    };
    let (reads, most) = (shield.reads().await.expect("readers"), shield.most(DEGRADED_TTL));
    let mut cache = Cache::new(&stage.nodes);
    let worst = reads.values().copied().max().unwrap_or_default();
    assert!(worst <= most, "{worst} reads of one key, at most {most}: {reads:?}");
    assert_eq!(reads.len(), usize::try_from(KEYS).expect("few"), "every key was read");
    let (line, _) = ask(&mut cache, "mg thing:2 v V\r\n").await;
    assert!(line.ends_with(" D") || line == "EN", "the answer is not flagged: {line}");

    stage.mcsqueal.restart().await.expect("mcsqueal is there again");
    until("the node is up to date", DEADLINE, async || {
        stage.fill(&mut cache, 0, 3).await;
        let (line, _) = ask(&mut cache, "mg thing:3 v V\r\n").await;
        line.starts_with("VA") && !line.ends_with(" D")
    })
    .await;
    let change = "UPDATE shop.things SET value = 'v1' WHERE id = 3";
    stage.chain[0].run(&[change]).await.expect("a change");
    until("the delete has come", DEADLINE, async || {
        ask(&mut cache, "mg thing:3 v\r\n").await.0 == "EN"
    })
    .await;
    stage.mcsqueal.stop().await.expect("a clean stop");
}
