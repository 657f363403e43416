//! [`Source`]: a tailer process: the real [`Tailer`] on the binlog of a simulated server, and the shell
//! that connects it, appends what it publishes, and saves its checkpoints.
//!
//! Two of them exist; one leads. The other may take over while the first still believes that it leads.

use std::{collections::VecDeque, sync::Arc};

use schemas::{
    cure::Cure,
    cursor::{Partition, Place},
    gtid::{Dialect, GtidSet},
    record::{Checkpoint, Floor, Origin, Record, Scope, UnixMicros},
    version::Version,
};
use stream::{
    Batch,
    term::{Sequencer, lost_tail},
};
use tailer::{
    Limits, Metrics, Order, StatementKeys,
    tailer::{Input, Mode, Observation, Server, Start, Tailer},
};

use crate::{
    binlog,
    broker::Saved,
    check::Author,
    database::uuid,
    world::{Event, MS, World},
};

const LIMITS: Limits = Limits {
    batch_keys_max: 2,
    batch_bytes_max: 10_000,
    record_bytes_max: 64,
    batches_in_flight_max: 4,
    transaction_keys_max: 100,
};

/// What is on its way to the broker, as one.
#[derive(Clone, Debug)]
struct Sending {
    records: Vec<(Partition, Place, Record)>,
    saved: Option<Saved>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Grows with every start; what was scheduled for a former life does nothing.
    pub life: u64,
    /// Whether it runs.
    pub up: bool,
    core: Option<Tailer>,
    sequencer: Option<Sequencer>,
    ends: Vec<Place>,
    /// The server that it reads from; `None` while it is not connected.
    pub server: Option<usize>,
    /// That server took no writes when it was asked last.
    others_wrote: bool,
    read: usize,
    /// The end of that server's binlog when it connected, until it is passed.
    end: Option<usize>,
    /// What it told that server it has.
    had: Option<GtidSet>,
    sending: VecDeque<Sending>,
}

impl Source {
    /// Its leadership.
    pub(crate) fn term(&self) -> Option<schemas::cursor::Term> {
        self.sequencer.as_ref().map(Sequencer::term)
    }
}

impl World {
    /// A tailer process starts, and takes the leadership.
    pub(crate) fn start_source(&mut self, source: usize) {
        let term = self.broker.begin_term();
        let ends = self.broker.ends();
        let (mut sequencer, records) = Sequencer::begin(term, &ends);
        self.note(|| format!("tailer {source} begins term {term}"));
        let records = placed(&mut sequencer, records);
        let state = &mut self.sources[source];
        state.life += 1;
        let life = state.life;
        *state = Source {
            life,
            up: true,
            core: None,
            sequencer: Some(sequencer),
            ends,
            server: None,
            others_wrote: false,
            read: 0,
            end: None,
            had: None,
            sending: VecDeque::new(),
        };
        state.sending.push_back(Sending { records, saved: None });
        self.after(MS, Event::Append { source, life });
    }

    /// The beginning of its term is in the log: nothing of an older term counts after it. So what it finds there now is
    /// all that there is to know.
    fn lead(&mut self, source: usize) {
        let saved = self.broker.saved.clone();
        let mut checkpoint = saved.as_ref().map_or_else(empty, |saved| saved.checkpoint.clone());
        // An epoch that is in the log was opened, whether or not its checkpoint came so far.
        if let Some(newest) = self.broker.epochs.last() {
            checkpoint.version =
                checkpoint.version.max(Version::new(newest.epoch, 0).unwrap_or(Version::MAX));
            checkpoint.epoch = Some(newest.clone());
        }
        let version = checkpoint.version;
        self.note(|| format!("tailer {source} leads, from {version}"));
        let state = &mut self.sources[source];
        state.core = Some(new_tailer(&self.rules, checkpoint, self.size.partitions));
        let life = state.life;
        if let Some(saved) = saved
            && lost_tail(&saved.ends, &state.ends)
        {
            let floor = Record::Floor(Floor {
                source: Arc::from("shop"),
                scope: Scope::All,
                version,
                reason: Arc::from("the log lost its tail"),
            });
            let records =
                (0..self.size.partitions).map(|at| (Partition(at), floor.clone())).collect();
            self.send(source, vec![Batch { records, checkpoint: None }]);
        }
        self.after(2 * MS, Event::Tail { source, life });
        self.after(5 * MS, Event::Observe { source, life });
    }

    /// The process dies; of what is on its way, only a beginning arrives.
    pub(crate) fn stop_source(&mut self, source: usize) {
        self.note(|| format!("tailer {source} dies"));
        if self.sources[source].sending.iter().any(|sending| sending.saved.is_some()) {
            self.stats.race("r22");
        }
        self.sources[source].up = false;
        let arrives = self.rng.usize(..=self.sources[source].sending.len());
        if self.broker.up {
            for _ in 0..arrives {
                self.append_one(source);
            }
        }
        self.sources[source].life += 1;
        self.sources[source].sending.clear();
    }

