//! Requests: what a person or a tool wants to be appended, beside what the tailer publishes.
//!
//! Only the leader writes, so a tool writes nothing itself: it leaves a request where the leader looks ([`Desk`]), and
//! the leader appends it in its own term, with its own next sequences, between two batches of the tailer, and takes the
//! request away once that is durable. A leader that dies in between leaves the request to its successor, who may append
//! it again, which is harmless.
//!
//! A request has no version of its own. The leader gives it the newest one whose transaction is wholly in the log, as
//! the tailer's last checkpoint says: whatever was filled before that is removed, and what is filled from now on stays.
//! Its keys never come as the last part of a transaction, so nobody concludes from them how far a node is.
//!
//! An epoch is the tailer's to open: a request for one stays until the tailer has seen its epoch in the log, and says that it is done.

use std::{
    collections::BTreeMap,
    fs,
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    sync::Arc,
};

use schemas::{
    cursor::{Partition, partition_of},
    key::Key,
    record::{
        self, Checkpoint, Floor, Invalidation, Invalidations, Operation, Record, Scope,
        Transaction, UnixMicros,
    },
    version::Version,
};

use crate::{StreamError, beside, kafka::Kafka};

/// Most keys of one request; its record stays far below what brokers take.
pub const REQUEST_KEYS_MAX: usize = 2000;
/// Most requests that wait; a leader that finds more takes the first ones first.
pub(crate) const REQUESTS_MAX: usize = 1000;
/// What stands in place of a table and a rule.
const BY_HAND: &str = "request";

/// What stands in place of a record's format where an epoch is asked for; the name of the source follows.
const EPOCH: u16 = u16::MAX;

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request(Asked);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    /// Keys, or all keys of a scope, that are stale whatever the database says.
    Stale(Record),
    /// An epoch of which nothing before is proven.
    Epoch { source: Arc<str> },
}

impl Request {
    /// These keys; at most [`REQUEST_KEYS_MAX`].
    pub fn keys(source: &str, keys: &[Key], now: UnixMicros) -> Request {
        let (table, rule): (Arc<str>, Arc<str>) = (BY_HAND.into(), BY_HAND.into());
        let key = |key: &Key| Invalidation {
            key: key.clone(),
            table: Arc::clone(&table),
            rule: Arc::clone(&rule),
            operation: Operation::Update,
        };
        let transaction = Transaction {
            version: Version::ZERO,
            committed_at: None,
            received_at: now,
            last: false,
            keys: keys.iter().take(REQUEST_KEYS_MAX).map(key).collect(),
        };
        let (source, transactions) = (source.into(), vec![transaction]);
        Request(Asked::Stale(Record::Invalidations(Invalidations { source, transactions })))
    }

    /// All keys of a scope.
    pub fn floor(source: &str, scope: Scope, reason: &str) -> Request {
        let (source, version) = (source.into(), Version::ZERO);
        let floor = Floor { source, scope, version, reason: reason.into() };
        Request(Asked::Stale(Record::Floor(floor)))
    }

    /// An epoch of which nothing before is proven: values may be cached that the source never had, or has lost.
    pub fn epoch(source: &str) -> Request {
        Request(Asked::Epoch { source: source.into() })
    }

    /// Its wire form: that of the record, behind its format.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match &self.0 {
            Asked::Stale(record) => {
                let mut out = record::FORMAT_VERSION.to_be_bytes().to_vec();
                record::encode(record, &mut out);
                out
            }
            Asked::Epoch { source } => [&EPOCH.to_be_bytes(), source.as_bytes()].concat(),
        }
    }

    /// `None`: it is none.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Request> {
        let (format, rest) = bytes.split_first_chunk()?;
        let format = u16::from_be_bytes(*format);
        if format == EPOCH {
            return std::str::from_utf8(rest).ok().map(Request::epoch);
        }
        let record = record::decode(format, rest).ok()?;
        let is_one = matches!(record, Record::Invalidations(_) | Record::Floor(_));
        is_one.then_some(Request(Asked::Stale(record)))
    }

    fn asks_epoch_of(&self, name: &str) -> bool {
        matches!(&self.0, Asked::Epoch { source } if **source == *name)
    }

    /// What is appended, once `newest` knows a version of its source. `None`: nothing yet, or not by the stream.
    pub(crate) fn records(
        self,
        newest: &BTreeMap<Arc<str>, Version>,
        partitions: u16,
    ) -> Option<Vec<(Partition, Record)>> {
        let Asked::Stale(record) = self.0 else { return None };
        match record {
            Record::Floor(floor) => {
                let version = *newest.get(&floor.source)?;
                let record = Record::Floor(Floor { version, ..floor });
                Some((0..partitions).map(|at| (Partition(at), record.clone())).collect())
            }
            Record::Invalidations(Invalidations { source, transactions }) => {
                let version = *newest.get(&source)?;
                let mut by_partition: BTreeMap<Partition, Vec<Transaction>> = BTreeMap::new();
                for transaction in transactions {
                    let mut parts: BTreeMap<Partition, Vec<Invalidation>> = BTreeMap::new();
                    for key in transaction.keys {
                        parts.entry(partition_of(&key.key, partitions)).or_default().push(key);
                    }
                    for (partition, keys) in parts {
                        let part = Transaction { version, last: false, keys, ..transaction };
                        by_partition.entry(partition).or_default().push(part);
                    }
                }
                let record = |transactions| {
                    let source = Arc::clone(&source);
                    Record::Invalidations(Invalidations { source, transactions })
                };
                Some(by_partition.into_iter().map(|(at, parts)| (at, record(parts))).collect())
            }
            _ => Some(Vec::new()),
        }
    }
}

