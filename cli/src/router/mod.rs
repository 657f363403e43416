//! `mcsqueal router`: the memcached protocol in front of many nodes; and `mcsqueal route`, which says where a request would go.

mod config;
mod explain;
mod serve;
mod side;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use self::config::Config;
pub(crate) use self::{config::json_schema, explain::explain};
use crate::{args::LogFormat, failure::Failure, telemetry};

/// Speaks the memcached protocol, and passes each command on to the nodes that its key belongs to, until SIGTERM or SIGINT.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  mcsqueal router --config region-configs/router.toml
  mcsqueal router --config router.toml --take-over    # again, to upgrade the one that runs
  kill -HUP PID                                       # read the file again; a change of it is also seen within a second
  mcsqueal route explain user:7 --config router.toml  # where would it go?

Exit status: 0 stopped by a signal, 1 failed, 64 bad flags or configuration.")]
pub(crate) struct RouterArgs {
    /// Router file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Addresses to listen on, in place of the file's; repeatable, or separated by commas
    #[arg(short = 'l', long = "listen", value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) listen: Vec<String>,
    /// Address of the HTTP side port, in place of the file's: metrics, health
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: Option<SocketAddr>,
    /// File with a `name:password` per line; everybody has to log in then
    #[arg(short = 'Y', long, value_name = "FILE")]
    pub(crate) auth_file: Option<PathBuf>,
    /// Take over from the process that listens on the handover socket, if there is one; it ends then
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Write `tcp=ADDRESS` and `http=ADDRESS` here, a line each, once everything is bound
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Log more; twice: even more
    #[arg(short = 'v', long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// How log lines look, on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// Looks at routes; needs no node.
#[derive(Debug, Subcommand)]
pub(crate) enum RouteCommand {
    /// Print the way that a request for a key takes
    Explain(ExplainRouteArgs),
}

/// Prints the way that a request for a key takes: every route and node that it may reach.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mcsqueal route explain user:7 --config region-configs/router.toml
  mcsqueal route explain user:7 --operation delete --config region-configs/router.toml")]
pub(crate) struct ExplainRouteArgs {
    /// The key, with its routing prefix if it has one
    pub(crate) key: String,
    /// The command: get, set, delete, cas, lease-get, ...; without it, get, set and delete
    #[arg(long, value_name = "NAME")]
    pub(crate) operation: Option<String>,
    /// Router file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Runs the command.
pub(crate) fn router(args: &RouterArgs) -> Result<(), Failure> {
    let config = Config::load(args).map_err(Failure::Config)?;
    let levels = ["info", "debug", "trace"];
    let level = levels.get(usize::from(args.verbose)).unwrap_or(&"trace");
    telemetry::init(args.log_format, level)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(serve::serve(args, config))
}
