//! [`Tailer`]: binlog events in, batches for the stream out. Pure: no socket, no clock.
//!
//! ```text
//! Event --Assembler--> Change --Epochs--> Version --Mapper--> keys, floors --Publisher--> Batch
//! ```
//!
//! Invariants:
//! - A checkpoint stands behind every record of the transactions that it contains, in the same batch or a later one.
//! - An epoch is announced in a batch that ends with a checkpoint that knows it, before the epoch's first key.
//! - Progress is said only of a position up to which everything is in this batch or an earlier one.
//!
//! After a failure, a `Tailer` is thrown away, and a new one begins at the last checkpoint that the stream has
//! acknowledged: what was on its way is read again.

use std::sync::Arc;

use binlog::{
    assemble::{Assembler, Begin, Change, Commit, Part},
    frame::Header,
};
use schemas::{
    cure::Cure,
    epochs::highest_number,
    gtid::GtidSet,
    record::{Checkpoint, FilePosition, Progress, Scope, UnixMicros, Witness},
    version::Version,
};
use stream::Batch;

pub use crate::input::{Input, Mode, Observation, Server, Start};
use crate::{
    cascades::may_change_graph,
    disguises::Disguised,
    epochs::{EpochError, Epochs, Numbered, Proof, origin_of, writer},
    history::{History, Sent, WroteLast, time_of},
    map::{Cause, Mapper},
    metrics::Metrics,
    observed::Observed,
    position,
    prepared::Prepared,
    publish::Publisher,
    settings::Order,
};

mod sink;

use sink::Sink;

/// ROTATE: its position is of the file before.
const ROTATE: u8 = 4;

/// See the module.
#[derive(Debug)]
pub struct Tailer {
    assembler: Assembler,
    state: State,
}

/// Everything but the assembler, which hands out changes while it is borrowed.
#[derive(Debug)]
struct State {
    source: Arc<str>,
    mode: Mode,
    mapper: Mapper,
    follows_cascades: bool,
    /// What was asked of the server's tables may be otherwise by now.
    outdated: bool,
    epochs: Epochs,
    publisher: Publisher,
    executed: GtidSet,
    /// Outside of transactions: the end of the last event. Inside: the start of the transaction.
    position: Option<FilePosition>,
    version: Version,
    open: Option<Open>,
    prepared: Prepared,
    /// The checkpoint moved since the last batch.
    moved: bool,
    /// The oldest observation that is not yet covered, and the newest.
    observed: Observed,
    newest_event_s: Option<u32>,
    metrics: Metrics,
    failed: Option<EpochError>,
    /// We are connected to another server than the one that wrote last, and are not through with what it had executed.
    successor: Option<Server>,
    history: History,
}

#[derive(Debug)]
struct Open {
    witness: Option<Witness>,
    version: Version,
    /// It is in the stream.
    known: bool,
}

impl Tailer {
    /// Begins at a checkpoint.
    pub fn new(start: Start) -> Tailer {
        let Checkpoint { source, executed, position, epoch, version, recent } = start.checkpoint;
        let mut epochs = Epochs::resume(Arc::clone(&source), epoch, version).ordered(start.order);
        epochs.connected(start.server_id);
        let mut mapper =
            Mapper::with_cascades(start.rules, start.cascades.clone().unwrap_or_default());
        mapper.take_statement_keys(start.statement_keys);
        let state = State {
            mode: start.mode,
            follows_cascades: start.cascades.is_some(),
            mapper,
            outdated: false,
            epochs,
            publisher: Publisher::new(Arc::clone(&source), start.partitions, start.limits),
            executed,
            position,
            version,
            open: None,
            prepared: Prepared::default(),
            moved: true,
            observed: Observed::default(),
            newest_event_s: None,
            metrics: start.metrics,
            failed: None,
            successor: None,
            history: History::resume(recent),
            source,
        };
        Tailer { assembler: Assembler::new(start.dialect), state }
    }

    /// Says which columns are not what they seem in the binlog; of a server that has such types.
    #[must_use]
    pub fn with_disguised(mut self, disguised: Vec<Disguised>) -> Tailer {
        self.state.mapper.undisguise(disguised);
        self
    }

