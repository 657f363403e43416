//! Developer entry point: `cargo xtask demo | test | sim | bench | fuzz | servers`. Light on purpose: it builds alone in
//! seconds.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for a terminal")]

mod apt;
mod bench;
mod budgets;
mod demo;
mod engine;
mod fuzz;
mod servers;
mod stages;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  demo [OPTIONS]         run the main job: a small shop on real servers, with mcsqueal in between
                           cargo xtask demo
                           cargo xtask demo --seconds 10 --database mariadb
                           cargo xtask demo --naive          # what happens without mcsqueal
                           cargo xtask demo --help           # all options
  test [--stage NAME]... [--long]
                         run every check there is, or some stages: tidy clippy build unit sim doc servers
                           cargo xtask test
                           cargo xtask test --stage servers --long
  sim [OPTIONS]          simulate the whole, one history a seed, and look for stale values
                           cargo xtask sim --seeds 10000
                           cargo xtask sim --seed 4711      # one history, told
                           cargo xtask sim --mutants        # every cure switched off in turn: all must be missed
  fuzz [--list] [TARGET]... [--seconds N]
                         feed every parser with inputs that reach ever more of it; needs a nightly compiler
                           cargo xtask fuzz binlog --seconds 600
  bench NAME [OPTIONS]   measure a part, beside the peer or the bound that each figure names
                           cargo xtask bench tail            # binlog to keys
                           cargo xtask bench tail --quick --json figures.json
                           cargo xtask bench tail --long     # with a transaction of 5 GB
  servers                say which database servers and memcached are there, and get what is missing

Servers come from the PATH; else they are unpacked, not installed, from distribution packages into
~/.cache/mcsqueal, or from an image that docker or podman has, or, with --pull, fetches. MCSQUEAL_REQUIRE=mysql,mariadb,memcached,python turns a missing one into a failure.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let (pull, rest) = engine::Pull::take(rest);
    let rest = rest.as_slice();
    let outcome = match command {
        "demo" => demo::run(rest, pull),
        "test" => stages::run(rest, pull),
        "sim" => stages::simulate(rest),
        "fuzz" => fuzz::run(rest),
        "bench" => bench::run(rest, pull),
        "servers" => servers::provide(&servers::ALL, pull).map(|found| {
            print!("{}", found.table());
            true
        }),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(true)
        }
        other => {
            eprint!("xtask: there is no command {other:?}\n\n{HELP}");
            return ExitCode::from(64);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("xtask: {err:#}");
            ExitCode::FAILURE
        }
    }
}
