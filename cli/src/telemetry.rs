//! Logs: `tracing` to standard error, as text or JSON.

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::{args::LogFormat, failure::Failure};

/// Installs the log; once per process.
pub(crate) fn init(format: LogFormat, filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter:?}"))
        .map_err(Failure::Config)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
