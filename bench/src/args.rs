//! The command line of a benchmark: how much is measured, and where its figures go.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};

pub(crate) struct Args<S> {
    pub(crate) scale: S,
    pub(crate) json: Option<PathBuf>,
}

/// The scale is `full`, or one of `others`, which have a flag each.
pub(crate) fn parse<S: Copy>(
    args: impl IntoIterator<Item = String>,
    full: S,
    others: &[(&str, S)],
) -> Result<Args<S>> {
    let mut parsed = Args { scale: full, json: None };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--json" {
            parsed.json = Some(args.next().context("--json needs a file")?.into());
        } else if let Some((_, scale)) = others.iter().find(|(flag, _)| *flag == arg) {
            parsed.scale = *scale;
        } else {
            let flags: Vec<&str> = others.iter().map(|(flag, _)| *flag).collect();
            bail!("{arg}: there are {} and --json FILE", flags.join(", "));
        }
    }
    Ok(parsed)
}

/// What the process exits with.
#[expect(clippy::print_stderr, reason = "a tool for a terminal")]
pub(crate) fn exit(name: &str, outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("bench {name}: {err:#}");
            ExitCode::FAILURE
        }
    }
}
