//! `[stream.relay]` of a region file: the stream, pushed to other regions, and read from there.

use std::{path::Path, sync::Arc};

use anyhow::{Context, anyhow};
use cache_node::server::{Tls as ServerTls, TlsSettings};
use schemas::config::{self, Region};
use stream::{
    AnyReader,
    relay::{self, Settings, Socket, Trust, Wrap},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{clock, failure::Failure, load, node, run};

/// Pushes the stream to others until it is dropped.
pub(crate) struct Relaying(Option<JoinHandle<()>>);

impl Drop for Relaying {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

/// Binds the port, if the region file names one, and serves what `reader` reads. `file` is the region file.
pub(crate) async fn serve(
    file: &Path,
    region: &Region,
    reader: &AnyReader,
    metrics: &stream::Metrics,
) -> Result<Relaying, Failure> {
    let Some(address) = region.relay.listen else { return Ok(Relaying(None)) };
    let wrap = region.relay.listen_tls.as_ref().map(|tls| from_others(file, tls)).transpose()?;
    let trust = trust(file, &region.relay, wrap)?;
    let listener = TcpListener::bind(address).await;
    let listener =
        listener.with_context(|| format!("listen on {address} (stream.relay.listen)"))?;
    tracing::info!(%address, "the stream is pushed to whoever reads it from here");
    let serving = relay::serve(reader.clone(), listener, trust, metrics.relay.clone());
    Ok(Relaying(Some(tokio::spawn(serving))))
}

/// How the stream is read from relays, if it is.
pub(crate) fn settings(
    file: &Path,
    region: &Region,
    metrics: &stream::Metrics,
) -> Result<Option<Settings>, Failure> {
    if region.relay.from.is_empty() {
        return Ok(None);
    }
    let wrap = region.relay.from_tls.as_ref().map(|tls| to_others(file, tls)).transpose()?;
    Ok(Some(Settings {
        addresses: region.relay.from.iter().map(ToString::to_string).collect(),
        trust: trust(file, &region.relay, wrap)?,
        log: None,
        now: clock::now,
        metrics: metrics.relay.clone(),
    }))
}

fn trust(file: &Path, relay: &config::Relay, wrap: Option<Wrap>) -> Result<Trust, Failure> {
    let path = relay.secret.as_ref().map(|path| load::beside(file, path));
    let secret = path.as_deref().map(node::read_secret).transpose();
    let secret = secret.context("stream.relay.secret_file").map_err(Failure::Config)?;
    Ok(Trust { secret, wrap })
}

fn from_others(file: &Path, tls: &config::ListenTls) -> Result<Wrap, Failure> {
    let beside = |path: &Path| load::beside(file, path);
    let settings = TlsSettings {
        certificate_chain: beside(&tls.certificate_chain),
        key: beside(&tls.key),
        client_authorities: tls.client_authorities.as_deref().map(beside),
    };
    let tls = ServerTls::load(&settings).map_err(|err| anyhow!(err));
    let tls = tls.context("stream.relay.listen_tls").map_err(Failure::Config)?;
    Ok(Arc::new(move |socket: TcpStream, _| {
        let acceptor = tls.acceptor().clone();
        Box::pin(async move { Ok(boxed(acceptor.accept(socket).await?)) })
    }))
}

fn to_others(file: &Path, tls: &config::ControlTls) -> Result<Wrap, Failure> {
    let tls = run::control_tls(file, tls).context("stream.relay.from_tls");
    let tls = tls.map_err(Failure::Config)?;
    Ok(Arc::new(move |socket: TcpStream, address: String| {
        let tls = tls.clone();
        Box::pin(async move { Ok(boxed(tls.encrypt(socket, &address).await?)) })
    }))
}

fn boxed(socket: impl Socket + 'static) -> Box<dyn Socket> {
    Box::new(socket)
}
