//! The shell: connections, clock, stream. Everything that is decided is decided in [`crate::tailer`].
//!
//! ```text
//! connect -> preflight -> dump -> [ events | what the source says of itself | acknowledgements ] -> batches
//! ```
//!
//! When anything fails, what is on its way is waited for, and the next connection begins at the last checkpoint that
//! the stream has acknowledged.
//!
//! A tailer that finds no checkpoint begins at what the source has executed by then, and stores that as its first
//! checkpoint: changes from before its first start are nobody's business.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use schemas::{
    cure::Cure,
    gtid::Dialect,
    record::{Checkpoint, FilePosition, UnixMicros},
    rules::Rules,
    version::Version,
};
use stream::{Batch, StreamError, Writer};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    epochs::EpochError,
    metrics::Metrics,
    preflight::{self, Report, Role},
    settings::{Order, Settings},
    source::{self, Recovery, SourceError},
    status::Status,
    tailer::{Input, Mode, Start, Tailer},
};

mod appender;
mod epoch_watch;
mod gone;
mod horizon;
mod observer;
mod switchover;
mod wish;
use appender::Appender;
use epoch_watch::EpochWatch;
use gone::{Gone, gone};
use horizon::Horizon;
use observer::{Answer, Observer};
use wish::Wish;

/// What ends a tailer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TailerError {
    /// Preflight found what must be mended first.
    #[error("the source cannot be used as it is:\n{0}")]
    Refused(Box<Report>),
    /// The stream is damaged, or closed: halt.
    #[error("write to the stream")]
    Stream(#[source] StreamError),
    /// Versions have run out: halt.
    #[error("number the transactions")]
    Epochs(#[source] EpochError),
}

/// Why one connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the source cannot be used as it is:\n{0}")]
    Refused(Box<Report>),
    #[error("write to the stream")]
    Stream(#[source] StreamError),
    #[error("number the transactions")]
    Epochs(#[from] EpochError),
    #[error("the source's foreign keys or columns may have changed, asking again")]
    Outdated,
    #[error("the source takes writes again, asking what it has of those that took them meanwhile")]
    Returned,
    #[error("somebody asks for an epoch, asking what the source has")]
    EpochAsked,
    #[error("there are other rules")]
    Rules,
}

/// Reads the binlog of a source until `shutdown`, and publishes what changes mean. Returns early only with an error
/// that a new attempt cannot mend. A source that is down, also at the start, is tried again for ever; [`Status`]
/// says so. Other rules are taken up where the last transaction was published whole; their columns and tables must have been
/// checked before ([`preflight::check`]).
pub async fn run<W: Writer>(
    settings: Settings,
    rules: watch::Receiver<Arc<Rules>>,
    writer: W,
    metrics: Metrics,
    status: watch::Sender<Status>,
    shutdown: CancellationToken,
) -> Result<(), TailerError> {
    let appender = Appender::new(writer, settings.limits.batches_in_flight_max, metrics.clone());
    let checkpoint = appender.stored_checkpoint(&settings.source);
    let epochs = EpochWatch::new(settings.order);
    let mut shell = Shell {
        settings,
        rules,
        appender,
        metrics,
        status,
        checkpoint,
        gone: None,
        first: true,
        rival: false,
        at: 0,
        damaged: (0, 0),
        stood: false,
        epochs,
        wish: None,
    };
    shell.metrics.hold_off.set(i64::from(shell.settings.order == Order::Binlog));
    let mut backoff = Backoff::new();
    loop {
        let ended = tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(()),
            ended = shell.session(&mut backoff) => ended.map(|never| match never {}),
        };
        let Err(ended) = ended else {
            return shell.drain().await;
        };
        let wait = shell.after(ended, &mut backoff).await?;
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = sleep(wait) => {}
        }
    }
}

/// How much of an error goes into a floor.
const REASON_CHARS_MAX: usize = 200;

/// An event that was damaged so often is given up.
const DAMAGED_TIMES_MAX: u32 = 3;

