//! [`Operator`]: what people and orchestrators do about what breaks.
//!
//! What the rules demand of operators is done here, and nothing more: a server that lost its place is
//! fenced from readers before it is forgotten; one that joins is polled by every invalidator, and read
//! from once it has what the primary had by then.

use std::collections::BTreeSet;

use schemas::{cursor::Partition, gtid::GtidSet};

use crate::{
    chains::Link,
    check::server_of,
    database::{Topology, TxnId},
    region::{instance, role},
    world::{Event, MS, World},
};

/// How a primary is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failover {
    /// It dies, and comes back later with what it had.
    Crash,
    /// It takes no more writes, but readers still reach it.
    Zombie,
    /// It takes no more writes, and its successor has everything.
    Switchover,
}

/// What comes later.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Flap { region: usize, node: usize },
    SlowDown { region: usize, node: usize },
    HealLink { region: usize, node: usize },
    HealPoll { region: usize, server: usize },
    RestartNode { node: usize },
    RestartRegion { region: usize },
    RestartSource { source: usize },
    StopSource { source: usize },
    BrokerUp,
    Purge,
    Retention,
    ReplicationHeals,
    ClockHeals { node: usize },
    Assign { region: usize, partitions: Vec<Partition> },
    Fail { server: usize, how: Failover, heals: u64 },
    Promote { server: usize, how: Failover },
    SwitchBack { server: usize },
    Repoint,
    ServerUp { server: usize },
    Fence { server: usize, then: Then },
    Forget { server: usize, then: Then },
    ForceEpoch { then: Option<usize> },
    EpochForced { then: Option<usize>, than: u16 },
    Rebuild { server: usize },
    Joining { server: usize, target: GtidSet },
    Demoted { server: usize },
    Chain(Link),
}

/// What follows when a server is fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is made anew.
    Rebuild,
    /// It was written to: first an epoch opens, because what it showed may be cached.
    ForceEpoch,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operator {
    /// A replica that receives slowly.
    pub lagging: Option<usize>,
    /// A replica that receives nothing.
    pub cut_off: Option<usize>,
    /// A primary that only applications reach: no replica, and no invalidator.
    pub isolated: Option<usize>,
    /// A primary whose engine shows late what is in its binlog.
    pub slow: Option<usize>,
    /// A replica that shows late what it has received.
    pub stuck: Option<usize>,
    /// Whether replicas commit out of order.
    pub parallel: bool,
    /// Nobody writes until then.
    pub quiet_until: u64,
    /// How much longer than usual records take to the log, in microseconds.
    pub log_lags: u64,
    /// Nobody tells tailers before then that another server takes the writes.
    pub told_at: u64,
    /// The server that tailers were told to read; the primary, if none.
    pub tailed: Option<usize>,
    /// What the former primary had when it took its last write, if that is known for certain.
    pub predecessor: Option<GtidSet>,
    /// Former primaries that readers may still take for the primary.
    pub former: BTreeSet<usize>,
    /// Servers that are out of service.
    out: BTreeSet<usize>,
    /// Servers that are being replaced, repaired or joined: one thing at a time.
    pub busy: u32,
    /// When the last of them joined.
    pub joined_at: u64,
}

impl Operator {
    /// The servers that invalidators ask: all that readers may read from, and those that are about to join.
    pub(crate) fn polled(&self, db: &Topology) -> Vec<usize> {
        (0..db.instances.len()).filter(|server| !self.out.contains(server)).collect()
    }
}

impl World {
    pub(crate) fn later(&mut self, delay: u64, step: Step) {
        self.after(delay, Event::Operator { step });
    }