/// The newest version of each source that is wholly in the log.
#[derive(Debug, Default)]
pub(crate) struct Newest(pub(crate) BTreeMap<Arc<str>, Version>);

impl Newest {
    pub(crate) fn of<'a>(checkpoints: impl IntoIterator<Item = &'a Checkpoint>) -> Newest {
        let mut newest = Newest::default();
        for checkpoint in checkpoints {
            newest.learn(checkpoint);
        }
        newest
    }

    pub(crate) fn learn(&mut self, checkpoint: &Checkpoint) {
        let known = self.0.entry(Arc::clone(&checkpoint.source)).or_insert(Version::ZERO);
        *known = checkpoint.version.max(*known);
    }
}

/// Where requests are left, and seen to be gone.
#[derive(Clone, Debug)]
pub enum Desk {
    /// A folder beside the file.
    Embedded(PathBuf),
    /// Notes beside the checkpoints.
    Kafka(Kafka),
}

/// One request that was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket(String);

impl Desk {
    /// The desk of an embedded stream's file.
    pub fn of_file(path: &Path) -> Desk {
        Desk::Embedded(folder(path))
    }

    /// Leaves a request; durable when it returns.
    pub async fn leave(&self, request: &Request) -> Result<Ticket, StreamError> {
        let hasher = RandomState::new();
        let id = format!("{:016x}{:08x}", hasher.hash_one(0), std::process::id());
        match self {
            Desk::Embedded(folder) => {
                let partial = format!("{id}.partial");
                let written = beside::write(folder, &id, &partial, &request.encode());
                written.map_err(|err| beside::failed(folder, &err))?;
            }
            Desk::Kafka(kafka) => kafka.leave_request(&id, request.encode()).await?,
        }
        Ok(Ticket(id))
    }

    /// Somebody asks for an epoch of `source`.
    pub fn epoch_asked(&self, source: &str) -> Option<Ticket> {
        match self {
            Desk::Embedded(folder) => {
                let (path, _) =
                    left(folder).into_iter().find(|(_, request)| request.asks_epoch_of(source))?;
                Some(Ticket(path.file_name()?.to_str()?.to_owned()))
            }
            Desk::Kafka(kafka) => {
                let asks = |bytes: &[u8]| {
                    Request::decode(bytes).is_some_and(|request| request.asks_epoch_of(source))
                };
                kafka.request(asks).map(|id| Ticket(id.into()))
            }
        }
    }

    /// What was asked for is in the log; the stream itself says so of what it appends.
    pub async fn done(&self, ticket: &Ticket) -> Result<(), StreamError> {
        match self {
            Desk::Embedded(folder) => done(&folder.join(&ticket.0)),
            Desk::Kafka(kafka) => kafka.take_request_away(&ticket.0).await?,
        }
        Ok(())
    }

    /// Whether what was asked for is in the log.
    pub async fn is_done(&self, ticket: &Ticket) -> Result<bool, StreamError> {
        match self {
            Desk::Embedded(folder) => Ok(!folder.join(&ticket.0).exists()),
            Desk::Kafka(kafka) => kafka.has_request(&ticket.0).await.map(|waits| !waits),
        }
    }
}

/// The folder of requests beside a file.
pub(crate) fn folder(path: &Path) -> PathBuf {
    beside::folder(path, "requests")
}

/// The requests in a folder, with their files; what is none is taken away.
pub(crate) fn left(folder: &Path) -> Vec<(PathBuf, Request)> {
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_none());
    paths.sort();
    paths.truncate(REQUESTS_MAX);
    let mut out = Vec::new();
    for path in paths {
        match fs::read(&path).map(|bytes| Request::decode(&bytes)) {
            Ok(Some(request)) => out.push((path, request)),
            Ok(None) => {
                tracing::warn!(path = %path.display(), "this is no request, removing it");
                done(&path);
            }
            Err(err) => tracing::warn!(path = %path.display(), %err, "a request cannot be read"),
        }
    }
    out
}

/// A request is in the log.
pub(crate) fn done(path: &Path) {
    if let Err(err) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %err, "a request cannot be removed, and will be appended again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text.to_owned()).unwrap()
    }

    #[test]
    fn a_request_waits_for_a_version_and_claims_nothing() {
        let request = Request::keys("s", &[key("a"), key("b"), key("user:1")], UnixMicros(7));
        let again = Request::decode(&request.encode()).unwrap();
        assert_eq!(again, request);
        assert_eq!(request.clone().records(&BTreeMap::new(), 4), None);
        let newest = BTreeMap::from([("s".into(), Version::from_bits(9))]);
        let mut found = Vec::new();
        for (partition, record) in request.records(&newest, 4).unwrap() {
            let Record::Invalidations(invalidations) = record else { panic!("{record:?}") };
            for transaction in invalidations.transactions {
                assert_eq!((transaction.version.bits(), transaction.last), (9, false));
                for key in transaction.keys {
                    assert_eq!(partition_of(&key.key, 4), partition);
                    found.push(key.key.to_string());
                }
            }
        }
        found.sort();
        assert_eq!(found, ["a", "b", "user:1"]);
        let floor = Request::floor("s", Scope::Prefixes(vec!["user:".into()]), "test");
        assert_eq!(floor.records(&newest, 4).unwrap().len(), 4);
        assert_eq!(Request::decode(b"\x00"), None);
        assert_eq!(Request::decode(b"\x00\x01nothing"), None);
    }
}
