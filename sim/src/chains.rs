//! What goes wrong one after the other in storms: each alone is common, all in this order is what chance brings once in a
//! hundred thousand histories. Only in the weathers in which cures are hunted.

use crate::{
    operator::{Failover, Step},
    world::{MS, Weather, World},
};

/// Where tailers are while two servers hand their post to and fro.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tailers {
    /// None runs.
    Away,
    /// One stays where it is: nobody tells it.
    Stay,
}

/// What comes next in a chain.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    /// The one of the two that has not the post takes it: so many times without loss, then with one.
    HandOver { between: [usize; 2], left: u8 },
    /// The primary is replaced by one that lacks its last transactions.
    Lose { to: usize },
    /// The operator has done what he wanted; a tailer runs again.
    Done,
    /// The other lanes of a node break as soon as it has fresh news while this one still holds it in quarantine.
    Trip { region: usize, node: usize, left: u8 },
    /// The clock of a node jumps back.
    ClockBack { node: usize },
    /// The log is as fast as it was.
    LogHeals,
}

impl World {
    /// One of the chains that this weather has.
    pub(crate) fn chain(&mut self) {
        let chains = match self.weather {
            Weather::StormOfOurs => 0..1,
            Weather::StormOfDatabase => 1..5,
            _ => 0..5,
        };
        match self.rng.u8(chains) {
            0 => self.return_in_parts(),
            1 => self.exchange_posts(Tailers::Away),
            2 => self.exchange_posts(Tailers::Stay),
            3 => self.late_news(),
            _ => self.epoch_unheard(),
        }
    }

    pub(crate) fn next_link(&mut self, link: Link) {
        match link {
            Link::HandOver { between, left } => self.hand_over(between, left),
            Link::Lose { to } => {
                self.operator.busy += 1;
                self.operator.quiet_until = self.now + self.rng.u64(3_000..6_000) * MS;
                self.fail(to, Failover::Zombie, 0);
                self.later(600 * MS, Step::ReplicationHeals);
                self.later(700 * MS, Step::Chain(Link::Done));
            }
            Link::Done => {
                self.operator.busy -= 1;
                if self.leader().is_none() {
                    self.start_source(0);
                }
            }
            Link::Trip { region, node, left } => self.trip(region, node, left),
            Link::ClockBack { node } => {
                self.note(|| format!("the clock of node {node} jumps back"));
                self.skews[node] = -3_000_000;
                let heals = self.rng.u64(200..1_500) * MS;
                self.later(heals, Step::ClockHeals { node });
            }
            Link::LogHeals => self.operator.log_lags = 0,
        }
    }

    /// The primary and another server hand the post to each other, and at last something is lost.
    fn exchange_posts(&mut self, tailers: Tailers) {
        let old = self.db.primary;
        let Some(new) = (0..self.size.servers).find(|server| self.is_fit(*server)) else { return };
        if self.operator.busy > 0 {
            return;
        }
        self.operator.busy += 1;
        let left = match tailers {
            Tailers::Away => {
                for source in 0..self.sources.len() {
                    if self.sources[source].up {
                        self.stop_source(source);
                    }
                }
                2
            }
            Tailers::Stay => {
                self.operator.told_at = self.now + 6_000 * MS;
                1
            }
        };
        self.note(|| {
            format!("servers {old} and {new} hand over to each other, tailers {tailers:?}")
        });
        self.later(0, Step::Chain(Link::HandOver { between: [old, new], left }));
    }

    fn hand_over(&mut self, between: [usize; 2], left: u8) {
        let primary = self.db.primary;
        let other = between.into_iter().find(|server| *server != primary);
        let Some(to) = other.filter(|_| self.is_chaos()) else {
            self.later(0, Step::Chain(Link::Done));
            return;
        };
        if self.operator.busy > 1 || !self.is_fit(to) || !self.db.instances[primary].up {
            self.later(30 * MS, Step::Chain(Link::HandOver { between, left }));
        } else if left > 0 {
            self.operator.busy += 1;
            self.fail(to, Failover::Switchover, 0);
            let reigns = self.rng.u64(700..1_500) * MS;
            self.later(reigns, Step::Chain(Link::HandOver { between, left: left - 1 }));
        } else {
            self.note(|| format!("server {to} receives nothing"));
            self.operator.cut_off = Some(to);
            let fails = self.rng.u64(50..400) * MS;
            self.later(fails, Step::Chain(Link::Lose { to }));
        }
    }

    /// A lane is away for longer than a node may be without news; when it is back, the others break while the node still
    /// waits for it.
    fn return_in_parts(&mut self) {
        let node = self.rng.usize(..self.size.nodes);
        let region = self.rng.usize(..self.size.regions);
        self.note(|| format!("the link of invalidator {region} to node {node} is cut, for long"));
        self.regions[region].cut.insert(node);
        self.disconnect(region, node);
        let away = self.rng.u64(1_600..3_000) * MS;
        self.later(away, Step::HealLink { region, node });
        self.later(away, Step::SlowDown { region, node });
        self.later(away, Step::Chain(Link::Trip { region, node, left: 100 }));
    }

    fn trip(&mut self, region: usize, node: usize, left: u8) {
        let rules = &self.nodes[node].rules;
        if left == 0 || !self.nodes[node].up || !self.is_chaos() {
            return;
        }
        if rules.is_quarantined() && rules.is_fresh(self.moment()) {
            for other in (0..self.size.regions).filter(|other| *other != region) {
                self.disconnect(other, node);
                self.slow_down(other, node);
            }
        } else {
            self.later(10 * MS, Step::Chain(Link::Trip { region, node, left: left - 1 }));
        }
    }

    /// All news comes late for a while, and meanwhile the clock of a node is behind, so that they look new.
    fn late_news(&mut self) {
        let node = self.rng.usize(..self.size.nodes);
        let lags = self.rng.u64(1_600..2_600) * MS;
        self.note(|| format!("the log takes {} ms", lags / MS));
        self.operator.log_lags = lags;
        self.later(lags, Step::Chain(Link::ClockBack { node }));
        self.later(lags + 3_000 * MS, Step::Chain(Link::LogHeals));
    }

    /// An operator ends an epoch, and a node hears nothing of it while others, writers among them, hear it one after the other.
    fn epoch_unheard(&mut self) {
        let node = self.rng.usize(..self.size.nodes);
        self.note(|| format!("no invalidator reaches node {node} while an epoch ends"));
        let heals = self.rng.u64(600..1_600) * MS;
        for region in 0..self.size.regions {
            self.regions[region].cut.insert(node);
            self.disconnect(region, node);
            self.later(heals, Step::HealLink { region, node });
        }
        self.later(MS, Step::ForceEpoch { then: None });
    }
}
