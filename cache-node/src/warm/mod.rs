//! A cold node becomes warm: it asks the nodes of a warm cluster for what it misses, and for everything else in the background,
//! hottest first.
//!
//! ```text
//! a read misses ──▶ Warm::fetch ──▶ Link ──▶ copies K ──▶ control port of the node that has the key
//!                                            walk     ──▶ of every node of the warm cluster, in turns that Plan allows
//! what comes back ──▶ Turn::keep ──▶ the rules
//! ```
//!
//! Nothing here decides what is kept: the rules do, with the version that the source gave. A read waits for its copy
//! for a bounded time, and goes on as if there were no warm cluster: a miss, with a lease.

mod memcached;
mod peer;
mod plan;
mod source;

use std::{
    collections::HashMap,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use protocol::control::{Secret, wire::Copy};
use schemas::{key::Key, ring::Ring};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, interval, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::plan::{Ended, Pace};
use self::plan::{Live, Plan, Reads};
use crate::{
    commands::{Kept, Turn},
    control::Control,
    copies::{State, add},
    node::Node,
    rules::{Fill, Rules, Subject},
    server::Clock,
};

/// Keys that wait for a source; a read whose key finds no room does without.
const WAITING_MAX: usize = 1024;
/// Keys of one read that are asked for.
pub(crate) const FETCH_MAX: usize = 100;
/// How often the plan looks at the hit rates,
const TICK: Duration = Duration::from_secs(1);
/// and how often the log says how far it is.
const TICKS_PER_LINE: u64 = 10;
/// Copies that are kept while the rules are held.
const KEEP_AT_ONCE: usize = 50;

/// Where a node becomes warm from.
#[derive(Debug)]
pub struct Settings {
    /// What of the warm cluster this node wants; `None`: everything.
    pub share: Option<Share>,
    /// How the warm cluster spreads its keys over `sources`.
    pub ring: Ring,
    pub sources: Vec<Source>,
    pub pace: Pace,
    /// How long a read waits for a copy.
    pub wait_max: Duration,
}

/// This node's part of its own cluster's keys.
#[derive(Debug)]
pub struct Share {
    pub ring: Ring,
    /// Its place there.
    pub own: usize,
}

/// A node of the warm cluster.
#[derive(Clone, Debug)]
pub struct Source {
    pub kind: SourceKind,
    /// `host:port`: of its control port, or of memcached itself.
    pub address: String,
    pub secret: Option<Secret>,
}

/// What a warm node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// One of ours: its copies have versions.
    Mcsqueal,
    /// Stock memcached: its values count as plain sets.
    Memcached,
}

/// A connection.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Socket>>> + Send>>;
/// How sources are reached: with TLS or without.
pub type Connect = dyn Fn(&Source) -> Connecting + Send + Sync;

/// See the module.
pub struct Warm {
    node: Arc<Node>,
    control: Arc<Control>,
    clock: Clock,
    settings: Settings,
    connect: Box<Connect>,
    plan: Mutex<Plan>,
    /// Whether reads ask for what they miss.
    helps: AtomicBool,
    links: Vec<Link>,
    stop: CancellationToken,
}

/// The way to a source, for reads.
struct Link {
    asks: mpsc::Sender<Ask>,
    waiting: Mutex<Option<mpsc::Receiver<Ask>>>,
    up: AtomicBool,
}

/// Somebody waits for a key; dropped when it is decided.
struct Ask {
    key: Key,
    _decided: oneshot::Sender<()>,
}

/// What became of copies.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    kept: u64,
    refused: u64,
}

