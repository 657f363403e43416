//! How fast changes become keys: from memory, from a real server's socket, and how much memory that takes.

mod backlog;
mod memory;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result, bail};
use e2e::servers::Servers;
use schemas::rules::Rules;

use crate::{
    figures::{Figures, median},
    reference,
};
use backlog::{Phase, Size};

/// Each measurement is the median of so many.
const RUNS: usize = 5;
/// How long the slow peer may decode, each time.
const PEER_SECONDS_MAX: f64 = 2.0;

const FULL: Size =
    Size { bulk_statements: 1000, oltp_transactions: 200_000, wide_rows: 20_000, blobs: 40 };
const QUICK: Size =
    Size { bulk_statements: 100, oltp_transactions: 10_000, wide_rows: 2_000, blobs: 5 };

struct Args {
    size: Size,
    json: Option<PathBuf>,
}

/// The program.
#[expect(clippy::print_stderr, reason = "a tool for a terminal")]
pub fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("bench tail: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args> {
    let mut parsed = Args { size: FULL, json: None };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => parsed.size = QUICK,
            "--json" => parsed.json = Some(args.next().context("--json needs a file")?.into()),
            other => bail!("unknown option {other:?}; there are --quick and --json FILE"),
        }
    }
    Ok(parsed)
}

fn run(args: Args) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let mut figures = Figures::default();
    figures.say("cpu_reference", reference::cpu(), "Mrounds/s");
    let servers = Servers::from_env()?;
    let phases = runtime.block_on(async {
        let database = backlog::server(&servers, &[]).await?;
        backlog::phases(&database, args.size).await
    })?;
    let rules = Arc::new(Rules::parse("bench", backlog::RULES).context("the bench's rules")?);
    from_memory(&mut figures, &phases, &rules)?;
    args.json.map_or(Ok(()), |path| figures.write(&path))
}

fn from_memory(figures: &mut Figures, phases: &[Phase], rules: &Arc<Rules>) -> Result<()> {
    for phase in phases {
        let (mut rows, mut transactions, mut bytes, mut ratios) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let (mut seconds, mut row_count, mut transaction_count) = (0.0, 0_u64, 0_u64);
            for file in &phase.files {
                let pass = memory::ours(file, rules)?;
                seconds += pass.seconds;
                row_count += pass.rows;
                transaction_count += pass.transactions;
            }
            let peer = memory::theirs(
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
