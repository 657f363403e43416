//! Developer entry point: `cargo xtask demo | test | e2e | images | sim | bench | fuzz | sanitize | servers`. Light on purpose: it builds alone in
//! seconds.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for a terminal")]

mod apt;
mod bench;
mod budgets;
mod containers;
mod demo;
mod e2e;
mod engine;
mod fuzz;
mod kafka;
mod sanitize;
mod servers;
mod stages;
mod tidy;

use std::process::ExitCode;

const HELP: &str = include_str!("help.txt");

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
        "fuzz" => fuzz::run(rest).map(|found| match found {
            fuzz::Found::Nothing => true,
            fuzz::Found::Something => false,
            fuzz::Found::NoCompiler(reason) => {
                println!("skipped: fuzz: {reason}");
                true
            }
        }),
        "sanitize" => sanitize::run(rest),
        "bench" => bench::run(rest, pull),
        "e2e" => e2e::run(rest, pull),
        "images" => e2e::images(pull),
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
