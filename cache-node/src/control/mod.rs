//! The control port: where invalidators say what was deleted, and how far the region is. `protocol/CONTROL.md` is its grammar.
//!
//! [`Control`] is what its connections share, [`Session`] one of them without its socket, [`ControlServer`] the sockets. What is
//! said goes to the rules and nowhere else. Locks, in this order: the attachment, the rules, one shard.

mod budget;
mod clocks;
mod giving;
mod listen;
mod session;
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
use schemas::{cursor::StreamId, record::UnixMicros};

use self::giving::Giving;
pub use self::{
    clocks::Clocks,
    giving::PERCENT_DEFAULT,
    listen::{ControlServer, Options},
    session::{Next, Session},
};
use crate::{node::Node, now::Now, rules};

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
            counts: Counts::default(),
        })
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
    /// behind them; nor do those of a node that has missed a ring. With a newer ring than the one that was known, lanes of the old one
    /// are sent away, and nothing is served until those of the new one have brought the node up to date. Returns the generation of the connection.
    fn attach(&self, now: Now, hello: &Hello) -> Result<u64, OldRing> {
        let mut attached = self.attached();
        let (named, known) = (hello.ring, attached.ring);
        if named < known {
            return Err(OldRing { named, known });
        }
        attached.ring = named;
        let stream = (hello.stream, hello.partitions);
        if named > known.saturating_add(1) && attached.stream == Some(stream) {
            // In between, others had keys that are ours again, and what we hold of them got no deletes.
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
            attached.generation = attached.generation.wrapping_add(1);
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
        attached.generation = attached.generation.wrapping_add(1);
    }
}

impl Counts {
    fn up(counter: &AtomicU64, by: usize) {
        counter.fetch_add(u64::try_from(by).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
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
