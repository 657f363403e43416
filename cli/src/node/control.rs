//! `[control]` and `[versions]` of a node's file: the port of the invalidators, and by which rules a node with a source lives.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use cache_node::{
    control,
    rules::{self, Lossy, OnStale},
};
use protocol::control::Secret;
use schemars::JsonSchema;
use schemas::defaults;
use serde::Deserialize;

use super::{args::NodeArgs, config::RawTls};

/// Leases that are remembered.
const LEASES_MAX: usize = 1_000_000;
/// Marks that are kept, where they are: every write of the last `marker_ttl` needs one for each of its keys.
const MARKERS_DEFAULT: usize = 100_000;
const MARKERS_MAX: usize = 100_000_000;
const TOMBSTONES_MAX: usize = 100_000_000;
const MILLIS_MAX: u64 = 3_600_000;

/// The source of a node's versions. Holding one means that it is valid.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) options: control::Options,
    pub(crate) secret: Option<Secret>,
    pub(crate) rules: rules::Settings,
    /// What copies for other nodes may take of one processor.
    pub(crate) copy_cpu_percent_max: u8,
}

/// The port of the invalidators. On another address than loopback it must ask for a secret or for certificates.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Control")]
pub(super) struct RawControl {
    /// `ip:port`.
    listen: Option<SocketAddr>,
    /// A file whose first line, of at least 16 bytes, invalidators must know.
    secret_file: Option<PathBuf>,
    /// TLS there; with `client_authorities` a certificate will do instead of a secret.
    tls: Option<RawTls>,
    /// What copies for cold nodes may take of one processor, in percent; 0: they get none.
    copy_cpu_percent_max: Option<u8>,
}

/// What a node with a control port lives by. Times are in milliseconds.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Versions")]
pub(super) struct RawVersions {
    /// Longest time between a client's SELECT and its plain `set`; leases have no such limit.
    fill_age_ms_max: Option<u64>,
    /// How long a key is leased to one reader before another one may fill it.
    lease_ms: Option<u64>,
    /// Behind the source by more than this, the node is not fresh.
    staleness_ms_max: Option<u64>,
    /// What a node does that is not fresh.
    on_stale: Option<RawOnStale>,
    /// With `on_stale = "ttl"`: the oldest entry that is served, and the longest life of what is stored, while not fresh.
    degraded_ttl_ms: Option<u64>,
    /// What a promotion that may have lost transactions makes misses of.
    lossy: Option<RawLossy>,
    /// Clocks of invalidators and nodes that are further apart count as wrong, and the node as not fresh.
    clock_skew_ms_max: Option<u64>,
    /// Deletes that are remembered, about 24 bytes each.
    tombstones_max: Option<usize>,
    /// How long a marker stands until its writer names the version; without it, none are taken.
    marker_ttl_ms_max: Option<u64>,
    /// Most markers, about 56 bytes each.
    markers_max: Option<usize>,
    /// Keys that begin with one of these come from no database: no rule is asked for them.
    #[serde(default)]
    unsourced: Vec<String>,
}

/// What a node does that is not fresh.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "OnStale")]
enum RawOnStale {
    /// Serves what is younger than `degraded_ttl_ms`, flagged, and stores nothing for longer.
    Ttl,
    /// Serves everything, flagged.
    Flag,
    /// Serves nothing.
    Miss,
}

/// What a promotion that may have lost transactions makes misses of.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Lossy")]
enum RawLossy {
    /// What may hold a lost value, as far as that can be proven.
    Cut,
    /// Everything.
    Flush,
}

impl Control {
    /// For a node in the process of its only invalidator.
    pub(crate) fn at(
        listen: SocketAddr,
        fill_age_max: Duration,
        secret: Option<Secret>,
    ) -> Control {
        let mut rules =
            rules_of(&RawVersions::default()).expect("the defaults are within their bounds");
        rules.fill_age_max = fill_age_max;
        let options = control::Options { listen, tls: None };
        Control { options, secret, rules, copy_cpu_percent_max: control::PERCENT_DEFAULT }
    }

