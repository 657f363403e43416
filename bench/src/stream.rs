//! How fast the stream takes keys and gives them back, embedded and on a real Kafka: in bulk, and one transaction at a
//! time. And how soon a standby writes when the leader is killed.

use std::{
    process::{ExitCode, Stdio},
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use e2e::servers::Servers;
use hdrhistogram::Histogram;
use schemas::{
    cursor::{Partition, Place},
    key::Key,
    record::{self, Invalidation, Invalidations, Operation, Record, Transaction, UnixMicros},
    version::Version,
};
use stream::{
    AnyReader, AnyWriter, Batch, Log, Read, ReadLimit, Reader, Writer,
    embedded::{Embedded, Options},
    kafka::{Kafka, Settings},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    args,
    figures::{Figures, median},
};

const PARTITIONS: u16 = 16;
/// In one record, and in one transaction of it.
const KEYS_PER_RECORD: usize = 1000;
const KEYS_PER_TRANSACTION: usize = 10;
const RECORDS_PER_BATCH: usize = 16;
/// Batches that wait for their acknowledgement, as with a tailer.
const IN_FLIGHT_MAX: usize = 32;
const TRANSACTIONS_PER_S: u32 = 1000;
const LIMIT: ReadLimit = ReadLimit { records_max: 256, bytes_max: 8 << 20 };
/// The hidden word with which the program starts itself, to be killed.
const CHILD: &str = "--lead";

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Scale {
    batches: usize,
    runs: usize,
    latency_seconds: u32,
}

const FULL: Scale = Scale { batches: 300, runs: 5, latency_seconds: 10 };
const QUICK: Scale = Scale { batches: 60, runs: 1, latency_seconds: 3 };

/// The program.
pub fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if let [first, brokers, topic] = &given[..]
        && first == CHILD
    {
        let led =
            args::runtime().and_then(|runtime| runtime.block_on(lead_until_killed(brokers, topic)));
        return args::exit("stream", led);
    }
    args::program("stream", given, (FULL, &[("--quick", QUICK)]), |scale, figures| {
        args::runtime()?.block_on(run(scale, figures))
    })
}

async fn run(scale: Scale, figures: &mut Figures) -> Result<()> {
    let servers = Servers::from_env()?;
    let kafka = servers.kafka().await?;
    let (mut embedded_runs, mut kafka_runs) = (Vec::new(), Vec::new());
    for at in 0..scale.runs {
        let folder = tempfile::tempdir().context("make a folder")?;
        let log = Log::Embedded(Embedded::open(&folder.path().join("stream.db"), options())?);
        embedded_runs.push(measure(&log, scale).await?);
        drop(log);
        let log = Kafka::open(settings(kafka.address(), format!("bench{at}"))).await?;
        kafka_runs.push(measure(&Log::Kafka(log), scale).await?);
    }
    for (backend, runs) in [("embedded", embedded_runs), ("kafka", kafka_runs)] {
        let figure = |of: fn(&Measured) -> f64| median(runs.iter().map(of).collect());
        for (name, value, unit) in [
            ("append_keys_per_s", figure(|run| run.append_keys_per_s), "1/s"),
            ("read_keys_per_s", figure(|run| run.read_keys_per_s), "1/s"),
            ("bytes_per_key", figure(|run| run.bytes_per_key), "B"),
            ("latency_p50_ms", figure(|run| run.latency_p50_ms), "ms"),
            ("latency_p99_ms", figure(|run| run.latency_p99_ms), "ms"),
        ] {
            figures.say(&format!("stream_{backend}_{name}"), value, unit);
        }
    }
    let mut take_overs = Vec::new();
    for at in 0..scale.runs {
        take_overs.push(take_over(&kafka.address(), &format!("takeover{at}")).await?);
    }
    figures.say("stream_takeover_s", median(take_overs), "s");
    Ok(())
}

/// One run of one backend.
#[derive(Debug)]
struct Measured {
    append_keys_per_s: f64,
    read_keys_per_s: f64,
    bytes_per_key: f64,
    latency_p50_ms: f64,
    latency_p99_ms: f64,
}

