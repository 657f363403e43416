//! The one way from the file as written to a [`Region`].

use std::{num::NonZeroU16, str::FromStr, time::Duration};

use toml::Spanned;

use super::{
    Address, Cluster, ControlTls, Embedded, Former, Identity, Kafka, Node, OnFloor, Password,
    Problem, Property, Region, Source, Stream, Tls,
    file::{
        OneOrMore, RawCluster, RawControlTls, RawEmbedded, RawKafka, RawNode, RawRegion, RawRules,
        RawSource, RawStream, RawTls,
    },
};
use crate::{defaults, ring::Hashing};

/// Partitions beyond this help nobody.
const PARTITIONS_MAX: u16 = 1024;
/// A reader that needs more than an hour from SELECT to `set` is not one that we can protect.
const FILL_AGE_MS_MAX: u64 = 3_600_000;
/// The source is asked as often; what is older than a second keeps nodes from being fresh for no reason.
const PROGRESS_INTERVAL_MS: (u64, u64) = (10, 1000);
/// Below this, the log could not even hold what the lanes have in flight.
const RETENTION_BYTES_MIN: u64 = 16 << 20;

/// Collects problems, so that one run shows them all.
pub(super) struct Check<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl Check<'_> {
    pub(super) fn refuse<T>(&mut self, at: &Spanned<T>, what: String) {
        let line = line_of(self.text, at.span().start);
        self.problems.push(Problem { line, what });
    }

    /// A name goes into metrics, cursors and file names.
    fn name(&mut self, key: &str, name: &Spanned<String>) {
        let text = name.get_ref();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
            self.refuse(name, format!("{key}: {text:?} must be 1 to 64 of a-z A-Z 0-9 - _ ."));
        }
    }

    pub(super) fn address(&mut self, key: &str, text: &Spanned<String>) -> Option<Address> {
        match Address::from_str(text.get_ref()) {
            Ok(address) => Some(address),
            Err(err) => {
                self.refuse(text, format!("{key}: {err}"));
                None
            }
        }
    }

    pub(super) fn number(
        &mut self,
        key: &str,
        value: Option<&Spanned<u64>>,
        range: (u64, u64),
        default: u64,
    ) -> u64 {
        let Some(value) = value else { return default };
        let (min, max) = range;
        if !(min..=max).contains(value.get_ref()) {
            self.refuse(value, format!("{key}: must be from {min} to {max}"));
        }
        *value.get_ref()
    }
}

pub(super) fn parse(text: &str) -> Result<Region, Vec<Problem>> {
    let raw: RawRegion = toml::from_str(text).map_err(|err| {
        let line = line_of(text, err.span().map_or(0, |span| span.start));
        vec![Problem { line, what: err.message().to_owned() }]
    })?;
    let mut check = Check { text, problems: Vec::new() };
    let region = region(&mut check, raw);
    match region {
        Some(region) if check.problems.is_empty() => Ok(region),
        _ => {
            check.problems.sort_by_key(|problem| problem.line);
            Err(check.problems)
        }
    }
}

/// `None` only if `check` has problems.
fn region(check: &mut Check<'_>, raw: RawRegion) -> Option<Region> {
    let rules = match raw.rules {
        RawRules::One(path) => vec![path],
        RawRules::Several(paths) => paths,
    };
    if rules.is_empty() {
        let what = "rules: name at least one file".to_owned();
        check.problems.push(Problem { line: 1, what });
    }
    check.name("name", &raw.name);
    if raw.cluster.is_empty() {
        check.refuse(&raw.name, "cluster: there must be at least one [[cluster]]".to_owned());
    }
    let source = source(check, raw.source);
    let mut raw_stream = raw.stream;
    let relay = raw_stream.relay.take().map(|relay| relay.check(check)).unwrap_or_default();
    let stream = stream(check, &raw.name, raw_stream);
    let names: Vec<String> = raw.cluster.iter().map(|it| it.name.get_ref().clone()).collect();
    let mut clusters: Vec<Cluster> = Vec::new();
    for raw in raw.cluster {
        let taken = clusters.iter().any(|cluster| *cluster.name == **raw.name.get_ref());
        if taken {
            check.refuse(&raw.name, format!("cluster.name: {:?} is taken", raw.name.get_ref()));
        }
        if let Some(from) = &raw.warm_from
            && (from.get_ref() == raw.name.get_ref() || !names.contains(from.get_ref()))
        {
            let what = format!("cluster.warm_from: there is no other cluster {:?}", from.get_ref());
            check.refuse(from, what);
        }
        clusters.push(cluster(check, raw));
    }
    let auditor = raw.auditor.check(check);
    Some(Region {
        auditor,
        name: raw.name.into_inner().into(),
        rules,
        source: source?,
        stream: stream?,
        relay,
        clusters,
        http: raw.http.map(|http| http.listen),
        shutdown_grace: Duration::from_millis(raw.shutdown.grace_ms),
    })
}

