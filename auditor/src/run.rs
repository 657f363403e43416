//! The shell around [`Auditor`]: nodes, database, clock. Where changes come from is the caller's business, who calls
//! [`Shared::take`] for each that the binlog says.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use binlog::assemble::Change;
use client::Node;
use schemas::{moment::Moment, record::UnixMicros};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    auditor::{Auditor, Event},
    canary::{self, NoCanary},
    database::Database,
    node,
    placement::NodeId,
    report::Report,
    settings::{Numbers, Settings},
    transactions::{CanaryRows, Now, Transactions},
    verdict::{Action, Answer, Finding, WatchId},
};

/// Events that wait for the auditor.
const EVENTS_MAX: usize = 65_536;
/// Looks at one node at a time; the others wait.
const LOOKS_MAX: usize = 256;
/// Questions to the database that wait; beyond that, keys are judged without.
const QUESTIONS_MAX: usize = 1024;
/// How often each node is asked where its counter is.
const TICK_INTERVAL: Duration = Duration::from_millis(100);

/// What all tasks share.
#[derive(Debug)]
pub struct Shared {
    pub(crate) settings: Settings,
    pub(crate) report: Report,
    pub(crate) nodes: Vec<Node>,
    looking: Vec<Semaphore>,
    started: Instant,
    canary_rows: Mutex<CanaryRows>,
    events: mpsc::Sender<Event>,
}

/// The auditor's tasks; they end when it is dropped.
#[derive(Debug)]
pub struct Running {
    pub shared: Arc<Shared>,
    tasks: JoinSet<()>,
    /// No more changes are taken; what is watched is watched to its end.
    closing: CancellationToken,
}

/// The clocks of one process.
impl Shared {
    /// Now, on both clocks.
    pub fn now(&self) -> Now {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = UnixMicros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX));
        Now { moment: self.moment(), wall }
    }

    fn moment(&self) -> Moment {
        Moment::after_start(self.started.elapsed())
    }

    pub(crate) fn canary_rows(&self) -> MutexGuard<'_, CanaryRows> {
        self.canary_rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One change of the binlog. Nothing waits: what there is no room for is not watched, and counted.
    pub fn take(&self, transactions: &mut Transactions, change: &Change<'_>) {
        let mut events = Vec::new();
        transactions.take(change, self.now(), &mut self.canary_rows(), &mut events);
        for mut event in events {
            let mut is_change = false;
            if let Event::Changed(changed) = &mut event {
                is_change = true;
                self.report.changed();
                changed.number =
                    changed.number.filter(|_| self.settings.numbers == Numbers::Compared);
            }
            if self.events.try_send(event).is_err() && is_change {
                self.report.skipped();
            }
        }
    }

    /// Counts and logs what was found.
    pub(crate) fn found(&self, found: &Finding) {
        self.report.found(found.node, found.verdict);
        let place = self.settings.placement.get(found.node);
        let node = place.map_or("?", |place| &*place.address);
        let cluster = place.map_or("?", |place| &*place.cluster);
        let filled = found.filled.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
        let (verdict, key, rule) = (found.verdict.name(), &found.key, found.rule.as_deref());
        let (transaction, cas) = (&*found.transaction, found.cas.unwrap_or(0));
        let (age_s, rule) = (found.age.as_secs_f64(), rule.unwrap_or("none"));
        let database = found.database.name();
        if found.verdict.is_red() {
            tracing::error!(
                verdict, %key, cluster, node, rule, transaction, age_s, cas, version = filled, database,
                "a cached value is not what it should be"
            );
        } else {
            tracing::debug!(verdict, %key, cluster, node, rule, transaction, age_s, cas, "in flight");
        }
    }
}

/// Starts looking at nodes; to be called within a runtime.
pub fn start(settings: Settings, report: Report) -> Result<Running, NoCanary> {
    let nodes: Vec<Node> = settings.placement.iter().map(|(_, place)| node::open(place)).collect();
    let looking = nodes.iter().map(|_| Semaphore::new(LOOKS_MAX)).collect();
    let (events, received) = mpsc::channel(EVENTS_MAX);
    let canary = settings.canary.clone();
    let perches = canary.as_ref().map(|canary| canary::perches(&settings, canary)).transpose()?;
    let table = canary.as_ref().map(|canary| (canary.schema.clone(), canary.table.clone()));
    let canary_rows = Mutex::new(CanaryRows::of(table));
    let started = Instant::now();
    let shared =
        Arc::new(Shared { settings, report, nodes, looking, started, canary_rows, events });
    let (mut tasks, closing) = (JoinSet::new(), CancellationToken::new());
    for (node, _) in shared.settings.placement.iter() {
        tasks.spawn(ticks(Arc::clone(&shared), node));
    }
    if let (Some(canary), Some(perches)) = (canary, perches) {
        tasks.spawn(canary::run(Arc::clone(&shared), canary, perches));
    }
    let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
    tasks.spawn(answer(Arc::clone(&shared), asked));
    tasks.spawn(audit(Arc::clone(&shared), received, questions, closing.clone()));
    Ok(Running { shared, tasks, closing })
}

