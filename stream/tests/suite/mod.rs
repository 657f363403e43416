//! What every backend must do: the same cases, against each of them.
//!
//! A backend that is to be tested says how its log is opened and how time and retention do their work on it: [`Home`].

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use schemas::{
    cursor::{Cursor, Partition, Place},
    gtid::{Dialect, GtidSet},
    key::Key,
    record::{Checkpoint, EpochStart, Floor, Origin, Record, Scope, UnixMicros},
    version::Version,
};
use stream::{Batch, CursorStore, Desk, Entry, Read, ReadLimit, Reader, Request, Writer};

/// A log of [`PARTITIONS`] partitions, empty at first.
pub(crate) trait Home {
    type Writer: Writer + Clone;
    type Reader: Reader + Clone;
    type Cursors: CursorStore;
    /// Opens it for writing, and begins a term. The writer before must be gone.
    async fn lead(&self) -> Self::Writer;
    /// Opens it for reading, as another process would.
    async fn reader(&self) -> Self::Reader;
    /// Where cursors are kept.
    async fn cursors(&self, writer: &Self::Writer) -> Self::Cursors;
    /// Where tools leave requests.
    async fn desk(&self) -> Desk;
    /// Retention removes all records of partition 0 but the newest `keep`.
    async fn forget(&self, keep: u64);
}

pub(crate) const PARTITIONS: u16 = 2;

/// The tests' clock begins today, and is only ever set forward. Whole milliseconds, as Kafka keeps them.
static CLOCK: LazyLock<AtomicU64> = LazyLock::new(|| {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    AtomicU64::new(since.as_secs() * 1_000_000)
});

pub(crate) fn now() -> UnixMicros {
    UnixMicros(CLOCK.load(Ordering::Relaxed))
}

/// A millisecond passes.
fn later() -> UnixMicros {
    UnixMicros(CLOCK.fetch_add(1000, Ordering::Relaxed) + 1000)
}

const LIMIT: ReadLimit = ReadLimit { records_max: 3, bytes_max: 1 << 20 };

/// Every case, on a log of its own from `home`.
pub(crate) async fn all<H: Home>(mut home: impl AsyncFnMut() -> H) {
    reads_what_was_appended(&home().await).await;
    goes_on_from_every_place(&home().await).await;
    chains_terms(&home().await).await;
    keeps_checkpoints(&home().await).await;
    keeps_cursors(&home().await).await;
    seeks_by_time(&home().await).await;
    reports_what_retention_removed(&home().await).await;
    serves_many_readers(&home().await).await;
    acknowledges_in_order_under_pressure(&home().await).await;
    keeps_epochs(&home().await).await;
    appends_what_tools_ask_for(&home().await).await;
}

/// A record that says `number`.
pub(crate) fn numbered(number: u64) -> Record {
    Record::Floor(Floor {
        source: "s".into(),
        scope: Scope::All,
        version: Version::from_bits(number),
        reason: "test".into(),
    })
}

pub(crate) fn checkpoint(number: u64) -> Checkpoint {
    Checkpoint {
        source: "s".into(),
        executed: GtidSet::empty(Dialect::Mysql),
        position: None,
        epoch: None,
        version: Version::from_bits(number),
        recent: Vec::new(),
    }
}

pub(crate) fn number(record: &Record) -> Option<u64> {
    match record {
        Record::Floor(floor) => Some(floor.version.bits()),
        _ => None,
    }
}

/// Appends one batch, and waits until it is durable.
pub(crate) async fn append(writer: &impl Writer, partition: u16, number: u64) {
    let batch = Batch {
        records: vec![(Partition(partition), numbered(number))],
        checkpoint: Some(checkpoint(number)),
    };
    writer.append(batch).await.expect("queued").await.expect("durable");
}

/// Everything in a partition after `place` up to its head; the gaps met are counted.
pub(crate) async fn read_all(
    reader: &impl Reader,
    partition: u16,
    mut place: Place,
) -> (Vec<Entry>, usize) {
    let partition = Partition(partition);
    let head = reader.head(partition).await.expect("a head");
    let (mut out, mut gaps) = (Vec::new(), 0);
    loop {
        match reader.read_after(partition, place, LIMIT).await.expect("a read") {
            Read::Gap { resume } => {
                gaps += 1;
                assert!(gaps < 3, "gap after gap at {resume}");
                place = resume;
            }
            Read::Entries(entries) => {
                let Some(last) = entries.last() else {
                    assert!(place >= head, "it ends at {place}, before its head {head}");
                    return (out, gaps);
                };
                place = last.place;
                out.extend(entries);
            }
        }
    }
}

