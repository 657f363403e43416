//! A stream in a file and the lane that takes it to one node, both in this process.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use invalidator::{
    ControlPort, Feed, Invalidator, Markers, Metrics, NodeSettings, OnFloor, Settings, Visibility,
};
use prometheus_client::registry::Registry;
use schemas::{
    defaults,
    gtid::{Dialect, GtidSet},
    record::{Progress, Record, UnixMicros},
    ring::Hashing,
    version::Version,
};
use stream::{
    Portions,
    embedded::{Embedded, EmbeddedReader, Options},
};
use tokio_util::sync::CancellationToken;

pub(crate) const SOURCE: &str = "bench";

/// A log of one partition that keeps everything.
pub(crate) fn log(folder: &Path) -> Result<Embedded> {
    let options = Options {
        partitions: 1,
        retention_bytes: 8 << 30,
        retention_age: Duration::from_secs(86_400),
        now,
    };
    Ok(Embedded::open(&folder.join("stream.db"), options)?)
}

/// Delivers until `shutdown`.
pub(crate) fn start(
    log: &Embedded,
    node: String,
    control: String,
    shutdown: &CancellationToken,
) -> Result<Invalidator<EmbeddedReader, Embedded>> {
    let control = Some(ControlPort { address: control, secret: None, tls: None, ring_version: 0 });
    let cluster = Settings {
        cluster: SOURCE.to_owned(),
        hashing: Hashing::Ketama,
        nodes: vec![NodeSettings { address: node, weight: 1, control }],
        fill_age_max: defaults::FILL_AGE_MAX,
        on_floor: OnFloor::Alarm,
        markers: Markers::None,
        former: None,
        revision: 0,
    };
    let metrics = Metrics::register(&mut Registry::default());
    let feed = Feed { reader: log.reader(), cursors: log.clone(), portions: Portions::whole() };
    let started = Invalidator::start(&[cluster], feed, &Visibility::UNKNOWN, &metrics, shutdown);
    started.context("start a lane")
}

/// Everything up to `version` is in the stream.
pub(crate) fn progress(version: Version) -> Record {
    let (source, executed) = (SOURCE.into(), GtidSet::empty(Dialect::Mysql));
    Record::Progress(Progress { source, executed, version, at: now() })
}

pub(crate) fn now() -> UnixMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMicros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