    /// Takes one input; batches that are due go to `out`, in order. After an error nothing more may be asked of it.
    pub fn step(
        &mut self,
        now: UnixMicros,
        input: Input<'_>,
        out: &mut Vec<Batch>,
    ) -> Result<(), EpochError> {
        let asked = matches!(input, Input::Observed(_));
        match input {
            Input::Binlog(event) => {
                self.state.metrics.events.inc();
                self.state.metrics.bytes.inc_by(u64::from(event.header.event_bytes));
                let state = &mut self.state;
                self.assembler.push(event, &mut |change| state.change(now, change, out));
                if !self.assembler.in_transaction() && event.header.kind != ROTATE {
                    self.state.move_position(&event.header);
                }
            }
            Input::Part(part) => {
                let state = &mut self.state;
                if let Part::Begin(header) = part {
                    state.metrics.events.inc();
                    state.metrics.bytes.inc_by(u64::from(header.event_bytes));
                }
                self.assembler.push_part(part, &mut |change| state.change(now, change, out));
            }
            Input::Observed(observation) => self.state.observed.add(observation),
            Input::PastEnd => {
                if self.state.history.is_incomplete() {
                    self.state.start_over("they are not in its binlog any more", out)?;
                }
                self.state.open_successor(out)?;
            }
            Input::Idle => {
                // What an open transaction has so far goes out when it is complete, or when it fills a batch.
                if self.state.open.is_none() && !self.state.publisher.is_empty() {
                    self.state.flush(out);
                }
            }
            Input::Tick => {
                if self.state.moved {
                    self.state.flush(out);
                }
            }
        }
        if asked || self.state.moved {
            self.state.say_progress(out);
        }
        self.state.failed.map_or(Ok(()), Err)
    }

    /// Says which server this is, before the first event; after [`Tailer::skip_to`], if that is needed. If it is not the one that wrote last, or lacks transactions
    /// that were published, an epoch opens as soon as everything is published that it had executed: also if it has not
    /// written anything yet, because what its predecessor lost may be cached.
    pub fn connected(
        &mut self,
        mut server: Server,
        out: &mut Vec<Batch>,
    ) -> Result<(), EpochError> {
        let state = &mut self.state;
        let succeeds = state.succeeds(&server);
        let published = state.executed.clone();
        let lacks = !server.executed.contains_all(&published);
        if lacks && Cure::ProofAsksPublished.works() {
            // Its predecessor may itself have taken the place of the server that we read, and lost some of it.
            server.predecessor = None;
        }
        if let Some(had) = server.predecessor.as_ref().filter(|_| server.is_proven()) {
            state.epochs.vouch(writer(&server.origin), had.clone());
        }
        if lacks && !state.executed.intersect(&server.executed) {
            tracing::error!("the server's transactions are of another kind than the stream's");
        }
        let wrote_last = if succeeds { WroteLast::Another } else { WroteLast::Itself };
        if state.mode == Mode::Position {
            drop(state.history.forget()); // What comes has no numbers.
        }
        state.history.connected(published, &state.executed, &server, wrote_last);
        if state.history.is_purged() {
            return state
                .start_over("its binlog begins behind them, so nobody can compare them", out);
        }
        if state.epochs.order() == Order::Binlog {
            // Numbers that were given to what is on its way may be given to something else now.
            let proof =
                if succeeds && !server.is_proven() { Proof::Missing } else { Proof::Lossless };
            return state.open_epoch(server, proof, out);
        }
        // What is not read yet may be of others, so that this one turns out to succeed them.
        state.successor = Some(server).filter(|_| Cure::EpochOpensWithoutTransaction.works());
        state.open_successor(out)
    }

    /// Opens an epoch of which nothing before is proven: values may be cached that the source never had.
    pub fn force_epoch(
        &mut self,
        mut server: Server,
        out: &mut Vec<Batch>,
    ) -> Result<(), EpochError> {
        server.predecessor = None;
        if self.state.epochs.order() == Order::Binlog {
            return self.state.open_epoch(server, Proof::Missing, out);
        }
        self.state.successor = Some(server);
        self.state.epochs.force();
        self.state.open_successor(out)
    }

    /// Binlogs are gone that we had not read; the server now has `executed` and stands at `position`. Everything is
    /// stale that was filled before, and reading goes on there.
    pub fn skip_to(
        &mut self,
        executed: GtidSet,
        position: Option<FilePosition>,
        reason: &str,
        out: &mut Vec<Batch>,
    ) {
        let state = &mut self.state;
        drop(state.history.forget()); // Whatever it was, nothing relies on it any more.
        let version = state.epochs.gap(&state.executed, &executed);
        if Cause::Gap.cure().works() {
            state.publisher.floor(&Scope::All, version, reason);
        }
        state.metrics.floor(Cause::Gap);
        state.version = state.version.max(version);
        (state.executed, state.position) = (executed, position);
        state.flush(out);
    }