fn numbers(entries: &[Entry]) -> Vec<u64> {
    entries.iter().filter_map(|entry| number(&entry.record)).collect()
}

fn same<T: PartialEq + Debug>(case: &str, found: T, expected: T) {
    assert_eq!(found, expected, "{case}");
}

async fn reads_what_was_appended<H: Home>(home: &H) {
    let writer = home.lead().await;
    let early = home.reader().await;
    let mut model: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
    for at in 0..20_u64 {
        // 0 to 3 records for either partition, in one batch.
        let records = (0..at % 4).map(|more| (Partition(u16::from(at % 3 == 0)), at * 10 + more));
        let records: Vec<(Partition, u64)> = records.collect();
        for (partition, number) in &records {
            model.entry(partition.0).or_default().push(*number);
        }
        let records = records.iter().map(|(partition, at)| (*partition, numbered(*at))).collect();
        let batch = Batch { records, checkpoint: None };
        writer.append(batch).await.expect("queued").await.expect("durable");
    }
    let late = home.reader().await;
    for partition in 0..PARTITIONS {
        let expected = model.remove(&partition).unwrap_or_default();
        for reader in [&early, &late] {
            let (entries, gaps) = read_all(reader, partition, Place::START).await;
            same("what was appended", (numbers(&entries), gaps), (expected.clone(), 0));
        }
    }
}

async fn goes_on_from_every_place<H: Home>(home: &H) {
    for life in 0..3 {
        let writer = home.lead().await;
        for number in 0..5 {
            append(&writer, 0, life * 5 + number).await;
        }
    }
    let reader = home.reader().await;
    let (entries, _) = read_all(&reader, 0, Place::START).await;
    same("all", numbers(&entries), (0..15).collect());
    for (at, entry) in entries.iter().enumerate() {
        let (rest, gaps) = read_all(&reader, 0, entry.place).await;
        same("the rest", (rest, gaps), (entries[at + 1..].to_vec(), 0));
    }
    // A place that this log has never reached.
    let head = reader.head(Partition(0)).await.expect("a head");
    let beyond = Place { sequence: head.sequence + 1000, ..head };
    let read = reader.read_after(Partition(0), beyond, LIMIT).await.expect("a read");
    same("beyond the head", read, Read::Gap { resume: head });
}

async fn chains_terms<H: Home>(home: &H) {
    let mut ends = Vec::new();
    for life in 1..4_u64 {
        let writer = home.lead().await;
        same("the term", u64::from(writer.term().0), life);
        append(&writer, 1, life).await;
        ends.push(home.reader().await.head(Partition(1)).await.expect("a head"));
    }
    let (entries, _) = read_all(&home.reader().await, 1, Place::START).await;
    let starts = entries.iter().filter_map(|entry| match &entry.record {
        Record::TermStart(start) => Some((entry.place.sequence, start.previous)),
        _ => None,
    });
    let expected = [Place::START, ends[0], ends[1]].map(|previous| (1, previous));
    same("each term names the end of the one before", starts.collect(), expected.to_vec());
    for pair in entries.windows(2) {
        let dense = pair[0].place.term != pair[1].place.term
            || pair[0].place.sequence + 1 == pair[1].place.sequence;
        assert!(dense, "{} then {}", pair[0].place, pair[1].place);
    }
}

async fn keeps_checkpoints<H: Home>(home: &H) {
    let writer = home.lead().await;
    same("no checkpoint yet", writer.checkpoint("s"), None);
    drop(writer);
    for life in 1..3 {
        let writer = home.lead().await;
        for number in 0..10 {
            append(&writer, 0, life * 10 + number).await;
        }
        same("one of another source", writer.checkpoint("t"), None);
        drop(writer);
        let found = home.lead().await.checkpoint("s").map(|found| found.version.bits());
        same("the newest", found, Some(life * 10 + 9));
    }
}

