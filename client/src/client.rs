//! [`Client`]: reads through the cache. The decisions are [`Cycle`]'s; here they are carried out.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use schemas::{
    key::{Key, marker_of},
    ring::{Ring, RingError},
    version::Version,
};
use tokio::time::sleep;

use crate::{
    commit::Epochs,
    cycle::{Action, Cycle, OldValues, Place, Then, Value, Want},
    node::{Node, NodeError},
    reading::{Reading, Unfit},
    settings::{Settings, seconds},
    token::Token,
    wire::{Age, Answer, Lease, Request, ValueKind},
};

/// Reads and writes through the caches of a region. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Client(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) clusters: Vec<Nodes>,
    home: usize,
    /// As they were read last. Never held across an await.
    pub(crate) epochs: Mutex<Arc<Epochs>>,
}

/// The nodes of one cluster.
#[derive(Debug)]
pub(crate) struct Nodes {
    ring: Ring,
    pub(crate) nodes: Vec<Node>,
}

/// How a key is read; see [`Read::new`].
#[derive(Clone, Copy, Debug)]
pub struct Read(Want);

/// What a reader has found in the database.
#[derive(Clone, Debug)]
pub struct Fetched {
    value: Option<Bytes>,
    ttl: Option<Duration>,
    may_store: Result<(), Unfit>,
}

/// What a read came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// The value; `None` if the database has none.
    pub value: Option<Bytes>,
    /// How old it may be.
    pub age: Age,
    /// Where it is from.
    pub from: Origin,
}

/// Where a value is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A node, and the version that the value contains, if the node knows.
    Cache(Option<Version>),
    /// The database, and what became of it.
    Database(Place, Stored),
}

/// What became of a value that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is cached.
    Yes,
    /// There was no right to store it: the node is away, somebody else has the lease, or what can be read now is too old.
    NoLease,
    /// The session may not fill the cache.
    Unfit(Unfit),
    /// The node has refused it: the key has changed since. Or it did not answer.
    Refused,
}

/// Settings that make no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Some cluster's nodes make no ring.
    #[error("spread keys over the nodes of cluster {at}")]
    Ring { at: usize, source: RingError },
    /// `home` is the index of no cluster.
    #[error("there is no cluster {home} to read")]
    NoHome { home: usize },
}

impl Client {
    /// Connects to nothing yet. To be called within a tokio runtime.
    pub fn new(settings: Settings) -> Result<Client, ClientError> {
        let mut clusters = Vec::new();
        for (at, cluster) in settings.clusters.iter().enumerate() {
            let ring = Ring::new(cluster.hashing, &cluster.nodes);
            let ring = ring.map_err(|source| ClientError::Ring { at, source })?;
            let nodes = cluster.nodes.iter().map(|node| Node::new(&node.name, &settings)).collect();
            clusters.push(Nodes { ring, nodes });
        }
        let home = settings.home;
        if clusters.get(home).is_none() {
            return Err(ClientError::NoHome { home });
        }
        Ok(Client(Arc::new(Shared { settings, clusters, home, epochs: Mutex::default() })))
    }

    /// The value of `key`: from its node, or by `fill`, which reads the database where it is told to. What it says may be
    /// stored, if `read` and what it finds out allow that.
    ///
    /// Only `fill` can fail: whatever nodes do, the database is asked in the end.
    pub async fn get<E, F, R>(&self, key: &Key, read: Read, fill: F) -> Result<Got, E>
    where
        F: FnOnce(Place) -> R,
        R: Future<Output = Result<Fetched, E>>,
    {
        let shared = &*self.0;
        let node = shared.home().and_then(|nodes| nodes.owner(key));
        let (mut cycle, place) = match self.look(key, node, read.0).await {
            (_, Looked::Serve(value)) => return Ok(Got::cached(value)),
            (cycle, Looked::Read(place)) => (cycle, place),
        };
        let mut held = GiveBack { node, key, lease: cycle.lease() };
        let fetched = match fill(place).await {
            Ok(fetched) => fetched,
            Err(err) => {
                let (spare, lease) = cycle.failed();
                held.lease = lease;
                return spare.map(Got::cached).ok_or(err);
            }
        };
        let stored = match cycle.fetched(fetched.may_store) {
            Then::Store(lease) => {
                held.lease = None;
                shared.store(node, key, lease, &fetched).await
            }
            Then::GiveBack(lease, unfit) => {
                held.lease = Some(lease);
                Stored::Unfit(unfit)
            }
            Then::Nothing(unfit) => {
                held.lease = None;
                Stored::Unfit(unfit)
            }
            Then::NoLease => Stored::NoLease,
        };
        let from = Origin::Database(place, stored);
        Ok(Got { value: fetched.value, age: Age::Current, from })
    }

    /// Deletes `key` in every cluster of the region: for those who change what no database tells of.
    pub async fn delete(&self, key: &Key) -> Result<(), NodeError> {
        let owners = self.0.clusters.iter().filter_map(|nodes| nodes.owner(key));
        let mut outcome = Ok(());
        for node in owners {
            outcome = outcome.and(node.ask(&Request::Delete { key }).await.map(drop));
        }
        outcome
    }

