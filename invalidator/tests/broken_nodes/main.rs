//! Lanes on nodes that answer nonsense, errors or nothing. Whatever a node does: no delete is lost, the stored cursor
//! passes no record whose keys were not really deleted twice, and the lane goes on by itself.

mod fake;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use expect_test::{Expect, expect};
use fake::{Deletes, Executed, Fake, Fault};
use invalidator::{
    Feed, Invalidator, LaneStatus, Metrics, NodeSettings, OnFloor, Settings, Visibility,
};
use prometheus_client::registry::Registry;
use schemas::{
    cursor::{Partition, Place},
    key::Key,
    record::{Invalidation, Invalidations, Operation, Record, Transaction, UnixMicros},
    ring::Hashing,
    version::Version,
};
use stream::{
    Batch, CursorStore, Portions, Reader, Writer,
    embedded::{Embedded, EmbeddedReader, Options},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

const FILL_AGE_MAX: Duration = Duration::from_millis(60);
const PARTITIONS: u16 = 2;
const RECORDS: u64 = 6;
const KEYS_PER_RECORD: u64 = 7;
/// Far above what any case takes; a lane that hangs fails.
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn errors() {
    let refusal = expect!["serve the node: the node refused: SERVER_ERROR out of memory"];
    check(&[Fault::Instead(b"SERVER_ERROR out of memory\r\n")], refusal).await;
    let refusal = expect!["serve the node: the node refused: ERROR"];
    check(&[Fault::Instead(b"ERROR\r\n")], refusal).await;
}

#[tokio::test]
async fn no_memcached_at_all() {
    let refusal = expect![[
        r#"serve the node: understand the node: malformed reply "HTTP/1.1 400 Bad Request\\r""#
    ]];
    check(&[Fault::Greeting(b"HTTP/1.1 400 Bad Request\r\n\r\n")], refusal).await;
}

#[tokio::test]
async fn garbage() {
    let refusal =
        expect![[r#"serve the node: understand the node: malformed reply "\\x00\\xff\\x07\\r""#]];
    check(&[Fault::Instead(b"\x00\xff\x07\r\n")], refusal).await;
    let refusal = expect!["serve the node: understand the node: reply line exceeds 2048 bytes"];
    check(&[Fault::Instead(&[b'x'; 5000])], refusal).await;
    let refusal = expect!["serve the node: the node sends 16384 bytes that are no answer"];
    check(&[Fault::Endless], refusal).await;
}

#[tokio::test]
async fn answers_of_other_requests() {
    let refusal = expect!["serve the node: the node answered Stored to a delete"];
    check(&[Fault::Instead(b"STORED\r\n")], refusal).await;
}

/// The others' answers would shift by one, and each look right.
#[tokio::test]
async fn an_answer_too_few() {
    let refusal = expect![[r#"serve the node: the node answered Version("1.6.0") to a delete"#]];
    check(&[Fault::Instead(b"")], refusal).await;
}

#[tokio::test]
async fn an_answer_too_many() {
    let refusal = expect!["serve the node: the node answered Deleted to version"];
    check(&[Fault::Besides(b"NOT_FOUND\r\n")], refusal).await;
}

#[tokio::test]
async fn silence_in_the_middle_of_a_line() {
    let refusal = expect!["serve the node: the node does not answer within 1s"];
    check(&[Fault::Stall(b"DELE")], refusal).await;
    let refusal = expect!["serve the node: the node does not answer within 1s"];
    check(&[Fault::Stall(b"")], refusal).await;
}

#[tokio::test]
async fn an_end_in_the_middle_of_a_batch() {
    for executed in [Executed::Yes, Executed::No] {
        let fault = Fault::Close(executed);
        let status = run(&[fault]).await;
        // Which of the two is the network's choice.
        let seen = status.expect("the lane was interrupted");
        let closed = "serve the node: the node closed the connection";
        assert!(seen == closed || seen.starts_with("serve the node: talk to the node: "), "{seen}");
    }
}

#[tokio::test]
async fn everything_one_after_another() {
    let faults = [
        Fault::Instead(b"SERVER_ERROR out of memory\r\n"),
        Fault::Close(Executed::Yes),
        Fault::Besides(b"DELETED\r\n"),
        Fault::Instead(b""),
        Fault::Stall(b"NOT_FO"),
        Fault::Instead(b"\xff\r\n"),
        Fault::Close(Executed::No),
    ];
    check(&faults, expect!["serve the node: the node refused: SERVER_ERROR out of memory"]).await;
}

/// The first thing that the lane says about the faults.
async fn check(faults: &[Fault], expect: Expect) {
    expect.assert_eq(&run(faults).await.expect("the lane was interrupted"));
}

async fn run(faults: &[Fault]) -> Option<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let log = Embedded::open(&folder.path().join("stream.db"), options()).expect("a stream");
    let appended = Instant::now();
    let records = append(&log).await;
    let node = Fake::start(faults).await;
    let mut lane = Lane::start(&log, &node);
    let (mut refusal, mut at_head) = (None, false);
    let late = Instant::now() + DEADLINE;
    while !(at_head && node.faults_left() == 0) {
        assert!(Instant::now() < late, "the lane hangs: {:?}", lane.status.borrow());
        // In this order: what the cursor has passed was deleted before.
        let cursors = lane.cursors(&log).await;
        let deletes = node.deletes();
        for (partition, place, keys) in &records {
            if cursors.get(partition).is_some_and(|cursor| cursor >= place) {
                for key in keys {
                    deleted_twice(key, &deletes, appended);
                }
            }
        }
        at_head = records.iter().all(|(at, place, _)| cursors.get(at) >= Some(place));
        refusal = refusal.or_else(|| lane.status.borrow().last_error.clone());
        sleep(Duration::from_millis(2)).await;
    }
    let well = |status: &LaneStatus| {
        status.connected && status.last_error.is_none() && status.backlog_records == 0
    };
    let settled = tokio::time::timeout(DEADLINE, lane.status.wait_for(well)).await;
    drop(settled.expect("the lane recovers").expect("the lane runs"));
    lane.shutdown.cancel();
    lane.running.ended().await.expect("the lane ends when asked");
    refusal
}

/// Once at once, and once when no reader can plant an old value any more.
fn deleted_twice(key: &str, deletes: &Deletes, appended: Instant) {
    let times = deletes.get(key).map_or(&[][..], Vec::as_slice);
    let last = times.last().copied();
    assert!(
        times.len() >= 2 && last.is_some_and(|last| last >= appended + FILL_AGE_MAX),
        "passed, but {key} was deleted {} times, last after {:?}",
        times.len(),
        last.map(|last| last - appended)
    );
}

struct Lane {
    running: Invalidator<EmbeddedReader, Embedded>,
    status: watch::Receiver<LaneStatus>,
    shutdown: CancellationToken,
    consumer: String,
}

impl Lane {
    fn start(log: &Embedded, node: &Fake) -> Lane {
        let settings = Settings {
            cluster: "main".to_owned(),
            hashing: Hashing::Ketama,
            nodes: vec![NodeSettings { address: node.address.clone(), weight: 1, control: None }],
            fill_age_max: FILL_AGE_MAX,
            on_floor: OnFloor::Alarm,
            markers: invalidator::Markers::None,
            former: None,
            revision: 0,
        };
        let metrics = Metrics::register(&mut Registry::default());
        let shutdown = CancellationToken::new();
        let feed = Feed { reader: log.reader(), cursors: log.clone(), portions: Portions::whole() };
        let running =
            Invalidator::start(&[settings], feed, &Visibility::UNKNOWN, &metrics, &shutdown);
        let running = running.expect("a ring");
        let status = running.status().borrow()[0].clone();
        Lane { running, status, shutdown, consumer: format!("main/{}", node.address) }
    }

    async fn cursors(&self, log: &Embedded) -> BTreeMap<Partition, Place> {
        let cursors = log.load(&self.consumer).await.expect("cursors");
        cursors.into_iter().map(|cursor| (cursor.partition, cursor.place)).collect()
    }
}

fn options() -> Options {
    Options {
        partitions: PARTITIONS,
        retention_bytes: 1 << 30,
        retention_age: Duration::from_secs(1 << 30),
        now: || UnixMicros(1),
    }
}

/// Each record's partition, place and keys.
async fn append(log: &Embedded) -> Vec<(Partition, Place, Vec<String>)> {
    let mut out = Vec::new();
    for number in 0..RECORDS {
        let partition = Partition(u16::try_from(number).expect("few") % PARTITIONS);
        let keys: Vec<String> =
            (0..KEYS_PER_RECORD).map(|at| format!("key:{number}:{at}")).collect();
        let records = vec![(partition, record(number, &keys))];
        let appended = log.append(Batch { records, checkpoint: None }).await.expect("an open log");
        appended.await.expect("a disk with space");
        out.push((partition, log.reader().head(partition).await.expect("a head"), keys));
    }
    out
}

fn record(number: u64, keys: &[String]) -> Record {
    let (table, rule): (Arc<str>, Arc<str>) = ("shop.t".into(), "t".into());
    let invalidation = |key: &String| Invalidation {
        key: Key::new(key.clone()).expect("a key"),
        table: Arc::clone(&table),
        rule: Arc::clone(&rule),
        operation: Operation::Update,
    };
    Record::Invalidations(Invalidations {
        source: "shop".into(),
        transactions: vec![Transaction {
            version: Version::from_bits(number + 1),
            committed_at: None,
            received_at: UnixMicros(1),
            last: true,
            keys: keys.iter().map(invalidation).collect(),
        }],
    })
}