impl Warm {
    /// Nothing happens before [`Warm::run`].
    pub fn new(
        node: Arc<Node>,
        control: Arc<Control>,
        clock: Clock,
        settings: Settings,
        connect: Box<Connect>,
    ) -> Warm {
        node.copies().set_state(State::Waiting);
        let link = |_: &Source| {
            let (asks, waiting) = mpsc::channel(WAITING_MAX);
            Link { asks, waiting: Mutex::new(Some(waiting)), up: AtomicBool::new(false) }
        };
        Warm {
            plan: Mutex::new(Plan::new(settings.sources.len(), settings.pace)),
            links: settings.sources.iter().map(link).collect(),
            helps: AtomicBool::new(false),
            stop: CancellationToken::new(),
            node,
            control,
            clock,
            settings,
            connect,
        }
    }

    /// Whether reads should ask for what they miss.
    pub fn helps(&self) -> bool {
        self.helps.load(Ordering::Relaxed)
    }

    /// Asks for copies of keys that a read is about to miss; returns once they were kept, or there are none, or it takes too long.
    pub async fn fetch(&self, keys: Vec<Key>) {
        let mut waiting = Vec::new();
        for key in keys {
            let Some(link) = self.links.get(self.settings.ring.owner(&key)) else { continue };
            if !link.up.load(Ordering::Relaxed) {
                continue;
            }
            let (decided, decision) = oneshot::channel();
            if link.asks.try_send(Ask { key, _decided: decided }).is_ok() {
                waiting.push(decision);
            }
        }
        let all = async {
            for decision in waiting {
                // Whatever was decided, the sender is dropped.
                drop(decision.await);
            }
        };
        drop(timeout(self.settings.wait_max, all).await);
    }

