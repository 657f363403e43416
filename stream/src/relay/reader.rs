//! [`RelayReader`]: reads a log from a relay.

use std::{sync::Arc, time::Duration};

use protocol::relay::{Answer, Question, Raw};
use schemas::{
    cursor::{Partition, Place, StreamId},
    record::{self, EpochStart, Record, UnixMicros},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    QUESTIONS_MAX, SILENCE_MAX, Settings,
    link::{ANSWER_DEADLINE, Asked, Heads, Link, State, first},
};
use crate::{
    Read, ReadLimit, Reader, StreamError,
    raw::entries,
    window::{Found, Window},
};

/// A reader looks anyhow, in case that a wake-up came to nothing.
const POLL_IDLE: Duration = Duration::from_secs(1);

/// Reads one log; clones share everything.
#[derive(Clone, Debug)]
pub struct RelayReader {
    shared: Arc<Shared>,
    appended: watch::Receiver<u64>,
}

#[derive(Debug)]
struct Shared {
    log: (StreamId, u16),
    heads: Arc<Heads>,
    questions: mpsc::Sender<Asked>,
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RelayReader {
    /// Begins to read. Where the log is not known yet, a relay must answer; else that may come later.
    pub async fn open(settings: Settings) -> Result<RelayReader, StreamError> {
        let (made, log) = if let Some(log) = settings.log {
            (None, log)
        } else {
            let first = first(&settings).await;
            let first = first.map_err(|err| StreamError::Read { source: Box::new(err) })?;
            let log = first.log;
            (Some(first), log)
        };
        let (tell, appended) = watch::channel(0);
        let heads = Arc::new(Heads::new(log.1, tell));
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let now = Instant::now();
        let begin = if made.is_some() { State::Near(now) } else { State::Away(now) };
        let (tell, state) = watch::channel(begin);
        let link = Link { settings, log, heads: Arc::clone(&heads), asked, state: tell };
        let task = tokio::spawn(link.run(made));
        let shared = Shared { log, heads, questions, state, task };
        Ok(RelayReader { shared: Arc::new(shared), appended })
    }

    /// Whether a relay is connected, and pushes: a log in use is never silent for as long.
    pub fn is_near(&self) -> bool {
        let state = *self.shared.state.borrow();
        matches!(state, State::Near(at) if at.elapsed() < SILENCE_MAX)
    }

    /// What has been pushed already of what follows `after`; empty if nothing is known of that.
    pub(super) fn known(
        &self,
        partition: Partition,
        after: Place,
        limit: ReadLimit,
    ) -> Result<Vec<crate::Entry>, StreamError> {
        match self.shared.heads.with(partition, |window| window.after(after, limit)) {
            Some(Found::Entries(raws)) => entries(&raws),
            Some(Found::Before | Found::Beyond) | None => Ok(Vec::new()),
        }
    }

    async fn ask(&self, question: Question) -> Result<Answer, StreamError> {
        if matches!(*self.shared.state.borrow(), State::Away(_)) {
            return Err(no_answer("no relay is connected"));
        }
        let (tell, told) = oneshot::channel();
        let asking = async {
            self.shared.questions.send(Asked { question, tell }).await.ok()?;
            told.await.ok()
        };
        match timeout(ANSWER_DEADLINE, asking).await {
            Ok(Some(Answer::Failed(what))) => Err(no_answer(&what)),
            Ok(Some(Answer::Damaged(what))) => Err(StreamError::Damaged { what }),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(no_answer("the relay is gone")),
            Err(_) => Err(no_answer("the relay does not answer")),
        }
    }
}

impl Reader for RelayReader {
    fn stream_id(&self) -> StreamId {
        self.shared.log.0
    }

    fn partitions(&self) -> u16 {
        self.shared.log.1
    }

    async fn read_after(
        &self,
        partition: Partition,
        after: Place,
        limit: ReadLimit,
    ) -> Result<Read, StreamError> {
        let found = self.shared.heads.with(partition, |window| window.after(after, limit));
        if let Some(Found::Entries(raws)) = found {
            return entries(&raws).map(Read::Entries);
        }
        // Before what was pushed, or beyond it: beside the log, it is known what is there.
        let number = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
        let (records_max, bytes_max) = (number(limit.records_max), number(limit.bytes_max));
        match self.ask(Question::Read { partition, after, records_max, bytes_max }).await? {
            Answer::Records(raws) => entries(&raws).map(Read::Entries),
            Answer::Gap { resume } => Ok(Read::Gap { resume }),
            answer => Err(senseless(&answer)),
        }
    }

    async fn head(&self, partition: Partition) -> Result<Place, StreamError> {
        let head = place(self.ask(Question::Head { partition }).await?)?;
        // Whoever knows where the head is finds everything up to it.
        let mut appended = self.appended.clone();
        let pushed = async {
            let reaches = |window: &mut Window| window.last() >= head;
            while self.shared.heads.with(partition, reaches) != Some(true) {
                appended.changed().await.ok()?;
            }
            Some(head)
        };
        let pushed = timeout(ANSWER_DEADLINE, pushed).await;
        pushed.ok().flatten().ok_or_else(|| no_answer("the relay does not push"))
    }

    async fn seek(&self, partition: Partition, at: UnixMicros) -> Result<Place, StreamError> {
        place(self.ask(Question::Seek { partition, at }).await?)
    }

    async fn epochs(&self) -> Result<Vec<EpochStart>, StreamError> {
        match self.ask(Question::Epochs).await? {
            Answer::Epochs(raws) => raws.iter().map(announced).collect(),
            answer => Err(senseless(&answer)),
        }
    }

    async fn changed(&mut self) {
        let changed = timeout(POLL_IDLE, self.appended.changed()).await;
        if matches!(changed, Ok(Err(_))) {
            tokio::time::sleep(POLL_IDLE).await; // The task is gone; nothing will come.
        }
    }
}

fn place(answer: Answer) -> Result<Place, StreamError> {
    match answer {
        Answer::Place(place) => Ok(place),
        answer => Err(senseless(&answer)),
    }
}

fn announced(raw: &Raw) -> Result<EpochStart, StreamError> {
    match record::decode(raw.format, &raw.payload) {
        Ok(Record::Epoch(start)) => Ok(start),
        Ok(_) => Err(no_answer("the relay names epochs that are none")),
        Err(err) => Err(StreamError::Damaged { what: format!("an epoch: {err}") }),
    }
}

fn senseless(answer: &Answer) -> StreamError {
    let kind = match answer {
        Answer::Records(_) => "records",
        Answer::Gap { .. } => "a gap",
        Answer::Place(_) => "a place",
        Answer::Epochs(_) => "epochs",
        Answer::Failed(_) | Answer::Damaged(_) => "an error",
    };
    no_answer(&format!("the relay answers with {kind}, which was not asked"))
}

/// Nothing was skipped; the next try may find more.
fn no_answer(what: &str) -> StreamError {
    StreamError::Read { source: what.into() }
}