/// What outlives a connection.
struct Shell<W> {
    settings: Settings,
    rules: watch::Receiver<Arc<Rules>>,
    appender: Appender<W>,
    metrics: Metrics,
    status: watch::Sender<Status>,
    /// The last that is durable.
    checkpoint: Option<Checkpoint>,
    /// What the server said when it did not have what we asked for.
    gone: Option<String>,
    /// No connection has passed preflight yet.
    first: bool,
    /// We were pushed out by another reader with our `server_id`.
    rival: bool,
    /// Which of the source's servers is asked, counted round and round.
    at: usize,
    /// Where an event was damaged, and how often in a row.
    damaged: (u32, u32),
    /// It was read, so it is asked once more before another one is.
    stood: bool,
    epochs: EpochWatch,
    wish: Option<Wish>,
}

/// A session ends only in an error.
enum Never {}

impl<W: Writer> Shell<W> {
    async fn session(&mut self, backoff: &mut Backoff) -> Result<Never, Ended> {
        let settings = self.settings.at(self.at);
        let rules = Arc::clone(&self.rules.borrow_and_update());
        let mut conn = source::connect(&settings).await?;
        let answers = preflight::ask(&mut conn, &rules).await?;
        let mut report = preflight::judge(&settings, &rules, &answers)?;
        self.tell(|status| status.server = Some(format!("{} {}", report.dialect, report.version)));
        if !report.is_passed() {
            return Err(Ended::Refused(Box::new(report)));
        }
        if std::mem::take(&mut self.first) && !report.findings.is_empty() {
            tracing::warn!("preflight:\n{report}");
        }
        self.metrics.writable.set(i64::from(report.role == Role::Writer));
        if report.role == Role::ReadOnly {
            return Err(SourceError::ReadOnly.into());
        }
        let mut tailer = self.tailer(&report, rules);
        if let Some(before) = &tailer.checkpoint().epoch {
            let others = switchover::Others { settings: &self.settings, at: self.at, before };
            switchover::prove(&others, &mut conn, &mut report).await?;
        }
        self.meet(&report, &mut tailer).await?;
        let reader = self.open(&settings, &report, &tailer).await?;
        let horizon = Horizon::at(report.end.clone());
        let observer = Observer::start(conn, &settings, &report);
        self.stood = true;
        self.tell(|status| (status.connected, status.last_error) = (true, None));
        self.metrics.connected.set(1);
        backoff.reset();
        tracing::info!(
            source = &*settings.source,
            address = %settings.address,
            server = report.version,
            "reading the binlog"
        );
        self.read(tailer, reader, observer, horizon).await
    }

    fn tailer(&self, report: &Report, rules: Arc<Rules>) -> Tailer {
        let fresh = || Checkpoint {
            source: Arc::clone(&self.settings.source),
            executed: report.server.executed.clone(),
            position: report.end.clone(),
            epoch: None,
            version: Version::ZERO,
            recent: Vec::new(),
        };
        let checkpoint = self.checkpoint.clone().unwrap_or_else(fresh);
        let tailer = Tailer::new(Start {
            dialect: report.dialect,
            mode: report.mode,
            server_id: report.server_id,
            checkpoint,
            partitions: self.appender.partitions(),
            limits: self.settings.limits,
            rules,
            statement_keys: self.settings.statement_keys,
            order: self.settings.order,
            cascades: report.cascades.clone(),
            metrics: self.metrics.clone(),
        });
        match report.dialect {
            Dialect::Mysql => tailer,
            Dialect::MariaDb => tailer.with_disguised(report.disguised.clone()),
        }
    }

