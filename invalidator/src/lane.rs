//! [`Lane`]: the pure core of one stock memcached node. No clock, no socket.
//!
//! Each key is deleted at once, and again `fill_age_max` after the first delete was sent: a reader that read
//! the old value before the change and stored it after the first delete is undone by the second. Keys that
//! cannot be listed (a floor, a gap in the stream) make it a `flush_all`, likewise twice.
//!
//! A record is passed by the cursor once its last delete was answered. When the connection is lost, what was
//! not answered is unknown, and is sent again; deletes are never dropped. A second delete that is due while the
//! node is away is sent when it is back.
//!
//! Bounds: at most [`Limits::keys_max`] keys are in the window between their first delete and their last answer
//! (a single record may exceed it); a full window takes no more records.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use schemas::{
    cursor::{Partition, Place},
    key::Key,
    record::UnixMicros,
};
use tokio::time::Instant;

/// How much a lane may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the first delete of a key to its second.
    pub fill_age_max: Duration,
    /// Most keys in the window.
    pub keys_max: usize,
    /// Most requests that wait for an answer.
    pub unanswered_max: usize,
}

/// What a record asks of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Keys that this node owns; none is fine.
    Delete(Vec<Key>),
    /// Empty the node.
    Flush,
}

/// A request to send, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Remove one key.
    Delete(Key),
    /// Remove all.
    Flush,
}

/// Which of the two deletes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pass {
    /// At once.
    First,
    /// After `fill_age_max`.
    Second,
}

/// An answered delete, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Which delete it was.
    pub pass: Pass,
    /// When the change was committed or received, as it was taken.
    pub since: UnixMicros,
}

/// The state of one lane.
///
/// Invariants: records leave the window from its front only, so a cursor moves over answered records only;
/// `unanswered` lists requests in the order in which they were sent.
#[derive(Debug)]
pub struct Lane {
    limits: Limits,
    /// Records from the oldest that is not finished, in the order taken.
    window: VecDeque<Record>,
    /// Number of the record at the front of the window.
    front: u64,
    keys: usize,
    unanswered: VecDeque<Sent>,
    cursors: BTreeMap<Partition, Place>,
    connected: bool,
    /// The next record whose first pass is to be sent, and how far into its requests.
    next_first: (u64, usize),
    /// Likewise for the second pass.
    next_second: (u64, usize),
}

#[derive(Debug)]
struct Record {
    partition: Partition,
    place: Place,
    cursor: Cursor,
    work: Work,
    since: UnixMicros,
    /// Requests of each pass that were answered.
    answered: [usize; 2],
    /// When the last request of the first pass was sent.
    sent_at: Option<Instant>,
}

/// Whether a record that is finished moves the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    Moves,
    /// It is somebody else's.
    Stays,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    record: u64,
    pass: Pass,
}

impl Work {
    fn requests(&self) -> usize {
        match self {
            Work::Delete(keys) => keys.len(),
            Work::Flush => 1,
        }
    }

    fn request(&self, at: usize) -> Option<Request> {
        match self {
            Work::Delete(keys) => keys.get(at).cloned().map(Request::Delete),
            Work::Flush => (at == 0).then_some(Request::Flush),
        }
    }
}

impl Record {
    fn done(&self, pass: Pass) -> bool {
        self.answered.get(index(pass)).is_some_and(|&answered| answered >= self.work.requests())
    }

    /// When its second pass may be sent; `None` while answers of the first are missing.
    fn due(&self, fill_age_max: Duration) -> Option<Instant> {
        self.sent_at.filter(|_| self.done(Pass::First)).map(|sent| sent + fill_age_max)
    }
}

fn index(pass: Pass) -> usize {
    match pass {
        Pass::First => 0,
        Pass::Second => 1,
    }
}

impl Lane {
    /// A lane that has taken nothing yet; not connected.
    pub fn new(limits: Limits) -> Lane {
        Lane {
            limits,
            window: VecDeque::new(),
            front: 0,
            keys: 0,
            unanswered: VecDeque::new(),
            cursors: BTreeMap::new(),
            connected: false,
            next_first: (0, 0),
            next_second: (0, 0),
        }
    }

    /// Everything up to here was answered; a lane that starts anew resumes here.
    pub fn cursors(&self) -> &BTreeMap<Partition, Place> {
        &self.cursors
    }

    /// Whether another record may be taken.
    pub fn wants_records(&self) -> bool {
        self.keys < self.limits.keys_max
    }

    /// Records that are not passed yet.
    pub fn backlog(&self) -> usize {
        self.window.len()
    }

    /// Since when the oldest key waits whose first delete has not been answered.
    pub fn oldest_waiting(&self) -> Option<UnixMicros> {
        let at = self.next_first.0.saturating_sub(self.front);
        let unsent = usize::try_from(at).ok().and_then(|at| self.window.get(at));
        let unanswered = self.unanswered.iter().find(|sent| sent.pass == Pass::First);
        let unanswered = unanswered.and_then(|sent| self.record(sent.record));
        unanswered.or(unsent).map(|record| record.since)
    }