impl Running {
    /// Takes no more changes, and waits until everything that is watched has been judged.
    pub async fn finish(&mut self) {
        self.closing.cancel();
        while self.tasks.join_next().await.is_some() {
            if self.shared.events.is_closed() {
                return;
            }
        }
    }

    /// A state for the binlog's changes.
    pub fn transactions(&self, skew: Duration) -> Transactions {
        let settings = &self.shared.settings;
        Transactions::new(settings.mapping.clone(), settings.sample, skew)
    }
}

/// Asks a node again and again where its counter is.
async fn ticks(shared: Arc<Shared>, id: NodeId) {
    let (probe, Some(node)) = (shared.settings.probe_key(), shared.nodes.get(id.0)) else { return };
    let mut ticks = interval(TICK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Ok(Some(cas)) = node::tick(node, &probe).await
            && shared.events.send(Event::Ticked { node: id, cas }).await.is_err()
        {
            return;
        }
    }
}

/// A question to the database.
type Question = (WatchId, crate::mapping::ValueOf);

async fn answer(shared: Arc<Shared>, mut asked: mpsc::Receiver<Question>) {
    let mut database = Database::new(shared.settings.databases.clone());
    while let Some((watch, value)) = asked.recv().await {
        let rule = shared.settings.values.get(value.rule);
        let answered = match rule {
            Some(rule) => database.ask(rule, &value.parameters).await,
            None => Ok(Answer::None),
        };
        let answer = answered.unwrap_or_else(|err| {
            tracing::warn!(error = %err, "judged without the database");
            Answer::None
        });
        if shared.events.send(Event::Answered { watch, answer }).await.is_err() {
            return;
        }
    }
}

/// The auditor itself.
async fn audit(
    shared: Arc<Shared>,
    mut events: mpsc::Receiver<Event>,
    questions: mpsc::Sender<Question>,
    closing: CancellationToken,
) {
    let settings = &shared.settings;
    let mut auditor =
        Auditor::new(settings.looks, settings.watches_max, settings.placement.clone());
    loop {
        shared.report.watching(auditor.watching());
        let closed = closing.is_cancelled();
        if closed && auditor.watching() == 0 {
            events.close();
            return;
        }
        let due = auditor.due().map(|due| shared.started + due.since(Moment::START));
        let event = tokio::select! {
            event = events.recv() => match event {
                None => return,
                // What was on its way when it was said to end is not watched.
                Some(Event::Changed(_)) if closed => continue,
                Some(event) => event,
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Woke,
            () = closing.cancelled(), if !closed => continue,
        };
        for action in auditor.step(shared.moment(), event) {
            carry_out(&shared, &questions, action);
        }
    }
}

fn carry_out(shared: &Arc<Shared>, questions: &mpsc::Sender<Question>, action: Action) {
    match action {
        Action::Look { watch, node, key, value } => {
            let shared = Arc::clone(shared);
            // As many as watches and clusters, each of which ends in time.
            tokio::spawn(async move {
                let sight = look(&shared, node, &key, value.map(|value| value.rule)).await;
                drop(shared.events.send(Event::Seen { watch, node, sight }).await); // Or nobody listens.
            });
        }
        Action::Ask { watch, value } => {
            if questions.try_send((watch, value)).is_err() {
                let events = shared.events.clone();
                tokio::spawn(async move {
                    let answer = Answer::None;
                    drop(events.send(Event::Answered { watch, answer }).await); // Likewise.
                });
            }
        }
        Action::Found(found) => shared.found(&found),
        Action::Judged { node } => shared.report.judged(node),
        Action::Unjudged { node, why } => shared.report.unjudged(node, why),
        Action::Skipped => shared.report.skipped(),
    }
}

async fn look(
    shared: &Shared,
    id: NodeId,
    key: &schemas::key::Key,
    rule: Option<usize>,
) -> crate::verdict::Sight {
    let unknown = crate::verdict::Sight::Unknown;
    let (Some(of), Some(place)) = (shared.nodes.get(id.0), shared.settings.placement.get(id))
    else {
        return unknown;
    };
    let Some(looking) = shared.looking.get(id.0) else { return unknown };
    let Ok(_permit) = looking.acquire().await else { return unknown };
    let rule = rule.and_then(|rule| shared.settings.values.get(rule));
    node::look(of, place, key, rule).await
}