    /// Gives up what the server no longer has, and tells the tailer which server this is. What follows of that, and
    /// the first checkpoint, is durable before anything is read.
    async fn meet(&mut self, report: &Report, tailer: &mut Tailer) -> Result<(), Ended> {
        let mut batches = Vec::new();
        if self.checkpoint.is_none() {
            tailer.step(now(), Input::Tick, &mut batches)?;
        }
        let lost = gone(report, &tailer.checkpoint(), self.gone.as_deref());
        if let Some(Gone { executed, position, reason }) = lost {
            tracing::error!(
                reason,
                "changes were lost before they were read, raising a floor over all keys"
            );
            let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
            tailer.skip_to(executed, position, &reason, &mut batches);
        }
        let mut server = report.server.clone();
        if report.mode == Mode::Position {
            // Sets are not followed there: nothing of it is missing, and nothing waited for.
            server.executed = tailer.checkpoint().executed;
        }
        tailer.connected(server.clone(), &mut batches)?;
        if self.wish.is_some() {
            tailer.force_epoch(server, &mut batches)?;
        }
        self.append(&mut batches).await?;
        self.settle().await?;
        self.gone = None;
        Ok(())
    }

    /// Asks for the dump. What was published and the server does not have, or does not show yet, is asked for again; so is the
    /// newest of what it has, to be compared.
    async fn open(
        &mut self,
        settings: &Settings,
        report: &Report,
        tailer: &Tailer,
    ) -> Result<source::Reader, Ended> {
        let resume = match (report.mode, tailer.position()) {
            (Mode::Gtid, _) => source::Resume::Executed(tailer.resumes_from()),
            (Mode::Position, Some(position)) => source::Resume::Position(position),
            (Mode::Position, None) => {
                let what = "without GTIDs, the account must be allowed to ask for the binlog's end";
                return Err(SourceError::Answer(what.to_owned()).into());
            }
        };
        Ok(source::dump(settings, report.dialect, resume).await?)
    }

    async fn read(
        &mut self,
        mut tailer: Tailer,
        mut reader: source::Reader,
        mut observer: Observer,
        mut horizon: Horizon,
    ) -> Result<Never, Ended> {
        let (mut batches, mut others_wrote) = (Vec::new(), false);
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let mut rules = self.rules.clone();
        loop {
            tokio::select! {
                biased;
                // Whoever gave them may be gone: then they stay as they are.
                Ok(()) = rules.changed() => {
                    tailer.step(now(), Input::Tick, &mut batches)?;
                    self.append(&mut batches).await?;
                    return Err(Ended::Rules);
                }
                acked = self.appender.acked(), if self.appender.in_flight() > 0 => self.durable(acked)?,
                answer = observer.next() => {
                    let Answer { observation, role } = answer?;
                    if let Some(end) = &observation.end {
                        self.metrics.lag_bytes.set(lag_bytes(&tailer, end).try_into().unwrap_or(i64::MAX));
                    }
                    self.metrics.writable.set(i64::from(role == Role::Writer));
                    // Of a server that takes no writes, another may be ahead: nothing is said of how far all is. When it takes them
                    // again, what the other one had lost begins an epoch, also if nothing was written since.
                    if role == Role::Writer && others_wrote && Cure::ReturnIsAskedAnew.works() {
                        return Err(Ended::Returned);
                    }
                    others_wrote |= role == Role::ReadOnly;
                    if role == Role::Writer {
                        tailer.step(now(), Input::Observed(observation), &mut batches)?;
                    } else if !self.settings.standbys.is_empty() {
                        return Err(SourceError::ReadOnly.into());
                    }
                }
                _ = tick.tick() => {
                    tailer.step(now(), Input::Tick, &mut batches)?;
                    self.say_lag(&tailer);
                    self.epochs.look(&self.metrics);
                    self.look_for_wishes(&tailer).await?;
                }
                events = reader.next(), if self.appender.has_room() => {
                    for piece in events? {
                        if horizon.is_passed_by(&piece, tailer.position()) {
                            tailer.step(now(), Input::PastEnd, &mut batches)?;
                        }
                        tailer.step(now(), Input::from(&piece), &mut batches)?;
                        if batches.len() > 1 {
                            self.append(&mut batches).await?;
                        }
                        if tailer.is_outdated() {
                            // With what it has, so that the next one begins behind it.
                            tailer.step(now(), Input::Tick, &mut batches)?;
                            self.append(&mut batches).await?;
                            return Err(Ended::Outdated);
                        }
                    }
                    if !reader.has_more() {
                        tailer.step(now(), Input::Idle, &mut batches)?;
                    }
                }
            }
            self.append(&mut batches).await?;
        }
    }

