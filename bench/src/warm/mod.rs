//! How soon a cold node is warm beside a warm one under load, what that costs the warm one and the database, and whether anything stale is
//! left.

mod cold;
mod load;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{
    args::{self, Args},
    figures::Figures,
    reference,
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Entries of the warm node; a multiple of a thousand.
    items: u32,
}

const FULL: Scale = Scale { items: 1_000_000 };
const QUICK: Scale = Scale { items: 50_000 };

/// The program.
pub fn main() -> ExitCode {
    let parsed = args::parse(std::env::args().skip(1), FULL, &[("--quick", QUICK)]);
    let runtime = tokio::runtime::Runtime::new().context("start the runtime");
    args::exit("warm", runtime.and_then(|runtime| runtime.block_on(run(parsed?))))
}

#[expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
async fn run(args: Args<Scale>) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores; figures are judged on 4");
    let mut figures = Figures::default();
    figures.say("cpu_reference", reference::cpu(), "M/s");
    let warmed = cold::measure(args.scale.items).await?;
    figures.say("warm_to_90pct_s", warmed.to_90pct_s, "s");
    figures.say("warm_peer_cpu_pct", warmed.peer_cpu_pct, "%");
    figures.say("warm_copied", warmed.copied, "entries");
    figures.say("warm_stale", warmed.stale, "values");
    figures.say("warm_db_reads_ratio", warmed.db_reads_ratio, "ratio");
    args.json.map_or(Ok(()), |path| figures.write(&path))
}
