//! [`Tail`]: a tailer process on the stage: the real [`Tailer`], and the little that its shell does.

use std::sync::Arc;

use schemas::{
    cure::Cure,
    cursor::{Partition, Place},
    gtid::{Dialect, GtidSet},
    record::{Checkpoint, Floor, Origin, Record, Scope, UnixMicros},
    rules::Rules,
    version::Version,
};
use sim::{
    binlog,
    broker::{Broker, Saved},
    database::{Topology, uuid},
};
use stream::{
    Batch,
    term::{Sequencer, lost_tail},
};
use tailer::{
    Limits, Metrics, Order, StatementKeys,
    tailer::{Input, Mode, Observation, Server, Start, Tailer},
};

use crate::events::Written;

pub(crate) const LIMITS: Limits = Limits {
    batch_keys_max: 16,
    batch_bytes_max: 10_000,
    record_bytes_max: 2_000,
    batches_in_flight_max: 4,
    transaction_keys_max: 10,
};

/// See the module.
pub(crate) struct Tail {
    core: Tailer,
    sequencer: Sequencer,
    ends: Vec<Place>,
    server: Option<usize>,
    read: usize,
    /// What it told that server it has.
    had: Option<GtidSet>,
    /// The server took no writes when it was asked last.
    others_wrote: bool,
    partitions: u16,
    limits: Limits,
    rules: Arc<Rules>,
    /// The last set of the primary before, if an operator knows it for certain.
    pub(crate) predecessor: Option<GtidSet>,
    /// The process dies before what it publishes has arrived.
    pub(crate) dies: bool,
}

impl Tail {
    /// Takes the leadership, at the last checkpoint.
    pub(crate) fn start(log: &mut Broker, partitions: u16, limits: Limits, rules: &str) -> Tail {
        let ends = log.ends();
        let (mut sequencer, records) = Sequencer::begin(log.begin_term(), &ends);
        append(log, &mut sequencer, records);
        let saved = log.saved.clone();
        let mut checkpoint = saved.as_ref().map_or_else(empty, |saved| saved.checkpoint.clone());
        if let Some(newest) = log.epochs.last() {
            let begins = Version::new(newest.epoch, 0).unwrap();
            checkpoint.version = checkpoint.version.max(begins);
            checkpoint.epoch = Some(newest.clone());
        }
        let rules = Arc::new(Rules::parse("rules.toml", rules).unwrap());
        if saved.is_some_and(|saved| lost_tail(&saved.ends, &ends)) {
            let floor = Floor {
                source: "shop".into(),
                scope: Scope::All,
                version: checkpoint.version,
                reason: "the log lost its tail".into(),
            };
            let everywhere =
                (0..partitions).map(|at| (Partition(at), Record::Floor(floor.clone())));
            append(log, &mut sequencer, everywhere.collect());
        }
        let core = new_core(checkpoint, partitions, limits, &rules);
        Tail {
            core,
            sequencer,
            ends,
            server: None,
            read: 0,
            had: None,
            others_wrote: false,
            partitions,
            limits,
            rules,
            predecessor: None,
            dies: false,
        }
    }

    /// Reads the server's binlog to its end.
    pub(crate) fn publish(&mut self, db: &Topology, log: &mut Broker, now: UnixMicros) {
        let server = self.connect(db, log);
        let mut out = Vec::new();
        let had = self.had.as_ref().expect("it is connected");
        for id in &db.instances[server].log[self.read..] {
            if !had.contains(&db.txn(*id).gtid()) {
                for event in binlog::events(db.txn(*id)) {
                    self.core.step(now, Input::Binlog(event.as_event()), &mut out).unwrap();
                }
            }
        }
        self.read = db.instances[server].log.len();
        self.core.step(now, Input::PastEnd, &mut out).unwrap();
        self.core.step(now, Input::Binlog(binlog::heartbeat().as_event()), &mut out).unwrap();
        self.core.step(now, Input::Idle, &mut out).unwrap();
        self.send(log, out);
    }

    /// Takes events that somebody else wrote.
    pub(crate) fn take(&mut self, log: &mut Broker, now: UnixMicros, events: &[Written]) {
        let mut out = Vec::new();
        for event in events {
            self.core.step(now, Input::Binlog(event.as_event()), &mut out).unwrap();
        }
        self.core.step(now, Input::Idle, &mut out).unwrap();
        // They stand for what is in the server's binlog.
        self.had = Some(self.core.checkpoint().executed);
        self.send(log, out);
    }

