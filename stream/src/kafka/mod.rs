//! The Kafka backend: one topic of records, and two compacted ones beside it, for the state of the writers and for
//! cursors.
//!
//! ```text
//!                    TOPIC          records; place and format in the headers
//! KafkaWriter ─────▶ TOPIC-state    terms, checkpoints, epochs           ─────▶ KafkaReader
//!                    TOPIC-cursors  how far consumers are                ◀────▶ KafkaCursors
//! ```
//!
//! Cursors are places, never offsets. So a copy of the topics in another Kafka, made by whatever copies records with
//! their headers and partitions, serves readers as well.

mod catch_up;
mod client;
mod cursors;
mod ends;
mod event;
mod follower;
#[cfg(test)]
mod foreign;
mod group;
mod lead;
mod outbox;
mod reader;
mod requests;
mod scribe;
mod settings;
mod share;
mod state;
mod term;
mod topics;
mod wire;
mod writer;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use rdkafka::metadata::MetadataBroker;
use schemas::cursor::StreamId;
use tokio::sync::OnceCell;

pub use cursors::KafkaCursors;
pub use reader::KafkaReader;
pub use settings::Settings;
pub use share::Share;
pub use topics::Finding;
pub use writer::KafkaWriter;

use client::{ANSWER_DEADLINE, Context, POLL, blocking, read_error};
use follower::{Fold, Follower};
use scribe::Scribe;
use state::{Note, State};
use topics::{Admin, Make};

use crate::{StreamError, request::REQUESTS_MAX};

/// A connection to one log. Clones share it.
#[derive(Clone, Debug)]
pub struct Kafka {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    context: Context,
    state: Arc<Follower<State>>,
    stream_id: StreamId,
    partitions: u16,
    findings: Vec<Finding>,
    reader: OnceCell<KafkaReader>,
    cursors: OnceCell<KafkaCursors>,
}

impl Inner {
    /// Appends a note of somebody who need not lead; where it is then.
    fn write(&self, note: &Note) -> Result<i64, StreamError> {
        let topic = self.settings.state_topic();
        Scribe::new(&self.settings, &self.context, topic)?.write(note, patience())
    }
}

impl Kafka {
    /// Connects to the log where it is written; makes what is missing.
    pub async fn open(settings: Settings) -> Result<Kafka, StreamError> {
        Kafka::connect(settings, Make::All).await
    }

    /// Connects to a log that somebody else writes, or copies to here; only the topic of cursors is made.
    pub async fn attach(settings: Settings) -> Result<Kafka, StreamError> {
        Kafka::connect(settings, Make::Cursors).await
    }

    async fn connect(settings: Settings, make: Make) -> Result<Kafka, StreamError> {
        settings.check()?;
        let context = Context::new();
        match Kafka::connect_as(settings.clone(), context.clone(), make).await {
            Err(err) => Err(explained(err, settings, context).await),
            connected => connected,
        }
    }

    async fn connect_as(
        mut settings: Settings,
        context: Context,
        make: Make,
    ) -> Result<Kafka, StreamError> {
        let admin = Arc::new(topics::admin(&settings, &context)?);
        let mut findings = topics::ensure(&admin, &settings, make).await?;
        let wait = {
            let (admin, settings) = (Arc::clone(&admin), settings.clone());
            move || wait_for_leaders(&admin, &settings)
        };
        let found = blocking(wait).await?;
        findings.extend(found.findings);
        let demanded = topics::session_timeout_min(&admin, found.broker).await;
        if let Some(demanded) = demanded {
            findings.extend(topics::judge_session(&settings, demanded));
            settings.session_timeout = settings.session_timeout.max(demanded);
            settings.share_timeout = settings.share_timeout.max(demanded);
        }
        for finding in &findings {
            tracing::warn!(finding, "the stream is less safe than it should be");
        }
        let partitions = found.partitions;
        let join = move || {
            drop(admin);
            join(settings, context, make, partitions, findings)
        };
        blocking(join).await
    }

    /// What weakens the promises of a log, or would: settings of topics and brokers. Makes nothing.
    pub async fn inspect(settings: Settings) -> Result<Vec<Finding>, StreamError> {
        settings.check()?;
        let context = Context::new();
        match Kafka::inspect_as(settings.clone(), &context).await {
            Err(err) => Err(explained(err, settings, context).await),
            inspected => inspected,
        }
    }