async fn measure(log: &Log, scale: Scale) -> Result<Measured> {
    let writer = log.lead().await?;
    let reader = log.reader().await?;
    let bulk: Vec<Batch> = (0..scale.batches).map(batch).collect();
    let keys = (scale.batches * RECORDS_PER_BATCH * KEYS_PER_RECORD) as f64;
    let mut encoded = Vec::new();
    for (_, record) in &bulk[0].records {
        record::encode(record, &mut encoded);
    }
    let bytes_per_key = encoded.len() as f64 / (RECORDS_PER_BATCH * KEYS_PER_RECORD) as f64;
    let begin = Instant::now();
    append_all(&writer, bulk).await?;
    let append_keys_per_s = keys / begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let found = read_all(&reader).await?;
    let read_keys_per_s = keys / begin.elapsed().as_secs_f64();
    ensure!((found as f64 - keys).abs() < 0.5, "{found} keys came back of {keys}");
    let latency = latency(&writer, &reader, scale.latency_seconds).await?;
    let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Measured {
        append_keys_per_s,
        read_keys_per_s,
        bytes_per_key,
        latency_p50_ms: ms(0.5),
        latency_p99_ms: ms(0.99),
    })
}

async fn append_all(writer: &AnyWriter, batches: Vec<Batch>) -> Result<()> {
    let mut waiting = std::collections::VecDeque::new();
    for batch in batches {
        waiting.push_back(writer.append(batch).await?);
        if waiting.len() >= IN_FLIGHT_MAX
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.await?;
        }
    }
    for pending in waiting {
        pending.await?;
    }
    Ok(())
}

/// All partitions at once; counts keys.
async fn read_all(reader: &AnyReader) -> Result<usize> {
    let mut tasks = tokio::task::JoinSet::new();
    for partition in (0..reader.partitions()).map(Partition) {
        let reader = reader.clone();
        tasks.spawn(async move {
            let head = reader.head(partition).await?;
            let (mut place, mut keys) = (Place::START, 0);
            while place < head {
                match reader.read_after(partition, place, LIMIT).await? {
                    Read::Gap { resume } => bail!("a gap up to {resume}"),
                    Read::Entries(entries) => {
                        for entry in entries {
                            place = entry.place;
                            keys += keys_of(&entry.record);
                        }
                    }
                }
            }
            Ok(keys)
        });
    }
    let mut keys = 0;
    while let Some(read) = tasks.join_next().await {
        keys += read.context("a reader panicked")??;
    }
    Ok(keys)
}

/// One key per transaction, one batch each; the time until a reader has it, in microseconds.
async fn latency(writer: &AnyWriter, reader: &AnyReader, seconds: u32) -> Result<Histogram<u64>> {
    let count = u64::from(seconds * TRANSACTIONS_PER_S);
    let partition = Partition(0);
    let mut place = reader.head(partition).await?;
    let mut follower = reader.clone();
    let follow = tokio::spawn(async move {
        let mut times = Histogram::new(3).context("a histogram")?;
        let mut seen = 0;
        while seen < count {
            match follower.read_after(partition, place, LIMIT).await? {
                Read::Entries(entries) if entries.is_empty() => follower.changed().await,
                Read::Entries(entries) => {
                    let now = now().0;
                    for entry in entries {
                        place = entry.place;
                        let Record::Invalidations(invalidations) = entry.record else { continue };
                        for transaction in &invalidations.transactions {
                            seen += 1;
                            times.saturating_record(now.saturating_sub(transaction.received_at.0));
                        }
                    }
                }
                Read::Gap { resume } => bail!("a gap up to {resume}"),
            }
        }
        anyhow::Ok(times)
    });
    let mut ticks = interval(Duration::from_secs(1) / TRANSACTIONS_PER_S);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut waiting = std::collections::VecDeque::new();
    for number in 0..count {
        ticks.tick().await;
        let transaction = transaction(number, 1, now());
        let record = Record::Invalidations(Invalidations {
            source: "bench".into(),
            transactions: vec![transaction],
        });
        let batch = Batch { records: vec![(partition, record)], checkpoint: None };
        waiting.push_back(writer.append(batch).await?);
        if waiting.len() >= IN_FLIGHT_MAX
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.await?;
        }
    }
    follow.await.context("the reader panicked")?
}

