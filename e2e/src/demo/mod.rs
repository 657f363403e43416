//! The demo: a shop on private real servers, first without mcsqueal, then with it, and what became of
//! every cached value.

mod args;
mod figures;
mod run;
mod summary;
mod view;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use args::Args;
use run::Verdict;

/// Exit status for wrong options; clap's own is 2.
const EXIT_USAGE: u8 = 64;
/// Shells say 128 and the signal's number.
const EXIT_INTERRUPTED: u8 = 130;
const EXIT_TERMINATED: u8 = 143;

/// The program `demo`.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(err) => {
            drop(err.print()); // Nobody left to tell.
            return if err.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    match until_signal(args) {
        Ok(code) => code,
        Err(err) => {
            drop(writeln!(io::stderr(), "demo: {err:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs to the end, or until a signal: then everything that runs is dropped, which ends it.
#[tokio::main]
async fn until_signal(args: Args) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    tokio::select! {
        verdict = run::run(args) => Ok(match verdict? {
            Verdict::Clean => ExitCode::SUCCESS,
            Verdict::Stale => ExitCode::FAILURE,
        }),
        _ = interrupt.recv() => Ok(EXIT_INTERRUPTED.into()),
        _ = terminate.recv() => Ok(EXIT_TERMINATED.into()),
    }
}