    async fn inspect_as(
        settings: Settings,
        context: &Context,
    ) -> Result<Vec<Finding>, StreamError> {
        let admin = Arc::new(topics::admin(&settings, context)?);
        let metadata = {
            let admin = Arc::clone(&admin);
            let ask =
                move || admin.inner().fetch_metadata(None, ANSWER_DEADLINE).map_err(read_error);
            blocking(ask).await?
        };
        let mut findings = topics::ensure(&admin, &settings, Make::Nothing).await?;
        let names = [settings.topic.clone(), settings.state_topic(), settings.cursors_topic()];
        findings.extend(names.iter().filter_map(|name| {
            let (_, replicas) = topics::shape(&metadata, name)?;
            topics::judge_replication(&settings, name, replicas)
        }));
        let brokers = metadata.brokers();
        let demanded = match brokers.first() {
            Some(broker) => topics::session_timeout_min(&admin, broker.id()).await,
            None => None,
        };
        findings.extend(demanded.and_then(|demanded| topics::judge_session(&settings, demanded)));
        if brokers.len() < usize::from(settings.replication) {
            findings.push(format!(
                "{} broker(s) answer, and each record is to be on {}: the topics cannot be made like that",
                brokers.len(),
                settings.replication
            ));
        }
        Ok(findings)
    }

    /// What weakens the promises of this log: settings of topics and brokers.
    pub fn findings(&self) -> &[Finding] {
        &self.inner.findings
    }

    /// The log's name.
    pub fn stream_id(&self) -> StreamId {
        self.inner.stream_id
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> u16 {
        self.inner.partitions
    }

    /// Whether the log has a checkpoint: whatever is committed from now on reaches it, whoever writes it.
    pub fn is_begun(&self) -> bool {
        !self.state().known().checkpoints.is_empty()
    }

    /// Waits until no other process writes, and begins a term. Whoever is told that he was
    /// [deposed](StreamError::Deposed) may ask again.
    pub async fn lead(&self) -> Result<KafkaWriter, StreamError> {
        KafkaWriter::lead(self).await
    }

    /// The reading side; all readers share what they read at the head.
    pub async fn reader(&self) -> Result<KafkaReader, StreamError> {
        self.inner.reader.get_or_try_init(|| self.another_reader()).await.cloned()
    }

    /// A reader that shares nothing, and reads only until it is dropped.
    pub(crate) async fn another_reader(&self) -> Result<KafkaReader, StreamError> {
        let inner = Arc::clone(&self.inner);
        let open = move || {
            let log = (inner.stream_id, inner.partitions);
            KafkaReader::open(&inner.settings, &inner.context, Arc::clone(&inner.state), log)
        };
        blocking(open).await
    }

    /// The consumers' cursors.
    pub async fn cursors(&self) -> Result<KafkaCursors, StreamError> {
        let open = || async {
            let inner = Arc::clone(&self.inner);
            let open = move || KafkaCursors::open(&inner.settings, &inner.context);
            blocking(open).await
        };
        self.inner.cursors.get_or_try_init(open).await.cloned()
    }

    /// Joins a group of processes that share the partitions among themselves. `instance` names this one, over its
    /// restarts.
    pub fn share(&self, group: &str, instance: Option<&str>) -> Result<Share, StreamError> {
        Share::join(&self.inner.settings, &self.inner.context, group, instance)
    }

    /// Leaves a request for whoever leads, or will.
    pub(crate) async fn leave_request(&self, id: &str, value: Vec<u8>) -> Result<(), StreamError> {
        let (inner, note) = (Arc::clone(&self.inner), Note::request(id, value));
        let id: Box<str> = id.into();
        blocking(move || {
            let offset = inner.write(&note)?;
            // It is gone already if the leader was quick; so it may be that nobody ever saw it.
            let state = inner.state.with_offset(offset)?;
            if state.requests.len() >= REQUESTS_MAX && !state.requests.contains_key(&id) {
                let what = "too many requests wait for a leader".to_owned();
                return Err(StreamError::Refused { what });
            }
            Ok(())
        })
        .await
    }

    /// The first request that is meant, of those that wait as far as is known.
    pub(crate) fn request(&self, is_meant: impl Fn(&[u8]) -> bool) -> Option<Box<str>> {
        let known = self.inner.state.known();
        let (id, _) = known.requests.iter().find(|(_, bytes)| is_meant(bytes))?;
        Some(id.clone())
    }

    /// A request that nobody but the caller serves is done.
    pub(crate) async fn take_request_away(&self, id: &str) -> Result<(), StreamError> {
        let (inner, note) = (Arc::clone(&self.inner), Note::request_done(id));
        blocking(move || inner.write(&note).map(drop)).await
    }

    /// Whether a request still waits.
    pub(crate) async fn has_request(&self, id: &str) -> Result<bool, StreamError> {
        let (inner, id) = (Arc::clone(&self.inner), id.to_owned());
        blocking(move || Ok(inner.state.fresh()?.requests.contains_key(&*id))).await
    }

    /// Leaves a note for other processes.
    pub(crate) async fn put_note(&self, name: &str, value: Vec<u8>) -> Result<(), StreamError> {
        let (inner, note) = (Arc::clone(&self.inner), Note::board(name, value));
        blocking(move || {
            let offset = inner.write(&note)?;
            inner.state.with_offset(offset).map(drop)
        })
        .await
    }

    /// The notes that are known here.
    pub(crate) fn notes(&self) -> BTreeMap<String, Vec<u8>> {
        notes_of(&self.state().known())
    }

    /// Those that are there now.
    pub(crate) async fn fresh_notes(&self) -> Result<BTreeMap<String, Vec<u8>>, StreamError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.state.fresh().map(|state| notes_of(&state))).await
    }

    fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    fn context(&self) -> &Context {
        &self.inner.context
    }

    fn state(&self) -> &Follower<State> {
        &self.inner.state
    }
}