async fn keeps_cursors<H: Home>(home: &H) {
    let writer = home.lead().await;
    append(&writer, 0, 1).await;
    let stream = writer.stream_id();
    let cursor = |partition, sequence| Cursor {
        stream,
        partition: Partition(partition),
        place: Place { term: writer.term(), sequence },
    };
    let cursors = home.cursors(&writer).await;
    same("nobody's", cursors.load("a/b").await.expect("loaded"), Vec::new());
    cursors.store("a/b", vec![cursor(0, 1), cursor(1, 1)]).await.expect("stored");
    cursors.store("a/c", vec![cursor(0, 9)]).await.expect("stored");
    cursors.store("a/b", vec![cursor(0, 2)]).await.expect("stored");
    let found = cursors.load("a/b").await.expect("loaded");
    same("each partition's newest", found, vec![cursor(0, 2), cursor(1, 1)]);
    drop((cursors, writer));
    let writer = home.lead().await;
    let found = home.cursors(&writer).await.load("a/c").await.expect("loaded");
    same("after a restart", found.iter().map(|cursor| cursor.place.sequence).collect(), vec![9]);
}

async fn seeks_by_time<H: Home>(home: &H) {
    let writer = home.lead().await;
    let mut times = Vec::new();
    for number in 0..6 {
        times.push(later());
        append(&writer, 0, number).await;
    }
    let reader = home.reader().await;
    for (at, time) in (0_u64..).zip(&times) {
        let place = reader.seek(Partition(0), *time).await.expect("a place");
        let (rest, gaps) = read_all(&reader, 0, place).await;
        same("from a time on", (numbers(&rest), gaps), ((at..6).collect(), 0));
    }
    let place = reader.seek(Partition(0), UnixMicros(1)).await.expect("a place");
    same("from long ago on", numbers(&read_all(&reader, 0, place).await.0), (0..6).collect());
    let place = reader.seek(Partition(0), later()).await.expect("a place");
    same("from now on", read_all(&reader, 0, place).await.0, Vec::new());
}

async fn reports_what_retention_removed<H: Home>(home: &H) {
    let writer = home.lead().await;
    for number in 0..50 {
        append(&writer, 0, number).await;
    }
    let reader = home.reader().await;
    let (entries, _) = read_all(&reader, 0, Place::START).await;
    home.forget(10).await;
    let fresh = home.reader().await;
    for from in [Place::START, entries[0].place, entries[20].place] {
        let (rest, gaps) = read_all(&fresh, 0, from).await;
        same("what is left", (numbers(&rest), gaps), ((40..50).collect(), 1));
    }
    let (rest, gaps) = read_all(&fresh, 0, entries[45].place).await;
    same("whoever was not overtaken", (numbers(&rest), gaps), ((45..50).collect(), 0));
    same("the other partition", read_all(&fresh, 1, Place::START).await.1, 0);
}

async fn serves_many_readers<H: Home>(home: &H) {
    const RECORDS: u64 = 200;
    let writer = home.lead().await;
    let first = home.reader().await;
    let follow = |mut reader: H::Reader, partition: u16| async move {
        let (mut place, mut found) = (Place::START, Vec::new());
        while found.len() < usize::try_from(RECORDS).expect("few") {
            match reader.read_after(Partition(partition), place, LIMIT).await.expect("a read") {
                Read::Entries(entries) if entries.is_empty() => reader.changed().await,
                Read::Entries(entries) => {
                    place = entries[entries.len() - 1].place;
                    found.extend(numbers(&entries));
                }
                Read::Gap { resume } => panic!("a gap up to {resume}"),
            }
        }
        found
    };
    let write = async {
        for number in 0..RECORDS {
            let records = (0..PARTITIONS).map(|at| (Partition(at), numbered(number))).collect();
            let batch = Batch { records, checkpoint: None };
            writer.append(batch).await.expect("queued").await.expect("durable");
        }
    };
    let (one, two, three, ()) = tokio::join!(
        follow(first.clone(), 0),
        follow(first.clone(), 1),
        follow(home.reader().await, 0),
        write
    );
    for found in [one, two, three] {
        same("each sees all, in order", found, (0..RECORDS).collect());
    }
}

async fn acknowledges_in_order_under_pressure<H: Home>(home: &H) {
    const BATCHES: u64 = 600;
    let writer = home.lead().await;
    let order = std::sync::Arc::new(AtomicU64::new(0));
    let mut waiting = Vec::new();
    for number in 0..BATCHES {
        // Large enough that the room is used up more than once.
        let records = (0..64).map(|at| (Partition(at % PARTITIONS), numbered(number)));
        let batch = Batch { records: records.collect(), checkpoint: Some(checkpoint(number)) };
        let pending = writer.append(batch).await.expect("queued");
        let order = std::sync::Arc::clone(&order);
        waiting.push(async move {
            pending.await.expect("durable");
            order.fetch_add(1, Ordering::SeqCst)
        });
    }
    for (number, waiting) in (0..).zip(waiting) {
        same("acknowledged in order", waiting.await, number);
    }
    let (entries, gaps) = read_all(&home.reader().await, 1, Place::START).await;
    let expected: Vec<u64> = (0..BATCHES).flat_map(|number| vec![number; 32]).collect();
    same("all of it", (numbers(&entries), gaps), (expected, 0));
}

