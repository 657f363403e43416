//! What share of a trace's requests are hits: in the engine, and in caches that decide item by item with the same room.
//!
//! A trace is a file, packed with gzip or not, with one request per line: an id, and perhaps the size of its value in bytes. The engine
//! gets some memory; the others get as many bytes of keys and values as the engine held at most, so that what differs is the choice
//! of what goes. The model of memcached alone gets the engine's memory, and pays memcached's overhead from it.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes and times of a benchmark are small and positive"
)]

mod chart;
mod policies;
mod trace;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use engine::{Engine, Meta, Now, Policy, Settings};

use crate::{args, figures::Figures};
use trace::Trace;

/// Cache sizes, in parts of a thousand of the trace's bytes.
const PER_MILLE: [u64; 6] = [3, 10, 30, 100, 200, 400];
/// What memcached 1.6.45 takes for each item above key and value, measured on values of 350 bytes.
const MEMCACHED_OVERHEAD_BYTES: u64 = 110;
/// What the engine takes, about; only to choose its memory.
const ENGINE_OVERHEAD_BYTES: u64 = 32;

struct Args {
    trace: PathBuf,
    svg: Option<PathBuf>,
    json: Option<PathBuf>,
}

/// The program.
pub fn main() -> ExitCode {
    let parsed = parse(std::env::args().skip(1));
    args::exit("hitratio", parsed.and_then(|args| run(&args)))
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args> {
    let (mut trace, mut svg, mut json) = (None, None, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--svg" => svg = Some(args.next().context("--svg needs a file")?.into()),
            "--json" => json = Some(args.next().context("--json needs a file")?.into()),
            option if option.starts_with('-') => bail!("{option}: there are --svg and --json FILE"),
            file if trace.is_none() => trace = Some(file.into()),
            more => bail!("{more}: one trace at a time"),
        }
    }
    Ok(Args { trace: trace.context("name a trace: hitratio TRACE [--svg FILE]")?, svg, json })
}

/// The hit ratios at one size.
#[derive(Clone, Copy, Debug)]
struct Row {
    per_mille: u64,
    memory_bytes: u64,
    items: usize,
    ratios: [f64; Series::ALL.len()],
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Series {
    Engine,
    EngineLru,
    Lru,
    S3Fifo,
    Memcached,
    Opt,
}

impl Series {
    const ALL: [Series; 6] = [
        Series::Engine,
        Series::EngineLru,
        Series::Lru,
        Series::S3Fifo,
        Series::Memcached,
        Series::Opt,
    ];

    /// Its figure, and its name in the chart.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Series::Engine => ("hit_ratio", "this engine"),
            Series::EngineLru => ("hit_ratio_policy_lru", "this engine, policy lru"),
            Series::Lru => ("hit_ratio_lru", "LRU, item by item"),
            Series::S3Fifo => ("hit_ratio_s3fifo", "S3-FIFO, item by item"),
            Series::Memcached => ("hit_ratio_memcached_model", "memcached (model, equal memory)"),
            Series::Opt => ("hit_ratio_opt", "Belady's bound"),
        }
    }
}

#[expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
fn run(args: &Args) -> Result<()> {
    let trace = Trace::read(&args.trace)?;
    let mut figures = Figures::default();
    println!(
        "{}: {} requests of {} keys, {} bytes a value",
        args.trace.display(),
        trace.requests.len(),
        trace.keys(),
        trace.total_bytes / trace.keys().max(1) as u64,
    );
    let mut rows = Vec::new();
    for per_mille in PER_MILLE {
        let row = measure(&trace, per_mille)?;
        println!(
            "size {}.{} % of the keys' bytes: {} KiB, {} items at most",
            per_mille / 10,
            per_mille % 10,
            row.memory_bytes >> 10,
            row.items
        );
        for (series, ratio) in Series::ALL.into_iter().zip(row.ratios) {
            figures.say(&format!("{}_{per_mille}_per_mille", series.names().0), ratio, "");
        }
        rows.push(row);
    }
    let name = args.trace.file_stem().and_then(|name| name.to_str()).unwrap_or("trace");
    let svg = args.svg.clone().unwrap_or_else(|| PathBuf::from(format!("hitratio-{name}.svg")));
    std::fs::write(&svg, chart::draw(name, &rows))
        .with_context(|| format!("write {}", svg.display()))?;
    println!("the curves are in {}", svg.display());
    args.json.as_deref().map_or(Ok(()), |path: &Path| figures.write(path))
}

fn measure(trace: &Trace, per_mille: u64) -> Result<Row> {
    let whole = trace.total_bytes + trace.keys() as u64 * ENGINE_OVERHEAD_BYTES;
    let memory_bytes = (whole * per_mille / 1000).max(64 << 10);
    let engine = replay(trace, memory_bytes, Policy::S3Fifo)?;
    let engine_lru = replay(trace, memory_bytes, Policy::Lru)?;
    let room = engine.payload_max;
    let requests = trace.requests.len() as f64;
    let hits = Series::ALL.map(|series| match series {
        Series::Engine => engine.hits,
        Series::EngineLru => engine_lru.hits,
        Series::Lru => policies::hits(&mut policies::Lru::new(room), trace, 0),
        Series::S3Fifo => policies::hits(&mut policies::S3Fifo::new(room), trace, 0),
        Series::Memcached => policies::hits(
            &mut policies::Segmented::new(memory_bytes),
            trace,
            MEMCACHED_OVERHEAD_BYTES,
        ),
        Series::Opt => policies::belady(trace, room),
    });
    let ratios = hits.map(|hits| hits as f64 / requests);
    Ok(Row { per_mille, memory_bytes, items: engine.items_max, ratios })
}

/// What a replay came to.
#[derive(Clone, Copy, Debug, Default)]
struct Replayed {
    hits: u64,
    items_max: usize,
    /// Most bytes of keys and values at a time.
    payload_max: u64,
}

/// Reads every key, and stores it where it is missing.
fn replay(trace: &Trace, memory_bytes: u64, policy: Policy) -> Result<Replayed> {
    let bytes_max = usize::try_from(memory_bytes).context("so much memory")?;
    let mut engine = Engine::new(Settings { bytes_max, policy, hash_seed: 3 })?;
    let now = Now { unix: 1_800_000_000, uptime: 10 };
    let value = vec![0; trace::VALUE_BYTES_MAX];
    let mut out = Replayed::default();
    for &id in &trace.requests {
        let key = trace::key(id);
        let hash = engine.hash(&key);
        if let Some(found) = engine.find(hash, &key, now) {
            engine.used(found, now);
            out.hits += 1;
            continue;
        }
        let bytes = trace.value_bytes[id as usize] as usize;
        // What is larger than the whole cache is a miss, and nothing else.
        let _stored = engine.put(hash, &key, &[&value[..bytes]], &Meta::new(now), now);
        out.items_max = out.items_max.max(engine.len());
    }
    out.payload_max = payload_max(trace, &engine, &out);
    Ok(out)
}

/// Bytes of keys and values of what is there at the end, or of as many middling items as were there at most.
fn payload_max(trace: &Trace, engine: &Engine, replayed: &Replayed) -> u64 {
    let items = engine.len().max(1) as u64;
    // Heads have 13 bytes where nothing is optional.
    let payload = engine.usage().item_bytes.saturating_sub(items * 13);
    let mean = payload as f64 / items as f64;
    let most = mean * replayed.items_max as f64;
    (most as u64).min(trace.total_bytes)
}
