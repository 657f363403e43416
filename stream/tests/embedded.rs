//! The embedded stream against an obvious model, against kills, damage and a disk that is full.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod suite;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use proptest::{collection::vec, prelude::*};
use schemas::{
    cursor::{Cursor, Partition, Place},
    gtid::{Dialect, GtidSet},
    record::{Checkpoint, EpochStart, Floor, Origin, Record, Scope, UnixMicros},
    version::Version,
};
use stream::{
    Batch, CursorStore, Read, ReadLimit, Reader, StreamError, Writer,
    embedded::{Embedded, EmbeddedReader, Options},
};
use suite::Home as _;

/// The tests' clock; only ever set forward.
static CLOCK: AtomicU64 = AtomicU64::new(1_000_000);

fn now() -> UnixMicros {
    UnixMicros(CLOCK.load(Ordering::Relaxed))
}

const OPTIONS: Options = Options {
    partitions: 2,
    retention_bytes: 1 << 40,
    retention_age: Duration::from_secs(1 << 30),
    now,
};
const LIMIT: ReadLimit = ReadLimit { records_max: 3, bytes_max: 1 << 20 };

/// A record that says `number`.
fn numbered(number: u64) -> Record {
    Record::Floor(Floor {
        source: "s".into(),
        scope: Scope::All,
        version: Version::from_bits(number),
        reason: "test".into(),
    })
}

fn checkpoint(number: u64) -> Checkpoint {
    Checkpoint {
        source: "s".into(),
        executed: GtidSet::empty(Dialect::Mysql),
        position: None,
        epoch: None,
        version: Version::from_bits(number),
        recent: Vec::new(),
    }
}

fn number(record: &Record) -> Option<u64> {
    match record {
        Record::Floor(floor) => Some(floor.version.bits()),
        _ => None,
    }
}

