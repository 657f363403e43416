//! `[snapshot]` of a node's file, and how a node is made of what it had before: from its file, from the process that it takes over
//! from, or of nothing.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cache_node::{
    control::{self as control_port, random},
    node::Node,
    now::Now,
    rules::{Rules, Snapshot},
    server::Address,
    snapshot::{About, Copied, Loading, Refused, Times, Versions, Wanted, Written, file, write},
};
use schemars::JsonSchema;
use schemas::moment::Moment;
use serde::Deserialize;
use tokio::time::Instant;

use super::{args::NodeArgs, config::Config};

/// As memcached counts: the first entry has the one after this.
const FIRST_CAS: u64 = 1;
const AGE_SECONDS_MAX: u64 = 3600;
/// How often it is said how far a copy is.
const NOTE_INTERVAL: Duration = Duration::from_secs(5);

/// What a node takes along when it restarts. Holding one means that it is valid.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots {
    pub(super) file: Option<PathBuf>,
    age_max: Duration,
    node: String,
    pub(super) handover: Option<PathBuf>,
}

/// What a node takes along when it restarts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Snapshot")]
pub(super) struct RawSnapshot {
    /// Written when the node stops, and read when it starts. Relative to this file.
    file: Option<PathBuf>,
    /// An older one is refused: the stream would hardly reach back so far.
    age_seconds_max: Option<u64>,
    /// Which node this is: it refuses the snapshot of another one. By default, the host's name and the addresses.
    node: Option<String>,
    /// A socket at which a newer process of this node takes over (`--take-over`). Relative to this file.
    handover: Option<PathBuf>,
}

impl Snapshots {
    pub(super) fn resolve(
        args: &NodeArgs,
        raw: Option<&RawSnapshot>,
        addresses: &[Address],
        folder: &Path,
    ) -> Result<Snapshots> {
        let path = |given: &Option<PathBuf>, raw: Option<&PathBuf>| {
            given.clone().or(raw.map(|path| folder.join(path)))
        };
        let file = path(&args.snapshot, raw.and_then(|raw| raw.file.as_ref()));
        let handover = path(&args.handover, raw.and_then(|raw| raw.handover.as_ref()));
        ensure!(
            handover.is_some() || !args.take_over,
            "--take-over needs --handover, or snapshot.handover"
        );
        let age_seconds = raw.and_then(|raw| raw.age_seconds_max).unwrap_or(AGE_SECONDS_MAX);
        ensure!(age_seconds > 0, "snapshot.age_seconds_max: must be at least 1");
        let node = raw.and_then(|raw| raw.node.clone());
        let node = node.unwrap_or_else(|| name_of(addresses));
        ensure!(!node.is_empty() && node.len() < 1000, "snapshot.node: must have 1 to 999 bytes");
        Ok(Snapshots { file, age_max: Duration::from_secs(age_seconds), node, handover })
    }
}

fn name_of(addresses: &[Address]) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut name = host.trim().to_owned();
    for address in addresses {
        name.push(' ');
        name.push_str(&address.socket.to_string());
    }
    name
}

/// A node, and what its control port needs, if it has one.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) node: Arc<Node>,
    pub(super) control: Option<Arc<control_port::Control>>,
}

/// A node with nothing in it.
pub(super) fn make(config: &Config) -> Result<Made> {
    made::<&[u8]>(config, None)
}

/// A node with what is in its file; with nothing, if that is refused, which is logged.
pub(super) fn make_of_file(config: &Config) -> Result<Made> {
    let Some(path) = &config.snapshots.file else { return make(config) };
    let mut refused = 0;
    for (path, copied) in
        [(path.clone(), Copied::Exactly), (file::used(path), Copied::WhileServing)]
    {
        let shown = path.display();
        let opened = match file::open(&path) {
            Ok(None) => continue,
            Ok(Some(opened)) => Ok(opened),
            Err(err) => Err(Refused::from(err)),
        };
        match opened.and_then(|(file, bytes)| load(config, file, bytes, copied)) {
            Ok(made) => return Ok(made),
            Err(err) => {
                refused += 1;
                let reason = anyhow::Error::from(err);
                tracing::warn!(file = %shown, reason = format!("{reason:#}"), "the snapshot is refused");
            }
        }
    }
    tracing::info!("starting cold: there is no snapshot that can be used");
    let made = make(config)?;
    made.node.server().snapshot.refused.store(refused, Ordering::Relaxed);
    Ok(made)
}

