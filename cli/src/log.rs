//! The stream that a region file names, opened for writing or for reading only.

use std::path::Path;

use anyhow::Context;
use schemas::config::{self, Region};
use stream::{
    AnyReader, Log, StreamError,
    embedded::{Embedded, Options},
    kafka::{Kafka, Settings},
};

use crate::{clock, failure::Failure, load};

/// Opens it where it is written, and makes what is missing. `file` is the region file.
pub(crate) async fn open(file: &Path, region: &Region) -> Result<Log, Failure> {
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
            Kafka::open(settings(kafka)).await.map(Log::Kafka).map_err(|err| failed(err, kafka))
        }
    }
}

/// Opens it for reading only, whether or not some process writes it.
pub(crate) async fn reader(file: &Path, region: &Region) -> Result<AnyReader, Failure> {
    match &region.stream {
        config::Stream::Embedded(embedded) => {
            let path = load::beside(file, &embedded.path);
            let opened = Embedded::read_only(&path);
            let opened = opened.with_context(|| format!("open the stream {}", path.display()));
            opened.map(AnyReader::Embedded).map_err(Failure::Failed)
        }
        config::Stream::Kafka(kafka) => {
            let attached =
                Kafka::attach(settings(kafka)).await.map_err(|err| failed(err, kafka))?;
            attached.reader().await.map(AnyReader::Kafka).map_err(|err| failed(err, kafka))
        }
    }
}

fn failed(err: StreamError, kafka: &config::Kafka) -> Failure {
    let refused = matches!(err, StreamError::Refused { .. });
    let err = anyhow::Error::new(err);
    let err = err.context(format!("open the stream {} on Kafka at {}", kafka.topic, kafka.brokers));
    if refused { Failure::Config(err) } else { Failure::Failed(err) }
}

fn settings(kafka: &config::Kafka) -> Settings {
    Settings {
        partitions: kafka.partitions.get(),
        replication: kafka.replication.get(),
        in_sync_min: kafka.in_sync_min.get(),
        retention_age: kafka.retention_age,
        in_flight_bytes_max: kafka.in_flight_bytes_max,
        session_timeout: kafka.session_timeout,
        properties: kafka.properties.clone(),
        ..Settings::new(kafka.brokers.clone(), kafka.topic.clone(), clock::now)
    }
}