/// Everything in a partition after `place`; the gaps met are counted.
async fn read_all(
    reader: &EmbeddedReader,
    partition: u16,
    mut place: Place,
) -> Result<(Vec<u64>, usize), StreamError> {
    let (mut out, mut gaps) = (Vec::new(), 0);
    loop {
        match reader.read_after(Partition(partition), place, LIMIT).await? {
            Read::Gap { resume } => {
                gaps += 1;
                assert!(gaps < 3, "gap after gap at {resume}");
                place = resume;
            }
            Read::Entries(entries) => {
                let Some(last) = entries.last() else { return Ok((out, gaps)) };
                place = last.place;
                out.extend(entries.iter().filter_map(|entry| number(&entry.record)));
            }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A file in a folder of its own.
struct Folder(tempfile::TempDir);

impl Folder {
    fn path(&self) -> PathBuf {
        self.0.path().join("s.db")
    }
}

impl suite::Home for Folder {
    type Writer = Embedded;
    type Reader = EmbeddedReader;
    type Cursors = Embedded;

    async fn lead(&self) -> Embedded {
        let options = Options { partitions: suite::PARTITIONS, now: suite::now, ..OPTIONS };
        Embedded::open(&self.path(), options).unwrap()
    }

    async fn reader(&self) -> EmbeddedReader {
        Embedded::read_only(&self.path()).unwrap()
    }

    async fn cursors(&self, writer: &Embedded) -> Embedded {
        writer.clone()
    }

    async fn desk(&self) -> stream::Desk {
        stream::Desk::of_file(&self.path())
    }

    async fn forget(&self, keep: u64) {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        let oldest = "DELETE FROM records WHERE partition = 0 AND id NOT IN
                      (SELECT id FROM records WHERE partition = 0 ORDER BY id DESC LIMIT ?1)";
        connection.execute(oldest, [keep.cast_signed()]).unwrap();
    }
}

#[test]
fn does_what_every_backend_must() {
    runtime().block_on(suite::all(async || Folder(tempfile::tempdir().unwrap())));
}

/// A file of the first format gets the table of epochs, with what its records still say.
#[tokio::test]
async fn a_file_without_epochs_is_brought_up_to_date() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let start = EpochStart {
        source: "s".into(),
        epoch: 3,
        origin: Origin::Positions { server_id: 1 },
        first: 1,
        before: GtidSet::empty(Dialect::Mysql),
        lossless: true,
    };
    let batch =
        Batch { records: vec![(Partition(0), Record::Epoch(start.clone()))], checkpoint: None };
    let embedded = folder.lead().await;
    embedded.append(batch).await.unwrap().await.unwrap();
    drop(embedded);
    let connection = rusqlite::Connection::open(folder.path()).unwrap();
    connection.execute_batch("DROP TABLE epochs; PRAGMA user_version = 1").unwrap();
    drop(connection);
    assert_eq!(folder.reader().await.epochs().await.unwrap(), []);
    drop(folder.lead().await);
    assert_eq!(folder.reader().await.epochs().await.unwrap(), [start]);
}

#[derive(Clone, Debug)]
enum Op {
    Append { partitions: Vec<u16>, checkpoint: bool },
    Reopen,
    StoreCursor { consumer: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (vec(0..2_u16, 0..5), any::<bool>()).prop_map(|(partitions, checkpoint)| Op::Append { partitions, checkpoint }),
        1 => Just(Op::Reopen),
        1 => (0..2_u8).prop_map(|consumer| Op::StoreCursor { consumer }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Against lists: nothing acknowledged is lost, doubled or moved, from any place on.
    #[test]
    fn agrees_with_lists(ops in vec(op(), 1..30), from in any::<prop::sample::Index>()) {
        runtime().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("s.db");
            let mut embedded = Embedded::open(&path, OPTIONS).unwrap();
            let mut model: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
            let (mut next, mut checkpointed, mut terms) = (0, None, 1);
            let mut cursors: BTreeMap<u8, Cursor> = BTreeMap::new();
            for op in ops {
                match op {
                    Op::Append { partitions, checkpoint: with } => {
                        let mut batch = Batch::default();
                        for partition in partitions {
                            next += 1;
                            batch.records.push((Partition(partition), numbered(next)));
                            model.entry(partition).or_default().push(next);
                        }
                        if with {
                            batch.checkpoint = Some(checkpoint(next));
                            checkpointed = Some(next);
                        }
                        embedded.append(batch).await.unwrap().await.unwrap();
                    }
                    Op::Reopen => {
                        drop(embedded);
                        embedded = Embedded::open(&path, OPTIONS).unwrap();
                        terms += 1;
                        assert_eq!(embedded.term().0, terms);
                        assert_eq!(embedded.checkpoint("s").map(|found| found.version.bits()), checkpointed);
                    }
                    Op::StoreCursor { consumer } => {
                        let place = embedded.reader().head(Partition(0)).await.unwrap();
                        let cursor = Cursor { stream: embedded.stream_id(), partition: Partition(0), place };
                        cursors.insert(consumer, cursor);
                        embedded.store(&consumer.to_string(), vec![cursor]).await.unwrap();
                    }
                }
            }
            let reader = Embedded::read_only(&path).unwrap();
            for partition in 0..2 {
                let expected = model.remove(&partition).unwrap_or_default();
                assert_eq!(read_all(&reader, partition, Place::START).await.unwrap(), (expected.clone(), 0));
                // From the place of any record on, the rest follows.
                let mut places = Vec::new();
                let mut place = Place::START;
                while let Read::Entries(entries) = reader.read_after(Partition(partition), place, LIMIT).await.unwrap() {
                    let Some(last) = entries.last() else { break };
                    place = last.place;
                    places.extend(entries);
                }
                let at = from.index(places.len());
                let rest: Vec<u64> = places[at + 1..].iter().filter_map(|entry| number(&entry.record)).collect();
                assert_eq!(read_all(&reader, partition, places[at].place).await.unwrap(), (rest, 0));
            }
            for (consumer, cursor) in cursors {
                assert_eq!(embedded.load(&consumer.to_string()).await.unwrap(), vec![cursor]);
            }
        });
    }
}

#[tokio::test]
async fn a_second_writer_is_refused_and_readers_are_welcome() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let embedded = Embedded::open(&path, OPTIONS).unwrap();
    let refusal = Embedded::open(&path, OPTIONS).unwrap_err().to_string();
    assert!(
        refusal.contains(&format!("written by process {} already", std::process::id())),
        "{refusal}"
    );
    embedded
        .append(Batch { records: vec![(Partition(1), numbered(7))], checkpoint: None })
        .await
        .unwrap()
        .await
        .unwrap();
    let reader = Embedded::read_only(&path).unwrap();
    assert_eq!(read_all(&reader, 1, Place::START).await.unwrap().0, [7]);
}

#[tokio::test]
async fn foreign_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    std::fs::write(
        &path,
        "this is no database, but it is long enough to be read as one".repeat(20),
    )
    .unwrap();
    let err = Embedded::open(&path, OPTIONS).unwrap_err();
    assert!(matches!(err, StreamError::Damaged { .. }), "{err:?}");
}

