//! The control port: where invalidators say what was deleted, and how far the region is. `protocol/CONTROL.md` is its grammar.
//!
//! [`Control`] is what its connections share, [`Session`] one of them without its socket, [`ControlServer`] the sockets. What is
//! said goes to the rules and nowhere else. Locks, in this order: the attachment, the rules, one shard.

mod budget;
mod clocks;
#[cfg(test)]
mod copies;
mod giving;
mod listen;
#[cfg(test)]
mod restarts;
#[cfg(test)]
mod rings;
mod session;
mod sweep;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transcripts;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use protocol::control::{
    Secret,
    wire::{Hello, Nonce},
};
use ring::rand::{SecureRandom, SystemRandom};
use schemas::{cure::Cure, cursor::StreamId, moment::Moment, record::UnixMicros};
use tokio::sync::Notify;

use self::giving::Giving;
pub use self::{
    clocks::Clocks,
    giving::PERCENT_DEFAULT,
    listen::{ControlServer, Options},
    session::{Next, Session},
};
use crate::{
    node::Node,
    now::Now,
    rules::{self, Kept},
    snapshot::Source,
};

/// What the control port's connections share.
#[derive(Debug)]
pub struct Control {
    node: Arc<Node>,
    /// What a node that begins anew runs with; the number of partitions comes from the stream.
    settings: rules::Settings,
    secret: Option<Secret>,
    incarnation: u64,
    attached: Mutex<Attached>,
    giving: Giving,
    /// Wakes who drops the entries of keys that have left.
    sweep: Notify,
    counts: Counts,
}

/// The stream that this node holds cursors of.
#[derive(Debug, Default)]
struct Attached {
    stream: Option<(StreamId, u16)>,
    /// The newest version of the ring that somebody named.
    ring: u64,
    /// Connections that were greeted before the last change of this number must greet again.
    generation: u64,
    /// The entries are those of an earlier life, and no lane has come yet.
    restored: bool,
    /// What the lanes that are connected say of our clock.
    clocks: Clocks,
}

/// The lane spreads keys by a ring that is older than one that this node has heard of: it may leave out keys that are ours now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ring version {named} is old: {known} is known")]
pub struct OldRing {
    named: u64,
    known: u64,
}

/// What was done, for statistics.
#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    batches: AtomicU64,
    deletes: AtomicU64,
    rewinds: AtomicU64,
    refused: AtomicU64,
    /// Entries that were dropped because their keys have left.
    swept: AtomicU64,
}

/// The system gives no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

impl Control {
    /// For a node that was made with rules by `settings`.
    pub fn new(
        node: Arc<Node>,
        settings: rules::Settings,
        secret: Option<Secret>,
    ) -> Result<Control, NoRandomness> {
        Ok(Control {
            node,
            settings,
            secret,
            incarnation: random()?,
            attached: Mutex::default(),
            giving: Giving::new(PERCENT_DEFAULT),
            sweep: Notify::new(),
            counts: Counts::default(),
        })
    }

    /// The node has what it had in an earlier life, with cursors of this stream.
    pub fn resume(&self, source: Source, partitions: u16) {
        let mut attached = self.attached();
        attached.stream = Some((source.stream, partitions));
        attached.ring = source.ring;
        attached.restored = true;
        if let Some(mut rules) = self.node.rules() {
            rules.kept_by_ring(source.ring);
        }
    }

    /// What the rules know, all of one moment: to be taken before the first entry is copied. `None` before the first lane: then there
    /// is no cursor, and what the node has means nothing in another life; and for a while after keys have come from other nodes.
    pub fn keep(&self, now: Moment) -> Option<(Source, Kept)> {
        let attached = self.attached();
        let (stream, _) = attached.stream?;
        let source = Source { stream, ring: attached.ring };
        let rules = self.node.rules_shared()?;
        let snapshot = (!rules.has_new_keys()).then(|| rules.snapshot())?;
        drop((rules, attached));
        Some((source, snapshot.kept(now)))
    }

