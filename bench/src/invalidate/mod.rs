//! How fast deletes come from the stream to a cache node of ours, how soon, and what versions cost the node. Stream, lane and node run
//! in this process, with a real control port between them. Then with everything around: how soon a commit's keys are served no more, and
//! how often the database is read when a key changes that many want.

mod commit;
mod gets;
mod herds;
mod region;

use std::{net::Ipv4Addr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use cache_node::{
    control::{self, Control, ControlServer, Session},
    node::{Allowed, Node, Placeholders, Settings},
    now::Now,
    rules::{self, Lossy, OnStale, Rules},
    server::Clock,
    store::Eviction,
};
use hdrhistogram::Histogram;
use invalidator::Invalidator;
use schemas::{
    cursor::Partition,
    defaults,
    key::Key,
    moment::Moment,
    record::{Invalidation, Invalidations, Operation, Record, Transaction},
    version::Version,
};
use stream::{
    Batch, Writer,
    embedded::{Embedded, EmbeddedReader},
};
use tokio::{
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use self::region::Backend;
use crate::{
    args,
    figures::{Figures, median},
    lane,
};

const KEYS_PER_TRANSACTION: usize = 10;
const TRANSACTIONS_PER_RECORD: usize = 100;
const RECORDS_PER_BATCH: usize = 16;
const TRANSACTIONS_PER_S: u32 = 1000;
const DEADLINE: Duration = Duration::from_secs(120);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Scale {
    batches: usize,
    runs: usize,
    latency_seconds: u32,
}

const FULL: Scale = Scale { batches: 200, runs: 5, latency_seconds: 10 };
const QUICK: Scale = Scale { batches: 50, runs: 1, latency_seconds: 3 };

/// The program.
pub fn main() -> ExitCode {
    let scales = (FULL, &[("--quick", QUICK)][..]);
    args::program("invalidate", std::env::args().skip(1), scales, |scale, figures| {
        args::runtime()?.block_on(run(scale, figures))
    })
}

async fn run(scale: Scale, figures: &mut Figures) -> Result<()> {
    let (mut bulk, mut sends, mut middle, mut slow, mut costs) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..scale.runs {
        let (per_core_s, keys_per_send) = Stage::new()?.bulk(scale.batches).await?;
        bulk.push(per_core_s);
        sends.push(keys_per_send);
        let delays = Stage::new()?.delays(scale.latency_seconds).await?;
        middle.push(delays.value_at_quantile(0.5) as f64 / 1000.0);
        slow.push(delays.value_at_quantile(0.99) as f64 / 1000.0);
        costs.push(gets::cost_ratio()?);
    }
    figures.say("invalidate_deletes_per_core_s", median(bulk), "1/s");
    figures.say("invalidate_keys_per_send", median(sends), "keys");
    figures.say("invalidate_added_delay_ms", median(middle), "ms");
    figures.say("invalidate_added_delay_p99_ms", median(slow), "ms");
    figures.say("node_versions_cost_ratio", median(costs), "ratio");
    for backend in [Backend::Embedded, Backend::Kafka] {
        let delays = commit::delays(backend, scale.latency_seconds * 2).await?;
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
            let name = format!("invalidate_{}_commit_{name}_ms", backend.name());
            figures.say(&name, delays.value_at_quantile(quantile) as f64 / 1000.0, "ms");
        }
    }
    let [near, lagging] = herds::reads().await?;
    figures.say("herd_reads_per_invalidation", near as f64, "reads");
    figures.say("herd_reads_per_invalidation_lagging", lagging as f64, "reads");
    Ok(())
}

fn rules_settings(partitions: u16) -> rules::Settings {
    rules::Settings {
        partitions,
        fill_age_max: defaults::FILL_AGE_MAX,
        lease: defaults::LEASE,
        staleness_max: Duration::from_secs(86_400),
        clock_skew_max: defaults::CLOCK_SKEW_MAX,
        on_stale: OnStale::Ttl,
        degraded_ttl: defaults::DEGRADED_TTL,
        marker_ttl_max: Duration::ZERO,
        tombstones_max: defaults::TOMBSTONES_MAX,
        leases_max: 1_000_000,
        markers_max: 1,
        lossy: Lossy::Cut,
        unsourced: Vec::new(),
    }
}

fn node(rules: Option<Rules>) -> Node {
    let settings = Settings {
        memory_bytes_max: 64 << 20,
        item_bytes_max: 1 << 20,
        eviction: Eviction::S3Fifo,
        workers: 1,
        placeholders: Placeholders::Hidden,
        prefix_delimiter: b':',
        allowed: Allowed::NOTHING,
    };
    Node::new(settings, rules, 1)
}

/// Stream and node; lanes come later.
struct Stage {
    log: Embedded,
    node: Arc<Node>,
    control: Arc<Control>,
    number: u64,
    shutdown: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Stage {
    /// The node is told that it has read nothing of the stream, so that its lane begins at the beginning.
    fn new() -> Result<Stage> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let log = lane::log(folder.path())?;
        let begin = Rules::new(Moment::START, rules_settings(1));
        let node = Arc::new(node(Some(begin)));
        let control = Arc::new(Control::new(Arc::clone(&node), rules_settings(1), None)?);
        let shutdown = CancellationToken::new();
        let stage = Stage { log, node, control, number: 0, shutdown, _folder: folder };
        stage.say("begin 0 0:0\nepoch 1 0.0 lossless 0.0\n");
        Ok(stage)
    }

    /// What the control port answers.
    fn say(&self, lines: &str) -> String {
        let mut session = Session::new(Arc::clone(&self.control), [0; 16]);
        let hello = format!("hello 1 {} 1 0 -\n{lines}", Writer::stream_id(&self.log));
        session.input.extend_from_slice(hello.as_bytes());
        session.execute(Now { moment: Moment::START, unix: 0 }, lane::now());
        String::from_utf8_lossy(&session.output).into_owned()
    }

    async fn start_lane(&self) -> Result<Invalidator<EmbeddedReader, Embedded>> {
        let clock = Clock::new(Arc::clone(&self.node));
        let options = control::Options { listen: (Ipv4Addr::LOCALHOST, 0).into(), tls: None };
        let port = ControlServer::bind(Arc::clone(&self.control), clock, &options).await?;
        let address = port.address()?.to_string();
        tokio::spawn(port.run(self.shutdown.clone()));
        lane::start(&self.log, "node:1".to_owned(), address, &self.shutdown)
    }

    async fn append(&self, records: Vec<Record>) -> Result<()> {
        let records = records.into_iter().map(|record| (Partition(0), record)).collect();
        let appended = self.log.append(Batch { records, checkpoint: None }).await?;
        appended.await.context("append to the stream")
    }

    /// Waits until the node has everything that was appended.
    async fn applied(&self) -> Result<()> {
        let version = version(self.number);
        let applied = async {
            while self.node.rules().map(|rules| rules.applied(Partition(0))) < Some(version) {
                yield_now().await;
            }
        };
        timeout(DEADLINE, applied).await.context("the node does not get everything")
    }

    /// What a `Progress` says first: without one, nothing counts as applied.
    fn progress(&mut self) -> Record {
        self.number += 1;
        lane::progress(version(self.number))
    }

    fn transactions(&mut self, count: usize) -> Record {
        let mut transactions = Vec::with_capacity(count);
        for _ in 0..count {
            self.number += 1;
            let key = |at: usize| Invalidation {
                key: Key::new(format!("user:{:08}", self.number * 10 + at as u64))
                    .expect("a short key"),
                table: "shop.users".into(),
                rule: "users".into(),
                operation: Operation::Update,
            };
            let keys = (0..KEYS_PER_TRANSACTION).map(key).collect();
            let (version, received_at) = (version(self.number), lane::now());
            let committed_at = Some(received_at);
            transactions.push(Transaction { version, committed_at, received_at, last: true, keys });
        }
        Record::Invalidations(Invalidations { source: lane::SOURCE.into(), transactions })
    }

    /// Deletes per second of processor time (reading, sending and applying together), and keys in each send.
    async fn bulk(mut self, batches: usize) -> Result<(f64, f64)> {
        let first = self.progress();
        self.append(vec![first]).await?;
        for _ in 0..batches {
            let records =
                (0..RECORDS_PER_BATCH).map(|_| self.transactions(TRANSACTIONS_PER_RECORD));
            let records = records.collect();
            self.append(records).await?;
        }
        let begin = processor_seconds()?;
        let _lane = self.start_lane().await?;
        // Not `applied`, which would spin.
        let mut ticks = interval(Duration::from_millis(5));
        let version = version(self.number);
        while self.node.rules().map(|rules| rules.applied(Partition(0))) < Some(version) {
            ticks.tick().await;
        }
        let took = processor_seconds()? - begin;
        let said = self.say("stats\n");
        let counted = |name: &str| -> f64 {
            let line = said.lines().find_map(|line| line.strip_prefix("stat ")?.strip_prefix(name));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
        };
        let (deletes, sends) = (counted("deletes "), counted("batches "));
        Ok((deletes / took.max(1e-9), deletes / sends.max(1.0)))
    }

    /// From the acknowledgement of the stream until the key is not served any more, in microseconds.
    async fn delays(mut self, seconds: u32) -> Result<Histogram<u64>> {
        let _lane = self.start_lane().await?;
        let first = self.progress();
        self.append(vec![first]).await?;
        self.applied().await?;
        let mut delays = Histogram::new(3)?;
        let mut ticks = interval(Duration::from_secs(1) / TRANSACTIONS_PER_S);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..seconds * TRANSACTIONS_PER_S {
            ticks.tick().await;
            let record = self.transactions(1);
            self.append(vec![record]).await?;
            let acknowledged = Instant::now();
            self.applied().await?;
            delays.record(u64::try_from(acknowledged.elapsed().as_micros())?)?;
        }
        Ok(delays)
    }
}

fn version(number: u64) -> Version {
    Version::new(1, number).unwrap_or(Version::MAX)
}

/// Of this process; in hundredths.
fn processor_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("read our processor time")?;
    let (_, fields) = stat.rsplit_once(") ").context("understand our processor time")?;
    let ticks = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() / 100.0)
}
