//! What breaks.

use protocol::control::{Batch, Item};
use schemas::cursor::{Partition, Place, partition_of};

use crate::{
    database::Writes,
    node::{Upgrade, key},
    operator::{Failover, Step, Then},
    world::{Climate, Event, MS, Weather, World},
};

impl World {
    pub(crate) fn fault(&mut self) {
        if !self.is_chaos() {
            return;
        }
        let pauses = if self.climate == Climate::Storm { 150..800 } else { 1_000..3_000 };
        let pause = self.rng.u64(pauses) * MS;
        self.after(pause, Event::Fault);
        self.stats.faults += 1;
        if self.weather.is_storm() && self.one_in(6) {
            return self.chain();
        }
        let heals = if self.one_in(4) {
            self.rng.u64(1_000 * MS..4_000 * MS)
        } else {
            self.rng.u64(30 * MS..900 * MS)
        };
        let kinds = match self.weather {
            Weather::StormOfOurs => 0..13,
            Weather::StormOfDatabase => 13..25,
            _ => 0..25,
        };
        match self.rng.u8(kinds) {
            kind @ ..=12 => self.fault_ours(kind, heals),
            kind => self.fault_database(kind, heals),
        }
    }

    /// Our own processes, and the log between them.
    fn fault_ours(&mut self, kind: u8, heals: u64) {
        let node = self.rng.usize(..self.size.nodes);
        let region = self.rng.usize(..self.size.regions);
        match kind {
            0 | 1 => self.fault_node(node, heals),
            2 => {
                // Some to start again with it, as for an upgrade.
                let then = if self.one_in(4) { Upgrade::Planned } else { Upgrade::No };
                let life = self.nodes[node].life;
                self.after(0, Event::Snapshot { node, life, key: 0, then });
            }
            3 | 4 => {
                self.note(|| format!("the link of invalidator {region} to node {node} is cut"));
                self.cut_link(region, node);
                self.later(heals, Step::HealLink { region, node });
                if self.one_in(6) {
                    self.later(heals, Step::Retention);
                }
            }
            5 => {
                self.stop_region(region);
                self.later(heals, Step::RestartRegion { region });
            }
            6 => self.rebalance(region, heals),
            7 => self.fault_source(heals),
            8 => self.take_over(heals),
            9 => {
                self.note(|| "the broker is down".to_owned());
                self.broker.up = false;
                self.later(heals, Step::BrokerUp);
            }
            10 => self.lose_tail(),
            11 => self.retention(),
            _ => self.replay(node),
        }
    }

    /// The database, the clocks, and the way to them.
    fn fault_database(&mut self, kind: u8, heals: u64) {
        let node = self.rng.usize(..self.size.nodes);
        let region = self.rng.usize(..self.size.regions);
        let server = self.rng.usize(..self.size.servers);
        match kind {
            13 | 14 => {
                self.note(|| format!("server {server} lags"));
                self.operator.lagging = Some(server);
                self.later(heals, Step::ReplicationHeals);
            }
            15 => {
                self.note(|| format!("server {server} receives nothing"));
                self.operator.cut_off = Some(server);
                self.later(heals, Step::ReplicationHeals);
            }
            16 => {
                self.note(|| "replicas commit out of order".to_owned());
                self.operator.parallel = true;
                self.later(heals, Step::ReplicationHeals);
            }
            17 | 18 => self.fail_over(heals),
            19 => self.fault_replica(server, heals),
            20 => self.write_on_replica(server),
            21 => {
                self.note(|| format!("invalidator {region} cannot reach server {server}"));
                self.regions[region].unreachable.insert(server);
                self.later(heals, Step::HealPoll { region, server });
            }
            22 => self.purge_unread(heals),
            23 => {
                self.note(|| "nobody writes".to_owned());
                self.operator.quiet_until = self.now + heals + 500 * MS;
            }
            _ => {
                self.clock_jumps_back(node, heals + 1_000 * MS);
            }
        }
    }

    /// The invalidator reaches the node no more.
    pub(crate) fn cut_link(&mut self, region: usize, node: usize) {
        self.regions[region].cut.insert(node);
        self.disconnect(region, node);
    }

    pub(crate) fn clock_jumps_back(&mut self, node: usize, heals: u64) {
        self.note(|| format!("the clock of node {node} jumps back"));
        self.stats.race("r40");
        self.skews[node] = -3_000_000;
        self.later(heals, Step::ClockHeals { node });
    }