    /// Whether entries that go with `source` still do.
    pub fn is_of(&self, source: Source) -> bool {
        self.attached().stream.is_some_and(|(stream, _)| stream == source.stream)
    }

    /// Copies for other nodes may take so much of one processor, in percent.
    #[must_use]
    pub fn giving(self, percent: u8) -> Control {
        Control { giving: Giving::new(percent), ..self }
    }

    /// The stream that this node holds cursors of, and how many partitions it has.
    pub fn stream(&self) -> Option<(StreamId, u16)> {
        self.attached().stream
    }

    fn attached(&self) -> MutexGuard<'_, Attached> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lane of this stream is there. Entries that go with another stream, or with none, mean nothing any more: no cursor stands
    /// behind them; nor do those of a node that has missed a ring, if nobody has said which keys were its own before. With a newer ring than the one that was known, lanes of the old one
    /// are sent away, and nothing is served until those of the new one have brought the node up to date. Returns the generation of the connection.
    fn attach(&self, now: Now, hello: &Hello) -> Result<u64, OldRing> {
        let mut attached = self.attached();
        let (named, known) = (hello.ring, attached.ring);
        if named < known {
            return Err(OldRing { named, known });
        }
        attached.ring = named;
        let stream = (hello.stream, hello.partitions);
        if std::mem::take(&mut attached.restored) && named > known {
            // Nobody said what this node missed of the keys that it has got since.
            tracing::warn!(named, known, "what was kept over the restart goes by an older ring");
            attached.stream = None;
        }
        let knows_its_keys = self.node.rules_shared().is_some_and(|rules| rules.ring().is_some());
        let missed = misses_ring(named, known) && !knows_its_keys;
        if missed && attached.stream == Some(stream) {
            tracing::warn!(named, known, "out of the ring for a while: everything is forgotten");
            attached.stream = None;
            self.node.flush(0, now);
        } else if named > known && attached.stream == Some(stream) {
            tracing::info!(named, known, "a newer ring: lanes connect again");
            self.begin_anew(&mut attached);
        }
        if attached.stream != Some(stream) {
            if attached.stream.is_some() {
                tracing::warn!(stream = %hello.stream, "another stream: everything is forgotten");
            }
            if let Some(mut rules) = self.node.rules() {
                let partitions = hello.partitions;
                let settings = rules::Settings { partitions, ..self.settings.clone() };
                *rules = rules::Rules::new(now.moment, settings);
                self.node.flush(0, now);
            }
            attached.stream = Some(stream);
            attached.next_generation();
        }
        Ok(attached.generation)
    }

    /// Nothing is served until every lane has connected again.
    fn quarantine(&self) {
        self.begin_anew(&mut self.attached());
    }

    fn begin_anew(&self, attached: &mut Attached) {
        if let Some(mut rules) = self.node.rules() {
            rules.quarantine();
        }
        attached.next_generation();
    }
}

impl Attached {
    /// Connections of the one before count for nothing any more.
    fn next_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.clocks = Clocks::default();
    }
}

impl Counts {
    fn up(counter: &AtomicU64, by: usize) {
        counter.fetch_add(u64::try_from(by).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Whether a node that knew the ring `known` must forget what it holds when it hears of the ring `named`: in between, others had keys
/// that are its own again, and what it holds of them got no deletes.
pub fn misses_ring(named: u64, known: u64) -> bool {
    named > known.saturating_add(1) && Cure::MissedRingForgets.works()
}

/// For names that must not come twice.
pub fn random() -> Result<u64, NoRandomness> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(u64::from_le_bytes(bytes))
}

fn nonce() -> Result<Nonce, NoRandomness> {
    let mut nonce = Nonce::default();
    SystemRandom::new().fill(&mut nonce).map_err(|_| NoRandomness)?;
    Ok(nonce)
}

/// This machine's wall clock.
fn wall() -> UnixMicros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixMicros(u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX))
}
