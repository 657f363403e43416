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
        let acceptor = tls.acceptor();
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

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use stream::{
        Reader as _,
        embedded::{Embedded, Options},
        relay::{RelayMetrics, RelayReader},
    };
    use tokio::time::timeout;

    use super::*;

    const OPTIONS: Options = Options {
        partitions: 2,
        retention_bytes: 1 << 30,
        retention_age: Duration::from_secs(3600),
        now: clock::now,
    };

    /// Reads from `address`, if it may.
    async fn reads(address: &str, wrap: Option<Wrap>) -> Option<RelayReader> {
        let opening = RelayReader::open(Settings {
            addresses: vec![address.to_owned()],
            trust: Trust { secret: None, wrap },
            log: None,
            now: clock::now,
            metrics: RelayMetrics::default(),
        });
        timeout(Duration::from_secs(5), opening).await.ok()?.ok()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_stream_is_read_over_tls_by_those_who_show_who_they_are() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s.db");
        let log = Embedded::open(&path, OPTIONS).expect("a log");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/fixtures/region.toml");
        let (chain, key) = (PathBuf::from("node.crt"), PathBuf::from("node.key"));
        let ours = config::ListenTls {
            certificate_chain: chain.clone(),
            key: key.clone(),
            client_authorities: Some(chain.clone()),
        };
        let wrap = from_others(&file, &ours).expect("certificates");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let trust = Trust { secret: None, wrap: Some(wrap) };
        let reader = Embedded::read_only(&path).expect("a reader");
        let stream = reader.stream_id();
        let serving = tokio::spawn(relay::serve(reader, listener, trust, RelayMetrics::default()));

        let shows = |identity: Option<config::Identity>, authority: &str| {
            let tls = config::ControlTls { ca_file: PathBuf::from(authority), identity };
            to_others(&file, &tls).expect("certificates")
        };
        let us = config::Identity { certificate_chain: chain, key };
        let read = reads(&address, Some(shows(Some(us.clone()), "node.crt"))).await;
        assert_eq!(read.map(|read| read.stream_id()), Some(stream));
        // Who shows nothing, who believes another authority, and who speaks no TLS.
        for wrap in [Some(shows(None, "node.crt")), Some(shows(Some(us), "other-ca.pem")), None] {
            assert!(reads(&address, wrap).await.is_none());
        }
        serving.abort();
        drop(log);
    }
}
