//! Logs: `tracing` to standard error, as text or JSON.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::{args::LogFormat, failure::Failure};

/// Installs the log; once per process. Colours are for terminals, unless `NO_COLOR` is set.
pub(crate) fn init(format: LogFormat, filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter:?}"))
        .map_err(Failure::Config)?;
    let plain = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal() && !plain)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