fn epoch(epoch: u16, first: u64) -> EpochStart {
    EpochStart {
        source: "s".into(),
        epoch,
        origin: Origin::MariaDb { domain: 0, server_id: 1 },
        first,
        before: GtidSet::empty(Dialect::MariaDb),
        lossless: true,
    }
}

async fn keeps_epochs<H: Home>(home: &H) {
    let writer = home.lead().await;
    let reader = home.reader().await;
    same("none yet", reader.epochs().await.expect("a table"), Vec::new());
    append(&writer, 0, 1).await;
    for start in [epoch(1, 1), epoch(2, 7), epoch(2, 99)] {
        let everywhere = |at| (Partition(at), Record::Epoch(start.clone()));
        let records = (0..PARTITIONS).map(everywhere).collect();
        // No checkpoint comes behind it.
        let batch = Batch { records, checkpoint: None };
        writer.append(batch).await.expect("queued").await.expect("durable");
    }
    let expected = vec![epoch(1, 1), epoch(2, 7)];
    same("the first of a number stands", reader.epochs().await.expect("a table"), expected.clone());
    drop(writer);
    let writer = home.lead().await;
    let resumed = writer.checkpoint("s").expect("a checkpoint");
    same("a tailer resumes with the newest", resumed.epoch, Some(epoch(2, 7)));
    same("and in it", resumed.version.epoch(), 2);
    for number in 0..20 {
        append(&writer, 0, number).await;
    }
    home.forget(5).await;
    let found = home.reader().await.epochs().await.expect("a table");
    same("also when the records are gone", found, expected);
}

/// A request is appended once, in the leader's own sequence, at the newest version that is wholly there; or by the
/// next leader. The tailer's batches and checkpoints know nothing of it.
async fn appends_what_tools_ask_for<H: Home>(home: &H) {
    let writer = home.lead().await;
    let desk = home.desk().await;
    let floor = Request::floor("s", Scope::Prefixes(vec!["user:".into()]), "by hand");
    let early = desk.leave(&floor).await.expect("left");
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    same("without a version it waits", desk.is_done(&early).await.expect("an answer"), false);
    append(&writer, 0, 5).await;
    done(&desk, &early).await;
    append(&writer, 0, 6).await;
    let keys: Vec<Key> = ["a", "b", "user:1"].map(|key| Key::new(key).expect("a key")).into();
    let later = desk.leave(&Request::keys("s", &keys, now())).await.expect("left");
    done(&desk, &later).await;
    append(&writer, 1, 7).await;
    drop(writer);
    let orphan = desk.leave(&floor).await.expect("left");
    same("nobody leads", desk.is_done(&orphan).await.expect("an answer"), false);
    let writer = home.lead().await;
    same("checkpoints are the tailer's", writer.checkpoint("s"), Some(checkpoint(7)));
    done(&desk, &orphan).await;

    let (mut floors, mut asked) = (Vec::new(), Vec::new());
    for partition in 0..PARTITIONS {
        let (entries, gaps) = read_all(&home.reader().await, partition, Place::START).await;
        same("sequences stay dense", gaps, 0);
        for entry in entries {
            match entry.record {
                Record::Floor(floor) if &*floor.reason == "by hand" => {
                    floors.push((partition, floor.version.bits()));
                }
                Record::Invalidations(invalidations) => {
                    for part in invalidations.transactions {
                        same(
                            "its version, and no claim",
                            (part.version.bits(), part.last),
                            (6, false),
                        );
                        asked.extend(part.keys.into_iter().map(|key| key.key.to_string()));
                    }
                }
                _ => {}
            }
        }
    }
    asked.sort();
    same("each key once", asked, ["a", "b", "user:1"].map(str::to_owned).into());
    same("floors everywhere", floors, vec![(0, 5), (0, 7), (1, 5), (1, 7)]);
}

async fn done(desk: &Desk, ticket: &stream::Ticket) {
    for _ in 0..200 {
        if desk.is_done(ticket).await.expect("an answer") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{ticket:?} still waits");
}
