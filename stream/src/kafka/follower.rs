//! [`Follower`]: a compacted topic of one partition, folded into a value in memory, by a thread of its own.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use rdkafka::{
    Message,
    consumer::BaseConsumer,
    message::{BorrowedMessage, Headers},
};
use tokio::sync::watch;

use super::{
    client::{ANSWER_DEADLINE, Context, POLL, Reading, Stop, assign, poll, watermarks},
    settings::Settings,
    state::Note,
};
use crate::StreamError;

/// What is made of the notes of a topic.
pub(super) trait Fold: Clone + Default + Send + Sync + 'static {
    /// Takes the next note; an error says what in it makes no sense.
    fn apply(&mut self, format: u16, note: &Note) -> Result<(), String>;
}

/// The value, up to an offset.
#[derive(Clone, Debug)]
pub(super) struct Seen<F> {
    pub(super) value: Arc<F>,
    /// Everything before this offset is in the value.
    next_offset: i64,
    /// A note that makes no sense: nothing behind it counts.
    damage: Option<Arc<str>>,
}

/// See the module. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Follower<F> {
    topic: String,
    seen: watch::Receiver<Seen<F>>,
    asker: Mutex<Asker>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// A client for questions alone, so that none waits behind a fetch.
struct Asker(Reading);

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asker")
    }
}

impl<F: Fold> Follower<F> {
    /// Starts to read `topic` from its beginning.
    pub(super) fn start(
        settings: &Settings,
        context: &Context,
        topic: String,
    ) -> Result<Follower<F>, StreamError> {
        let consumer = reading(settings, context)?;
        assign(&consumer, &topic, [(0, 0)])?;
        let (tell, seen) =
            watch::channel(Seen { value: Arc::new(F::default()), next_offset: 0, damage: None });
        let stop = Stop::default();
        let thread = {
            let stop = stop.clone();
            std::thread::Builder::new()
                .name("stream-notes".to_owned())
                .spawn(move || follow(&consumer, &tell, &stop))
                .map_err(|err| StreamError::Read { source: Box::new(err) })?
        };
        let asker = Mutex::new(Asker(reading(settings, context)?));
        Ok(Follower { topic, seen, asker, stop, thread: Some(thread) })
    }

    /// The value with everything that is in the topic now. Blocks.
    pub(super) fn fresh(&self) -> Result<Arc<F>, StreamError> {
        let asker = self.asker.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, end) = watermarks(&asker.0, &self.topic, 0)?;
        drop(asker);
        self.with_offset(end.saturating_sub(1))
    }

    /// The value with everything up to and with `offset`. Blocks.
    pub(super) fn with_offset(&self, offset: i64) -> Result<Arc<F>, StreamError> {
        const STEP: Duration = Duration::from_millis(1);
        let mut waited = Duration::ZERO;
        loop {
            let seen = self.seen.borrow().clone();
            if let Some(what) = seen.damage {
                return Err(StreamError::Damaged { what: format!("{}: {what}", self.topic) });
            }
            if seen.next_offset > offset {
                return Ok(seen.value);
            }
            if waited >= ANSWER_DEADLINE {
                let what = format!("{} could not be read in time", self.topic);
                return Err(StreamError::Read { source: what.into() });
            }
            std::thread::sleep(STEP);
            waited = waited.saturating_add(STEP);
        }
    }

    /// The value as far as it is known now.
    pub(super) fn known(&self) -> Arc<F> {
        Arc::clone(&self.seen.borrow().value)
    }
}

impl<F> Drop for Follower<F> {
    fn drop(&mut self) {
        self.stop.now();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(topic = self.topic, "the thread that reads it panicked");
        }
    }
}

pub(super) fn reading(settings: &Settings, context: &Context) -> Result<Reading, StreamError> {
    client(&mut settings.consumer(), context)
}

fn client(config: &mut rdkafka::ClientConfig, context: &Context) -> Result<Reading, StreamError> {
    // A compacted topic has no record at many offsets; its end is seen as an event.
    config.set("enable.partition.eof", "true");
    let made: Result<BaseConsumer<Context>, _> = config.create_with_context(context.clone());
    made.map_err(super::client::read_error)
}

fn follow<F: Fold>(consumer: &Reading, tell: &watch::Sender<Seen<F>>, stop: &Stop) {
    let mut seen = tell.borrow().clone();
    let mut news = false;
    while !stop.is_set() {
        // What came in one piece is told in one piece.
        let wait = if news { Duration::ZERO } else { POLL };
        match poll(consumer, wait) {
            Ok(Some(message)) => {
                take(&mut seen, &message);
                news = true;
            }
            Ok(None) if news => {
                news = false;
                tell.send_replace(seen.clone());
            }
            Ok(None) => {}
            Err(err) => {
                tracing::debug!(%err, "read notes");
                std::thread::sleep(POLL);
            }
        }
    }
}

fn take<F: Fold>(seen: &mut Seen<F>, message: &BorrowedMessage<'_>) {
    seen.next_offset = message.offset().saturating_add(1);
    let Some(key) = message.key().and_then(|key| std::str::from_utf8(key).ok()) else { return };
    let (mut format, mut ends) = (0, None);
    for header in message.headers().into_iter().flat_map(Headers::iter) {
        let text = header.value.and_then(|value| std::str::from_utf8(value).ok());
        match header.key {
            "format" => format = text.and_then(|text| text.parse().ok()).unwrap_or(0),
            "ends" => ends = text.map(str::to_owned),
            _ => {}
        }
    }
    let note = Note { key: key.to_owned(), ends, value: message.payload().map(<[u8]>::to_vec) };
    if seen.damage.is_none()
        && let Err(what) = Arc::make_mut(&mut seen.value).apply(format, &note)
    {
        tracing::error!(key, what, "a note makes no sense");
        seen.damage = Some(format!("{key}: {what}").into());
    }
}