#[tokio::test]
async fn retention_leaves_a_gap_that_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { retention_bytes: 400, ..OPTIONS };
    let path = folder.path().join("s.db");
    let embedded = Embedded::open(&path, options).unwrap();
    let reader = Embedded::read_only(&path).unwrap();
    let start = reader.head(Partition(0)).await.unwrap();
    for number in 1..=100 {
        let batch = Batch { records: vec![(Partition(0), numbered(number))], checkpoint: None };
        embedded.append(batch).await.unwrap().await.unwrap();
    }
    for from in [Place::START, start] {
        let (kept, gaps) = read_all(&reader, 0, from).await.unwrap();
        assert_eq!(gaps, 1);
        assert!((5..50).contains(&kept.len()), "{kept:?}");
        assert_eq!(kept.last(), Some(&100));
        assert!(kept.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{kept:?}");
    }
    // The newest record of the other partition stays, however old: its place is never forgotten.
    assert_eq!(reader.head(Partition(1)).await.unwrap(), start);
    let beyond = Place { sequence: 1_000, ..start };
    let read = reader.read_after(Partition(0), beyond, LIMIT).await.unwrap();
    assert_eq!(read, Read::Gap { resume: reader.head(Partition(0)).await.unwrap() });
}

#[tokio::test]
async fn the_writers_process_reads_what_is_new_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let embedded = Embedded::open(&path, OPTIONS).unwrap();
    let (inside, outside) = (embedded.reader(), Embedded::read_only(&path).unwrap());
    let start = inside.head(Partition(0)).await.unwrap();
    for number in 1..=3 {
        let batch = Batch { records: vec![(Partition(0), numbered(number))], checkpoint: None };
        embedded.append(batch).await.unwrap().await.unwrap();
    }
    // Whoever looks into the file misses them.
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute("DELETE FROM records WHERE partition = 0", []).unwrap();
    assert_eq!(read_all(&inside, 0, start).await.unwrap(), (vec![1, 2, 3], 0));
    assert!(read_all(&outside, 0, start).await.is_err());
    drop(embedded);
    assert!(read_all(&inside, 0, start).await.is_err(), "nobody knows who writes now");
}

#[tokio::test]
async fn seek_finds_the_first_record_of_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(&folder.path().join("s.db"), OPTIONS).unwrap();
    let mut times = Vec::new();
    for number in 1..=5 {
        times.push(CLOCK.fetch_add(1000, Ordering::Relaxed) + 1000);
        let batch = Batch { records: vec![(Partition(0), numbered(number))], checkpoint: None };
        embedded.append(batch).await.unwrap().await.unwrap();
    }
    let place = embedded.reader().seek(Partition(0), UnixMicros(times[2])).await.unwrap();
    let numbers = read_all(&embedded.reader(), 0, place).await.unwrap().0;
    assert_eq!(numbers.last(), Some(&5));
    assert!(numbers.contains(&3) && !numbers.contains(&1), "{numbers:?}");
}

/// Whatever byte of a closed file changes: what is read is what was written, or an error.
#[test]
fn damage_is_reported_never_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    runtime().block_on(async {
        let embedded = Embedded::open(&path, OPTIONS).unwrap();
        for number in 1..=60 {
            let batch = Batch {
                records: vec![(Partition(0), numbered(number))],
                checkpoint: Some(checkpoint(number)),
            };
            embedded.append(batch).await.unwrap().await.unwrap();
        }
    });
    let bytes = std::fs::read(&path).unwrap();
    let damaged = folder.path().join("d.db");
    let (mut intact, mut reported) = (0, 0);
    for at in (0..bytes.len()).step_by(211) {
        let mut copy = bytes.clone();
        copy[at] ^= 0x55;
        std::fs::write(&damaged, &copy).unwrap();
        let read = runtime().block_on(async {
            let reader = Embedded::read_only(&damaged)?;
            read_all(&reader, 0, Place::START).await
        });
        match read {
            Ok((numbers, 0)) if numbers == (1..=60).collect::<Vec<u64>>() => intact += 1,
            Ok((numbers, gaps)) => panic!("byte {at}: read {numbers:?} with {gaps} gaps"),
            Err(_) => reported += 1,
        }
        for name in ["d.db-wal", "d.db-shm"] {
            drop(std::fs::remove_file(folder.path().join(name)));
        }
    }
    assert!(intact > 0 && reported > 0, "{intact} intact, {reported} reported");
}

