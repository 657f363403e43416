//! Herds: when a key that everybody wants is deleted, one reader reads the database, also while the replicas are far behind; and when
//! that one dies, another one takes his place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use e2e::{
    cache::{Cache, From, Looked},
    servers::{Kind, Link},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{DEADLINE, POLL, Stage, TTL_S, value_of};
use crate::support::{enter_alone, tenth_unless_long, until};

const THING: u32 = 3;
const READERS: u32 = 1000;
/// How long a SELECT takes at the least: long enough for everybody to ask in the meantime.
const SELECT: Duration = Duration::from_millis(50);

/// What the readers have done.
#[derive(Default)]
struct Counts {
    near: AtomicU64,
    primary: AtomicU64,
    /// Readers that have seen the value that is waited for.
    seen: AtomicU64,
}

#[tokio::test(flavor = "multi_thread")]
async fn one_database_read_for_each_key_and_invalidation() {
    let test = "one_database_read_for_each_key_and_invalidation";
    let Some(lab) = enter_alone(test, &["mysql", "mcsqueal"]).await else { return };
    let links = [Link::Plain, Link::Plain];
    let mut stage =
        Stage::start(lab, Kind::Mysql, &links, &[1], "lease_ms = 2000\nfill_age_ms_max = 2000")
            .await;
    let mut cache = Cache::new(&stage.nodes);
    stage.fill(&mut cache, 1, THING).await;

    let counts = herd(&stage, "v1").await;
    let reads = (counts.near.load(Ordering::Relaxed), counts.primary.load(Ordering::Relaxed));
    // From the replica, or from the primary if the replica did not have it at once.
    assert_eq!(reads.0 + reads.1, 1, "the replicas are at hand: {reads:?}");

    stage.chain[1].stop_applying().await.expect("the replica stands still");
    let counts = herd(&stage, "v2").await;
    let reads = (counts.near.load(Ordering::Relaxed), counts.primary.load(Ordering::Relaxed));
    assert_eq!(reads, (0, 1), "the replica is behind");
    assert_eq!(stage.shown(1, THING).await, "v1", "the replica is behind");
    stage.chain[1].start_applying().await.expect("the replica goes on");
    stage.mcsqueal.stop().await.expect("a clean stop");
}

/// All readers want the thing, which becomes `value`. Returns when each of them has it.
async fn herd(stage: &Stage, value: &'static str) -> Arc<Counts> {
    let counts: Arc<Counts> = Arc::default();
    let readers = u64::from(tenth_unless_long(READERS));
    let mut tasks = JoinSet::new();
    for _ in 0..readers {
        let (counts, nodes) = (Arc::clone(&counts), stage.nodes.clone());
        let databases = [stage.chain[0].root(), stage.chain[1].root()];
        tasks.spawn(async move {
            let mut cache = Cache::new(&nodes);
            let late = Instant::now() + DEADLINE;
            while Instant::now() < late {
                match cache.look(&format!("thing:{THING}")).await {
                    Ok(Looked::Value(found)) if found == value => {
                        counts.seen.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                    Ok(Looked::Lease { cas, from }) => {
                        let (count, database) = match from {
                            From::Primary => (&counts.primary, &databases[0]),
                            From::Anywhere => (&counts.near, &databases[1]),
                        };
                        count.fetch_add(1, Ordering::Relaxed);
                        let conn = mysql_async::Conn::new(database.clone()).await;
                        let read = value_of(&mut conn.expect("a connection"), THING).await;
                        sleep(SELECT).await;
                        let filled = cache.fill(&format!("thing:{THING}"), cas, TTL_S, &read).await;
                        assert!(filled.expect("the node answers"), "nothing has changed since");
                    }
                    _ => {}
                }
                sleep(POLL).await;
            }
        });
    }
    // Everybody is there, and reads the old value.
    sleep(Duration::from_millis(300)).await;
    let change = format!("UPDATE shop.things SET value = '{value}' WHERE id = {THING}");
    stage.chain[0].run(&[&change]).await.expect("a change");
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a reader ends");
    }
    assert_eq!(counts.seen.load(Ordering::Relaxed), readers, "not everybody has {value}");
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_given_again_when_its_holder_dies() {
    let test = "a_lease_is_given_again_when_its_holder_dies";
    let Some(lab) = enter_alone(test, &["mysql", "mcsqueal"]).await else { return };
    let mut stage = Stage::start(lab, Kind::Mysql, &[Link::Plain], &[], "lease_ms = 1000").await;
    let (mut dies, mut other) = (Cache::new(&stage.nodes), Cache::new(&stage.nodes));
    let mut first = None;
    until("there is a lease", DEADLINE, async || {
        if let Ok(Looked::Lease { cas, .. }) = dies.look("thing:5").await {
            first = Some((cas, Instant::now()));
        }
        first.is_some()
    })
    .await;
    let (first, since) = first.expect("a lease");
    drop(dies);
    assert_eq!(other.look("thing:5").await.expect("the node answers"), Looked::Wait);
    let mut second = None;
    until("there is another lease", DEADLINE, async || {
        if let Ok(Looked::Lease { cas, .. }) = other.look("thing:5").await {
            second = Some(cas);
        }
        second.is_some()
    })
    .await;
    assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());
    let second = second.expect("a lease");
    assert!(!other.fill("thing:5", first, TTL_S, "late").await.expect("an answer"));
    assert!(other.fill("thing:5", second, TTL_S, "v0").await.expect("an answer"));
    assert_eq!(other.look("thing:5").await.expect("an answer"), Looked::Value("v0".to_owned()));
    stage.mcsqueal.stop().await.expect("a clean stop");
}