    pub(crate) fn operate(&mut self, step: Step) {
        match step {
            Step::Chain(link) => self.next_link(link),
            Step::HealLink { region, node } => {
                self.regions[region].cut.remove(&node);
                self.after(0, Event::Connect { region, node });
            }
            Step::Flap { region, node } => self.flap(region, node),
            Step::SlowDown { region, node } => self.slow_down(region, node),
            Step::HealPoll { region, server } => {
                self.regions[region].unreachable.remove(&server);
                self.operator.stuck.take_if(|stuck| *stuck == server);
            }
            Step::RestartNode { node } => self.restart_node(node),
            Step::RestartRegion { region } => self.start_region(region),
            Step::RestartSource { source } => {
                if self.leader().is_none() && !self.sources[source].up {
                    self.start_source(source);
                }
            }
            Step::StopSource { source } => {
                if self.sources[source].up && self.leader() != Some(source) {
                    self.stop_source(source);
                }
            }
            Step::BrokerUp => self.broker.up = true,
            Step::Purge => self.purge(),
            Step::Retention => self.retention(),
            Step::ReplicationHeals => {
                (self.operator.lagging, self.operator.cut_off) = (None, None);
                self.operator.parallel = false;
            }
            Step::ClockHeals { node } => self.skews[node] = 0,
            Step::Assign { region, partitions } => self.assign(region, partitions),
            Step::Fail { server, how, heals } => self.fail(server, how, heals),
            Step::Promote { server, how } => self.promote(server, how),
            Step::SwitchBack { server } => self.switch_back(server),
            Step::Repoint => self.repoint(),
            Step::ServerUp { server } => self.server_up(server),
            Step::Fence { server, then } => {
                self.note(|| format!("server {server} is fenced from readers"));
                self.db.instances[server].readable = false;
                self.later(10 * MS, Step::Forget { server, then });
            }
            Step::Forget { server, then } => self.forget(server, then),
            Step::ForceEpoch { then } => {
                let than = self.broker.epochs.last().map_or(0, |start| start.epoch);
                if self.force_epoch() {
                    self.later(100 * MS, Step::EpochForced { then, than });
                } else {
                    self.later(50 * MS, Step::ForceEpoch { then });
                }
            }
            Step::EpochForced { then, than } => {
                // The command is done when the log has it, not when a tailer has taken it.
                if self.broker.epochs.iter().any(|start| start.epoch > than && !start.lossless) {
                    if let Some(server) = then {
                        self.later(10 * MS, Step::Rebuild { server });
                    }
                } else {
                    self.later(0, Step::ForceEpoch { then });
                }
            }
            Step::Rebuild { server } => self.rebuild(server),
            Step::Joining { server, target } => self.joining(server, target),
            Step::Demoted { server } => {
                self.operator.former.remove(&server);
                self.tell_roles();
                self.operator.busy -= 1;
            }
        }
    }

    fn purge(&mut self) {
        let state = &mut self.db.instances[self.db.primary];
        let open = state.log.iter().position(|id| !state.visible.contains(id));
        state.purged = open.unwrap_or(state.log.len()).saturating_sub(1);
        self.note(|| "the primary's binlog is purged".to_owned());
    }

    /// Tailers are told who takes the writes now.
    fn repoint(&mut self) {
        self.operator.tailed = None;
        for source in 0..self.sources.len() {
            if self.sources[source].server.is_some_and(|server| server != self.db.primary) {
                self.disconnect_source(source);
            }
        }
    }

    fn promote(&mut self, server: usize, how: Failover) {
        let old = self.db.primary;
        if how == Failover::Switchover {
            let behind = |id: &TxnId| !self.db.instances[server].log.contains(id);
            let pending = |id: &TxnId| !self.db.instances[old].visible.contains(id);
            if self.db.instances[old].log.iter().any(|id| behind(id) || pending(id)) {
                self.later(30 * MS, Step::Promote { server, how });
                return;
            }
        }
        // What it has received, it applies first.
        for id in self.db.instances[server].log.clone() {
            if !self.db.instances[server].visible.contains(&id) {
                assert!(self.db.commit(self.now, server, id), "in the order of the binlog");
            }
        }
        self.operator.predecessor =
            (how == Failover::Switchover).then(|| self.db.executed(old).clone());
        let was_read = self.broker.epochs.last().and_then(server_of) == Some(old);
        self.db.promote(self.now, server);
        self.note(|| format!("server {server} is the primary"));
        // A successor that has all of it shows the tailer what it lacks of what was published before.
        let saved = self.broker.saved.as_ref().map(|saved| &saved.checkpoint);
        let shows = how == Failover::Switchover && !self.check.lost_unread_by(&self.db, saved);
        if !was_read && !shows {
            // Nobody has announced what was lost when the old one took its post, nor can say what is lost with it.
            self.check.lost_unread(&self.db);
            self.later(10 * MS, Step::ForceEpoch { then: None });
        }
        self.operator.isolated = None;
        if self.operator.slow.take().is_some() {
            // An epoch without a transaction, while the former primary still has something to show.
            self.operator.quiet_until = self.now + self.rng.u64(500..2_500) * MS;
        }
        self.operator.former.insert(old);
        self.tell_roles();
        for other in 0..self.size.servers {
            if other == server || !self.db.instances[other].readable {
                continue;
            }
            if other == old && how == Failover::Switchover {
                self.db.instances[old].follows = Some(server);
                self.later(300 * MS, Step::Demoted { server: old });
            } else if other == old {
                let fenced = self.rng.u64(50 * MS..1_200 * MS);
                self.later(fenced, Step::Fence { server: old, then: Then::Rebuild });
            } else if self.db.diverged(other) {
                self.stats.race("r67");
                self.db.instances[other].follows = None;
                self.operator.busy += 1;
                let fenced = self.rng.u64(20 * MS..700 * MS);
                self.later(fenced, Step::Fence { server: other, then: Then::Rebuild });
            } else {
                self.db.instances[other].follows = Some(server);
            }
        }
        let longest = if self.one_in(4) { 3_000 } else { 400 };
        let repointed = self.rng.u64(5..longest) * MS;
        let told = self.operator.told_at.saturating_sub(self.now);
        self.later(repointed.max(told), Step::Repoint);
    }

