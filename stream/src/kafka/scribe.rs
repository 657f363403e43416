//! [`Scribe`]: writes notes to a compacted topic, one after the other.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::{
    error::KafkaError,
    message::{DeliveryResult, Header, Message, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, ProducerContext},
};
use schemas::record;

use super::{
    client::{Context, POLL, With, append_error},
    settings::Settings,
    state::Note,
};
use crate::StreamError;

/// What became of the note that is on its way.
type Outcome = Arc<Mutex<Option<Result<i64, KafkaError>>>>;

/// See the module.
pub(super) struct Scribe {
    producer: BaseProducer<Delivery>,
    topic: String,
    outcome: Outcome,
    /// A note is on its way.
    under_way: bool,
}

/// Keeps the offset of the note that was delivered last.
type Delivery = With<Outcome>;

impl ProducerContext for Delivery {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        let outcome = match delivered {
            Ok(message) => Ok(message.offset()),
            Err((err, _)) => Err(err.clone()),
        };
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

impl Scribe {
    pub(super) fn new(
        settings: &Settings,
        context: &Context,
        topic: String,
    ) -> Result<Scribe, StreamError> {
        let outcome = Outcome::default();
        let delivery = With { context: context.clone(), told: Arc::clone(&outcome) };
        let producer = settings.producer().create_with_context(delivery).map_err(append_error)?;
        Ok(Scribe { producer, topic, outcome, under_way: false })
    }

    /// Writes a note; returns its offset once it is durable. Blocks, for as long as `go_on` says.
    pub(super) fn write(
        &mut self,
        note: &Note,
        go_on: impl Fn() -> bool,
    ) -> Result<i64, StreamError> {
        while self.is_busy()? {
            self.wait(&go_on)?;
        }
        self.start(note)?;
        loop {
            if let Some(outcome) = self.outcome() {
                return outcome.map_err(append_error);
            }
            self.wait(&go_on)?;
        }
    }

    /// Hands a note over, if no other is on its way.
    pub(super) fn start(&mut self, note: &Note) -> Result<(), StreamError> {
        let format = record::FORMAT_VERSION.to_string();
        let mut headers =
            OwnedHeaders::new().insert(Header { key: "format", value: Some(&format) });
        if let Some(ends) = &note.ends {
            headers = headers.insert(Header { key: "ends", value: Some(ends) });
        }
        let mut message = BaseRecord::<str, [u8]>::to(&self.topic).partition(0).key(&note.key);
        message = message.headers(headers);
        if let Some(value) = &note.value {
            message = message.payload(value);
        }
        self.producer.send(message).map_err(|(err, _)| append_error(err))?;
        self.under_way = true;
        Ok(())
    }

    /// Whether a note is still on its way; an error is what became of it.
    pub(super) fn is_busy(&mut self) -> Result<bool, StreamError> {
        if self.under_way {
            self.producer.poll(std::time::Duration::ZERO);
            if let Some(outcome) = self.outcome() {
                outcome.map_err(append_error)?;
            }
        }
        Ok(self.under_way)
    }

    fn outcome(&mut self) -> Option<Result<i64, KafkaError>> {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.under_way &= outcome.is_none();
        outcome
    }

    fn wait(&self, go_on: impl Fn() -> bool) -> Result<(), StreamError> {
        if !go_on() {
            return Err(StreamError::Closed);
        }
        self.producer.poll(POLL);
        Ok(())
    }
}
