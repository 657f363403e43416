//! How much a cache node does for its processor time and its memory: the engine alone, and the whole beside memcached.

mod engine;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};

use crate::{
    figures::{Figures, median},
    reference,
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Scale {
    engine: engine::Scale,
    runs: usize,
}

const FULL: Scale =
    Scale { engine: engine::Scale { items: 1_000_000, lookups: 8_000_000 }, runs: 5 };
const QUICK: Scale =
    Scale { engine: engine::Scale { items: 1_000_000, lookups: 2_000_000 }, runs: 1 };

struct Args {
    scale: Scale,
    json: Option<PathBuf>,
}

/// The program.
#[expect(clippy::print_stderr, reason = "a tool for a terminal")]
pub fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("bench node: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args> {
    let mut parsed = Args { scale: FULL, json: None };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => parsed.scale = QUICK,
            "--json" => parsed.json = Some(args.next().context("--json needs a file")?.into()),
            other => bail!("{other}: there are --quick and --json FILE"),
        }
    }
    Ok(parsed)
}

fn run(args: Args) -> Result<()> {
    let mut figures = Figures::default();
    figures.say("cpu_reference", reference::cpu(), "M/s");
    engine_alone(args.scale, &mut figures)?;
    args.json.map_or(Ok(()), |path| figures.write(&path))
}

fn engine_alone(scale: Scale, figures: &mut Figures) -> Result<()> {
    let runs: Vec<engine::Measured> =
        (0..scale.runs).map(|_| engine::measure(scale.engine)).collect::<Result<_>>()?;
    let middle = |of: fn(&engine::Measured) -> f64| median(runs.iter().map(of).collect());
    for (name, value, unit) in [
        ("node_engine_gets_per_s", middle(|run| run.gets_per_s), "1/s"),
        ("node_engine_batched_gets_per_s", middle(|run| run.batched_gets_per_s), "1/s"),
        ("node_engine_sets_per_s", middle(|run| run.sets_per_s), "1/s"),
        ("node_engine_walk_keys_per_s", middle(|run| run.walk_keys_per_s), "1/s"),
        ("node_overhead_bytes_per_item", middle(|run| run.overhead_bytes), "B"),
        ("node_overhead_marked_bytes_per_item", middle(|run| run.overhead_marked_bytes), "B"),
        ("node_expiry_s", middle(|run| run.expiry_s), "s"),
    ] {
        figures.say(name, value, unit);
    }
    Ok(())
}