fn notes_of(state: &State) -> BTreeMap<String, Vec<u8>> {
    state.board.iter().map(|(name, note)| (name.to_string(), note.to_vec())).collect()
}

impl Fold for State {
    fn apply(&mut self, format: u16, note: &Note) -> Result<(), String> {
        State::apply(self, format, note)
    }
}

/// The blocking part of connecting.
fn join(
    settings: Settings,
    context: Context,
    make: Make,
    partitions: u16,
    findings: Vec<Finding>,
) -> Result<Kafka, StreamError> {
    let state = Arc::new(Follower::<State>::start(&settings, &context, settings.state_topic())?);
    let mut log = state.fresh()?.log;
    if log.is_none() && make == Make::All {
        let mut scribe = Scribe::new(&settings, &context, settings.state_topic())?;
        let offset = scribe.write(&Note::log(StreamId(random()), partitions), patience())?;
        log = state.with_offset(offset)?.log;
    }
    let refused = |what: String| Err(StreamError::Refused { what });
    let Some((stream_id, of)) = log else {
        return refused(format!("{} names no log yet", settings.state_topic()));
    };
    if of != partitions {
        return refused(format!(
            "topic {} has {partitions} partitions, and had {of} when the log began: begin a new one",
            settings.topic
        ));
    }
    let (reader, cursors) = (OnceCell::new(), OnceCell::new());
    let inner =
        Inner { settings, context, state, stream_id, partitions, findings, reader, cursors };
    Ok(Kafka { inner: Arc::new(inner) })
}

/// The same error, and what the brokers have to say: often it is only known that nobody answered.
async fn explained(err: StreamError, settings: Settings, context: Context) -> StreamError {
    if !matches!(err, StreamError::Read { .. } | StreamError::Append { .. }) {
        return err;
    }
    let said = blocking(move || context.complaint(&settings)).await.ok().flatten();
    match (err, said) {
        (StreamError::Read { source }, Some(said)) => {
            StreamError::Read { source: format!("{source}: {said}").into() }
        }
        (StreamError::Append { source }, Some(said)) => {
            StreamError::Append { source: format!("{source}: {said}").into() }
        }
        (err, _) => err,
    }
}

/// Says for a while that it is worth waiting on.
fn patience() -> impl Fn() -> bool {
    let tries = std::cell::Cell::new(0_u128);
    move || {
        tries.set(tries.get().saturating_add(1));
        tries.get().saturating_mul(POLL.as_millis()) < ANSWER_DEADLINE.as_millis()
    }
}

/// What the brokers say of the topics.
struct Found {
    partitions: u16,
    findings: Vec<Finding>,
    /// The id of some broker.
    broker: i32,
}

/// Asks once each partition has a leader; topics that were just made take a moment.
fn wait_for_leaders(admin: &Admin, settings: &Settings) -> Result<Found, StreamError> {
    let topics = [settings.topic.clone(), settings.state_topic(), settings.cursors_topic()];
    let mut waited = Duration::ZERO;
    loop {
        let metadata = admin.inner().fetch_metadata(None, ANSWER_DEADLINE).map_err(read_error)?;
        let ready = topics.iter().all(|topic| topics::has_leaders(&metadata, topic));
        if ready && let Some((partitions, _)) = topics::shape(&metadata, &settings.topic) {
            let judge = |topic: &String| {
                let (_, replicas) = topics::shape(&metadata, topic)?;
                topics::judge_replication(settings, topic, replicas)
            };
            let findings = topics.iter().filter_map(judge).collect();
            let broker = metadata.brokers().first().map_or(-1, MetadataBroker::id);
            return Ok(Found { partitions, findings, broker });
        }
        if waited >= ANSWER_DEADLINE {
            let what = format!("topic {} has partitions without a leader", settings.topic);
            return Err(StreamError::Read { source: what.into() });
        }
        std::thread::sleep(POLL);
        waited = waited.saturating_add(POLL);
    }
}

/// Hardly ever the same twice.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