    /// What to ask the server for everything but; of a server that [`Tailer::connected`] was told of. It may be less than the
    /// checkpoint has: then the rest is read again, and compared.
    pub fn resumes_from(&self) -> &GtidSet {
        self.state.history.asks().unwrap_or(&self.state.executed)
    }

    /// Where it would resume if everything were acknowledged.
    pub fn checkpoint(&self) -> Checkpoint {
        self.state.checkpoint()
    }

    /// What it knows of the server's foreign keys and columns may be wrong from here on: a new one must begin here.
    pub fn is_outdated(&self) -> bool {
        self.state.outdated && self.state.open.is_none()
    }

    /// Outside of transactions: the end of the last event; inside, the start of the transaction.
    pub fn position(&self) -> Option<&FilePosition> {
        self.state.position.as_ref()
    }

    /// When the newest transaction was written, in seconds since the Unix epoch; `None` while there is nothing more
    /// to read.
    pub fn newest_event_s(&self) -> Option<u32> {
        self.state.newest_event_s
    }
}

impl State {
    fn change(&mut self, now: UnixMicros, change: Change<'_>, out: &mut Vec<Batch>) {
        if self.failed.is_some() {
            return;
        }
        let known = self.open.as_ref().is_some_and(|open| open.known);
        match change {
            Change::Begin(begin) => self.begin(now, &begin, out),
            Change::Rows(_)
            | Change::Said(_)
            | Change::Statement(_)
            | Change::Undecodable(_)
            | Change::XaStart(_)
            | Change::XaPrepared
                if known => {}
            Change::Rows(rows) => {
                self.ensure_open(now, out);
                let (mut sink, mapper) = self.sink();
                let rows = mapper.rows(&rows, &mut |mapped| sink.take(mapped));
                self.metrics.rows.inc_by(rows);
            }
            Change::Said(statement) => {
                self.ensure_open(now, out);
                let (mut sink, mapper) = self.sink();
                mapper.said(statement, &mut |mapped| sink.take(mapped));
            }
            Change::Statement(statement) => {
                self.ensure_open(now, out);
                let (mut sink, mapper) = self.sink();
                if !sink.ends_prepared(&statement.text) {
                    mapper.statement(&statement, &mut |mapped| sink.take(mapped));
                }
                self.outdated |= self.follows_cascades && may_change_graph(&statement.text);
                self.outdated |= self.mapper.may_disguise(&statement.text);
            }
            Change::Undecodable(event) => {
                self.ensure_open(now, out);
                let (mut sink, mapper) = self.sink();
                mapper.undecodable(&event, &mut |mapped| sink.take(mapped));
            }
            Change::XaStart(name) => self.prepared.start(name),
            Change::XaPrepared => self.prepared.prepare(),
            Change::Commit(commit) | Change::Rollback(commit) => {
                self.commit(commit);
                if let Err(error) = self.open_successor(out) {
                    self.failed = Some(error);
                }
            }
            Change::Rotate(to) => self.position = Some(to),
            Change::Heartbeat => {
                // Said only when nothing more is to be sent at the moment.
                self.newest_event_s = None;
            }
        }
        if self.publisher.is_full() {
            self.flush(out);
        }
    }

    /// Where what the open transaction means goes to, and who says what that is.
    fn sink(&mut self) -> (Sink<'_>, &mut Mapper) {
        let version = self.open.as_ref().map_or(Version::MAX, |open| open.version);
        let State { publisher, prepared, metrics, mapper, .. } = self;
        (Sink { version, publisher, prepared, metrics }, mapper)
    }