    /// Reads what the server's binlog has.
    pub(crate) fn tail(&mut self, source: usize, life: u64) {
        if self.sources[source].life != life {
            return;
        }
        let pause = self.delay(3, 15);
        self.after(pause, Event::Tail { source, life });
        let Some(server) = self.connected(source) else { return };
        if self.sources[source].sending.len() > 8 {
            return; // Back-pressure.
        }
        let mut out = Vec::new();
        let wall = self.source_wall(source);
        let state = &mut self.sources[source];
        let Some(core) = &mut state.core else { return };
        let log = &self.db.instances[server].log;
        let upto = log.len().min(state.read + 4);
        for id in &log[state.read.min(upto)..upto] {
            let txn = self.db.txn(*id);
            if state.had.as_ref().is_some_and(|had| had.contains(&txn.gtid())) {
                continue;
            }
            for event in binlog::events(txn) {
                core.step(wall, Input::Binlog(event.as_event()), &mut out).expect("few epochs");
            }
        }
        state.read = upto;
        if state.end.take_if(|end| *end <= upto).is_some() {
            core.step(wall, Input::PastEnd, &mut out).expect("few epochs");
        }
        if upto == log.len() {
            core.step(wall, Input::Binlog(binlog::heartbeat().as_event()), &mut out)
                .expect("few epochs");
        }
        core.step(wall, Input::Idle, &mut out).expect("few epochs");
        self.send(source, out);
    }

    /// Connects, if it is not, to the server that applications write to.
    fn connected(&mut self, source: usize) -> Option<usize> {
        if let Some(server) = self.sources[source].server {
            if self.db.instances[server].up {
                return Some(server);
            }
            self.disconnect_source(source);
            return None;
        }
        let server = self.operator.tailed.unwrap_or(self.db.primary);
        // One that takes no writes may be a copy that lacks what was published; its numbers prove nothing.
        if !self.db.instances[server].up || !self.db.instances[server].writable {
            return None;
        }
        self.note(|| format!("tailer {source} connects to server {server}"));
        let about = self.server(server);
        let end = self.db.instances[server].log.len();
        let executed = self.sources[source].core.as_ref()?.checkpoint().executed;
        // What is gone, and no more: the rest is still read.
        let mut have = executed.clone();
        assert!(have.union(&about.purged), "MySQL transactions in a MySQL set");
        let mut out = Vec::new();
        let core = self.sources[source].core.as_mut()?;
        if have != executed {
            core.skip_to(have, None, "the binlog was purged", &mut out);
        }
        core.connected(about, &mut out).expect("few epochs");
        let had = core.resumes_from().clone();
        let state = &mut self.sources[source];
        (state.server, state.read, state.end, state.had) = (Some(server), 0, Some(end), Some(had));
        self.send(source, out);
        Some(server)
    }

    /// The connection is lost: everything from the last checkpoint on is read again.
    pub(crate) fn disconnect_source(&mut self, source: usize) {
        let partitions = self.size.partitions;
        let state = &mut self.sources[source];
        let Some(core) = &state.core else { return };
        // A new core, as the shell does after every error; what was published stays published.
        let checkpoint = core.checkpoint();
        state.core = Some(new_tailer(&self.rules, checkpoint, partitions));
        (state.server, state.others_wrote) = (None, false);
    }

    /// Opens an epoch of which nothing before is proven.
    pub(crate) fn force_epoch(&mut self) -> bool {
        let Some(source) =
            self.sources.iter().rposition(|source| source.up && source.server.is_some())
        else {
            return false;
        };
        let Some(server) = self.sources[source].server.filter(|server| *server == self.db.primary)
        else {
            return false;
        };
        let about = self.server(server);
        let mut out = Vec::new();
        let core = self.sources[source].core.as_mut().expect("it is up");
        core.force_epoch(about, &mut out).expect("few epochs");
        self.send(source, out);
        true
    }

    fn server(&self, server: usize) -> Server {
        let own = self.db.instances[server].visible.iter().map(|id| self.db.txn(*id));
        let next_number =
            own.filter(|txn| txn.server == server).map(|txn| txn.number).max().unwrap_or(0) + 1;
        Server {
            origin: Origin::Mysql {
                uuid: uuid(server),
                tag: Arc::from(""),
                server_id: u32::try_from(server).unwrap_or(0) + 1,
            },
            next_number,
            executed: self.db.executed(server).clone(),
            purged: self.db.purged(server),
            predecessor: self.operator.predecessor.clone(),
        }
    }

    /// Asks the server how far it is.
    pub(crate) fn observe(&mut self, source: usize, life: u64) {
        if self.sources[source].life != life {
            return;
        }
        self.after(60 * MS, Event::Observe { source, life });
        let Some(server) = self.sources[source].server else { return };
        let at = self.source_wall(source);
        let answer = self.delay(1, 4);
        self.after(answer, Event::Observed { source, life, server, at });
    }