/// Servers of one topology that may take over from each other.
const SOURCE_ADDRESSES_MAX: usize = 32;

fn addresses(check: &mut Check<'_>, raw: &Spanned<OneOrMore>) -> Vec<Address> {
    let texts = match raw.get_ref() {
        OneOrMore::One(text) => std::slice::from_ref(text),
        OneOrMore::More(texts) => texts,
    };
    if texts.is_empty() || texts.len() > SOURCE_ADDRESSES_MAX {
        let what = format!("source.address: name 1 to {SOURCE_ADDRESSES_MAX} servers");
        check.refuse(raw, what);
        return Vec::new();
    }
    let mut addresses = Vec::new();
    for text in texts {
        match text.parse::<Address>() {
            Ok(address) if addresses.contains(&address) => {
                check.refuse(raw, format!("source.address: {address} is listed twice"));
            }
            Ok(address) => addresses.push(address),
            Err(err) => check.refuse(raw, format!("source.address: {err}")),
        }
    }
    addresses
}

fn source(check: &mut Check<'_>, raw: RawSource) -> Option<Source> {
    check.name("source.name", &raw.name);
    let mut addresses = addresses(check, &raw.address).into_iter();
    let (address, standbys) = (addresses.next(), addresses.collect());
    if *raw.server_id.get_ref() == 0 {
        let what = "source.server_id: must be from 1 to 4294967295, and unique in the topology";
        check.refuse(&raw.server_id, what.to_owned());
    }
    let password = match (raw.password_env, raw.password_file) {
        (None, None) => Password::Empty,
        (Some(name), None) => Password::Env(name),
        (None, Some(path)) => Password::File(path.into_inner()),
        (Some(_), Some(path)) => {
            let what = "source.password_file: give one of password_env and password_file";
            check.refuse(&path, what.to_owned());
            Password::Empty
        }
    };
    let tls = match (raw.tls, raw.tls_ca_file) {
        (RawTls::Off, None) => Tls::Off,
        (RawTls::Off, Some(path)) => {
            check.refuse(&path, "source.tls_ca_file: tls is \"off\"".to_owned());
            Tls::Off
        }
        (RawTls::Required, path) => Tls::Required { ca_file: path.map(Spanned::into_inner) },
    };
    let mut replicas = Vec::new();
    for text in &raw.replicas {
        let Some(replica) = check.address("source.replicas", text) else { continue };
        if replicas.contains(&replica) || address.as_ref() == Some(&replica) {
            check.refuse(text, format!("source.replicas: {replica} is listed twice"));
        }
        replicas.push(replica);
    }
    let default = u64::try_from(defaults::PROGRESS_INTERVAL.as_millis()).unwrap_or(u64::MAX);
    let progress_interval_ms = check.number(
        "source.progress_interval_ms",
        raw.progress_interval_ms.as_ref(),
        PROGRESS_INTERVAL_MS,
        default,
    );
    let hold_off_ms = raw
        .hold_off_ms
        .as_ref()
        .map(|ms| check.number("source.hold_off_ms", Some(ms), (100, 3_600_000), 10_000));
    let hold_off = hold_off_ms.map(Duration::from_millis);
    Some(Source {
        name: raw.name.into_inner().into(),
        address: address?,
        standbys,
        user: raw.user,
        password,
        server_id: raw.server_id.into_inner(),
        tls,
        statement_keys: raw.statement_keys,
        progress_interval: Duration::from_millis(progress_interval_ms),
        replicas,
        accept: raw.accept,
        hold_off,
    })
}

