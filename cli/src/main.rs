//! The `mcsqueal` binary: every daemon and every tool is a subcommand. Flags in, exit status out.

mod args;
mod auditor;
mod check;
mod clock;
mod config;
mod diff;
mod epoch;
mod explain;
mod failure;
mod health;
mod history;
mod http;
mod invalidate;
mod load;
mod log;
mod node;
mod ready;
mod relay;
mod reload;
mod replay;
mod router;
mod run;
mod schema;
mod stream;
mod telemetry;
mod warm;

use std::process::ExitCode;

use args::Command;
use clap::Parser;
use failure::Failure;
use run::Daemon;

fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(err) => return failure::usage(&err),
    };
    let outcome = match args.command {
        Command::Run(args) => run::run(&args, Daemon::Whole),
        Command::Invalidator(args) => run::run(&args, Daemon::Invalidator),
        Command::Check(args) => check::check(&args),
        Command::Node(args) => node::node(&args),
        Command::Router(args) => router::router(&args),
        Command::Route(command) => router::explain(&command),
        Command::Auditor(args) => auditor::auditor(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Invalidate(args) => invalidate::invalidate(&args),
        Command::Epoch(args) => epoch::epoch(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Warm(args) => warm::warm(&args),
        Command::Stream(command) => stream::stream(&command),
        Command::Config(command) => config::config(&command),
        Command::Schema(args) => schema::schema(args.of),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => Failure::report(&failure),
    }
}