    /// The answer.
    pub(crate) fn observed(&mut self, source: usize, life: u64, server: usize, at: UnixMicros) {
        let state = &self.sources[source];
        let instance = &self.db.instances[server];
        // A server that takes no writes is not, or no longer, the one whose transactions bound anybody's staleness.
        if state.life != life || state.server != Some(server) || !instance.up {
            return;
        }
        let writable = instance.writable;
        let others_wrote = std::mem::replace(&mut self.sources[source].others_wrote, !writable);
        if writable && others_wrote && Cure::ReturnIsAskedAnew.works() {
            return self.disconnect_source(source);
        }
        if !writable && Cure::ProgressAsksWriter.works() {
            return;
        }
        let at = if Cure::ProgressClockBeforeSource.works() {
            at
        } else {
            UnixMicros(self.source_wall(source).0 + 1_000 * MS)
        };
        let executed = self.db.executed(server).clone();
        let mut out = Vec::new();
        let wall = self.source_wall(source);
        if let Some(core) = &mut self.sources[source].core {
            let observation = Observation { at, executed, end: None };
            core.step(wall, Input::Observed(observation), &mut out).expect("few epochs");
        }
        self.send(source, out);
    }

    /// Gives places to records, and sends them on their way.
    fn send(&mut self, source: usize, batches: Vec<Batch>) {
        for Batch { records, checkpoint } in batches {
            let state = &mut self.sources[source];
            let Some(sequencer) = &mut state.sequencer else { return };
            let records = placed(sequencer, records);
            let ends = sequencer.ends(&state.ends);
            let saved = checkpoint.map(|checkpoint| Saved { checkpoint, ends });
            if !Cure::CheckpointAfterRecords.works() {
                self.broker.saved.clone_from(&saved);
            }
            let life = state.life;
            state.sending.push_back(Sending { records, saved });
            let arrives = self.delay(1, 4) + self.operator.log_lags;
            self.after(arrives, Event::Append { source, life });
        }
    }

    /// The oldest of what is on its way arrives at the broker.
    pub(crate) fn append(&mut self, source: usize, life: u64) {
        if self.sources[source].life != life {
            return;
        }
        if !self.broker.up {
            self.after(20 * MS, Event::Append { source, life });
            return;
        }
        self.append_one(source);
    }

    fn append_one(&mut self, source: usize) {
        let Some(Sending { records, saved }) = self.sources[source].sending.pop_front() else {
            return;
        };
        let leads = self.leads(source);
        let author = if leads { Author::Leader } else { Author::Replaced };
        for (partition, place, record) in records {
            self.note(|| format!("log {partition} {place}: {}", crate::trace::record(&record)));
            self.recognise_record(&record, partition, place, author);
            self.check.appended(&self.db, &record, (partition, place), author);
            if let Some(start) = self.broker.append(partition, place, self.now, record) {
                self.check.epoch_appended(self.now, &self.db, &start);
            }
        }
        if leads && self.sources[source].up && self.sources[source].core.is_none() {
            self.lead(source);
        }
        // A writer that was replaced may still write records, but its checkpoint is fenced.
        if leads && saved.is_some() {
            self.broker.saved = saved;
        }
    }

    /// The tailer that leads, if it runs.
    pub(crate) fn leader(&self) -> Option<usize> {
        (0..self.sources.len()).find(|source| self.sources[*source].up && self.leads(*source))
    }

    /// Whether no later process has taken the leadership.
    fn leads(&self, source: usize) -> bool {
        self.sources[source].term().is_some_and(|term| term.0 == self.broker.term)
    }
}

fn placed(
    sequencer: &mut Sequencer,
    records: Vec<(Partition, Record)>,
) -> Vec<(Partition, Place, Record)> {
    let place = |(partition, record)| Some((partition, sequencer.place(partition)?, record));
    records.into_iter().filter_map(place).collect()
}

fn empty() -> Checkpoint {
    Checkpoint {
        source: Arc::from("shop"),
        executed: GtidSet::empty(Dialect::Mysql),
        position: None,
        epoch: None,
        version: Version::ZERO,
        recent: Vec::new(),
    }
}

fn new_tailer(
    rules: &Arc<schemas::rules::Rules>,
    checkpoint: Checkpoint,
    partitions: u16,
) -> Tailer {
    Tailer::new(Start {
        dialect: Dialect::Mysql,
        mode: Mode::Gtid,
        server_id: 99,
        checkpoint,
        partitions,
        limits: LIMITS,
        rules: Arc::clone(rules),
        statement_keys: StatementKeys::Ignored,
        order: Order::Numbers,
        cascades: None,
        metrics: Metrics::default(),
    })
}
