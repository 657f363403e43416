//! A router from its start to its end, or to the one that takes over.

use std::{
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use cache_node::server::Sockets;
use router::{Handle, Router, RouterError};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{Signal, SignalKind, signal},
    time::{interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{RouterArgs, config::Config, side};
use crate::{failure::Failure, node::handover, ready, run::Signals};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn serve(args: &RouterArgs, config: Config) -> Result<(), Failure> {
    let mut signals = Signals::install()?;
    let hup = signal(SignalKind::hangup()).context("catch signals")?;
    let Config { settings, current, http, handover: handover_path } = config;
    let (mut sockets, older) = begin(args, handover_path.as_deref())?;
    let side = match http {
        Some(address) => {
            let listener = match sockets.take(address) {
                Some(open) => TcpListener::from_std(open),
                None => TcpListener::bind(address).await,
            };
            Some(listener.with_context(|| format!("listen on {address} (http)"))?)
        }
        None => None,
    };
    let unix = settings.server.unix.as_ref().map(|socket| socket.path.clone());
    let mut router = Router::bind(settings, current, &mut sockets).await.map_err(not_started)?;
    if let Some(older) = older {
        // Until it has said that it does not serve any more, the log of deletes is its own.
        handover::finish(older).context("take over")?;
        tracing::info!("took over");
    }
    router.open_spool().map_err(not_started)?;
    let newer = match &handover_path {
        Some(path) => {
            let listening = handover::listen(path);
            Some(listening.with_context(|| format!("listen on {}", path.display()))?)
        }
        None => None,
    };
    let mut kept = Sockets::default();
    router.keep_sockets(&mut kept).context("keep the sockets")?;
    if let Some(side) = &side {
        kept.keep(side).context("keep the sockets")?;
    }
    announce(args, &router, side.as_ref())?;
    let (handle, shown) = (router.handle(), side::Shown::default());
    let shutdown = CancellationToken::new();
    if let Some(listener) = side {
        let serving = side::serve(listener, handle.clone(), shown.clone(), shutdown.clone());
        tokio::spawn(serving);
    }
    let reloading = tokio::spawn(reload(args.clone(), handle, shown, hup));
    let mut serving = tokio::spawn(router.run(shutdown.clone()));
    let taken = tokio::select! {
        name = signals.wait() => {
            tracing::info!(signal = name, "stopping");
            None
        }
        newer = taken_over(newer.as_ref(), &kept) => Some(newer),
        ended = &mut serving => {
            return ended.context("the router panicked")?.map_err(not_started);
        }
    };
    reloading.abort();
    drop(kept);
    shutdown.cancel();
    serving.await.context("the router panicked")?.map_err(not_started)?;
    let Some(newer) = taken else {
        drop(unix.map(std::fs::remove_file));
        tracing::info!("stopped");
        return Ok(());
    };
    // The newer process has one of its own there soon.
    drop(handover_path.map(std::fs::remove_file));
    handover::yours(newer).context("hand over")?;
    tracing::info!("handed over");
    Ok(())
}

/// The sockets that are open, and the process that it takes over from.
fn begin(args: &RouterArgs, path: Option<&Path>) -> Result<(Sockets, Option<UnixStream>), Failure> {
    let path = path.filter(|_| args.take_over);
    let taken = path.map(handover::take).transpose().context("take over")?.flatten();
    Ok(taken.map_or_else(
        || (Sockets::default(), None),
        |taken| {
            // A router has no state worth saving: the copy is empty.
            let (_, _, sockets, older) = taken.split();
            (sockets, Some(older))
        },
    ))
}

fn not_started(err: RouterError) -> Failure {
    match err {
        RouterError::Server(err) => crate::node::not_bound(err),
        err => Failure::Failed(err.into()),
    }
}

/// Returns once a newer process has the sockets. It accepts from then on what this one has not.
async fn taken_over(newer: Option<&UnixListener>, sockets: &Sockets) -> UnixStream {
    let Some(listener) = newer else { return std::future::pending().await };
    loop {
        let given = async {
            let newer = handover::asked(listener).await?;
            handover::give(&newer, &handover::memory()?, 0, sockets)?;
            Ok::<UnixStream, std::io::Error>(newer)
        };
        match given.await {
            Ok(newer) => return newer,
            Err(err) => {
                tracing::warn!(error = %err, "nobody took over");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn announce(args: &RouterArgs, router: &Router, side: Option<&TcpListener>) -> Result<(), Failure> {
    let addresses = router.addresses();
    for address in &addresses {
        tracing::info!(%address, "routing");
    }
    let Some(path) = &args.ready_file else { return Ok(()) };
    let http = side.map(TcpListener::local_addr).transpose().context("http")?;
    ready::write_whole(path, &ready::lines(&addresses, http, None))
}

/// Takes up the file whenever it has changed, or somebody says so; one that is refused changes nothing.
async fn reload(args: RouterArgs, handle: Handle, shown: side::Shown, mut hup: Signal) {
    let (mut look, mut last) = (interval(LOOK), changed(&args.config));
    loop {
        tokio::select! {
            _ = hup.recv() => {}
            _ = look.tick() => {
                let now = changed(&args.config);
                if now == last {
                    continue;
                }
                last = now;
            }
        }
        let loaded = Config::load(&args).and_then(|config| {
            handle.admit(&config.settings.server.users)?;
            Ok(config)
        });
        match loaded {
            Ok(Config { current, .. }) => {
                let nodes = current.routes.targets().len();
                handle.take_up(current);
                shown.refused(None);
                tracing::info!(nodes, "took up the file");
            }
            Err(err) => {
                tracing::error!(
                    error = format!("{err:#}"),
                    "the file is refused: going on as before"
                );
                shown.refused(Some(format!("{err:#}")));
            }
        }
    }
}

/// When the file was written, and how long it is.
fn changed(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