    /// Whether somebody asks for an epoch, or has got it.
    async fn look_for_wishes(&mut self, tailer: &Tailer) -> Result<(), Ended> {
        let Some(desk) = self.appender.desk() else { return Ok(()) };
        let Some(wish) = self.wish.take() else {
            self.wish = Wish::seen(&desk, &self.settings.source, &tailer.checkpoint());
            return if self.wish.is_some() { Err(Ended::EpochAsked) } else { Ok(()) };
        };
        if self.checkpoint.as_ref().is_some_and(|durable| wish.is_met(durable)) {
            wish.end(&desk).await;
        } else {
            self.wish = Some(wish);
        }
        Ok(())
    }

    /// Hands batches to the stream, and waits while too many are on their way.
    async fn append(&mut self, batches: &mut Vec<Batch>) -> Result<(), Ended> {
        for batch in batches.drain(..) {
            while !self.appender.has_room() {
                let acked = self.appender.acked().await;
                self.durable(acked)?;
            }
            self.appender.append(batch).await.map_err(Ended::Stream)?;
        }
        Ok(())
    }

    /// Waits until everything is durable.
    async fn settle(&mut self) -> Result<(), Ended> {
        while self.appender.in_flight() > 0 {
            let acked = self.appender.acked().await;
            self.durable(acked)?;
        }
        Ok(())
    }

    fn durable(&mut self, acked: Result<Option<Checkpoint>, StreamError>) -> Result<(), Ended> {
        if let Some(checkpoint) = acked.map_err(Ended::Stream)? {
            self.checkpoint = Some(checkpoint);
        }
        Ok(())
    }

    /// A connection ended: whether to go on, and after how long.
    async fn after(
        &mut self,
        ended: Ended,
        backoff: &mut Backoff,
    ) -> Result<Duration, TailerError> {
        self.metrics.connected.set(0);
        self.metrics.reconnects.inc();
        let recovery = match &ended {
            // Once, it may be our own connection from before, which the server has not given up yet.
            Ended::Source(SourceError::Rival(_)) if !std::mem::replace(&mut self.rival, true) => {
                Recovery::Retry
            }
            Ended::Source(error) => error.recovery(),
            Ended::Refused(_) => Recovery::RetryLater,
            Ended::Stream(_)
            | Ended::Epochs(_)
            | Ended::Outdated
            | Ended::Returned
            | Ended::EpochAsked
            | Ended::Rules => Recovery::Retry,
        };
        let stream_failed = matches!(ended, Ended::Stream(_));
        let damaged_at = match &ended {
            Ended::Source(SourceError::Damaged { position, .. }) => Some(*position),
            _ => None,
        };
        let read_only = matches!(ended, Ended::Source(SourceError::ReadOnly));
        let mut shown = chain(&ended);
        if matches!(ended, Ended::Source(SourceError::Rival(_))) {
            let settings = self.settings.at(self.at);
            shown = format!("{shown}; {}", rivals(&settings).await);
        }
        self.tell(|status| (status.connected, status.last_error) = (false, Some(shown.clone())));
        match ended {
            Ended::Refused(report) if self.first => return Err(TailerError::Refused(report)),
            Ended::Stream(error) if !matches!(error, StreamError::Append { .. }) => {
                return Err(TailerError::Stream(error));
            }
            Ended::Epochs(error) => return Err(TailerError::Epochs(error)),
            _ => {}
        }
        // After a refused batch, nothing behind it counts: it is read again.
        if stream_failed {
            self.appender.forget();
        } else if let Err(Ended::Stream(error)) = self.settle().await {
            return Err(TailerError::Stream(error));
        }
        if recovery == Recovery::Skip {
            self.gone = Some(shown.clone());
        }
        if self.stays_damaged(damaged_at) {
            self.gone = Some(format!("the source's binlog is damaged: {shown}"));
        }
        let asked_again =
            std::mem::take(&mut self.stood) && recovery == Recovery::Retry && !read_only;
        if !asked_again {
            self.at = self.at.wrapping_add(1);
        }
        if recovery == Recovery::RetryLater && self.settings.standbys.is_empty() {
            backoff.at_longest();
        }
        let wait = backoff.next(RandomState::new().hash_one(0));
        tracing::warn!(error = shown, retry_ms = wait.as_millis(), "lost the source, trying again");
        Ok(wait)
    }

