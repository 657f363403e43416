//! `mcsqueal node`: the cache server.

mod args;
mod config;
mod daemon;
mod inside;

use std::{io::Write, net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context;
use cache_node::{
    http::{self, Bounded},
    node::Node,
    server::{Server, ServerError},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) use self::{args::NodeArgs, inside::inside};
use self::{config::Config, daemon::Stderr};
use crate::{failure::Failure, run::Signals, telemetry};

/// As memcached counts: the first entry has the one after this.
const FIRST_CAS: u64 = 1;

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
    runtime.block_on(serve(args, config))
}

/// Scripts look for memcached's version.
fn say_version() -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let said = writeln!(std::io::stdout(), "memcached 1.6.45 (mcsqueal {version})");
    said.context("print the version").map_err(Failure::Failed)
}

async fn serve(args: &NodeArgs, config: Config) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    let mut signals = Signals::install()?;
    let node = Arc::new(Node::new(config.node, None, FIRST_CAS));
    if config.detailed {
        node.usage().begin();
    }
    let users = config.server.users.clone();
    let side = match config.http {
        Some(address) => {
            let listener = TcpListener::bind(address).await;
            Some(listener.with_context(|| format!("listen on {address} (--http)"))?)
        }
        None => None,
    };
    let server = Server::bind(Arc::clone(&node), config.server).await.map_err(|err| match err {
        ServerError::Tls { .. } => Failure::Config(err.into()),
        err => Failure::Failed(err.into()),
    })?;
    let addresses = server.addresses();
    if let Some(path) = &args.pidfile {
        write_whole(path, &format!("{}\n", std::process::id()))?;
    }
    let http = side.as_ref().map(TcpListener::local_addr).transpose().context("--http")?;
    if let Some(listener) = side {
        let router = http::router(Arc::clone(&node), users);
        let listener = Bounded::new(listener, http::CONNECTIONS_MAX);
        let stop = shutdown.clone().cancelled_owned();
        tokio::spawn(axum::serve(listener, router).with_graceful_shutdown(stop).into_future());
    }
    if let Some(path) = &args.ready_file {
        write_whole(path, &ready(&addresses, http))?;
    }
    tracing::info!(addresses = ?addresses, http = ?http, "ready");
    if args.daemon {
        daemon::ready(if args.verbose > 0 { Stderr::Keep } else { Stderr::Close })?;
    }
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let name = signals.wait().await;
        tracing::info!(signal = name, "stopping");
        stop.cancel();
    });
    server.run(shutdown).await.map_err(|err| Failure::Failed(err.into()))?;
    if let Some(path) = &args.pidfile
        && let Err(err) = std::fs::remove_file(path)
    {
        // Whoever we have become may not be allowed to, or somebody else has done it.
        tracing::warn!(path = %path.display(), error = %err, "the pidfile is left behind");
    }
    tracing::info!("stopped");
    Ok(())
}

fn ready(addresses: &[SocketAddr], http: Option<SocketAddr>) -> String {
    let mut lines: Vec<String> =
        addresses.iter().map(|address| format!("tcp={address}\n")).collect();
    lines.extend(http.map(|address| format!("http={address}\n")));
    lines.concat()
}

/// Written beside and renamed, so that whoever waits for the file reads it whole.
fn write_whole(path: &Path, text: &str) -> Result<(), Failure> {
    let partial = path.with_extension("partial");
    let written = std::fs::write(&partial, text);
    let renamed = written.and_then(|()| std::fs::rename(&partial, path));
    renamed.with_context(|| format!("write {}", path.display())).map_err(Failure::Failed)
}
