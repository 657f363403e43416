//! [`Lane`]: the pure core of one stock memcached node. No clock, no socket.
//!
//! Each key is deleted at once, and again `fill_age_max` after the first delete was sent: a reader that read
//! the old value before the change and stored it after the first delete is undone by the second. Keys that
//! cannot be listed (a floor, a gap in the stream) make it a `flush_all`, likewise.
//!
//! Where it is known how far the region's databases are ([`Cover`]), a delete comes in between: when every one of them shows the
//! change, and the last one `fill_age_max` after that. So a reader who filled from a replica that lagged is undone as well, and a
//! writer's marker, a key of its own ([`marker_of`]), goes when nobody can read the old value any more, and not before. First
//! deletes never wait for a database: what has waited too long is deleted all the same, and its marker left to its time. How far a gap
//! reached is known as soon as the stream says again how far it is.
//!
//! A record is passed by the cursor once its last delete was answered. When the connection is lost, what was
//! not answered is unknown, and is sent again; deletes are never dropped. A second delete that is due while the
//! node is away is sent when it is back.
//!
//! Bounds: at most [`Limits::keys_max`] keys are in the window between their first delete and their last answer
//! (a single record may exceed it); a full window takes no more records.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use schemas::{
    cursor::{Partition, Place},
    key::{Key, marker_of},
    record::UnixMicros,
    version::Version,
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
    /// What is known of the databases.
    pub cover: Cover,
}

/// Whether deletes are made again when every database that caches are filled from shows the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover {
    /// Nobody says how far they are.
    Unknown,
    /// [`Lane::covered`] does.
    Asked {
        /// From the first delete; what lags for longer is not waited for.
        wait_max: Duration,
        markers: Markers,
    },
}

/// Whether clients set markers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Markers {
    /// No.
    #[default]
    None,
    /// They do, and the invalidator deletes them.
    Deleted,
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
    /// When every database shows the change.
    Covered,
    /// After `fill_age_max`.
    Second,
}

const PASSES: [Pass; 3] = [Pass::First, Pass::Covered, Pass::Second];

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
    /// For each pass the next record whose requests are to be sent, and how far into them.
    next: [(u64, usize); 3],
    /// Every database shows what is up to this.
    position: Version,
    /// Where markers are deleted: the last record of each key in the window.
    newest: HashMap<Key, u64>,
    /// Records that were not waited for.
    given_up: u64,
}

/// What a lane takes.
#[derive(Clone, Debug)]
pub struct Taken {
    pub work: Work,
    /// When the oldest change was committed or received.
    pub since: UnixMicros,
    /// The newest change; [`Version::ZERO`] if it has none. `None`: nobody knows how far what was lost here reached, until
    /// [`Lane::reached`] says so.
    pub version: Option<Version>,
}

#[derive(Debug)]
struct Record {
    partition: Partition,
    place: Place,
    cursor: Cursor,
    taken: Taken,
    /// Requests of each pass that were answered.
    answered: [usize; 3],
    /// When the last request of each pass was sent.
    sent_at: [Option<Instant>; 3],
    /// Whether its second pass of three was not to be waited for.
    standing: Standing,
}

/// How a record stands to the databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// They are asked.
    Waits,
    /// All of them have it.
    Shown,
    /// Some do not say that they have it.
    GivenUp,
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
    /// Of each pass.
    fn requests(&self, pass: Pass, cover: Cover) -> usize {
        let each = match (pass, cover) {
            (Pass::Covered, Cover::Unknown) => return 0,
            (Pass::Covered, Cover::Asked { markers: Markers::Deleted, .. }) => 2,
            _ => 1,
        };
        match self {
            Work::Delete(keys) => keys.len().saturating_mul(each),
            Work::Flush => 1,
        }
    }

    fn size(&self) -> usize {
        match self {
            Work::Delete(keys) => keys.len(),
            Work::Flush => 1,
        }
    }

    /// The key of a request: those beyond the last one are their markers'.
    fn key(&self, at: usize) -> Option<(&Key, Subject)> {
        let Work::Delete(keys) = self else { return None };
        match at.checked_sub(keys.len()) {
            None => keys.get(at).map(|key| (key, Subject::Key)),
            Some(at) => keys.get(at).map(|key| (key, Subject::Marker)),
        }
    }
}

/// What of a key is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Key,
    Marker,
}