    fn fault_node(&mut self, node: usize, heals: u64) {
        if self.nodes[node].up {
            if self.one_in(3) {
                self.nodes[node].saved = None;
            }
            self.stop_node(node);
            self.later(heals, Step::RestartNode { node });
        }
    }

    fn fault_source(&mut self, heals: u64) {
        let Some(source) = self.sources.iter().position(|source| source.up) else { return };
        self.stop_source(source);
        self.later(heals, Step::RestartSource { source });
    }

    /// The other tailer takes the leadership; the first does not know for a while.
    pub(crate) fn take_over(&mut self, heals: u64) {
        if let (Some(old), Some(new)) = (
            self.sources.iter().position(|source| source.up),
            self.sources.iter().position(|source| !source.up),
        ) {
            self.stats.race("r29");
            self.start_source(new);
            self.later(heals.min(900 * MS), Step::StopSource { source: old });
        }
    }

    /// An unclean election. The tailer notices at its next start, its readers by the hole.
    fn lose_tail(&mut self) {
        let partition = self.rng.usize(..usize::from(self.size.partitions));
        let count = self.rng.usize(1..6);
        self.note(|| format!("partition {partition} loses its last {count} records"));
        self.stats.race("r28");
        let lost = self.broker.lose_tail(partition, count);
        self.check.records_lost(partition, &lost);
        if let Some(source) = self.sources.iter().position(|source| source.up) {
            self.stop_source(source);
            self.later(20 * MS, Step::RestartSource { source });
        }
    }

    fn fault_replica(&mut self, server: usize, heals: u64) {
        if server == self.db.primary
            || !self.db.instances[server].readable
            || self.operator.busy > 0
        {
            return;
        }
        if self.one_in(2) {
            self.note(|| format!("server {server} dies"));
            self.db.instances[server].up = false;
            self.later(heals, Step::ServerUp { server });
        } else {
            self.note(|| format!("server {server} is to be restored from a backup"));
            self.stats.race("r17");
            self.operator.busy += 1;
            self.later(0, Step::Fence { server, then: Then::Rebuild });
        }
    }

    fn write_on_replica(&mut self, server: usize) {
        let state = &self.db.instances[server];
        if server == self.db.primary
            || !state.readable
            || !state.up
            || self.operator.busy > 0
            || self.db.diverged(server)
        {
            return;
        }
        self.operator.busy += 1;
        self.stats.race("r36");
        let key = self.rng.usize(..self.size.keys);
        let txn = self.db.flush(server, Writes::Rows(vec![key]));
        self.db.txns[txn.0 as usize].lost_at = Some(self.now);
        self.check.errant(txn);
        self.note(|| format!("somebody writes {txn:?} on replica {server}"));
        self.after(2 * MS, Event::Visible { server, txn });
        let noticed = self.rng.u64(100 * MS..900 * MS);
        self.later(noticed, Step::Fence { server, then: Then::ForceEpoch });
    }

    /// The partitions of one invalidator go to another, which begins before the first has stopped.
    fn rebalance(&mut self, region: usize, heals: u64) {
        let other = (region + 1) % self.size.regions;
        let all: Vec<Partition> = (0..self.size.partitions).map(Partition).collect();
        self.stats.race("r21");
        self.assign(region, all);
        self.later(heals.min(400 * MS), Step::Assign { region: other, partitions: Vec::new() });
        self.later(heals + 500 * MS, Step::Assign { region: other, partitions: self.usual(other) });
        self.later(heals + 700 * MS, Step::Assign { region, partitions: self.usual(region) });
    }

    pub(crate) fn usual(&self, region: usize) -> Vec<Partition> {
        let owned =
            (0..self.size.partitions).filter(|at| usize::from(*at) % self.size.regions == region);
        owned.map(Partition).collect()
    }

    pub(crate) fn retention(&mut self) {
        let (partition, keep) =
            (self.rng.usize(..usize::from(self.size.partitions)), self.rng.usize(..6));
        self.note(|| format!("retention leaves {keep} records of partition {partition}"));
        self.broker.retain(partition, keep);
    }

    /// The binlog is purged while no tailer reads it.
    fn purge_unread(&mut self, heals: u64) {
        self.fault_source(heals);
        self.later(heals.saturating_sub(MS), Step::Purge);
    }

