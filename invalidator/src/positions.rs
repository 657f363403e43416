//! [`Positions`]: the region's position, as all lanes of a process share it: the pure [`Poller`], fed by those who read the stream and
//! by a task that asks the databases.
//!
//! A round of questions begins, every instance is asked, and the round is over when all have answered or [`ROUND_MAX`] has passed.
//! Lanes learn of both through a watch. A lane looks at it before it takes any answer of its node, so what the node had said before a
//! round began is exactly what the lane takes for that; a lane that is slow and misses a round uses what is older, which is safe.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol::control::{Continuity, EpochNews};
use schemas::{
    defaults,
    gtid::{Dialect, GtidSet},
    moment::Moment,
    record::{EpochStart, Progress, UnixMicros},
};
use stream::{Reader, StreamError};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    hold_off::HoldOff,
    instance::{self, Instance},
    poller::{Hold, InstanceId, InstanceState, Poll, Poller, Role},
};

/// A round is over then, whoever has not answered. What the region shows at the most is not known then, and a promotion that may lose
/// something makes misses of all that was stored since: so a server that is merely slow is waited for, and one that is silent is not.
const ROUND_MAX: Duration = Duration::from_millis(500);
/// While no instance answers, or the stream's epochs cannot be read.
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// How often it is looked whether something must be said to operators, or whether there is an epoch that nobody has told us.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// How it is known what readers of a region's databases see.
#[derive(Clone, Debug)]
pub enum Visibility {
    /// Each says it itself.
    Asked(Vec<Instance>),
    /// What the stream had so long ago is visible on all of them.
    HoldOff(Duration),
}

impl Visibility {
    /// Nothing is: no node of ours can store anything.
    pub const UNKNOWN: Visibility = Visibility::Asked(Vec::new());

    /// Whether caches are filled from servers that may lag.
    pub(crate) fn has_replicas(&self) -> bool {
        let Visibility::Asked(instances) = self else { return false };
        instances.iter().any(|instance| instance.role == Role::Replica)
    }

    pub(crate) fn is_known(&self) -> bool {
        !matches!(self, Visibility::Asked(instances) if instances.is_empty())
    }
}

/// How far the rounds are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rounds {
    /// The number of the last one that has begun.
    pub(crate) began: u64,
    /// The last one that is over, and what it found.
    pub(crate) polled: Option<(u64, Poll)>,
}

/// What an instance answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) instance: InstanceId,
    pub(crate) asked: Moment,
    /// `None`: it does not answer, and is asked again.
    pub(crate) visible: Option<Visible>,
}

/// What an instance shows to its readers.
#[derive(Clone, Debug)]
pub(crate) struct Visible {
    pub(crate) executed: GtidSet,
    /// What it has written itself, where `executed` does not say so; else nothing.
    pub(crate) wrote: GtidSet,
}

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Positions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Numbered as they stand here.
    instances: Vec<Instance>,
    /// Never held across an await.
    poller: Mutex<Known>,
    rounds: watch::Sender<Rounds>,
    begin: Instant,
}

#[derive(Debug)]
struct Known {
    poller: Poller,
    /// The newest epoch of the stream that is known.
    epoch: u16,
    /// Of the newest `Progress` that was read.
    progress_at: UnixMicros,
    /// Instead of what instances say.
    hold_off: Option<HoldOff>,
}

impl Known {
    /// Nothing is known of these, from `now` on.
    fn nothing_of(instances: &[Instance], dialect: Dialect, now: Moment) -> Known {
        let mut poller = Poller::new(dialect, None);
        for (at, instance) in instances.iter().enumerate() {
            poller.add(now, id_of(at), instance.role);
        }
        Known { poller, epoch: 0, progress_at: UnixMicros(0), hold_off: None }
    }
}

impl Positions {
    /// Nothing is known yet.
    pub(crate) fn new(visibility: Visibility) -> Positions {
        let (instances, hold_off) = match visibility {
            Visibility::Asked(instances) => (instances, None),
            Visibility::HoldOff(length) => (Vec::new(), Some(HoldOff::new(length))),
        };
        let known = Known::nothing_of(&instances, Dialect::Mysql, Moment::START);
        let poller = Mutex::new(Known { hold_off, ..known });
        let rounds = watch::Sender::new(Rounds::default());
        Positions(Arc::new(Shared { instances, poller, rounds, begin: Instant::now() }))
    }

    /// This process's clock.
    pub(crate) fn now(&self) -> Moment {
        Moment::after_start(self.0.begin.elapsed())
    }