fn stream(check: &mut Check<'_>, name: &Spanned<String>, raw: RawStream) -> Option<Stream> {
    match (raw.embedded, raw.kafka) {
        (Some(raw), None) => embedded(check, raw).map(Stream::Embedded),
        (None, Some(raw)) => kafka(check, raw.into_inner()).map(Stream::Kafka),
        (Some(_), Some(second)) => {
            check.refuse(&second, "stream: give one of embedded and kafka".to_owned());
            None
        }
        (None, None) => {
            check.refuse(name, "stream: give one of embedded and kafka".to_owned());
            None
        }
    }
}

fn partitions(
    check: &mut Check<'_>,
    key: &str,
    raw: Option<&Spanned<u16>>,
    default: u16,
) -> Option<NonZeroU16> {
    let Some(given) = raw else { return NonZeroU16::new(default) };
    let partitions =
        NonZeroU16::new(*given.get_ref()).filter(|given| given.get() <= PARTITIONS_MAX);
    if partitions.is_none() {
        check.refuse(given, format!("{key}: must be from 1 to {PARTITIONS_MAX}"));
    }
    partitions
}

fn kafka(check: &mut Check<'_>, raw: RawKafka) -> Option<Kafka> {
    for broker in raw.brokers.get_ref().split(',') {
        if let Err(err) = Address::from_str(broker.trim()) {
            check.refuse(&raw.brokers, format!("stream.kafka.brokers: {err}"));
        }
    }
    check.name("stream.kafka.topic", &raw.topic);
    let key = "stream.kafka.partitions";
    let partitions = partitions(check, key, raw.partitions.as_ref(), defaults::PARTITIONS);
    let mut number = |key: &str, value: Option<&Spanned<u64>>, range, default| {
        check.number(&format!("stream.kafka.{key}"), value, range, default)
    };
    let replication = number("replication", raw.replication.as_ref(), (1, 15), 3);
    let in_sync_default = replication.saturating_sub(1).max(1);
    let in_sync_min =
        number("in_sync_min", raw.in_sync_min.as_ref(), (1, replication), in_sync_default);
    let retention_s =
        number("retention_s", raw.retention_s.as_ref(), (60, 10 * 365 * 86_400), 86_400);
    let in_flight_bytes_max = number(
        "in_flight_bytes_max",
        raw.in_flight_bytes_max.as_ref(),
        (1 << 20, 1 << 30),
        32 << 20,
    );
    let session_timeout_ms =
        number("session_timeout_ms", raw.session_timeout_ms.as_ref(), (500, 300_000), 3000);
    let share_timeout_ms =
        number("share_timeout_ms", raw.share_timeout_ms.as_ref(), (500, 300_000), 4000);
    let mut property_files = Vec::new();
    for (name, path) in raw.property_files {
        if raw.properties.contains_key(&name) {
            let what =
                format!("stream.kafka.property_files: {name} is among the properties already");
            check.refuse(&path, what);
        }
        property_files.push((name, path.into_inner()));
    }
    let small = |number: u64| u16::try_from(number).ok().and_then(NonZeroU16::new);
    Some(Kafka {
        brokers: raw.brokers.into_inner(),
        topic: raw.topic.into_inner(),
        partitions: partitions?,
        replication: small(replication)?,
        in_sync_min: small(in_sync_min)?,
        retention_age: Duration::from_secs(retention_s),
        in_flight_bytes_max: usize::try_from(in_flight_bytes_max).ok()?,
        session_timeout: Duration::from_millis(session_timeout_ms),
        share_timeout: Duration::from_millis(share_timeout_ms),
        properties: raw
            .properties
            .into_iter()
            .map(|(name, value)| Property { name, value })
            .collect(),
        property_files,
    })
}

