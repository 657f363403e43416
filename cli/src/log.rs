//! The stream that a region file names, opened for writing or for reading only.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow};
use schemas::config::{self, Region};
use stream::{
    AnyCursors, AnyReader, Board, Desk, Log, StreamError,
    embedded::{Embedded, Options},
    kafka::{Kafka, Settings},
    relay::RelayedReader,
};

use tokio::sync::watch;

use crate::{clock, failure::Failure, load, relay, run::Daemon};

/// Before a Kafka that was not there is looked for again.
const OPEN_DELAY: Duration = Duration::from_secs(1);

/// Opens it where it is written, and makes what is missing. `file` is the region file.
async fn open(file: &Path, region: &Region, metrics: &stream::Metrics) -> Result<Log, Failure> {
    match &region.stream {
        config::Stream::Embedded(embedded) => {
            let options = Options {
                partitions: embedded.partitions.get(),
                retention_bytes: embedded.retention_bytes,
                retention_age: embedded.retention_age,
                now: clock::now,
            };
            let path = load::beside(file, &embedded.path);
            let opened = Embedded::open(&path, options);
            let opened = opened.with_context(|| format!("open the stream {}", path.display()));
            opened.map(Log::Embedded).map_err(Failure::Failed)
        }
        config::Stream::Kafka(kafka) => {
            let settings = Settings { metrics: metrics.clone(), ..settings(file, kafka)? };
            Kafka::open(settings).await.map(Log::Kafka).map_err(|err| failed(err, kafka))
        }
    }
}

/// The stream, and both of its sides that everybody needs.
pub(crate) struct Opened {
    pub(crate) log: Log,
    pub(crate) board: Board,
    pub(crate) reader: AnyReader,
    pub(crate) cursors: AnyCursors,
}

/// Opens it, if need be only once Kafka is there; `waiting` says meanwhile what is wrong.
pub(crate) async fn open_in_time(
    file: &Path,
    region: &Region,
    daemon: Daemon,
    metrics: &stream::Metrics,
    waiting: &watch::Sender<Option<String>>,
) -> Result<Opened, Failure> {
    loop {
        let err = match open_all(file, region, daemon, metrics).await {
            Err(Failure::Failed(err)) if is_remote(region) => err,
            opened => return opened,
        };
        let said = format!("{err:#}");
        if waiting.send_replace(Some(said.clone())).as_ref() != Some(&said) {
            tracing::warn!(error = said, "the stream cannot be opened; trying again until it can");
        }
        tokio::time::sleep(OPEN_DELAY).await;
    }
}

/// Whether it is kept elsewhere: then it may come later.
fn is_remote(region: &Region) -> bool {
    matches!(region.stream, config::Stream::Kafka(_)) || !region.relay.from.is_empty()
}

async fn open_all(
    file: &Path,
    region: &Region,
    daemon: Daemon,
    metrics: &stream::Metrics,
) -> Result<Opened, Failure> {
    let log = match daemon {
        Daemon::Whole if is_elsewhere(region) => {
            let what = "stream.relay.from: an embedded stream is written here; mcsqueal invalidator reads that of others";
            return Err(Failure::Config(anyhow!(what)));
        }
        Daemon::Whole => open(file, region, metrics).await?,
        Daemon::Invalidator => attach(file, region, metrics).await?,
    };
    let reader = match relay::settings(file, region, metrics)? {
        Some(settings) => log.relayed(settings).await,
        None => log.reader().await,
    };
    let reader = reader.context("read the stream")?;
    let cursors = log.cursors().await.context("read the stream")?;
    let path = match &region.stream {
        config::Stream::Embedded(embedded) => load::beside(file, &embedded.path),
        config::Stream::Kafka(_) => PathBuf::new(),
    };
    let board = log.board(&path);
    Ok(Opened { log, board, reader, cursors })
}

/// Opens it where somebody else writes it, or copies it to.
async fn attach(file: &Path, region: &Region, metrics: &stream::Metrics) -> Result<Log, Failure> {
    // A file of its own keeps cursors and notes of what comes from elsewhere.
    if is_elsewhere(region) {
        return open(file, region, metrics).await;
    }
    let config::Stream::Kafka(kafka) = &region.stream else {
        let what = "an embedded stream belongs to one process; mcsqueal run delivers it as well, or pushes it to others (stream.relay)";
        return Err(Failure::Config(anyhow!(what)));
    };
    let settings = Settings { metrics: metrics.clone(), ..settings(file, kafka)? };
    Kafka::attach(settings).await.map(Log::Kafka).map_err(|err| failed(err, kafka))
}