    fn server_up(&mut self, server: usize) {
        self.note(|| format!("server {server} is back"));
        self.db.instances[server].up = true;
        for txn in self.db.instances[server].log.clone() {
            if !self.db.instances[server].visible.contains(&txn) {
                self.after(MS, Event::Visible { server, txn });
            }
        }
    }

    fn forget(&mut self, server: usize, then: Then) {
        let now_primary = server == self.db.primary;
        assert!(!now_primary, "the primary is never taken out of service");
        self.operator.out.insert(server);
        self.operator.former.remove(&server);
        for region in &mut self.regions {
            region.poller.remove(instance(server));
        }
        self.tell_roles();
        let repaired = self.rng.u64(50 * MS..500 * MS);
        match then {
            Then::Rebuild => self.later(repaired, Step::Rebuild { server }),
            Then::ForceEpoch => self.later(20 * MS, Step::ForceEpoch { then: Some(server) }),
        }
    }

    fn rebuild(&mut self, server: usize) {
        let primary = self.db.primary;
        if !self.db.instances[primary].up {
            self.later(50 * MS, Step::Rebuild { server });
            return;
        }
        let whole = self.db.instances[primary].log.len();
        let upto = if self.one_in(2) { whole } else { whole - self.rng.usize(..=whole.min(6)) };
        self.db.rebuild(server, primary, upto);
        for source in 0..self.sources.len() {
            if self.sources[source].server == Some(server) {
                self.disconnect_source(source);
            }
        }
        self.db.instances[server].follows = Some(primary);
        self.db.instances[server].up = true;
        self.operator.out.remove(&server);
        if self.one_in(3) {
            self.operator.lagging = Some(server);
            let caught_up = self.rng.u64(500..4_000) * MS;
            self.later(caught_up, Step::ReplicationHeals);
        }
        let now = self.moment();
        for region in &mut self.regions {
            region.poller.add(now, instance(server), invalidator::poller::Role::Replica);
        }
        let target = self.db.executed(primary).clone();
        self.note(|| format!("server {server} is rebuilt, and polled; readers wait for {target}"));
        self.later(20 * MS, Step::Joining { server, target });
    }

    /// Every invalidator counts it; readers may come once it has what the primary had when that began.
    fn joining(&mut self, server: usize, target: GtidSet) {
        if self.db.executed(server).contains_all(&target) {
            self.note(|| format!("server {server} may be read from"));
            self.db.instances[server].readable = true;
            self.operator.busy -= 1;
            self.operator.joined_at = self.now;
        } else {
            self.later(30 * MS, Step::Joining { server, target });
        }
    }

    fn tell_roles(&mut self) {
        let now = self.moment();
        for server in self.operator.polled(&self.db) {
            let role = role(self, server);
            for region in &mut self.regions {
                region.poller.add(now, instance(server), role);
            }
        }
    }

    /// Nothing breaks any more, and what is broken is repaired.
    pub(crate) fn calm_down(&mut self) {
        self.now = self.chaos_until;
        self.note(|| "--- calm".to_owned());
        self.broker.up = true;
        (self.operator.lagging, self.operator.cut_off, self.operator.parallel) =
            (None, None, false);
        (self.operator.isolated, self.operator.slow, self.operator.stuck) = (None, None, None);
        self.operator.log_lags = 0;
        for region in 0..self.size.regions {
            self.regions[region].cut.clear();
            self.regions[region].unreachable.clear();
            self.start_region(region);
            let usual = self.usual(region);
            if self.regions[region].partitions != usual {
                self.assign(region, usual);
            }
        }
        for node in 0..self.size.nodes {
            self.skews[node] = 0;
            self.restart_node(node);
        }
        let leader = self.leader();
        for source in 0..self.sources.len() {
            if self.sources[source].up && leader != Some(source) {
                self.stop_source(source);
            }
        }
        if leader.is_none() {
            self.start_source(0);
        }
        for server in 0..self.size.servers {
            let primary = server == self.db.primary && self.operator.busy == 0;
            if !self.db.instances[server].up
                && (primary || self.db.instances[server].readable)
                && self.operator.busy == 0
            {
                self.server_up(server);
            }
        }
    }
}