fn embedded(check: &mut Check<'_>, raw: RawEmbedded) -> Option<Embedded> {
    let key = "stream.embedded.partitions";
    let partitions = partitions(check, key, raw.partitions.as_ref(), 1);
    let retention_bytes = check.number(
        "stream.embedded.retention_bytes",
        raw.retention_bytes.as_ref(),
        (RETENTION_BYTES_MIN, u64::MAX >> 1),
        1 << 30,
    );
    let retention_s = check.number(
        "stream.embedded.retention_s",
        raw.retention_s.as_ref(),
        (60, 10 * 365 * 86_400),
        86_400,
    );
    Some(Embedded {
        path: raw.path,
        partitions: partitions?,
        retention_bytes,
        retention_age: Duration::from_secs(retention_s),
    })
}

fn cluster(check: &mut Check<'_>, raw: RawCluster) -> Cluster {
    check.name("cluster.name", &raw.name);
    if raw.nodes.is_empty() {
        check.refuse(&raw.name, "cluster.nodes: there must be at least one".to_owned());
    }
    let nodes = self::nodes(check, raw.hashing, raw.nodes);
    let former = raw.former.map(|former| {
        let hashing = former.hashing.unwrap_or(raw.hashing);
        Former { hashing, nodes: self::nodes(check, hashing, former.nodes) }
    });
    let fill_age_ms_max = check.number(
        "cluster.fill_age_ms_max",
        raw.fill_age_ms_max.as_ref(),
        (1, FILL_AGE_MS_MAX),
        u64::try_from(defaults::FILL_AGE_MAX.as_millis()).unwrap_or(FILL_AGE_MS_MAX),
    );
    let control_tls = raw.control_tls.and_then(|tls| {
        let checked = tls.check();
        if checked.is_none() {
            let what = "cluster.control_tls: certificate_chain and key belong together";
            check.refuse(&raw.name, what.to_owned());
        }
        checked
    });
    Cluster {
        name: raw.name.into_inner().into(),
        hashing: raw.hashing,
        ring_version: raw.ring_version,
        nodes,
        former,
        fill_age_max: Duration::from_millis(fill_age_ms_max),
        markers: raw.markers,
        on_floor: raw.on_floor.unwrap_or(OnFloor::FlushAll),
        control_secret: raw.control_secret_file,
        control_tls,
        warm_from: raw.warm_from.map(|name| name.into_inner().into()),
    }
}

impl RawControlTls {
    /// `None`: one of certificate and key is missing.
    pub(super) fn check(self) -> Option<ControlTls> {
        let identity = match (self.certificate_chain, self.key) {
            (Some(certificate_chain), Some(key)) => Some(Identity { certificate_chain, key }),
            (None, None) => None,
            _ => return None,
        };
        Some(ControlTls { ca_file: self.ca_file, identity })
    }
}

fn nodes(check: &mut Check<'_>, hashing: Hashing, raw: Vec<Spanned<RawNode>>) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    let millionths = hashing == Hashing::WeightedCh3;
    let (least, most) = if millionths { (0, 1_000_000) } else { (1, 1000) };
    for raw in raw {
        let RawNode { address: text, weight, control } = raw.into_inner();
        let Some(address) = check.address("cluster.nodes.address", &text) else { continue };
        if nodes.iter().any(|node| node.address == address) {
            check.refuse(&text, format!("cluster.nodes: {address} is listed twice"));
        }
        let weight = match weight {
            None if millionths => {
                let what = "cluster.nodes.weight: weighted-ch3 needs one, in millionths";
                check.refuse(&text, what.to_owned());
                1
            }
            None => 1,
            Some(weight) if (least..=most).contains(weight.get_ref()) => weight.into_inner(),
            Some(weight) => {
                let what = format!("cluster.nodes.weight: must be from {least} to {most}");
                check.refuse(&weight, what);
                1
            }
        };
        let control = control.and_then(|control| check.address("cluster.nodes.control", &control));
        nodes.push(Node { address, weight, control });
    }
    nodes
}

/// Lines count from 1.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.bytes().filter(|&byte| byte == b'\n').count().saturating_add(1)
}
