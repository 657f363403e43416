//! A benchmark from its command line to its figures.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use tokio::runtime::Runtime;

use crate::{figures::Figures, reference};

/// How much is measured, and where the figures go.
struct Args<S> {
    scale: S,
    json: Option<PathBuf>,
}

/// Says what machine this is, runs the benchmark as the command line wants it, and keeps its figures.
pub(crate) fn program<S: Copy>(
    name: &str,
    args: impl IntoIterator<Item = String>,
    (full, others): (S, &[(&str, S)]),
    run: impl FnOnce(S, &mut Figures) -> Result<()>,
) -> ExitCode {
    let measured = || {
        let Args { scale, json } = parse(args, full, others)?;
        say_machine();
        let mut figures = Figures::default();
        figures.say("cpu_reference", reference::cpu(), "M/s");
        run(scale, &mut figures)?;
        json.map_or(Ok(()), |path| figures.write(&path))
    };
    exit(name, measured())
}

/// Of a benchmark that waits for sockets.
pub(crate) fn runtime() -> Result<Runtime> {
    Runtime::new().context("start the runtime")
}

#[expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
fn say_machine() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown");
    println!(
        "{cores} cores; figures are judged on 4, with nothing else running (load now: {load})"
    );
}

/// The scale is `full`, or one of `others`, which have a flag each.
fn parse<S: Copy>(
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
