//! The demo from start to end: servers, the naive phase, the phase with mcsqueal, the comparison.

use std::{pin::pin, time::Duration};

use anyhow::{Context, Result};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    args::{Args, Backend},
    figures,
    summary::{self, Outcome},
    view::{Frame, View},
};
use crate::{
    cache::Nodes,
    http,
    servers::{
        AnyNode, Database, DatabaseOptions, Kafka, Kind, Mcsqueal, McsquealOptions, NodeKind,
        Region, Servers, StreamPlace, mcsqueal_binary,
    },
    shop::{Fills, Settings, Shop, Traffic},
};

/// The bound that the region file gives readers; short, so that the demo is.
const FILL_AGE_MAX: Duration = Duration::from_secs(2);
/// How long everything that is on its way may take to arrive.
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
/// What the auditor watches meanwhile: a tenth of the keys. It says what it finds, and nothing depends on that.
const AUDITOR: &str = "sample = 0.1\nin_flight_ms = 1000\nlate_ms = 4000\nlost_ms = 5000";
const FRAME: Duration = Duration::from_secs(1);
/// Of `/metrics`: deletes that nodes have answered; each key has a first and a second one.
const DELETES_METRIC: &str = "mcsqueal_lane_deletes_total";
const FIRST_DELETE: &str = "pass=\"First\"";

/// What the exit status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No value that mcsqueal answers for is stale, or was so for too long.
    Clean,
    /// One is or was.
    Stale,
}

/// Runs the demo. Dropping the future ends everything that it started.
pub(super) async fn run(args: Args) -> Result<Verdict> {
    let mut stage = Stage::set(&args).await?;
    let settings = Settings::new(FILL_AGE_MAX, args.seed);
    let naive = stage.naive_phase(&settings, args.naive_seconds()).await?;
    let with = if args.naive { None } else { Some(stage.main_phase(settings, &args).await?) };
    stage.view.print(&summary::text(with.as_ref(), Some(&naive))).context("print")?;
    let figures = summary::figures(with.as_ref(), Some(&naive));
    stage.view.print(&figures::lines(&figures)).context("print")?;
    if let Some(path) = &args.json {
        figures::write_json(path, &figures)?;
    }
    let clean = with.is_none_or(|outcome| outcome.is_clean());
    Ok(if clean { Verdict::Clean } else { Verdict::Stale })
}

impl Args {
    /// How long the naive phase lasts: the whole demo, or long enough to show what it shows.
    fn naive_seconds(&self) -> u64 {
        if self.naive { self.seconds } else { (self.seconds / 3).clamp(5, 8) }
    }

    fn seconds_in_all(&self) -> u64 {
        if self.naive { self.seconds } else { self.seconds + self.naive_seconds() }
    }
}

/// Servers, and the view on what happens on them. Fields are dropped in this order.
struct Stage {
    database: Database,
    caches: Vec<AnyNode>,
    /// Where the stream is, if not in a file.
    kafka: Option<Kafka>,
    nodes: Nodes,
    servers: Servers,
    view: View,
    /// How much of the demo was over when this phase began, and how much it is worth, from 0 to 1.
    share: (f64, f64),
    seconds_in_all: f64,
}

impl Stage {
    async fn set(args: &Args) -> Result<Stage> {
        let servers = Servers::from_env()?;
        if !args.naive || args.nodes.kind == NodeKind::Mcsqueal {
            mcsqueal_binary()?; // Better missed now than after the naive phase.
        }
        let chosen = args.database.map(super::args::Dialect::kind);
        let kind = chosen.or_else(|| servers.manifest().some_database());
        let kind =
            kind.context("no database server in the manifest: run this through cargo xtask")?;
        let mut view = View::new(title(args, &servers, kind)?);
        view.print(&format!("starting {kind} and {} nodes ...\n", args.nodes.count))?;
        let database = servers.database(kind, &DatabaseOptions::default()).await?;
        let kafka = match args.with {
            Backend::Embedded => None,
            Backend::Kafka => Some(servers.kafka().await?),
        };
        let mut caches = Vec::new();
        for _ in 0..args.nodes.count {
            caches.push(servers.any_node(args.nodes.kind).await?);
        }
        let nodes = Nodes::new(caches.iter().map(AnyNode::address).collect())?;
        let seconds_in_all = Duration::from_secs(args.seconds_in_all()).as_secs_f64();
        let share = (0.0, 0.0);
        Ok(Stage { database, caches, kafka, nodes, servers, view, share, seconds_in_all })
    }

    async fn naive_phase(&mut self, settings: &Settings, seconds: u64) -> Result<Outcome> {
        let settings = settings.clone().naive();
        let shop = Shop::open(settings, self.database.root(), self.nodes.clone()).await?;
        let traffic = Traffic::start(&shop);
        self.watch(&shop, None, "without mcsqueal", seconds).await?;
        traffic.stop().await?;
        let comparison = shop.compare().await?;
        Ok(Outcome::of(&shop, comparison))
    }

