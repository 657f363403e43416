//! How fast changes become keys: from memory, from a real server's socket, and how much memory that takes.

mod backlog;
mod debezium;
mod decode;
mod latency;
mod memory;
mod null;
mod wire;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use e2e::servers::{Database, Servers};
use schemas::rules::Rules;

use crate::{
    args,
    figures::{Figures, median},
};
use backlog::{Phase, Size};
use memory::Form;

/// How long the slow peer may decode, each time.
const PEER_SECONDS_MAX: f64 = 2.0;

const FULL: Scale = Scale {
    size: Size { bulk_statements: 1000, oltp_transactions: 200_000, wide_rows: 20_000, blobs: 40 },
    runs: 5,
    memory_mib: 500,
    latency_seconds: 10,
};
const QUICK: Scale = Scale {
    size: Size { bulk_statements: 100, oltp_transactions: 10_000, wide_rows: 2_000, blobs: 5 },
    runs: 1,
    memory_mib: 100,
    latency_seconds: 2,
};
const LONG: Scale = Scale { memory_mib: 5000, ..FULL };

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Scale {
    size: Size,
    /// Each measurement is the median of so many.
    runs: u32,
    /// Size of the transaction whose memory is measured.
    memory_mib: u64,
    latency_seconds: u32,
}

/// The program.
pub fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match &given[..] {
        [first, address, folder] if first == memory::CHILD => tail_for_memory(address, folder),
        [first, file] if first == "--file" => decode_file(file),
        _ => {
            let scales = (FULL, &[("--quick", QUICK), ("--long", LONG)][..]);
            return args::program("tail", given, scales, run);
        }
    };
    args::exit("tail", outcome)
}

fn tail_for_memory(address: &str, folder: &str) -> Result<()> {
    args::runtime()?.block_on(memory::child(address, folder.as_ref()))
}

/// For profilers: decodes one binlog file of the bench's tables.
fn decode_file(file: &str) -> Result<()> {
    let bytes = std::fs::read(file).with_context(|| format!("read {file}"))?;
    let rules = Arc::new(Rules::parse("bench", backlog::RULES).context("the bench's rules")?);
    let mut figures = Figures::default();
    for _ in 0..FULL.runs {
        let pass = decode::ours(&bytes, &rules)?;
        figures.say("rows_per_s", pass.rows as f64 / pass.seconds, "rows/s");
        figures.say("txns_per_s", pass.transactions as f64 / pass.seconds, "transactions/s");
    }
    Ok(())
}

fn run(scale: Scale, figures: &mut Figures) -> Result<()> {
    let rules = Arc::new(Rules::parse("bench", backlog::RULES).context("the bench's rules")?);
    let servers = Servers::from_env()?;
    args::runtime()?.block_on(async {
        let database = backlog::server(&servers, &[]).await?;
        let phases = backlog::phases(&database, scale.size).await?;
        from_memory(figures, &phases, &rules, scale.runs)?;
        from_the_wire(figures, &database, &phases, &rules, scale.runs).await?;
        drop(phases);
        if let Some(jars) = std::env::var_os(debezium::JARS) {
            // It is slow: a part of what ours reads is enough.
            let statements = scale.size.bulk_statements.div_ceil(5);
            let ratio = debezium::ratio(&database, &rules, jars.as_ref(), statements).await?;
            figures.say("tail_vs_debezium_ratio", ratio, "x");
        }
        let latencies = latency::measure(&database, &rules, scale.latency_seconds).await?;
        for (name, quantile) in [("tail_ack_p50_ms", 0.5), ("tail_ack_p99_ms", 0.99)] {
            figures.say(name, latencies.value_at_quantile(quantile) as f64 / 1000.0, "ms");
        }
        let mut highest = 0_f64;
        for (name, form) in [("plain", Form::Plain), ("compressed", Form::Compressed)] {
            let peak = memory::peak(&database, form, scale.memory_mib).await?;
            figures.say(&format!("tail_memory_{name}_peak_mib"), peak, "MiB");
            highest = highest.max(peak);
        }
        figures.say("tail_memory_peak_mib", highest, "MiB");
        Ok(())
    })
}

async fn from_the_wire(
    figures: &mut Figures,
    database: &Database,
    phases: &[Phase],
    rules: &Arc<Rules>,
    runs: u32,
) -> Result<()> {
    for phase in phases {
        let (mut ratios, mut speeds, mut raw_speeds) = (Vec::new(), Vec::new(), Vec::new());
        let mut published = Vec::new();
        let megabytes = phase.bytes() as f64 / 1e6;
        for _ in 0..runs {
            let raw = wire::raw(database, phase).await?;
            let keys = wire::keys(database, phase, rules).await?;
            ratios.push(raw / keys);
            speeds.push(megabytes / keys);
            published.push(megabytes / wire::published(database, phase, rules).await?);
            raw_speeds.push(megabytes / raw);
        }
        let name = phase.name;
        figures.say(&format!("tail_{name}_mb_per_s"), median(speeds), "MB/s");
        figures.say(&format!("tail_{name}_published_mb_per_s"), median(published), "MB/s");
        figures.say(&format!("tail_{name}_raw_mb_per_s"), median(raw_speeds), "MB/s");
        figures.say(&format!("tail_{name}_vs_raw_ratio"), median(ratios), "x");
    }
    Ok(())
}

fn from_memory(
    figures: &mut Figures,
    phases: &[Phase],
    rules: &Arc<Rules>,
    runs: u32,
) -> Result<()> {
    for phase in phases {
        let (mut rows, mut transactions, mut bytes, mut ratios) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..runs {
            let (mut seconds, mut row_count, mut transaction_count) = (0.0, 0_u64, 0_u64);
            for file in &phase.files {
                let pass = decode::ours(file, rules)?;
                seconds += pass.seconds;
                row_count += pass.rows;
                transaction_count += pass.transactions;
            }
            let peer = decode::theirs(
                phase.files.first().context("a phase has a file")?,
                PEER_SECONDS_MAX,
            )?;
            rows.push(row_count as f64 / seconds);
            transactions.push(transaction_count as f64 / seconds);
            bytes.push(phase.bytes() as f64 / seconds / 1e6);
            ratios.push(row_count as f64 / seconds / (peer.rows as f64 / peer.seconds));
        }
        let name = phase.name;
        match name {
            "bulk" => {
                figures.say("tail_decode_bulk_rows_per_s", median(rows), "rows/s");
                figures.say("tail_vs_mysql_common_ratio", median(ratios), "x");
            }
            "oltp" => {
                figures.say("tail_decode_oltp_txns_per_s", median(transactions), "transactions/s");
                figures.say("tail_vs_mysql_common_oltp_ratio", median(ratios), "x");
            }
            _ => figures.say(&format!("tail_decode_{name}_rows_per_s"), median(rows), "rows/s"),
        }
        figures.say(&format!("tail_decode_{name}_mb_per_s"), median(bytes), "MB/s");
    }
    Ok(())
}