/// Set in the child that [`killed_at_any_moment`] and [`a_full_disk`] start: the file to write.
const CHILD_FILE: &str = "MCSQUEAL_TEST_STREAM_FILE";

/// The body of the child: appends numbered batches for ever, and prints each number once it is acknowledged.
#[test]
fn child_appends_until_killed() {
    let Some(path) = std::env::var_os(CHILD_FILE) else { return };
    runtime().block_on(async {
        let embedded = Embedded::open(Path::new(&path), OPTIONS).unwrap();
        let first = embedded.checkpoint("s").map_or(0, |found| found.version.bits()) + 1;
        for number in first.. {
            let records = vec![(Partition(0), numbered(number)), (Partition(1), numbered(number))];
            let batch = Batch { records, checkpoint: Some(checkpoint(number)) };
            embedded.append(batch).await.unwrap().await.unwrap();
            let mut out = std::io::stdout().lock();
            writeln!(out, "acknowledged {number}").unwrap();
            out.flush().unwrap();
        }
    });
}

fn child(path: &Path, prefix: &[&str]) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut argv: Vec<PathBuf> = prefix.iter().map(PathBuf::from).collect();
    argv.push(exe);
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).args([
        "--exact",
        "child_appends_until_killed",
        "--nocapture",
        "--test-threads=1",
    ]);
    command.env(CHILD_FILE, path).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn acknowledged(line: &str) -> Option<u64> {
    line.split_once("acknowledged ")?.1.trim().parse().ok()
}

/// Reads back both partitions and the checkpoint: whole batches, every number once, none missing.
fn check_whole(path: &Path, acknowledged: u64) -> u64 {
    runtime().block_on(async {
        let embedded = Embedded::open(path, OPTIONS).unwrap();
        let (one, gaps) = read_all(&embedded.reader(), 0, Place::START).await.unwrap();
        let (two, _) = read_all(&embedded.reader(), 1, Place::START).await.unwrap();
        assert_eq!(gaps, 0);
        assert_eq!(one, two, "half a batch");
        let last = one.last().copied().unwrap_or(0);
        assert_eq!(one, (1..=last).collect::<Vec<u64>>());
        assert!(last >= acknowledged, "{acknowledged} was acknowledged, {last} is the last");
        assert_eq!(embedded.checkpoint("s").map_or(0, |found| found.version.bits()), last);
        last
    })
}

#[test]
fn killed_at_any_moment() {
    let kills = if std::env::var_os("MCSQUEAL_LONG").is_some() { 200 } else { 20 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let mut last = 0;
    for kill in 0..kills {
        let mut child = child(&path, &[]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = last;
        // Killed after another number of acknowledgements each time, somewhere in the next append.
        while seen < last + 1 + (kill * 7) % 23 {
            if let Some(number) = acknowledged(&lines.next().expect("the child ended").unwrap()) {
                seen = number;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let rest = lines.filter_map(|line| acknowledged(&line.unwrap())).last();
        last = check_whole(&path, rest.unwrap_or(seen));
    }
    assert!(last > kills, "the children wrote {last} batches");
}

/// A disk that takes no more (here: a limit on the size of files) loses nothing that was acknowledged, and
/// once there is room the file is as good as before.
#[test]
fn a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    // SIGXFSZ is ignored, so that writes beyond the limit fail with an error, as on a full disk.
    let limit = "trap '' XFSZ; ulimit -f 300; exec \"$0\" \"$@\"";
    let mut child = child(&path, &["bash", "-c", limit]).spawn().unwrap();
    let (tell, told) = std::sync::mpsc::sync_channel(1024);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reading = std::thread::spawn(move || {
        for line in lines {
            let Some(number) = line.ok().as_deref().and_then(acknowledged) else { continue };
            tell.send(number).unwrap();
        }
    });
    let mut seen = 0;
    while let Ok(number) = told.recv_timeout(Duration::from_secs(3)) {
        seen = number;
        assert!(seen < 100_000, "the limit was never met");
    }
    assert!(child.try_wait().unwrap().is_none(), "the writer gave up instead of waiting");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(told);
    reading.join().unwrap();
    assert!(seen > 0);
    let last = check_whole(&path, seen);
    runtime().block_on(async {
        let embedded = Embedded::open(&path, OPTIONS).unwrap();
        let records = vec![(Partition(0), numbered(last + 1)), (Partition(1), numbered(last + 1))];
        let batch = Batch { records, checkpoint: Some(checkpoint(last + 1)) };
        embedded.append(batch).await.unwrap().await.unwrap();
    });
    check_whole(&path, last + 1);
}
