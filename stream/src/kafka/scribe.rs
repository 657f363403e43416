//! [`Scribe`]: writes notes to a compacted topic, in order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

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

/// What became of the notes that were on their way, oldest first.
type Outcomes = Arc<Mutex<VecDeque<Result<i64, KafkaError>>>>;

/// See the module.
pub(super) struct Scribe {
    producer: BaseProducer<Delivery>,
    topic: String,
    outcomes: Outcomes,
    /// Notes on their way.
    under_way: usize,
}

/// Keeps the offsets of the notes that were delivered.
type Delivery = With<Outcomes>;

impl ProducerContext for Delivery {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        let outcome = match delivered {
            Ok(message) => Ok(message.offset()),
            Err((err, _)) => Err(err.clone()),
        };
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push_back(outcome);
    }
}

impl Scribe {
    pub(super) fn new(
        settings: &Settings,
        context: &Context,
        topic: String,
    ) -> Result<Scribe, StreamError> {
        let outcomes = Outcomes::default();
        let delivery = With { context: context.clone(), told: Arc::clone(&outcomes) };
        let producer = settings.producer().create_with_context(delivery).map_err(append_error)?;
        Ok(Scribe { producer, topic, outcomes, under_way: 0 })
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

    /// Writes notes together; returns once all of them are durable. Likewise.
    pub(super) fn write_all(
        &mut self,
        notes: &[Note],
        go_on: impl Fn() -> bool,
    ) -> Result<(), StreamError> {
        while self.is_busy()? {
            self.wait(&go_on)?;
        }
        for note in notes {
            self.start(note)?;
        }
        let mut written = Ok(());
        while self.under_way > 0 {
            match self.outcome() {
                Some(outcome) => written = written.and(outcome.map(drop)),
                None => self.wait(&go_on)?,
            }
        }
        written.map_err(append_error)
    }

    /// Hands a note over, behind those that are on their way.
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
        self.under_way = self.under_way.saturating_add(1);
        Ok(())
    }

    /// Whether a note is still on its way; an error is what became of it.
    pub(super) fn is_busy(&mut self) -> Result<bool, StreamError> {
        if self.under_way > 0 {
            self.producer.poll(std::time::Duration::ZERO);
            if let Some(outcome) = self.outcome() {
                outcome.map_err(append_error)?;
            }
        }
        Ok(self.under_way > 0)
    }

    fn outcome(&mut self) -> Option<Result<i64, KafkaError>> {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = outcomes.pop_front();
        if outcome.is_some() {
            self.under_way = self.under_way.saturating_sub(1);
        }
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
