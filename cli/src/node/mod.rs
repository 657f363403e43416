//! `mcsqueal node`: the cache server.

mod args;
mod config;
mod control;
mod daemon;
pub(crate) mod handover;
mod inside;
mod serve;
mod snapshot;
mod warm;

use std::io::Write;

use anyhow::Context;

use self::config::Config;
pub(crate) use self::{
    args::NodeArgs,
    config::{RawTls, RawUnix, RawUser, Reached, json_schema},
    control::{Control, read_secret},
    inside::inside,
    serve::not_bound,
};
use crate::{failure::Failure, telemetry};

/// Runs the command.
pub(crate) fn node(args: &NodeArgs) -> Result<(), Failure> {
    if args.version {
        return say_version();
    }
    let config = Config::load(args).map_err(Failure::Config)?;
    if args.daemon {
        if !daemon::is_child() {
            return daemon::spawn();
        }
        daemon::begin()?;
    }
    let levels = ["info", "debug", "trace"];
    let level = levels.get(usize::from(args.verbose)).unwrap_or(&"trace");
    telemetry::init(args.log_format, level)?;
    if let Some(user) = &args.user {
        daemon::become_user(user).map_err(Failure::Config)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(serve::serve(args, config))
}

/// Scripts look for memcached's version.
fn say_version() -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let said = writeln!(std::io::stdout(), "memcached 1.6.45 (mcsqueal {version})");
    said.context("print the version").map_err(Failure::Failed)
}