    /// Goes on until this node is warm, or until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut asking = JoinSet::new();
        for (number, source) in self.settings.sources.iter().enumerate() {
            if source.kind == SourceKind::Memcached {
                tracing::warn!(
                    source = source.address,
                    "memcached knows no versions: its values are taken for plain sets. A key that changed lately is not taken, \
                     but a value that it kept for longer than that after a change is stale here as well"
                );
            }
            let warm = Arc::clone(&self);
            match source.kind {
                SourceKind::Mcsqueal => {
                    asking.spawn(source::walk::<peer::Walker>(Arc::clone(&warm), number));
                    asking.spawn(source::answer_misses::<peer::Connection>(warm, number));
                }
                SourceKind::Memcached => {
                    asking.spawn(memcached::walk(Arc::clone(&warm), number));
                    asking.spawn(source::answer_misses::<memcached::Connection>(warm, number));
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.tick() => {}
        }
        self.helps.store(false, Ordering::Relaxed);
        self.stop.cancel();
        asking.shutdown().await;
    }

    /// Until the plan says that it is over.
    async fn tick(&self) {
        let (mut ticks, mut number) = (interval(TICK), 0_u64);
        let begun = Instant::now();
        loop {
            ticks.tick().await;
            number = number.wrapping_add(1);
            let now = self.clock.read().0.moment;
            let (gets, hits) = self.node.reads();
            let helped = self.node.copies().kept_by_miss.load(Ordering::Relaxed);
            let own = Reads { gets, hits: hits.saturating_sub(helped) };
            let (ended, helps, progress) = {
                let mut plan = self.plan();
                (plan.tick(now, self.live(), own), plan.helps(), plan.progress(now))
            };
            self.helps.store(helps, Ordering::Relaxed);
            let copies = self.node.copies();
            if helps && copies.state() == State::Waiting {
                tracing::info!("this node is up to date: warming up");
                copies.set_state(State::Warming);
            }
            copies.looked.store(progress.looked, Ordering::Relaxed);
            copies.entries.store(progress.entries, Ordering::Relaxed);
            let up = u64::try_from(progress.sources_up).unwrap_or(u64::MAX);
            copies.sources_up.store(up, Ordering::Relaxed);
            copies.seconds_left.store(progress.seconds_left.unwrap_or(0), Ordering::Relaxed);
            let by_walk = copies.kept_by_walk.load(Ordering::Relaxed);
            let refused = copies.refused.load(Ordering::Relaxed);
            let plan::Progress { looked, entries, seconds_left, .. } = progress;
            if let Some(why) = ended {
                let took = begun.elapsed();
                copies.set_state(State::Ended);
                tracing::info!(
                    ?why,
                    ?took,
                    looked,
                    by_walk,
                    by_miss = helped,
                    refused,
                    "warm-up has ended"
                );
                return;
            }
            if number.is_multiple_of(TICKS_PER_LINE) && copies.state() == State::Warming {
                tracing::info!(
                    looked,
                    entries,
                    by_walk,
                    by_miss = helped,
                    refused,
                    seconds_left,
                    sources_up = up,
                    "warming up"
                );
            }
        }
    }

    fn live(&self) -> Live {
        let now = self.clock.read().0.moment;
        let rules = self.node.rules_shared();
        let fresh = rules.is_some_and(|rules| rules.is_fresh(now) && !rules.is_quarantined());
        if fresh && self.control.stream().is_some() { Live::Yes } else { Live::No }
    }

    /// Whether the rules would keep a plain set of a key that never changed.
    fn takes_plain_sets(&self) -> bool {
        let now = self.clock.read().0.moment;
        let subject = Subject::new(b"-");
        let taken = |mut rules: RwLockWriteGuard<'_, Rules>| {
            rules.accept(now, &subject, Fill::Plain).is_ok()
        };
        self.live() == Live::Yes && self.node.rules().is_some_and(taken)
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ours(&self, key: &Key) -> bool {
        self.settings.share.as_ref().is_none_or(|share| share.ring.owner(key) == share.own)
    }

    /// Keeps what the rules allow.
    fn keep(&self, copies: &[Copy], kind: SourceKind) -> Outcome {
        let (mut kept, mut refused) = (0_u64, 0_u64);
        for some in copies.chunks(KEEP_AT_ONCE) {
            let (now, seed) = self.clock.read();
            let mut turn = Turn::new(&self.node, 0, now, seed);
            for copy in some {
                let fill = match kind {
                    SourceKind::Mcsqueal => Fill::Copy(copy.version),
                    SourceKind::Memcached => Fill::Plain,
                };
                match turn.keep(copy, fill) {
                    Kept::Yes => kept = kept.saturating_add(1),
                    Kept::Refused(_) => refused = refused.saturating_add(1),
                    Kept::There | Kept::NoRoom => {}
                }
            }
        }
        add(&self.node.copies().refused, refused);
        Outcome { kept, refused }
    }

    fn link(&self, source: usize) -> Option<&Link> {
        self.links.get(source)
    }

    /// Reads may ask it.
    fn is_up(&self, source: usize) {
        if let Some(link) = self.link(source) {
            link.up.store(true, Ordering::Relaxed);
        }
    }

    /// Reads do without it.
    fn is_down(&self, source: usize) {
        if let Some(link) = self.link(source) {
            link.up.store(false, Ordering::Relaxed);
        }
    }

    /// What reads wait for at a source. Whoever asks the source takes it.
    fn waiting(&self, source: usize) -> Option<mpsc::Receiver<Ask>> {
        self.link(source)?.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Everything that waits now, by key, so that many who miss the same key cost one question.
    fn gather(&self, first: Ask, waiting: &mut mpsc::Receiver<Ask>) -> HashMap<Key, Vec<Ask>> {
        let now = self.clock.read().0;
        let mut asks: HashMap<Key, Vec<Ask>> = HashMap::new();
        let mut next = Some(first);
        while let Some(ask) = next {
            if asks.contains_key(&ask.key) || !self.node.holds(ask.key.as_bytes(), now) {
                asks.entry(ask.key.clone()).or_default().push(ask);
            }
            next = if asks.len() < FETCH_MAX { waiting.try_recv().ok() } else { None };
        }
        asks
    }
}

impl std::fmt::Debug for Warm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Warm").field("settings", &self.settings).finish_non_exhaustive()
    }
}