    /// Asks the server how far it is: the clock said `at`, and `now` the answer is there.
    pub(crate) fn observe(
        &mut self,
        db: &Topology,
        log: &mut Broker,
        at: UnixMicros,
        now: UnixMicros,
    ) {
        let mut server = self.connect(db, log);
        let writable = db.instances[server].writable;
        let others_wrote = std::mem::replace(&mut self.others_wrote, !writable);
        if writable && others_wrote && Cure::ReturnIsAskedAnew.works() {
            self.disconnect();
            self.publish(db, log, now);
            server = self.connect(db, log);
        }
        if !writable && Cure::ProgressAsksWriter.works() {
            return;
        }
        let at = if Cure::ProgressClockBeforeSource.works() { at } else { now };
        let executed = db.executed(server).clone();
        let mut out = Vec::new();
        let observation = Observation { at, executed, end: None };
        self.core.step(now, Input::Observed(observation), &mut out).unwrap();
        self.send(log, out);
    }

    /// The next read connects anew, to the primary.
    pub(crate) fn disconnect(&mut self) {
        self.core = new_core(self.core.checkpoint(), self.partitions, self.limits, &self.rules);
        self.server = None;
    }

    /// Opens an epoch of which nothing before is proven.
    pub(crate) fn force_epoch(&mut self, db: &Topology, log: &mut Broker) {
        let (server, mut out) = (about(db, db.primary, None), Vec::new());
        self.core.force_epoch(server, &mut out).unwrap();
        self.send(log, out);
    }

    fn connect(&mut self, db: &Topology, log: &mut Broker) -> usize {
        if let Some(server) = self.server {
            return server;
        }
        let server = db.primary;
        let about = about(db, server, self.predecessor.clone());
        let executed = self.core.checkpoint().executed;
        let mut out = Vec::new();
        if !executed.contains_all(&about.purged) {
            self.core.skip_to(about.executed.clone(), None, "the binlog was purged", &mut out);
        }
        self.core.connected(about, &mut out).unwrap();
        (self.server, self.read) = (Some(server), 0);
        self.had = Some(self.core.resumes_from().clone());
        self.send(log, out);
        server
    }

    fn send(&mut self, log: &mut Broker, batches: Vec<Batch>) {
        for Batch { records, checkpoint } in batches {
            for (partition, record) in records {
                let place = self.sequencer.place(partition).unwrap();
                if !self.dies {
                    log.append(partition, place, 0, record);
                }
            }
            let ends = self.sequencer.ends(&self.ends);
            let arrives = !self.dies || !Cure::CheckpointAfterRecords.works();
            let leads = self.sequencer.term().0 == log.term;
            if let Some(checkpoint) = checkpoint.filter(|_| arrives && leads) {
                log.saved = Some(Saved { checkpoint, ends });
            }
        }
    }
}

fn append(log: &mut Broker, sequencer: &mut Sequencer, records: Vec<(Partition, Record)>) {
    for (partition, record) in records {
        let place = sequencer.place(partition).unwrap();
        log.append(partition, place, 0, record);
    }
}

fn about(db: &Topology, server: usize, predecessor: Option<GtidSet>) -> Server {
    let own = db.instances[server].visible.iter().map(|id| db.txn(*id));
    let last = own.filter(|txn| txn.server == server).map(|txn| txn.number).max();
    let server_id = u32::try_from(server).unwrap() + 1;
    Server {
        origin: Origin::Mysql { uuid: uuid(server), tag: "".into(), server_id },
        next_number: last.unwrap_or(0) + 1,
        executed: db.executed(server).clone(),
        purged: db.purged(server),
        predecessor,
    }
}

fn empty() -> Checkpoint {
    Checkpoint {
        source: "shop".into(),
        executed: GtidSet::empty(Dialect::Mysql),
        position: None,
        epoch: None,
        version: Version::ZERO,
        recent: Vec::new(),
    }
}

fn new_core(checkpoint: Checkpoint, partitions: u16, limits: Limits, rules: &Arc<Rules>) -> Tailer {
    Tailer::new(Start {
        dialect: Dialect::Mysql,
        mode: Mode::Gtid,
        server_id: 99,
        checkpoint,
        partitions,
        limits,
        rules: Arc::clone(rules),
        statement_keys: StatementKeys::Ignored,
        order: Order::Numbers,
        cascades: None,
        metrics: Metrics::default(),
    })
}