    /// An operator replays old deletes, in any order.
    fn replay(&mut self, node: usize) {
        if !self.nodes[node].up {
            return;
        }
        let (id, count) = (self.rng.usize(..self.size.keys), self.rng.usize(2..8));
        self.note(|| format!("the last {count} deletes of k{id} are replayed to node {node}"));
        let delete = |version| Item::Delete { key: key(id), version };
        let items = self.check.replayable(id, count).into_iter().map(delete).collect();
        let partition = partition_of(&key(id), self.size.partitions);
        let batch = Batch { partition, from: Place::START, to: Place::START, items };
        // Whether its cursor would have to move is nothing to a replay.
        let _moved = self.apply(node, &batch);
    }

    fn fail_over(&mut self, heals: u64) {
        let old = self.db.primary;
        let fit: Vec<usize> =
            (0..self.size.servers).filter(|server| self.is_fit(*server)).collect();
        if self.operator.busy > 0 || fit.is_empty() || !self.db.instances[old].up {
            return;
        }
        let server = fit[self.rng.usize(..fit.len())];
        let how = [Failover::Crash, Failover::Zombie, Failover::Switchover][self.rng.usize(..3)];
        self.operator.busy += 1;
        if how != Failover::Switchover && self.often(1) {
            // What is written from now on is lost.
            let fails = if self.one_in(4) {
                self.note(|| format!("only applications reach server {old}"));
                self.operator.isolated = Some(old);
                self.rng.u64(50..6_000) * MS
            } else {
                self.note(|| format!("server {server} receives nothing"));
                self.operator.cut_off = Some(server);
                self.rng.u64(50..800) * MS
            };
            if self.one_in(3) {
                self.note(|| format!("server {old} shows late what it writes"));
                self.operator.slow = Some(old);
            }
            if self.one_in(2) {
                // A tailer on the primary's machine goes with it: not even a delete tells of what is lost.
                self.fault_source(fails + 200 * MS);
            }
            if self.weather == Weather::StormOfDatabase && self.one_in(2) {
                self.lose_sight(old, server, fails + heals);
            }
            self.later(fails, Step::Fail { server, how, heals });
            self.later(fails + 20 * MS, Step::ReplicationHeals);
        } else {
            self.fail(server, how, heals);
            if how == Failover::Switchover && self.one_in(2) {
                let back = self.rng.u64(800..5_000) * MS;
                self.later(back, Step::SwitchBack { server: old });
            }
        }
    }

    /// A third server receives what is about to be lost and shows it late, and meanwhile nobody can ask it where it stands: as if it
    /// were in one zone with the old primary. Only where cures are hunted that need it.
    fn lose_sight(&mut self, old: usize, new: usize, heals: u64) {
        let Some(third) = (0..self.size.servers).find(|it| ![old, new].contains(it)) else {
            return;
        };
        self.note(|| {
            format!("no invalidator can reach server {third}, which shows late what it receives")
        });
        self.operator.stuck = Some(third);
        for region in 0..self.size.regions {
            self.regions[region].unreachable.insert(third);
            self.later(heals, Step::HealPoll { region, server: third });
        }
    }

    /// Whether a server could become the primary.
    pub(crate) fn is_fit(&self, server: usize) -> bool {
        let state = &self.db.instances[server];
        server != self.db.primary && state.up && state.readable && !self.db.diverged(server)
    }

    /// The former primary takes its post again.
    pub(crate) fn switch_back(&mut self, server: usize) {
        let up = self.db.instances[self.db.primary].up;
        if self.is_chaos() && self.operator.busy == 0 && up && self.is_fit(server) {
            self.operator.busy += 1;
            self.fail(server, Failover::Switchover, 0);
        }
    }

    /// The primary takes no more writes.
    pub(crate) fn fail(&mut self, server: usize, how: Failover, heals: u64) {
        let old = self.db.primary;
        self.note(|| format!("server {old} is replaced by {server}: {how:?}"));
        self.db.instances[old].writable = false;
        self.operator.tailed = Some(old);
        if how == Failover::Crash {
            self.db.instances[old].up = false;
            self.later(heals + 600 * MS, Step::ServerUp { server: old });
        }
        let decided = self.rng.u64(30 * MS..500 * MS);
        self.later(decided, Step::Promote { server, how });
    }
}