/// Whether the log is in another process's file, and comes over a relay.
fn is_elsewhere(region: &Region) -> bool {
    matches!(region.stream, config::Stream::Embedded(_)) && !region.relay.from.is_empty()
}

/// Opens it for reading only, whether or not some process writes it.
pub(crate) async fn reader(file: &Path, region: &Region) -> Result<AnyReader, Failure> {
    if is_elsewhere(region)
        && let Some(settings) = relay::settings(file, region, &stream::Metrics::default())?
    {
        let opened = RelayedReader::open(settings).await.context("read the stream");
        return opened.map(AnyReader::Relayed).map_err(Failure::Failed);
    }
    match &region.stream {
        config::Stream::Embedded(embedded) => {
            let path = load::beside(file, &embedded.path);
            let opened = Embedded::read_only(&path);
            let opened = opened.with_context(|| format!("open the stream {}", path.display()));
            opened.map(AnyReader::Embedded).map_err(Failure::Failed)
        }
        config::Stream::Kafka(kafka) => {
            let attached =
                Kafka::attach(settings(file, kafka)?).await.map_err(|err| failed(err, kafka))?;
            attached.reader().await.map(AnyReader::Kafka).map_err(|err| failed(err, kafka))
        }
    }
}

/// Where requests for whoever leads are left.
pub(crate) async fn desk(file: &Path, region: &Region) -> Result<Desk, Failure> {
    match &region.stream {
        config::Stream::Embedded(embedded) => {
            let path = load::beside(file, &embedded.path);
            std::fs::metadata(&path)
                .with_context(|| format!("there is no stream yet at {}", path.display()))?;
            Ok(Desk::of_file(&path))
        }
        config::Stream::Kafka(kafka) => {
            let attached = Kafka::attach(settings(file, kafka)?).await;
            attached.map(Desk::Kafka).map_err(|err| failed(err, kafka))
        }
    }
}

/// Where the processes of a region leave notes for each other.
pub(crate) async fn board(file: &Path, region: &Region) -> Result<Board, Failure> {
    match &region.stream {
        config::Stream::Embedded(embedded) => {
            Ok(Board::of_file(&load::beside(file, &embedded.path)))
        }
        config::Stream::Kafka(kafka) => {
            let attached = Kafka::attach(settings(file, kafka)?).await;
            attached.map(Board::Kafka).map_err(|err| failed(err, kafka))
        }
    }
}

/// What is unsafe in how the stream is kept, for people; nothing is asked where it is a file of our own.
pub(crate) async fn inspect(file: &Path, region: &Region) -> Result<Option<String>, Failure> {
    let config::Stream::Kafka(kafka) = &region.stream else { return Ok(None) };
    let findings = Kafka::inspect(settings(file, kafka)?).await;
    let findings = findings.map_err(|err| failed(err, kafka))?;
    let mut out = format!("{}: the stream {}", kafka.brokers, kafka.topic);
    if findings.is_empty() {
        out.push_str(" is kept as it must be\n");
        return Ok(Some(out));
    }
    out.push_str(" is less safe than it should be:\n");
    for finding in findings {
        out.push_str("  warning: ");
        out.push_str(&finding);
        out.push('\n');
    }
    Ok(Some(out))
}

fn failed(err: StreamError, kafka: &config::Kafka) -> Failure {
    let refused = matches!(err, StreamError::Refused { .. });
    let err = anyhow::Error::new(err);
    let err = err.context(format!("open the stream {} on Kafka at {}", kafka.topic, kafka.brokers));
    if refused { Failure::Config(err) } else { Failure::Failed(err) }
}

/// `file` is the region file.
fn settings(file: &Path, kafka: &config::Kafka) -> Result<Settings, Failure> {
    let mut properties = kafka.properties.clone();
    for (name, path) in &kafka.property_files {
        let text = load::read(&load::beside(file, path))?;
        // The end of a line is none of a password's.
        let value = text.trim_end_matches(['\r', '\n']).to_owned();
        properties.push(config::Property { name: name.clone(), value });
    }
    Ok(Settings {
        partitions: kafka.partitions.get(),
        replication: kafka.replication.get(),
        in_sync_min: kafka.in_sync_min.get(),
        retention_age: kafka.retention_age,
        in_flight_bytes_max: kafka.in_flight_bytes_max,
        session_timeout: kafka.session_timeout,
        share_timeout: kafka.share_timeout,
        properties,
        ..Settings::new(kafka.brokers.clone(), kafka.topic.clone(), clock::now)
    })
}