    fn begin(&mut self, now: UnixMicros, begin: &Begin, out: &mut Vec<Batch>) {
        self.close();
        self.newest_event_s = Some(begin.timestamp_s);
        let gtid = begin.gtid.as_ref().filter(|_| self.mode == Mode::Gtid);
        let (origin, number) = origin_of(gtid, begin.server_id, self.position.as_ref());
        let witness = gtid.map(|gtid| Witness {
            gtid: gtid.clone(),
            committed_at: time_of(begin.committed_at, begin.timestamp_s),
        });
        let sent = |witness| self.history.sent(witness, begin.server_id);
        match witness.as_ref().map_or(Sent::New, sent) {
            Sent::New => {}
            Sent::Again => {
                self.open = Some(Open { witness, version: self.version, known: true });
                return;
            }
            Sent::Instead => {
                let why = "it has others of their numbers, or goes on without them";
                if let Err(error) = self.start_over(why, out) {
                    self.failed = Some(error);
                }
                if gtid.is_some_and(|gtid| self.executed.contains(gtid)) {
                    // Nothing that is cached after this lacks it.
                    self.open = Some(Open { witness, version: self.version, known: true });
                    return;
                }
            }
        }
        // From before the epoch, whose announcement outlived the checkpoint behind it.
        let comes_again = gtid.is_some_and(|gtid| {
            self.epochs.current().is_some_and(|current| current.before.contains(gtid))
        });
        if comes_again && self.epochs.order() == Order::Numbers {
            let version = self.epochs.again(&origin, number);
            self.publisher.begin(version, begin.committed_at, now);
            self.open = Some(Open { witness, version, known: false });
            return;
        }
        match self.epochs.number(&origin, number, &self.executed) {
            Err(error) => self.failed = Some(error),
            Ok(Numbered { version, opens }) => {
                if let Some(start) = opens {
                    // What it wrote before we came may be of an earlier reign, after which another one wrote.
                    let reigns = |server: &mut Server| {
                        let past = gtid.is_some_and(|gtid| server.executed.contains(gtid))
                            && Cure::EpochAsksPresentReign.works();
                        writer(&server.origin) == writer(&start.origin) && !past
                    };
                    self.successor.take_if(reigns);
                    self.history.keep(&self.executed);
                    tracing::info!(epoch = start.epoch, origin = ?start.origin, first = start.first, "a new epoch begins");
                    self.metrics.epochs.inc();
                    self.publisher.epoch(start);
                    self.flush(out);
                }
                self.publisher.begin(version, begin.committed_at, now);
                self.open = Some(Open { witness, version, known: false });
            }
        }
    }

    /// Changes outside of a transaction, or of one whose beginning nobody could read, belong to the next number.
    fn ensure_open(&mut self, now: UnixMicros, out: &mut Vec<Batch>) {
        if self.open.is_some() {
            return;
        }
        if self.mode == Mode::Position
            && let Some(server_id) = self.epochs.current().map(|current| writer(&current.origin))
        {
            let begin = Begin {
                gtid: None,
                server_id,
                committed_at: None,
                timestamp_s: self.newest_event_s.unwrap_or(0),
            };
            return self.begin(now, &begin, out);
        }
        let version = self.epochs.unread();
        self.publisher.begin(version, None, now);
        self.open = Some(Open { witness: None, version, known: false });
    }

    fn commit(&mut self, commit: Commit) {
        let Commit { gtid, end } = commit;
        let begun = self.open.as_ref().map(|open| (open.witness.clone(), open.version));
        self.close();
        let (witness, version) = begun.unwrap_or((None, self.version));
        let gtid = gtid.as_ref().or(witness.as_ref().map(|witness| &witness.gtid));
        if let Some(gtid) = gtid.filter(|_| self.mode == Mode::Gtid)
            && !self.executed.insert(gtid)
        {
            tracing::error!(%gtid, "the transaction is of another kind than the source's; its number is not kept");
        }
        self.version = self.version.max(version);
        self.position = end.or(self.position.take());
        self.moved = true;
        if let Some(witness) = witness {
            self.history.committed(witness, &self.executed);
        }
    }

    /// What was published is not what the server has: whatever was cached may be of what it has lost.
    fn start_over(&mut self, why: &str, out: &mut Vec<Batch>) -> Result<(), EpochError> {
        let Some(mut server) = self.history.forget() else { return Ok(()) };
        tracing::error!(
            why,
            "the server has lost transactions that were published; nothing that was cached before is served any more"
        );
        server.predecessor = None;
        self.epochs.force();
        let epoch = self.epochs.current().map_or(0, |current| current.epoch).saturating_add(1);
        let version = Version::new(epoch, 0).unwrap_or(Version::MAX);
        self.publisher.floor(&Scope::All, version, "the source has lost what was published");
        self.metrics.floor(Cause::Gap);
        self.version = self.version.max(version);
        self.flush(out);
        if self.epochs.order() == Order::Binlog {
            return self.open_epoch(server, Proof::Missing, out);
        }
        self.successor = Some(server);
        self.open_successor(out)
    }