    pub(crate) fn rounds(&self) -> watch::Receiver<Rounds> {
        self.0.rounds.subscribe()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.poller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A `Progress` was read from the stream.
    pub(crate) fn progressed(&self, progress: &Progress) {
        let mut known = self.known();
        if progress.at > known.progress_at {
            known.progress_at = progress.at;
            known.poller.source_executed(&progress.executed);
            let now = self.now();
            if let Some(hold_off) = &mut known.hold_off {
                hold_off.progressed(now, progress.version);
            }
        }
    }

    /// An announcement was read from the stream. The table of epochs is what counts: a writer that was replaced may have
    /// announced what is none.
    pub(crate) async fn announced<R: Reader>(
        &self,
        start: &EpochStart,
        reader: &R,
    ) -> Result<(), StreamError> {
        if start.epoch <= self.known().epoch {
            return Ok(());
        }
        self.learn(reader).await
    }

    /// Reads the table of epochs.
    pub(crate) async fn learn<R: Reader>(&self, reader: &R) -> Result<(), StreamError> {
        let starts = reader.epochs().await?;
        // Known from now on: an answer to a question before that says nothing of a new epoch.
        let now = self.now();
        let mut known = self.known();
        for start in starts {
            known.epoch = known.epoch.max(start.epoch);
            known.poller.learn(now, start);
        }
        Ok(())
    }

    /// What a node must hear that was told of every epoch up to `told`.
    pub(crate) fn news_after(&self, told: u16) -> Vec<EpochNews> {
        let known = self.known();
        if known.epoch <= told {
            return Vec::new();
        }
        let mut news = known.poller.all_news();
        news.retain(|news| news.epoch > told);
        if known.hold_off.is_some() {
            // A position by time proves nothing about what another server may have lost: the widest cut.
            for news in news.iter_mut().filter(|it| it.continuity == Continuity::NewServer) {
                news.continuity = Continuity::SameServer;
            }
        }
        news
    }

    /// The instances' addresses, and what is known of each.
    pub(crate) fn states(&self) -> Vec<(&str, InstanceState)> {
        let states = self.known().poller.states(self.now());
        let named = |state: InstanceState| {
            let instance = self.0.instances.get(usize::from(state.instance.0))?;
            Some((&*instance.address, state))
        };
        states.into_iter().filter_map(named).collect()
    }

    /// Finds out how far the region is, until `shutdown`.
    pub(crate) async fn run<R: Reader + Clone>(self, reader: R, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.poll(&reader) => {}
            () = self.watch(&reader) => {}
        }
    }

    /// Waits until some instance says what kind of server it is, which all of them are.
    async fn begin(&self) -> Dialect {
        let mut silent = BTreeSet::new();
        while !self.0.instances.is_empty() {
            for instance in &self.0.instances {
                let dialect = match instance::dialect(instance).await {
                    Ok(dialect) => dialect,
                    Err(err) => {
                        if silent.insert(&instance.address) {
                            err.warn(instance);
                        }
                        continue;
                    }
                };
                // Since when they are asked does not change.
                let nothing = Known::nothing_of(&self.0.instances, dialect, Moment::START);
                *self.known() = nothing;
                return dialect;
            }
            sleep(RETRY_DELAY).await;
        }
        Dialect::Mysql // Nobody is asked.
    }

    /// Says once what operators must know. And whoever delivers nothing hears of no epoch either: what looks foreign may be of a new one.
    async fn watch<R: Reader>(&self, reader: &R) {
        let mut foreign = BTreeSet::new();
        loop {
            sleep(WATCH_INTERVAL).await;
            for (address, state) in self.states() {
                match state.hold {
                    Some(Hold::Foreign) if foreign.insert(state.instance) => tracing::warn!(
                        instance = address,
                        position = %state.position,
                        "has transactions that the source does not have; the region's position waits. Written there by mistake: take it \
                         out of service and rebuild it. Promoted: look whether the tailer follows it"
                    ),
                    None | Some(Hold::Behind) if foreign.remove(&state.instance) => {
                        tracing::info!(instance = address, "has no foreign transactions any more");
                    }
                    _ => {}
                }
            }
            let unexplained = self.known().poller.has_foreign();
            if unexplained && let Err(err) = self.learn(reader).await {
                tracing::debug!(error = %err, "the stream's epochs cannot be read");
            }
        }
    }

    async fn poll<R: Reader>(&self, reader: &R) {
        let dialect = self.begin().await;
        while let Err(err) = self.learn(reader).await {
            tracing::warn!(error = %err, "the stream's epochs cannot be read");
            sleep(RETRY_DELAY).await;
        }
        let count = self.0.instances.len();
        let (answers, mut received) = mpsc::channel::<Answer>(count.max(1) * 4);
        let (ask, asked) = watch::channel(self.now());
        let mut tasks = JoinSet::new();
        for (at, instance) in self.0.instances.iter().enumerate() {
            tasks.spawn(instance::answer(
                instance.clone(),
                dialect,
                id_of(at),
                asked.clone(),
                answers.clone(),
            ));
        }
        // Who is not waited for, until he answers.
        let mut silent = BTreeSet::new();
        let mut ticks = interval(defaults::POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (began, until) = (self.now(), Instant::now() + ROUND_MAX);
            self.0.rounds.send_modify(|rounds| rounds.began += 1);
            ask.send_replace(began);
            let mut missing: BTreeSet<InstanceId> =
                (0..count).map(id_of).filter(|id| !silent.contains(id)).collect();
            loop {
                let answer = if missing.is_empty() {
                    received.try_recv().ok()
                } else {
                    timeout_at(until, received.recv()).await.ok().flatten()
                };
                let Some(Answer { instance, asked, visible }) = answer else { break };
                let Some(Visible { executed, wrote }) = visible else {
                    silent.insert(instance);
                    missing.remove(&instance);
                    continue;
                };
                silent.remove(&instance);
                if asked >= began {
                    missing.remove(&instance);
                }
                let mut known = self.known();
                known.poller.wrote(instance, &wrote);
                known.poller.answered(asked, instance, &executed);
            }
            let poll = self.known().poll(began, self.now());
            self.0.rounds.send_modify(|rounds| rounds.polled = Some((rounds.began, poll)));
        }
    }
}

impl Known {
    fn poll(&mut self, began: Moment, now: Moment) -> Poll {
        let poll = self.poller.poll(began, now);
        let Some(hold_off) = &mut self.hold_off else { return poll };
        let position = hold_off.position(now);
        Poll { region: position, primary: position, ..poll }
    }
}

fn id_of(at: usize) -> InstanceId {
    InstanceId(u16::try_from(at).unwrap_or(u16::MAX))
}