    /// `None` where no invalidator is expected: a plain memcached.
    pub(super) fn resolve(
        args: &NodeArgs,
        control: Option<&RawControl>,
        versions: Option<&RawVersions>,
        folder: &Path,
    ) -> Result<Option<Control>> {
        let listen = args.control.or(control.and_then(|control| control.listen));
        let Some(listen) = listen else {
            ensure!(control.is_none(), "control.listen: say where");
            ensure!(versions.is_none(), "[versions] has no effect without [control]");
            ensure!(args.control_secret_file.is_none(), "--control-secret-file needs --control");
            return Ok(None);
        };
        let in_file = control.and_then(|control| control.secret_file.as_ref());
        let path = args.control_secret_file.clone().or(in_file.map(|path| folder.join(path)));
        let secret = path.as_deref().map(read_secret).transpose()?;
        let tls = control.and_then(|control| control.tls.as_ref()).map(|tls| tls.settings(folder));
        let shown = tls.as_ref().is_some_and(|tls| tls.client_authorities.is_some());
        ensure!(
            listen.ip().is_loopback() || secret.is_some() || shown,
            "--control {listen} is not a loopback address: whoever reaches it can delete everything; give --control-secret-file, \
             or control.tls with client_authorities"
        );
        let rules = rules_of(versions.unwrap_or(&RawVersions::default()))?;
        let percent = control.and_then(|control| control.copy_cpu_percent_max);
        let copy_cpu_percent_max = percent.unwrap_or(cache_node::control::PERCENT_DEFAULT);
        ensure!(copy_cpu_percent_max <= 100, "control.copy_cpu_percent_max: not between 0 and 100");
        let options = cache_node::control::Options { listen, tls };
        Ok(Some(Control { options, secret, rules, copy_cpu_percent_max }))
    }
}

/// A secret is the first line of a file.
pub(crate) fn read_secret(path: &Path) -> Result<Secret> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("control secret: read {}", path.display()))?;
    let line = text.lines().next().unwrap_or_default().trim_end();
    Secret::new(line.as_bytes()).with_context(|| format!("control secret: {}", path.display()))
}

fn rules_of(raw: &RawVersions) -> Result<rules::Settings> {
    let millis = |name: &str, value: Option<u64>, default: Duration| {
        let Some(value) = value else { return Ok(default) };
        ensure!(
            (1..=MILLIS_MAX).contains(&value),
            "versions.{name}: not between 1 and {MILLIS_MAX}"
        );
        Ok(Duration::from_millis(value))
    };
    let tombstones_max = raw.tombstones_max.unwrap_or(defaults::TOMBSTONES_MAX);
    ensure!(
        (1..=TOMBSTONES_MAX).contains(&tombstones_max),
        "versions.tombstones_max: not between 1 and {TOMBSTONES_MAX}"
    );
    let staleness_max = millis("staleness_ms_max", raw.staleness_ms_max, defaults::STALENESS_MAX)?;
    let clock_skew_max =
        millis("clock_skew_ms_max", raw.clock_skew_ms_max, defaults::CLOCK_SKEW_MAX)?;
    ensure!(
        clock_skew_max < staleness_max,
        "versions.clock_skew_ms_max: must be below staleness_ms_max, or nothing is ever fresh"
    );
    // Who marks nothing has no mark to lose, and nothing to wait for at a start.
    let marker_ttl_max = millis("marker_ttl_ms_max", raw.marker_ttl_ms_max, Duration::ZERO)?;
    let markers_max = match (raw.markers_max, marker_ttl_max) {
        (None, Duration::ZERO) => 0,
        (Some(_), Duration::ZERO) => {
            bail!("versions.markers_max has no effect without marker_ttl_ms_max")
        }
        (markers_max, _) => markers_max.unwrap_or(MARKERS_DEFAULT),
    };
    ensure!(
        markers_max <= MARKERS_MAX && raw.markers_max != Some(0),
        "versions.markers_max: not between 1 and {MARKERS_MAX}"
    );
    Ok(rules::Settings {
        partitions: 1, // The stream says how many.
        fill_age_max: millis("fill_age_ms_max", raw.fill_age_ms_max, defaults::FILL_AGE_MAX)?,
        lease: millis("lease_ms", raw.lease_ms, defaults::LEASE)?,
        staleness_max,
        clock_skew_max,
        on_stale: match raw.on_stale {
            None | Some(RawOnStale::Ttl) => OnStale::Ttl,
            Some(RawOnStale::Flag) => OnStale::Flag,
            Some(RawOnStale::Miss) => OnStale::Miss,
        },
        degraded_ttl: millis("degraded_ttl_ms", raw.degraded_ttl_ms, defaults::DEGRADED_TTL)?,
        marker_ttl_max,
        tombstones_max,
        leases_max: LEASES_MAX,
        markers_max,
        lossy: match raw.lossy {
            None | Some(RawLossy::Cut) => Lossy::Cut,
            Some(RawLossy::Flush) => Lossy::Flush,
        },
        unsourced: raw.unsourced.iter().map(|prefix| prefix.as_bytes().into()).collect(),
    })
}