    async fn main_phase(&mut self, settings: Settings, args: &Args) -> Result<Outcome> {
        let (mut settings, mut nodes) = (settings, self.nodes.clone());
        if args.nodes.kind == NodeKind::Mcsqueal {
            // Others than before, which were stock memcached as far as anybody could see.
            self.caches.clear();
            for _ in 0..args.nodes.count {
                let age = format!("fill_age_ms_max = {}", FILL_AGE_MAX.as_millis());
                self.caches.push(AnyNode::Mcsqueal(self.servers.versioned_node(&age).await?));
            }
            nodes = Nodes::new(self.caches.iter().map(AnyNode::address).collect())?;
            settings.fills = Fills::Leased;
        }
        let mut stream = StreamPlace::Embedded;
        if let Some(kafka) = &self.kafka {
            stream = StreamPlace::Kafka { brokers: kafka.address(), topic: "shop".to_owned() };
        }
        settings.partitions = stream.partitions();
        let shop = Shop::open(settings, self.database.root(), nodes).await?;
        let nodes = self.caches.iter().map(AnyNode::address).collect();
        let mut region = Region::shop(&self.database, nodes, FILL_AGE_MAX).await?;
        region.controls = self.caches.iter().filter_map(AnyNode::control).collect();
        region.stream = stream;
        let mut mcsqueal = self.servers.mcsqueal(&region, &McsquealOptions::default()).await?;
        let auditor = self.servers.auditor(&region, AUDITOR, &[]).await?;
        if let (NodeKind::Mcsqueal, Some(http)) = (args.nodes.kind, mcsqueal.http()) {
            let (database, nodes) = (self.database.address(), region.nodes.join(" "));
            self.view.print(&format!(
                "meanwhile, elsewhere: cargo run -p client --features mysql --example own_writes -- {database} {http} {nodes}\n"
            ))?;
        }
        let traffic = Traffic::start(&shop);
        self.watch(&shop, Some(&mut mcsqueal), "with mcsqueal", args.seconds).await?;
        traffic.stop().await?;
        self.view.print("the writers have stopped; waiting until everything is deleted ...\n")?;
        let drained = shop.drain(DRAIN_DEADLINE).await;
        mcsqueal.alive()?;
        drained?;
        let comparison = shop.compare().await?;
        let audit = auditor.stop().await?;
        self.view
            .print(&format!("{}, of changed keys on their nodes\n", audit.verdict))
            .context("print")?;
        mcsqueal.stop().await?;
        Ok(Outcome::of(&shop, comparison))
    }

    /// Draws a frame each second, for `seconds`.
    async fn watch(
        &mut self,
        shop: &Shop,
        mut mcsqueal: Option<&mut Mcsqueal>,
        phase: &str,
        seconds: u64,
    ) -> Result<()> {
        let length = Duration::from_secs(seconds);
        self.share = (self.share.0 + self.share.1, length.as_secs_f64() / self.seconds_in_all);
        let began = Instant::now();
        let mut before = Counts::of(shop, began);
        let mut end = pin!(tokio::time::sleep(length));
        let mut ticks = interval(FRAME);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await; // The first comes at once.
        loop {
            let over = tokio::select! {
                () = &mut end => true,
                _ = ticks.tick() => false,
            };
            if over && before.at.elapsed() < FRAME / 2 {
                return Ok(()); // Rates over so short a time are noise.
            }
            let mut frame = frame(shop, &mut before);
            frame.phase = format!("{phase}, {} of {seconds} s", began.elapsed().as_secs());
            let done = (began.elapsed().as_secs_f64() / length.as_secs_f64()).min(1.0);
            frame.progress = self.share.0 + self.share.1 * done;
            if let Some(mcsqueal) = mcsqueal.as_deref_mut() {
                mcsqueal.alive()?;
                frame.invalidations = deletes(mcsqueal).await;
            }
            self.view.draw(&frame).context("draw")?;
            if over {
                return Ok(());
            }
        }
    }
}

/// What was counted at a moment; two of them make rates.
struct Counts {
    at: Instant,
    commits: u64,
    reads: u64,
    hits: u64,
}

impl Counts {
    fn of(shop: &Shop, at: Instant) -> Counts {
        let stats = shop.stats();
        Counts {
            at,
            commits: stats.commits.get(),
            reads: stats.reads.get(),
            hits: stats.hits.get(),
        }
    }
}

fn frame(shop: &Shop, before: &mut Counts) -> Frame {
    let now = Counts::of(shop, Instant::now());
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
    let reads = real(now.reads - before.reads);
    let frame = Frame {
        commits_per_s: real(now.commits - before.commits) / seconds,
        commits: now.commits,
        reads_per_s: reads / seconds,
        reads: now.reads,
        hit_rate: real(now.hits - before.hits) / reads.max(1.0),
        commit_to_delete: shop.stats().commit_to_delete.quantiles(),
        superseded: shop.stats().superseded.quantiles(),
        ..Frame::default()
    };
    *before = now;
    frame
}

/// A count of one second, as a real number.
fn real(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

/// How many keys mcsqueal has deleted, if it says so.
async fn deletes(mcsqueal: &Mcsqueal) -> Option<u64> {
    let (_, page) = http::get(mcsqueal.http()?, "/metrics").await.ok()?;
    let first = |sample: &http::Sample<'_>| {
        sample.name == DELETES_METRIC && sample.labels.contains(FIRST_DELETE)
    };
    let sum: f64 = http::samples(&page).filter(first).map(|sample| sample.value).sum();
    format!("{sum:.0}").parse().ok()
}

fn title(args: &Args, servers: &Servers, kind: Kind) -> Result<String> {
    let version = |name: &str| {
        let program = servers.manifest().program(name);
        let program = program.with_context(|| format!("there is no {name} on this machine"))?;
        anyhow::Ok(program.version.clone())
    };
    let nodes = match args.nodes.kind {
        NodeKind::Memcached => format!("memcached {}", version("memcached")?),
        NodeKind::Mcsqueal => "mcsqueal".to_owned(),
    };
    let stream = match args.with {
        Backend::Embedded => String::new(),
        Backend::Kafka => format!(" Kafka {},", version("kafka")?),
    };
    let (count, seed, version) = (args.nodes.count, args.seed, version(kind.name())?);
    Ok(format!("mcsqueal demo: {kind} {version},{stream} {count} nodes of {nodes}, seed {seed}"))
}