    /// Asks the node until it is clear what to do.
    async fn look(&self, key: &Key, node: Option<&Node>, want: Want) -> (Cycle, Looked) {
        let terms = self.0.settings.terms();
        let kind = match node {
            Some(node) => node.kind().await.ok(),
            None => None,
        };
        // What the node is makes no difference while it does not answer.
        let away = kind.is_none();
        let kind = kind.unwrap_or(crate::cycle::NodeKind::Versioned);
        let (mut cycle, mut action) = Cycle::begin(want, kind, terms);
        loop {
            action = match (action, node) {
                (Action::Serve(value), _) => return (cycle, Looked::Serve(value)),
                (Action::Read(place), _) => return (cycle, Looked::Read(place)),
                (Action::Wait(time), _) => {
                    sleep(jitter(time)).await;
                    cycle.waited()
                }
                (Action::Ask(get), Some(node)) if !away => {
                    match node.ask(&Request::Get { key, get }).await {
                        Ok(answer) => cycle.answered(answer),
                        Err(_) => cycle.unreachable(),
                    }
                }
                (Action::PeekMarker, Some(node)) if !away => cycle.peeked(peek(node, key).await),
                (Action::Ask(_) | Action::PeekMarker, _) => cycle.unreachable(),
            };
        }
    }
}

enum Looked {
    Serve(Value),
    Read(Place),
}

/// A lease that is given back when this is dropped: also when its reader is cancelled, so that others need not wait until it
/// has ended.
struct GiveBack<'a> {
    node: Option<&'a Node>,
    key: &'a Key,
    lease: Option<Lease>,
}

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        if let (Some(node), Some(lease)) = (self.node, self.lease) {
            // Sent, not waited for. If it cannot be sent, the lease ends by itself.
            drop(node.send(&[Request::Release { key: self.key, lease }]));
        }
    }
}

impl Shared {
    fn home(&self) -> Option<&Nodes> {
        self.clusters.get(self.home)
    }

    /// The newest table that is known here.
    pub(crate) fn epochs(&self) -> Arc<Epochs> {
        Arc::clone(&self.epochs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn store(
        &self,
        node: Option<&Node>,
        key: &Key,
        lease: Lease,
        fetched: &Fetched,
    ) -> Stored {
        let Some(node) = node else { return Stored::Refused };
        let (kind, usual) = match fetched.value {
            Some(_) => (ValueKind::Value, self.settings.ttl),
            None => (ValueKind::Absent, self.settings.negative_ttl),
        };
        let ttl = fetched.ttl.unwrap_or(usual);
        if ttl.is_zero() {
            drop(node.send(&[Request::Release { key, lease }]));
            return Stored::Unfit(Unfit::Private);
        }
        let value = fetched.value.as_deref().unwrap_or_default();
        let request = Request::Fill { key, lease, ttl_s: seconds(ttl), kind, value };
        match node.ask(&request).await {
            Ok(Answer::Done) => Stored::Yes,
            Ok(_) | Err(_) => Stored::Refused,
        }
    }
}

impl Nodes {
    /// The node that owns `key`.
    pub(crate) fn owner(&self, key: &Key) -> Option<&Node> {
        self.nodes.get(self.ring.owner(key))
    }
}

impl Read {
    /// A read in this session: what it says of itself decides whether a value may be stored.
    pub fn new(reading: Reading) -> Read {
        Read(Want { reading, token: None, old: OldValues::default() })
    }

    /// Demands what the token says.
    #[must_use]
    pub fn with_token(mut self, token: Option<Token>) -> Read {
        self.0.token = self.0.token.max(token);
        self
    }

    /// What to do with a value that is known to be outdated.
    #[must_use]
    pub fn with_old_values(mut self, old: OldValues) -> Read {
        self.0.old = old;
        self
    }
}

impl Fetched {
    /// The database has this.
    pub fn found(value: impl Into<Bytes>) -> Fetched {
        Fetched { value: Some(value.into()), ttl: None, may_store: Ok(()) }
    }

    /// The database has none.
    pub fn absent() -> Fetched {
        Fetched { value: None, ttl: None, may_store: Ok(()) }
    }

    /// How long it may be cached, if not as long as usual. Zero: not at all.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Fetched {
        self.ttl = Some(ttl);
        self
    }

    /// What the session was in the end, where that was not known before: it may have written since.
    #[must_use]
    pub fn read_in(mut self, reading: Reading) -> Fetched {
        self.may_store = self.may_store.and(reading.may_fill());
        self
    }
}

impl Got {
    fn cached(value: Value) -> Got {
        Got { value: value.data, age: value.age, from: Origin::Cache(value.version) }
    }

    /// What demands at least what was seen here, if the node knows; for readers who must not go back. It is a lower bound:
    /// the value may contain more.
    pub fn token(&self) -> Option<Token> {
        match self.from {
            Origin::Cache(version) => version.map(Token::AtLeast),
            Origin::Database(..) => None,
        }
    }
}

async fn peek(node: &Node, key: &Key) -> Option<bool> {
    let Some(marker) = marker_of(key) else { return Some(false) };
    match node.ask(&Request::Peek { key: &marker }).await.ok()? {
        Answer::Done => Some(true),
        Answer::Missing(_) => Some(false),
        _ => None,
    }
}

/// Between half of it and all of it, so that those who wait together do not ask together.
fn jitter(time: Duration) -> Duration {
    let half = time / 2;
    let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
    half.saturating_add(Duration::from_micros(random().checked_rem(micros).unwrap_or_default()))
}

/// A number that nobody else draws: of the generator that keys the standard library's hash maps.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
