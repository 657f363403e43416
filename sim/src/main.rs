//! Runs histories: many seeds at once, one seed as a story, or the same seeds with each cure switched off.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for a terminal")]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    reason = "small counts of a test tool"
)]

mod mutants;
mod pool;
mod seeds;

use std::process::ExitCode;

use clap::Parser;
use sim::Weather;

/// Simulates mcsqueal: its real cores between a database, a broker, networks, clocks and clients that are made up.
/// One seed is one history, the same on every machine.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask sim",
    after_help = "Examples:\n  \
        cargo xtask sim --seeds 10000        many histories; the first failing one is shortened and told\n  \
        cargo xtask sim --seed 4711          one history, told from beginning to end\n  \
        cargo xtask sim --mutants            each cure switched off in turn: every one must be missed\n\n\
        Exit status: 0 nothing stale, 1 a promise was broken (or a mutant survived), 64 usage."
)]
struct Options {
    /// How many histories to run, with faults and without.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    first: u64,
    /// Run this one history, and tell it.
    #[arg(long, value_name = "SEED", conflicts_with = "mutants")]
    seed: Option<u64>,
    /// With --seed: nothing breaks after this many milliseconds.
    #[arg(long, value_name = "MS", requires = "seed")]
    until: Option<u64>,
    /// With --seed: without faults.
    #[arg(long, requires = "seed")]
    calm: bool,
    /// Switch off each cure in turn, and see that the simulation finds out within --seeds histories.
    #[arg(long)]
    mutants: bool,
    /// With --mutants: only those whose name contains this.
    #[arg(long, value_name = "TEXT", requires = "mutants")]
    only: Option<String>,
    /// With a cure switched off (a name, or a part of one, from --mutants).
    #[arg(long, value_name = "CURE", conflicts_with = "mutants")]
    without: Option<String>,
    /// Histories at a time; by default as many as there are processors.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let code = if error.use_stderr() { 64 } else { 0 };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let threads = options.threads.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    });
    let range = options.first..options.first.saturating_add(options.seeds);
    let weather = if options.calm { Weather::Calm } else { Weather::Faults };
    let fine = match (options.seed, options.mutants) {
        (Some(seed), _) => mutants::without(options.without.as_deref(), || {
            seeds::tell(seed, weather, options.until)
        }),
        (None, true) => mutants::run(range, threads, options.only.as_deref()),
        (None, false) => seeds::run(range, threads, options.without.as_deref()),
    };
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
