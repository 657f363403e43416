//! How fast a cache node saves what it has and reads it again, and for how long nobody is served while a newer process takes over, or
//! while it stops and starts.

mod copies;
mod upgrade;

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    args,
    figures::{Figures, median},
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
    args::program("snapshot", std::env::args().skip(1), (FULL, &[("--quick", QUICK)]), run)
}

#[expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
fn run(scale: Scale, figures: &mut Figures) -> Result<()> {
    println!("{} entries of {VALUE_BYTES} bytes", scale.entries);
    copies::measure(scale, figures)?;
    let runtime = args::runtime()?;
    let (mut upgrades, mut restarts) = (Vec::new(), Vec::new());
    for _ in 0..scale.runs {
        let gaps = runtime.block_on(upgrade::measure(scale.entries))?;
        upgrades.push(gaps.upgrade_ms);
        restarts.push(gaps.restart_ms);
    }
    figures.say("restart_unavailable_ms", median(upgrades), "ms");
    figures.say("restart_from_file_unavailable_ms", median(restarts), "ms");
    Ok(())
}