/// A node with what was read; it has not served yet.
pub(super) fn load(
    config: &Config,
    input: impl Read,
    bytes: u64,
    copied: Copied,
) -> Result<Made, Refused> {
    let versions = match &config.control {
        None => Versions::None,
        Some(control) => Versions::Unless(&control.rules.unsourced),
    };
    let (begin, now) = (Instant::now(), Times::read());
    let (node, age_max) = (config.snapshots.node.as_str(), config.snapshots.age_max);
    let input = io::BufReader::with_capacity(1 << 20, input);
    let loading =
        Loading::begin(input, bytes, Wanted { node, age_max, now: &now, versions, copied })?;
    let made = made(config, Some(&loading)).map_err(io::Error::other)?;
    let (age_seconds, entries) = (loading.age().as_secs(), loading.header().items);
    tracing::info!(age_seconds, entries, bytes, "a snapshot is being read");
    let unix = now.wall.checked_div(1_000_000).unwrap_or_default();
    let mut noted = begin;
    let now = Now { moment: Moment::START, unix };
    let loaded = loading.fill(&made.node, now, versions, |done| {
        if noted.elapsed() >= NOTE_INTERVAL {
            noted = Instant::now();
            tracing::info!(done, entries, "a snapshot is being read");
        }
    })?;
    let facts = &made.node.server().snapshot;
    facts.restored.store(loaded.entries, Ordering::Relaxed);
    facts.left_out.store(loaded.left_out, Ordering::Relaxed);
    facts.age_seconds.store(age_seconds, Ordering::Relaxed);
    let (entries, left_out, took) = (loaded.entries, loaded.left_out, begin.elapsed());
    tracing::info!(entries, left_out, ?took, "starting with what was kept");
    Ok(made)
}

fn made<R: Read>(config: &Config, loading: Option<&Loading<R>>) -> Result<Made> {
    let Some(control) = &config.control else {
        let node = Arc::new(Node::new(config.node.clone(), None, FIRST_CAS));
        return Ok(Made { node, control: None });
    };
    let past = loading.and_then(|it| Some((it, it.kept()?, it.header().source?)));
    let (settings, rules) = match &past {
        None => (control.rules.clone(), Rules::new(Moment::START, control.rules.clone())),
        Some((loading, kept, _)) => {
            let mut settings = control.rules.clone();
            settings.partitions = u16::try_from(kept.partitions.len())?;
            let snapshot = Snapshot::of(settings.clone(), kept);
            let mut rules = Rules::restore(Moment::START, settings.clone(), snapshot);
            if loading.copied() == Copied::Exactly {
                rules.restore_marks(Moment::START, &kept.marks, loading.age());
            }
            (settings, rules)
        }
    };
    // No CAS of this life was one of an earlier life: it stands for leases too.
    let cas_base = random().context("start")? >> 2;
    let node = Arc::new(Node::new(config.node.clone(), Some(rules), cas_base));
    let partitions = settings.partitions;
    let port = control_port::Control::new(Arc::clone(&node), settings, control.secret.clone());
    let port = port.context("start the control port")?.giving(control.copy_cpu_percent_max);
    if let Some((_, _, source)) = past {
        port.resume(source, partitions);
    }
    Ok(Made { node, control: Some(Arc::new(port)) })
}

/// What the node has is served from now on: another process that finds the file must know.
pub(super) fn note_served(config: &Config) {
    let Some(path) = &config.snapshots.file else { return };
    let noted = if config.control.is_some() { file::note_used(path) } else { file::remove(path) };
    if let Err(err) = noted {
        tracing::warn!(file = %path.display(), error = %err, "the snapshot stays as it is");
    }
}

/// Writes what the node has to its file. `None` if there is nothing to be kept.
pub(super) fn save(config: &Config, made: &Made, now: Now, copied: Copied) -> Option<Written> {
    let path = config.snapshots.file.as_ref()?;
    let (begin, facts) = (Instant::now(), &made.node.server().snapshot);
    match file::save(path, |out| copy(config, made, now, copied, out)) {
        Ok(written) => {
            let Written { entries, bytes } = written;
            facts.saved.fetch_add(1, Ordering::Relaxed);
            facts.saved_at.store(now.unix, Ordering::Relaxed);
            facts.saved_bytes.store(bytes, Ordering::Relaxed);
            facts.saved_entries.store(entries, Ordering::Relaxed);
            let took = begin.elapsed();
            tracing::info!(file = %path.display(), entries, bytes, ?took, "saved what is stored");
            Some(written)
        }
        Err(err) => {
            facts.failed.fetch_add(1, Ordering::Relaxed);
            tracing::error!(file = %path.display(), error = %err, "what is stored could not be saved");
            None
        }
    }
}

/// Writes what the node has.
pub(super) fn copy(
    config: &Config,
    made: &Made,
    now: Now,
    copied: Copied,
    out: &mut impl Write,
) -> io::Result<Written> {
    let flushes = made.node.flushes();
    let source = match &made.control {
        None => None,
        Some(control) => {
            let kept = control.keep(now.moment);
            Some(kept.ok_or_else(|| {
                io::Error::other("no invalidator has been here, so nothing is worth keeping")
            })?)
        }
    };
    let about = About { copied, node: config.snapshots.node.clone(), taken: Times::read(), source };
    let mut noted = Instant::now();
    let written = write(&made.node, &about, now, out, |done| {
        if noted.elapsed() >= NOTE_INTERVAL {
            noted = Instant::now();
            tracing::info!(
                entries = done.entries,
                bytes = done.bytes,
                "what is stored is being copied"
            );
        }
    })?;
    if made.node.flushes() != flushes {
        return Err(io::Error::other("everything was flushed in the meantime"));
    }
    Ok(written)
}
