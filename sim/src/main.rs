//! Runs histories: many seeds at once, one seed as a story, or the same seeds with each cure switched off.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for a terminal")]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    reason = "small counts of a test tool"
)]

#[cfg(debug_assertions)]
mod mutants;
#[cfg(not(debug_assertions))]
#[path = "no_mutants.rs"]
mod mutants;
mod options;
mod pool;
mod seeds;

use std::process::ExitCode;

use clap::Parser;
use sim::Weather;

use crate::options::{Options, Storm};

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
    let weather = match (options.calm, options.storm) {
        (true, _) => Weather::Calm,
        (false, Some(Storm::All)) => Weather::Storm,
        (false, Some(Storm::Ours)) => Weather::StormOfOurs,
        (false, Some(Storm::Database)) => Weather::StormOfDatabase,
        (false, None) => Weather::Faults,
    };
    let fine = match (options.seed, options.mutants) {
        (Some(seed), _) => mutants::without(options.without.as_deref(), || {
            seeds::tell(seed, weather, options.until)
        }),
        (None, true) => mutants::run(range, threads, options.only.as_deref()),
        (None, false) => seeds::run(range, weather, threads, options.without.as_deref()),
    };
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