impl Record {
    fn done(&self, pass: Pass, limits: &Limits) -> bool {
        let requests = self.taken.work.requests(pass, limits.cover);
        self.answered.get(index(pass)).is_some_and(|&answered| answered >= requests)
    }

    fn sent_at(&self, pass: Pass) -> Option<Instant> {
        self.sent_at.get(index(pass)).copied().flatten()
    }

    /// When a pass may be sent; `None` while answers of an earlier one are missing, and for the first, which waits for nothing.
    fn due(&self, pass: Pass, limits: &Limits) -> Option<Instant> {
        let (before, wait) = match (pass, limits.cover) {
            (Pass::First, _) | (Pass::Covered, Cover::Unknown) => return None,
            (Pass::Covered, Cover::Asked { wait_max, .. }) => (Pass::First, wait_max),
            (Pass::Second, Cover::Unknown) => (Pass::First, limits.fill_age_max),
            (Pass::Second, Cover::Asked { .. }) => (Pass::Covered, limits.fill_age_max),
        };
        // Of nothing, nothing is sent.
        let sent = self.sent_at(before).filter(|_| self.done(before, limits));
        sent.map(|sent| sent + wait)
    }
}

fn index(pass: Pass) -> usize {
    match pass {
        Pass::First => 0,
        Pass::Covered => 1,
        Pass::Second => 2,
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
            next: [(0, 0); 3],
            position: Version::ZERO,
            newest: HashMap::new(),
            given_up: 0,
        }
    }

    /// Every database that caches are filled from shows what is up to `position`. It may be lower than before.
    pub fn covered(&mut self, position: Version) {
        self.position = position;
    }

    /// Whether it matters how far the databases are.
    pub fn waits_for_databases(&self) -> bool {
        let first = self.record(self.next_of(Pass::Covered).0);
        self.limits.cover != Cover::Unknown && first.is_some()
    }

    /// Records that were deleted again although no database was known to show them; their markers were left to their time.
    pub fn given_up(&self) -> u64 {
        self.given_up
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
        let at = self.next_of(Pass::First).0.saturating_sub(self.front);
        let unsent = usize::try_from(at).ok().and_then(|at| self.window.get(at));
        let unanswered = self.unanswered.iter().find(|sent| sent.pass == Pass::First);
        let unanswered = unanswered.and_then(|sent| self.record(sent.record));
        unanswered.or(unsent).map(|record| record.taken.since)
    }

    /// Whether a request waits for its answer.
    pub fn is_waiting(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Takes a record. Each partition's records come in order.
    pub fn take(&mut self, partition: Partition, place: Place, taken: Taken) {
        self.keys = self.keys.saturating_add(taken.work.size());
        if let (Work::Delete(keys), Cover::Asked { markers: Markers::Deleted, .. }) =
            (&taken.work, self.limits.cover)
        {
            let number = self.end();
            self.newest.extend(keys.iter().map(|key| (key.clone(), number)));
        }
        self.window.push_back(Record {
            partition,
            place,
            cursor: Cursor::Moves,
            taken,
            answered: [0; 3],
            sent_at: [None; 3],
            standing: Standing::Waits,
        });
        self.pass_finished();
    }

    /// What was lost of a partition, and was taken as that, is no newer than `version`.
    pub fn reached(&mut self, partition: Partition, version: Version) {
        for record in self.window.iter_mut().filter(|record| record.partition == partition) {
            record.taken.version.get_or_insert(version);
        }
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
        self.next = PASSES.map(|pass| self.first_open(pass));
        // A pass that was interrupted is sent whole, and what comes behind it.
        for record in &mut self.window {
            let open = PASSES.iter().position(|&pass| !record.done(pass, &self.limits));
            let open = open.unwrap_or(PASSES.len());
            for (answered, sent_at) in
                record.answered.iter_mut().zip(&mut record.sent_at).skip(open)
            {
                (*answered, *sent_at) = (0, None);
            }
        }
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.connected = false;
    }

    /// The next requests to send, at most `max`; later passes that are due go first.
    pub fn send(&mut self, now: Instant, max: usize) -> Vec<Request> {
        let mut out = Vec::new();
        while self.connected
            && out.len() < max
            && self.unanswered.len() < self.limits.unanswered_max
        {
            let request = PASSES.iter().rev().find_map(|&pass| self.step(pass, now));
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
        let since = record.taken.since;
        self.pass_finished();
        Some(Answered { pass: sent.pass, since })
    }

    /// When something more may be sent for which only time is waited; behind `now`.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let due = |pass| self.record(self.next_of(pass).0)?.due(pass, &self.limits);
        PASSES.iter().filter_map(|&pass| due(pass)).filter(|due| *due > now).min()
    }

    fn record(&self, number: u64) -> Option<&Record> {
        self.window.get(usize::try_from(number.checked_sub(self.front)?).ok()?)
    }

    fn next_of(&self, pass: Pass) -> (u64, usize) {
        self.next.get(index(pass)).copied().unwrap_or_default()
    }

    /// The number of the record that is taken next.
    fn end(&self) -> u64 {
        self.front.saturating_add(u64::try_from(self.window.len()).unwrap_or(u64::MAX))
    }

    fn first_open(&self, pass: Pass) -> (u64, usize) {
        let mut open = self.window.iter().zip(self.front..);
        let open = open.find(|(record, _)| !record.done(pass, &self.limits));
        (open.map_or(self.end(), |(_, number)| number), 0)
    }

    /// The next request of `pass`, if its next record has one that may be sent.
    fn step(&mut self, pass: Pass, now: Instant) -> Option<Request> {
        loop {
            let (number, at) = self.next_of(pass);
            let record = self.record(number)?;
            let requests = record.taken.work.requests(pass, self.limits.cover);
            if at >= requests || record.done(pass, &self.limits) {
                self.proceed(pass, (number.saturating_add(1), 0));
                continue;
            }
            let due = record.due(pass, &self.limits);
            let standing = match pass {
                Pass::First => record.standing,
                Pass::Second if due.is_some_and(|due| due <= now) => record.standing,
                Pass::Covered if at > 0 => record.standing,
                Pass::Covered => self.standing(record, due?, now)?,
                Pass::Second => return None,
            };
            let request = self.request(record, standing, number, at);
            let place = usize::try_from(number.checked_sub(self.front)?).ok()?;
            let record = self.window.get_mut(place)?;
            if record.standing != standing && standing == Standing::GivenUp {
                self.given_up = self.given_up.saturating_add(1);
            }
            record.standing = standing;
            *record.sent_at.get_mut(index(pass))? = Some(now);
            self.unanswered.push_back(Sent { record: number, pass });
            self.proceed(pass, (number, at.saturating_add(1)));
            return Some(request);
        }
    }

    /// How a record stands whose first pass is over; `None`: it waits. It must not keep others from their first pass.
    fn standing(&self, record: &Record, late: Instant, now: Instant) -> Option<Standing> {
        if self.is_shown(record) {
            return Some(Standing::Shown);
        }
        let full = self.keys.saturating_mul(2) >= self.limits.keys_max;
        (full || late <= now).then_some(Standing::GivenUp)
    }

    /// Whether every database shows it.
    fn is_shown(&self, record: &Record) -> bool {
        record.taken.version.is_some_and(|version| version <= self.position)
    }

    /// A marker is deleted once for all changes of its key that are in the window, with the last of them. Where it must stand,
    /// its key is deleted in its place.
    fn request(&self, record: &Record, standing: Standing, number: u64, at: usize) -> Request {
        let Some((key, subject)) = record.taken.work.key(at) else { return Request::Flush };
        // The position may have fallen since the pass was begun.
        let shown = standing == Standing::Shown && self.is_shown(record);
        let last = shown && self.newest.get(key) == Some(&number);
        let marker = (subject == Subject::Marker && last).then(|| marker_of(key)).flatten();
        Request::Delete(marker.unwrap_or_else(|| key.clone()))
    }

    fn proceed(&mut self, pass: Pass, to: (u64, usize)) {
        if let Some(next) = self.next.get_mut(index(pass)) {
            *next = to;
        }
    }

    fn pass_finished(&mut self) {
        while let Some(record) = self.window.front() {
            if !PASSES.iter().all(|&pass| record.done(pass, &self.limits)) {
                return;
            }
            self.keys = self.keys.saturating_sub(record.taken.work.size());
            if record.cursor == Cursor::Moves {
                self.cursors.insert(record.partition, record.place);
            }
            if let Work::Delete(keys) = &record.taken.work {
                for key in keys {
                    if self.newest.get(key) == Some(&self.front) {
                        self.newest.remove(key);
                    }
                }
            }
            self.window.pop_front();
            self.front = self.front.saturating_add(1);
            for next in &mut self.next {
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
