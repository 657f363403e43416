//! `mcsqueal node`: the cache server.

mod args;
mod config;
mod control;
mod daemon;
mod inside;
mod warm;

use std::{io::Write, net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context;
use cache_node::{
    control::{self as control_port, ControlServer},
    http::{self, Bounded},
    node::{Node, Settings},
    rules::Rules,
    server::{Server, ServerError},
};
use schemas::moment::Moment;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    args::NodeArgs,
    config::json_schema,
    control::{Control, read_secret},
    inside::inside,
};
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
    let (node, control) = make(config.node, config.control.as_ref())?;
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
    let mut server = Server::bind(Arc::clone(&node), config.server).await.map_err(not_bound)?;
    if let (Some(warm), Some(control)) = (config.warm, &control) {
        let warm = warm.begin(Arc::clone(&node), Arc::clone(control), server.clock());
        tokio::spawn(Arc::clone(&warm).run(shutdown.clone()));
        server = server.warmed_by(warm);
    }
    let control = match (control, &config.control) {
        (Some(control), Some(Control { options, .. })) => {
            let bound = ControlServer::bind(control, server.clock(), options).await;
            Some(bound.map_err(not_bound)?)
        }
        _ => None,
    };
    let addresses = server.addresses();
    if let Some(path) = &args.pidfile {
        write_whole(path, &format!("{}\n", std::process::id()))?;
    }
    let http = side.as_ref().map(TcpListener::local_addr).transpose().context("--http")?;
    if let Some(listener) = side {
        let router = http::router(Arc::clone(&node), users, server.clock());
        let listener = Bounded::new(listener, http::CONNECTIONS_MAX, http::REQUEST_DEADLINE);
        let stop = shutdown.clone().cancelled_owned();
        tokio::spawn(axum::serve(listener, router).with_graceful_shutdown(stop).into_future());
    }
    let lanes = control.as_ref().map(ControlServer::address).transpose().context("--control")?;
    if let Some(control) = control {
        tokio::spawn(control.run(shutdown.clone()));
    }
    if let Some(path) = &args.ready_file {
        write_whole(path, &ready(&addresses, http, lanes))?;
    }
    tracing::info!(addresses = ?addresses, http = ?http, control = ?lanes, "ready");
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

/// Certificates are configuration; a port that is taken is not.
fn not_bound(err: ServerError) -> Failure {
    match err {
        ServerError::Tls { .. } => Failure::Config(err.into()),
        err => Failure::Failed(err.into()),
    }
}

/// A node, and what its control port needs, if it has one.
fn make(
    settings: Settings,
    control: Option<&Control>,
) -> Result<(Arc<Node>, Option<Arc<control_port::Control>>), Failure> {
    let Some(Control { secret, rules, copy_cpu_percent_max, .. }) = control else {
        return Ok((Arc::new(Node::new(settings, None, FIRST_CAS)), None));
    };
    // No CAS of this life was one of an earlier life: it stands for leases too.
    let cas_base = control_port::random().context("start")? >> 2;
    let begin = Rules::new(Moment::START, rules.clone());
    let node = Arc::new(Node::new(settings, Some(begin), cas_base));
    let port = control_port::Control::new(Arc::clone(&node), rules.clone(), secret.clone());
    let port = port.context("start the control port")?.giving(*copy_cpu_percent_max);
    Ok((node, Some(Arc::new(port))))
}

fn ready(
    addresses: &[SocketAddr],
    http: Option<SocketAddr>,
    control: Option<SocketAddr>,
) -> String {
    let mut lines: Vec<String> =
        addresses.iter().map(|address| format!("tcp={address}\n")).collect();
    lines.extend(http.map(|address| format!("http={address}\n")));
    lines.extend(control.map(|address| format!("control={address}\n")));
    lines.concat()
}

/// Written beside and renamed, so that whoever waits for the file reads it whole.
fn write_whole(path: &Path, text: &str) -> Result<(), Failure> {
    let partial = path.with_extension("partial");
    let written = std::fs::write(&partial, text);
    let renamed = written.and_then(|()| std::fs::rename(&partial, path));
    renamed.with_context(|| format!("write {}", path.display())).map_err(Failure::Failed)
}
