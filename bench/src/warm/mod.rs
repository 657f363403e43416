//! How soon a cold node is warm beside a warm one under load, what that costs the warm one and the database, and whether anything stale is
//! left.

mod cold;
mod load;

use std::process::ExitCode;

use anyhow::Result;

use crate::{args, figures::Figures};

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
    let scales = (FULL, &[("--quick", QUICK)][..]);
    args::program("warm", std::env::args().skip(1), scales, |scale, figures| {
        args::runtime()?.block_on(run(scale, figures))
    })
}

async fn run(scale: Scale, figures: &mut Figures) -> Result<()> {
    let warmed = cold::measure(scale.items).await?;
    figures.say("warm_to_90pct_s", warmed.to_90pct_s, "s");
    figures.say("warm_peer_cpu_pct", warmed.peer_cpu_pct, "%");
    figures.say("warm_copied", warmed.copied, "entries");
    figures.say("warm_stale", warmed.stale, "values");
    figures.say("warm_db_reads_ratio", warmed.db_reads_ratio, "ratio");
    Ok(())
}
