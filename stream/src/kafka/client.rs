//! What all our clients share: their context, which says what the brokers complain of, and short questions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use tokio::sync::watch;

use super::settings::Settings;
use crate::StreamError;

/// What the brokers, or the way to them, complain of, while they do.
pub(super) type Trouble = Option<Arc<str>>;

/// How long one question to the brokers may take.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long brokers may take to say what is wrong.
const COMPLAINT_DEADLINE: Duration = Duration::from_secs(2);
/// How long a thread waits before it looks whether it should end.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// The context of all clients.
#[derive(Clone, Debug)]
pub(super) struct Context {
    /// The last complaint of a client; whoever sees things work again takes it back.
    pub(super) said: watch::Sender<Trouble>,
}

impl Context {
    pub(super) fn new() -> Context {
        Context { said: watch::channel(None).0 }
    }

    /// What the brokers complain of, if they do: a consumer asks them for it. The client that makes topics knows no
    /// more than that nobody answered.
    pub(super) fn complaint(&self, settings: &Settings) -> Result<Trouble, StreamError> {
        let known = self.said.borrow().clone();
        if known.is_some() {
            return Ok(known);
        }
        let config = settings.looker();
        let asking: Reading = config.create_with_context(self.clone()).map_err(read_error)?;
        // Its error would be of the same kind; the reason comes by itself.
        drop(asking.fetch_metadata(None, COMPLAINT_DEADLINE));
        drop(asking.poll(POLL));
        Ok(self.said.borrow().clone())
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(facility, message, "librdkafka");
            }
            // It repeats what becomes of it: lost connections, retries.
            _ => tracing::debug!(facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return; // Nothing is wrong at an end.
        }
        tracing::debug!(%error, reason, "kafka");
        // That nobody is left comes last, and says less than what came before it.
        let is_summary = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if !is_summary || self.said.borrow().is_none() {
            self.said.send_replace(Some(reason.into()));
        }
    }
}

impl ConsumerContext for Context {}

/// The context of a client that is told something beside: complaints go where they always go.
pub(super) struct With<T> {
    pub(super) context: Context,
    pub(super) told: T,
}

impl<T: Send + Sync + 'static> ClientContext for With<T> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }
}

/// A consumer of ours.
pub(super) type Reading = BaseConsumer<Context>;

/// Told to end; cloned to each thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Work that waits for the brokers, on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StreamError> + Send + 'static,
) -> Result<T, StreamError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StreamError::Closed))
}

/// Reading failed.
pub(super) fn read_error(err: KafkaError) -> StreamError {
    StreamError::Read { source: Box::new(err) }
}

/// Writing failed.
pub(super) fn append_error(err: KafkaError) -> StreamError {
    StreamError::Append { source: Box::new(err) }
}

/// The first offset that is there, and the one that the next record gets.
pub(super) fn watermarks(
    consumer: &Reading,
    topic: &str,
    partition: u16,
) -> Result<(i64, i64), StreamError> {
    consumer.fetch_watermarks(topic, i32::from(partition), ANSWER_DEADLINE).map_err(read_error)
}

/// Reads `offsets` of `topic` from now on, and nothing else.
pub(super) fn assign(
    consumer: &Reading,
    topic: &str,
    offsets: impl IntoIterator<Item = (u16, i64)>,
) -> Result<(), StreamError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, i32::from(partition), Offset::Offset(offset))
            .map_err(read_error)?;
    }
    consumer.assign(&list).map_err(read_error)
}

/// The next message, if one comes within `wait`. Errors that pass are waited out.
pub(super) fn poll(
    consumer: &Reading,
    wait: Duration,
) -> Result<Option<BorrowedMessage<'_>>, StreamError> {
    match consumer.poll(wait) {
        None => Ok(None),
        Some(Ok(message)) => {
            let said = &consumer.context().said;
            if said.borrow().is_some() {
                said.send_replace(None);
            }
            Ok(Some(message))
        }
        Some(Err(err)) if passes(&err) => Ok(None),
        Some(Err(err)) => Err(read_error(err)),
    }
}

/// Whether the client goes on by itself after this.
pub(super) fn passes(err: &KafkaError) -> bool {
    !matches!(
        err.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::Fatal
        )
    )
}

/// The offset and partition of a message, as we count them.
pub(super) fn position(message: &BorrowedMessage<'_>) -> (u16, i64) {
    (u16::try_from(message.partition()).unwrap_or(u16::MAX), message.offset())
}
