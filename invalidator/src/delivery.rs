//! [`Delivery`]: one lane's task: its node's connection, the clock, and the stream, around the pure [`Lane`].
//!
//! Whatever goes wrong, the lane keeps what was not answered and sends it again: after a while, which doubles with
//! each failure and starts over once the node has done something. Only a damaged or closed stream ends the task.

use std::time::Duration;

use schemas::version::Version;
use stream::{CursorStore, Reader, StreamError};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::{Connection, ConnectionError},
    intake::Intake,
    lane::{Cover, Lane, Limits},
    metrics::Cause,
    positions::Rounds,
    report::Report,
    settings::{
        ANSWER_DEADLINE, BATCH_MAX, CONNECT_DELAY_MAX, CONNECT_DELAY_MIN, MEASURE_INTERVAL,
        STORE_INTERVAL, UNANSWERED_MAX, WINDOW_KEYS_MAX,
    },
    trouble::Trouble,
};

/// One lane and its surroundings.
pub(crate) struct Delivery<R, S> {
    /// `host:port` of the node.
    pub(crate) address: String,
    pub(crate) fill_age_max: Duration,
    pub(crate) cover: Cover,
    pub(crate) intake: Intake<R, S>,
    /// How far the databases are.
    pub(crate) rounds: watch::Receiver<Rounds>,
    pub(crate) report: Report,
}

/// What a lane has that is served: when the node was last heard, and whether it did anything.
struct Visit {
    heard_at: Instant,
    store_at: Instant,
    useful: bool,
}

impl<R: Reader, S: CursorStore + Clone> Delivery<R, S> {
    /// Runs until `shutdown`; an error is a stream that cannot be used any more.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), StreamError> {
        let ended = self.deliver(&shutdown).await;
        if let Err(err) = &ended {
            self.report.interrupted(Cause::Stream, err);
        }
        ended
    }

    async fn deliver(&mut self, shutdown: &CancellationToken) -> Result<(), StreamError> {
        let limits = Limits {
            fill_age_max: self.fill_age_max,
            keys_max: WINDOW_KEYS_MAX,
            unanswered_max: UNANSWERED_MAX,
            cover: self.cover,
        };
        let mut lane = Lane::new(limits);
        let mut delay = CONNECT_DELAY_MIN;
        loop {
            let now = Instant::now();
            let mut visit = Visit { heard_at: now, store_at: now + STORE_INTERVAL, useful: false };
            match self.visit(&mut lane, &mut visit, shutdown).await {
                Ok(()) => return self.intake.store(lane.cursors()).await,
                Err(trouble) => trouble.note(&self.report)?,
            }
            if visit.useful {
                delay = CONNECT_DELAY_MIN;
            }
            self.stay_away(&mut lane, delay, shutdown).await?;
            delay = (delay * 2).min(CONNECT_DELAY_MAX);
        }
    }

    /// Waits, and meanwhile looks how much the lane has to catch up with.
    async fn stay_away(
        &mut self,
        lane: &mut Lane,
        delay: Duration,
        shutdown: &CancellationToken,
    ) -> Result<(), StreamError> {
        let end = Instant::now() + delay;
        loop {
            let kept = async {
                self.intake.settle(lane).await?;
                self.intake.store(lane.cursors()).await?;
                self.intake.unread(Instant::now()).await
            };
            match kept.await {
                Ok(unread) => self.report.backlog(lane, unread),
                Err(err) => Trouble::from(err).note(&self.report)?,
            }
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = sleep_until(end.min(now + MEASURE_INTERVAL)) => {}
            }
        }
    }

    /// One connection, from its beginning to its end. `Ok` is the shutdown.
    async fn visit(
        &mut self,
        lane: &mut Lane,
        visit: &mut Visit,
        shutdown: &CancellationToken,
    ) -> Result<(), Trouble> {
        let connection = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            connection = Connection::open(&self.address) => connection?,
        };
        self.report.connected();
        lane.connected();
        let served = self.serve(lane, visit, connection, shutdown).await;
        lane.disconnected();
        self.intake.look_again();
        served
    }

    async fn serve(
        &mut self,
        lane: &mut Lane,
        visit: &mut Visit,
        mut connection: Connection,
        shutdown: &CancellationToken,
    ) -> Result<(), Trouble> {
        loop {
            self.intake.fill(lane, &self.report).await?;
            let now = Instant::now();
            if !connection.is_waiting() {
                visit.heard_at = now;
            }
            lane.covered(self.position());
            connection.queue_batch(&lane.send(now, BATCH_MAX));
            self.keep(lane, visit, now).await?;
            let deadline = visit.heard_at + ANSWER_DEADLINE;
            let wake = self.wake(lane, visit, now, connection.is_waiting().then_some(deadline));
            // In this order, so that what the node has answered counts before the time that it took.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(self.finish(lane, &mut connection).await?),
                turned = connection.turn() => {
                    turned?;
                    self.hear(lane, visit, &mut connection)?;
                }
                () = self.intake.changed(), if self.intake.is_at_head() => {}
                // Where the task that asks has ended, so has everything else.
                Ok(()) = self.rounds.changed(), if lane.waits_for_databases() => {}
                () = sleep_until(wake) => {
                    if connection.is_waiting() && Instant::now() >= deadline {
                        return Err(ConnectionError::Deadline(ANSWER_DEADLINE).into());
                    }
                }
            }
        }
    }

    /// Up to here every database shows everything.
    fn position(&mut self) -> Version {
        self.rounds.borrow_and_update().polled.map_or(Version::ZERO, |(_, poll)| poll.region)
    }

    /// Stores moved cursors now and then, and tells how far the lane is.
    async fn keep(
        &mut self,
        lane: &Lane,
        visit: &mut Visit,
        now: Instant,
    ) -> Result<(), StreamError> {
        if now >= visit.store_at {
            visit.store_at = now + STORE_INTERVAL;
            self.intake.store_meanwhile(lane.cursors()).await?;
        }
        let unread = self.intake.unread(now).await?;
        self.report.backlog(lane, unread);
        Ok(())
    }

    /// When to go on although nothing happens.
    fn wake(&self, lane: &Lane, visit: &Visit, now: Instant, deadline: Option<Instant>) -> Instant {
        if !self.intake.is_at_head() && lane.wants_records() {
            return now;
        }
        [lane.due(now), deadline].into_iter().flatten().fold(visit.store_at, Instant::min)
    }

    fn hear(
        &self,
        lane: &mut Lane,
        visit: &mut Visit,
        connection: &mut Connection,
    ) -> Result<(), ConnectionError> {
        let heard = connection.hear()?;
        if heard.replies > 0 {
            visit.heard_at = Instant::now();
        }
        if heard.done > 0 && !visit.useful {
            visit.useful = true;
            self.report.recovered();
        }
        for answered in (0..heard.done).map_while(|_| lane.answered()) {
            self.report.answered(answered);
        }
        Ok(())
    }

    /// First deletes that can still be made at once are made; second ones are made after the next start.
    async fn finish(
        &self,
        lane: &mut Lane,
        connection: &mut Connection,
    ) -> Result<(), ConnectionError> {
        let mut visit = Visit { heard_at: Instant::now(), store_at: Instant::now(), useful: true };
        let drain = async {
            while lane.oldest_waiting().is_some() {
                connection.queue_batch(&lane.send(Instant::now(), BATCH_MAX));
                connection.turn().await?;
                self.hear(lane, &mut visit, connection)?;
            }
            Ok(())
        };
        timeout(ANSWER_DEADLINE, drain).await.unwrap_or(Ok(()))
    }
}
