//! How fast a cache node saves what it has and reads it again, and for how long nobody is served while a newer process takes over, or
//! while it stops and starts.

mod copies;
mod upgrade;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{
    args::{self, Args},
    figures::{Figures, median},
    reference,
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Scale {
    entries: u32,
    runs: usize,
}

const FULL: Scale = Scale { entries: 1_000_000, runs: 5 };
const QUICK: Scale = Scale { entries: 100_000, runs: 1 };
const VALUE_BYTES: usize = 350;

/// The program.
pub fn main() -> ExitCode {
    let parsed = args::parse(std::env::args().skip(1), FULL, &[("--quick", QUICK)]);
    args::exit("snapshot", parsed.and_then(run))
}

#[expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
fn run(args: Args<Scale>) -> Result<()> {
    let mut figures = Figures::default();
    figures.say("cpu_reference", reference::cpu(), "M/s");
    println!("{} entries of {VALUE_BYTES} bytes", args.scale.entries);
    copies::measure(args.scale, &mut figures)?;
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let (mut upgrades, mut restarts) = (Vec::new(), Vec::new());
    for _ in 0..args.scale.runs {
        let gaps = runtime.block_on(upgrade::measure(args.scale.entries))?;
        upgrades.push(gaps.upgrade_ms);
        restarts.push(gaps.restart_ms);
    }
    figures.say("restart_unavailable_ms", median(upgrades), "ms");
    figures.say("restart_from_file_unavailable_ms", median(restarts), "ms");
    args.json.map_or(Ok(()), |path| figures.write(&path))
}