/// From the leader's death by `kill -9` until the standby has appended; in seconds.
async fn take_over(brokers: &str, topic: &str) -> Result<f64> {
    let program = std::env::current_exe().context("find this program")?;
    let mut child = Command::new(program)
        .args([CHILD, brokers, topic])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start a leader")?;
    let stdout = child.stdout.take().context("read the leader")?;
    let line = BufReader::new(stdout).lines().next_line().await.context("read the leader")?;
    ensure!(line.as_deref() == Some("leading"), "the leader said {line:?}");
    let kafka = Kafka::open(settings(brokers.to_owned(), topic.to_owned())).await?;
    let standby = tokio::spawn(async move {
        let writer = kafka.lead().await?;
        writer.append(batch(0)).await?.await?;
        anyhow::Ok(Instant::now())
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(!standby.is_finished(), "two lead");
    child.start_kill().context("kill the leader")?;
    let killed = Instant::now();
    let leads = standby.await.context("the standby panicked")??;
    Ok(leads.duration_since(killed).as_secs_f64())
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
async fn lead_until_killed(brokers: &str, topic: &str) -> Result<()> {
    let kafka = Kafka::open(settings(brokers.to_owned(), topic.to_owned())).await?;
    let writer = kafka.lead().await?;
    println!("leading");
    loop {
        writer.append(batch(1)).await?.await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn settings(brokers: String, topic: String) -> Settings {
    let settings = Settings::new(brokers, topic, now);
    Settings { partitions: PARTITIONS, replication: 1, in_sync_min: 1, ..settings }
}

fn options() -> Options {
    Options {
        partitions: PARTITIONS,
        retention_bytes: 1 << 40,
        retention_age: Duration::from_secs(86_400),
        now,
    }
}

/// Keys of 30 bytes, in transactions of some.
fn batch(number: usize) -> Batch {
    let record = |at: usize| {
        let transactions = KEYS_PER_RECORD / KEYS_PER_TRANSACTION;
        let first = (number * RECORDS_PER_BATCH + at) * transactions;
        let transaction = |at: usize| transaction((first + at) as u64, KEYS_PER_TRANSACTION, now());
        let transactions = (0..transactions).map(transaction).collect();
        let partition = Partition(u16::try_from(at).unwrap_or_default() % PARTITIONS);
        let record = Invalidations { source: "bench".into(), transactions };
        (partition, Record::Invalidations(record))
    };
    Batch { records: (0..RECORDS_PER_BATCH).map(record).collect(), checkpoint: None }
}

/// As the tailer makes it: a key has its bytes to itself, and its names together with all others.
fn transaction(number: u64, keys: usize, at: UnixMicros) -> Transaction {
    static NAMES: LazyLock<[Arc<str>; 2]> = LazyLock::new(|| ["shop.users".into(), "users".into()]);
    let invalidation = |key: usize| {
        let [table, rule] = NAMES.clone();
        let key = format!("user-by-session:{number:010}{key:04}").into_bytes().into_boxed_slice();
        let key = Key::new(key).expect("a good key");
        Invalidation { key, table, rule, operation: Operation::Update }
    };
    Transaction {
        version: Version::new(1, number + 1).unwrap_or(Version::MAX),
        committed_at: Some(at),
        received_at: at,
        last: true,
        keys: (0..keys).map(invalidation).collect(),
    }
}

fn keys_of(record: &Record) -> usize {
    match record {
        Record::Invalidations(invalidations) => {
            invalidations.transactions.iter().map(|transaction| transaction.keys.len()).sum()
        }
        _ => 0,
    }
}

fn now() -> UnixMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMicros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