    /// Opens the epoch of the server that we are connected to, once everything before it is published.
    fn open_successor(&mut self, out: &mut Vec<Batch>) -> Result<(), EpochError> {
        if self.history.in_doubt().is_some() {
            return Ok(()); // Nobody knows yet whether what was published is what it has.
        }
        let through = |server: &mut Server| self.executed.contains_all(&server.executed);
        let Some(server) = self.successor.take_if(through) else { return Ok(()) };
        if !self.succeeds(&server) {
            return Ok(()); // It is the one that wrote all along.
        }
        let proof = if server.is_proven() { Proof::Lossless } else { Proof::Missing };
        self.open_epoch(server, proof, out)
    }

    /// Whether an epoch must open for this server: another one wrote last, or what it wrote last is not known.
    fn succeeds(&self, server: &Server) -> bool {
        let wrote_last = self.epochs.current().map(|current| writer(&current.origin));
        self.epochs.must_open() || wrote_last.is_some_and(|wrote| wrote != writer(&server.origin))
    }

    fn open_epoch(
        &mut self,
        server: Server,
        proof: Proof,
        out: &mut Vec<Batch>,
    ) -> Result<(), EpochError> {
        let before = self.executed.clone();
        // What is published may be ahead of what the server shows: its numbers are taken.
        let taken = highest_number(&server.origin, &before);
        let first = server.next_number.max(taken.saturating_add(1));
        self.history.keep(&before);
        let start = self.epochs.open(server.origin, first, before, proof)?;
        tracing::info!(epoch = start.epoch, origin = ?start.origin, ?proof, "a new epoch begins");
        self.metrics.epochs.inc();
        self.version = self.version.max(Version::new(start.epoch, 0).unwrap_or(Version::MAX));
        self.publisher.epoch(start);
        self.flush(out);
        Ok(())
    }

    /// Ends the open transaction on the stream.
    fn close(&mut self) {
        self.prepared.end();
        self.metrics.xa_prepared.set(self.prepared.waiting().try_into().unwrap_or(i64::MAX));
        if self.open.take().is_some() && self.publisher.commit().is_some() {
            self.metrics.floor(Cause::Size);
        }
    }

    /// Outside of transactions every event's end is a place to resume from.
    fn move_position(&mut self, header: &Header) {
        if let Some(at) = &mut self.position
            && let Some(offset) = position::advanced(at.offset, header.end_position)
        {
            at.offset = offset;
            self.moved |= self.mode == Mode::Position;
        }
    }

    fn say_progress(&mut self, out: &mut Vec<Batch>) {
        // While published transactions are in doubt, nobody knows what their numbers mean.
        if self.open.is_some() || self.history.in_doubt().is_some() {
            return;
        }
        let covered = |seen: &Observation| match self.mode {
            _ if !Cure::ProgressAfterRecords.works() => true,
            Mode::Gtid => self.executed.contains_all(&seen.executed),
            Mode::Position => match (&self.position, &seen.end) {
                (Some(ours), Some(end)) => position::compare(ours, end).is_ge(),
                _ => false,
            },
        };
        let Some(Observation { at, .. }) = self.observed.take_covered(covered) else {
            return;
        };
        // What was read from the binlog, not what the source says that it has executed: there a number may be missing
        // only because its commit is not finished, and nobody may take it for one that was never used.
        let executed = self.executed.clone();
        self.newest_event_s = None;
        let (source, version) = (Arc::clone(&self.source), self.version);
        self.publisher.progress(Progress { source, executed, version, at });
        self.flush(out);
    }

    fn flush(&mut self, out: &mut Vec<Batch>) {
        let batch = self.publisher.take(Some(self.checkpoint()));
        self.moved = false;
        out.push(batch);
    }

    fn checkpoint(&self) -> Checkpoint {
        let mut executed = self.executed.clone();
        if let Some(published) = self.history.in_doubt() {
            // It is in the stream, whether or not the server has it.
            let added = executed.union(published);
            debug_assert!(added, "both are what the stream has");
        }
        Checkpoint {
            source: Arc::clone(&self.source),
            executed,
            position: self.position.clone(),
            epoch: self.epochs.current().cloned(),
            version: self.version,
            recent: self.history.recent(),
        }
    }
}

#[cfg(test)]
mod tests;