    /// Whether a request waits for its answer.
    pub fn is_waiting(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Takes a record; `since` is its oldest change. Each partition's records come in order.
    pub fn take(&mut self, partition: Partition, place: Place, work: Work, since: UnixMicros) {
        self.keys = self.keys.saturating_add(work.requests());
        self.window.push_back(Record {
            partition,
            place,
            cursor: Cursor::Moves,
            work,
            since,
            answered: [0, 0],
            sent_at: None,
        });
        self.pass_finished();
    }

    /// Somebody else looks after the partition now, from the cursor that was stored last. What was taken of it is finished all
    /// the same, which is harmless.
    pub fn release(&mut self, partition: Partition) {
        self.cursors.remove(&partition);
        for record in self.window.iter_mut().filter(|record| record.partition == partition) {
            record.cursor = Cursor::Stays;
        }
    }

    /// A connection is there; what was sent on the one before and not answered is sent again.
    pub fn connected(&mut self) {
        self.connected = true;
        self.unanswered.clear();
        self.next_first = self.first_open(Pass::First);
        self.next_second = self.first_open(Pass::Second);
        // A pass that was interrupted is sent whole.
        for record in &mut self.window {
            if !record.done(Pass::First) {
                record.sent_at = None;
                record.answered = [0, 0];
            } else if !record.done(Pass::Second) {
                record.answered[index(Pass::Second)] = 0;
            }
        }
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.connected = false;
    }

    /// The next requests to send, at most `max`; second deletes that are due go first.
    pub fn send(&mut self, now: Instant, max: usize) -> Vec<Request> {
        let mut out = Vec::new();
        while self.connected
            && out.len() < max
            && self.unanswered.len() < self.limits.unanswered_max
        {
            let request = self.step(Pass::Second, now).or_else(|| self.step(Pass::First, now));
            let Some(request) = request else { break };
            out.push(request);
        }
        out
    }

    /// The oldest unanswered request was answered; `None` if there was none, which is a broken peer.
    pub fn answered(&mut self) -> Option<Answered> {
        let sent = self.unanswered.pop_front()?;
        let at = usize::try_from(sent.record.checked_sub(self.front)?).ok()?;
        let record = self.window.get_mut(at)?;
        let answered = record.answered.get_mut(index(sent.pass))?;
        *answered = answered.saturating_add(1);
        let since = record.since;
        self.pass_finished();
        Some(Answered { pass: sent.pass, since })
    }

    /// When the next second delete may be sent, if one waits for its time only.
    pub fn due(&self) -> Option<Instant> {
        self.record(self.next_second.0)?.due(self.limits.fill_age_max)
    }

    fn record(&self, number: u64) -> Option<&Record> {
        self.window.get(usize::try_from(number.checked_sub(self.front)?).ok()?)
    }

    fn first_open(&self, pass: Pass) -> (u64, usize) {
        let open = self.window.iter().zip(self.front..).find(|(record, _)| !record.done(pass));
        let end = self.front.saturating_add(u64::try_from(self.window.len()).unwrap_or(u64::MAX));
        (open.map_or(end, |(_, number)| number), 0)
    }

    /// The next request of `pass`, if its next record has one that may be sent.
    fn step(&mut self, pass: Pass, now: Instant) -> Option<Request> {
        let fill_age_max = self.limits.fill_age_max;
        loop {
            let next = match pass {
                Pass::First => &mut self.next_first,
                Pass::Second => &mut self.next_second,
            };
            let place = usize::try_from(next.0.checked_sub(self.front)?).ok()?;
            let record = self.window.get_mut(place)?;
            let Some(request) = record.work.request(next.1).filter(|_| !record.done(pass)) else {
                *next = (next.0.saturating_add(1), 0);
                continue;
            };
            match pass {
                Pass::First => record.sent_at = Some(now),
                Pass::Second if record.due(fill_age_max).is_some_and(|due| due <= now) => {}
                Pass::Second => return None,
            }
            self.unanswered.push_back(Sent { record: next.0, pass });
            next.1 = next.1.saturating_add(1);
            return Some(request);
        }
    }

    fn pass_finished(&mut self) {
        while let Some(record) = self.window.front() {
            if !(record.done(Pass::First) && record.done(Pass::Second)) {
                return;
            }
            self.keys = self.keys.saturating_sub(record.work.requests());
            if record.cursor == Cursor::Moves {
                self.cursors.insert(record.partition, record.place);
            }
            self.window.pop_front();
            self.front = self.front.saturating_add(1);
            for next in [&mut self.next_first, &mut self.next_second] {
                if next.0 < self.front {
                    *next = (self.front, 0);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
