//! [`Appender`]: batches on their way to the stream, a bounded number at a time.

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};
use schemas::record::Checkpoint;
use stream::{Batch, Desk, StreamError, Writer};
use tokio::time::Instant;

use crate::metrics::Metrics;

/// The stream, and what it has not acknowledged yet.
pub(super) struct Appender<W> {
    writer: W,
    in_flight_max: usize,
    in_flight: FuturesOrdered<BoxFuture<'static, Result<Option<Checkpoint>, StreamError>>>,
    metrics: Metrics,
}

impl<W: Writer> Appender<W> {
    pub(super) fn new(writer: W, in_flight_max: usize, metrics: Metrics) -> Appender<W> {
        Appender {
            writer,
            in_flight_max: in_flight_max.max(1),
            in_flight: FuturesOrdered::new(),
            metrics,
        }
    }

    pub(super) fn partitions(&self) -> u16 {
        self.writer.partitions()
    }

    /// The newest when this process opened the stream.
    pub(super) fn stored_checkpoint(&self, source: &str) -> Option<Checkpoint> {
        self.writer.checkpoint(source)
    }

    /// Where people leave what only we can do.
    pub(super) fn desk(&self) -> Option<Desk> {
        self.writer.desk()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() < self.in_flight_max
    }

    /// Hands a batch over. Waits while the stream is slow.
    pub(super) async fn append(&mut self, batch: Batch) -> Result<(), StreamError> {
        let checkpoint = batch.checkpoint.clone();
        let (started, metrics) = (Instant::now(), self.metrics.clone());
        let pending = self.writer.append(batch).await?;
        let acked = pending.map(move |acked| {
            metrics.append_seconds.observe(started.elapsed().as_secs_f64());
            acked.map(|()| checkpoint)
        });
        self.in_flight.push_back(acked.boxed());
        Ok(())
    }

    /// The next acknowledgement, with the checkpoint that is durable by it. Only of use while something is in flight.
    pub(super) async fn acked(&mut self) -> Result<Option<Checkpoint>, StreamError> {
        self.in_flight.next().await.unwrap_or(Ok(None))
    }

    /// After an error, nothing that follows counts.
    pub(super) fn forget(&mut self) {
        self.in_flight = FuturesOrdered::new();
    }
}