    /// Whether the same event was damaged each time that it was read: then it is so on the source's disk, and not on its
    /// way to us.
    fn stays_damaged(&mut self, at: Option<u32>) -> bool {
        let Some(at) = at else { return false };
        let before = if self.damaged.0 == at { self.damaged.1 } else { 0 };
        self.damaged = (at, before.saturating_add(1));
        let stays = self.damaged.1 >= DAMAGED_TIMES_MAX;
        if stays {
            self.damaged = (0, 0);
        }
        stays
    }

    /// Nothing more is read; what is on its way may arrive.
    async fn drain(&mut self) -> Result<(), TailerError> {
        let grace = self.settings.drain;
        match tokio::time::timeout(grace, self.settle()).await {
            Ok(Err(Ended::Stream(error))) => return Err(TailerError::Stream(error)),
            Ok(_) => {}
            Err(_) => tracing::warn!(
                "stopped with batches on their way; they are read again at the next start"
            ),
        }
        self.metrics.connected.set(0);
        self.tell(|status| status.connected = false);
        Ok(())
    }

    fn say_lag(&self, tailer: &Tailer) {
        let lag = tailer.newest_event_s().map_or(0.0, |at| seconds_since(at, now()));
        self.metrics.lag_seconds.set(lag);
        let lag_bytes = u64::try_from(self.metrics.lag_bytes.get()).ok();
        self.tell(|status| (status.lag_seconds, status.lag_bytes) = (Some(lag), lag_bytes));
    }

    fn tell(&self, change: impl FnOnce(&mut Status)) {
        let (metrics, checkpoint) = (&self.metrics, &self.checkpoint);
        self.status.send_modify(|status| {
            status.checkpoint.clone_from(checkpoint);
            (status.events, status.rows, status.keys) =
                (metrics.events.get(), metrics.rows.get(), metrics.keys.get());
            change(status);
        });
    }
}

/// Who reads under our `server_id`, for people.
async fn rivals(settings: &Settings) -> String {
    match source::rivals(settings).await {
        Ok(rivals) if rivals.is_empty() => "it is gone by now".to_owned(),
        Ok(rivals) => format!("the server's list of readers has: {}", rivals.join(", ")),
        Err(error) => format!("who it is cannot be asked: {}", chain(&error)),
    }
}

/// Bytes from where we are to the end of the binlog, as far as both are in one file; else all of the newest file.
fn lag_bytes(tailer: &Tailer, end: &FilePosition) -> u64 {
    let ours = tailer.checkpoint().position.filter(|ours| ours.file == end.file);
    end.offset.saturating_sub(ours.map_or(0, |ours| ours.offset))
}

fn now() -> UnixMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMicros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

fn seconds_since(at_s: u32, now: UnixMicros) -> f64 {
    let at = u64::from(at_s).saturating_mul(1_000_000);
    Duration::from_micros(now.0.saturating_sub(at)).as_secs_f64()
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let level = error.to_string();
        // Some libraries repeat their causes.
        if !text.contains(&level) {
            text.push_str(": ");
            text.push_str(&level);
        }
        cause = error.source();
    }
    text
}
