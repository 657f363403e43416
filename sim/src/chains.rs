//! What goes wrong one after the other in storms: each alone is common, all in this order is what chance brings once in a
//! hundred thousand histories. Only in the weathers in which cures are hunted.

use std::collections::VecDeque;

use crate::{
    operator::{Failover, Step},
    world::{MS, Weather, World},
};

/// One step of an operator who moves the primary's post.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leg {
    /// No tailer runs until the end.
    TailersLeave,
    /// Nobody tells tailers for a while who has the post.
    NobodyTells,
    /// This server takes it, and nothing is lost; any, if none is named.
    HandOver(Option<usize>),
    /// This server receives nothing.
    CutOff(usize),
    /// It takes the post without what it has not received.
    Lose(usize),
}

/// What comes next in a chain.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    /// The operator's next steps.
    Legs(VecDeque<Leg>),
    /// The other lanes of a node break as soon as it has fresh news while this one still holds it in quarantine.
    Trip { region: usize, node: usize, left: u8 },
    /// A lane's connection breaks, and what was on its way comes when the lane is back and finds the log shorter.
    Overtaken { region: usize, node: usize },
    /// The clock of a node jumps back, for so long.
    ClockBack { node: usize, for_us: u64 },
    /// Records take so much longer to the log.
    LogLags { by_us: u64 },
    /// Another tailer begins a term.
    NewTerm,
    /// Every lane of a node breaks as soon as it has fresh news.
    BreakWhenFresh { node: usize, left: u16 },
}

impl World {
    /// One of the chains that this weather has.
    pub(crate) fn chain(&mut self) {
        let chains = match self.weather {
            Weather::StormOfOurs => 0..2,
            Weather::StormOfDatabase => 2..8,
            _ => 0..8,
        };
        match self.rng.u8(chains) {
            0 => self.return_in_parts(),
            1 => self.fall_behind_the_log(),
            2 => self.late_news(),
            3 => self.clock_comes_and_goes(),
            4 => self.epoch_unheard(),
            5 => self.move_the_post(to_and_fro_unread),
            6 => self.move_the_post(to_and_fro_untold),
            _ => self.move_the_post(lost_and_handed_on),
        }
    }

    pub(crate) fn next_link(&mut self, link: Link) {
        match link {
            Link::Legs(legs) => self.next_leg(legs),
            Link::Trip { region, node, left } => self.trip(region, node, left),
            Link::Overtaken { region, node } => self.overtaken(region, node),
            _ if !self.is_chaos() => {}
            Link::ClockBack { node, for_us } => self.clock_jumps_back(node, for_us),
            Link::LogLags { by_us } => {
                self.note(|| format!("records take {} ms longer", by_us / MS));
                self.operator.log_lags = by_us;
            }
            Link::NewTerm => self.take_over(900 * MS),
            Link::BreakWhenFresh { node, left } => self.break_when_fresh(node, left),
        }
    }

    /// The operator moves the post of the primary, which is the first, with the help of another server.
    fn move_the_post(&mut self, legs: fn(usize, usize) -> Vec<Leg>) {
        let Some(new) = (0..self.size.servers).find(|server| self.is_fit(*server)) else { return };
        if self.operator.busy > 0 {
            return;
        }
        self.operator.busy += 1;
        let legs = legs(self.db.primary, new);
        self.note(|| format!("the operator begins with {legs:?}"));
        self.next_leg(legs.into());
    }

    /// The next one that can be gone; when there is none, a tailer runs again.
    fn next_leg(&mut self, mut legs: VecDeque<Leg>) {
        let Some(leg) = legs.front().copied().filter(|_| self.is_chaos()) else {
            self.operator.busy -= 1;
            if self.leader().is_none() {
                self.start_source(0);
            }
            return;
        };
        let pause = if let Some(pause) = self.go(leg) {
            legs.pop_front();
            pause
        } else {
            30
        };
        self.later(pause * MS, Step::Chain(Link::Legs(legs)));
    }

    /// Returns how many milliseconds pass before the next one; `None` if it must wait.
    fn go(&mut self, leg: Leg) -> Option<u64> {
        match leg {
            Leg::TailersLeave => {
                for source in 0..self.sources.len() {
                    if self.sources[source].up {
                        self.stop_source(source);
                    }
                }
                Some(1)
            }
            Leg::NobodyTells => {
                self.operator.told_at = self.now + 6_000 * MS;
                Some(1)
            }
            Leg::HandOver(to) => {
                let to = to.or_else(|| (0..self.size.servers).find(|to| self.is_fit(*to)))?;
                self.replace(to, Failover::Switchover)?;
                Some(self.rng.u64(700..1_500))
            }
            Leg::CutOff(to) => {
                self.note(|| format!("server {to} receives nothing"));
                self.operator.cut_off = Some(to);
                Some(self.rng.u64(50..400))
            }
            Leg::Lose(to) => {
                self.replace(to, Failover::Zombie)?;
                self.operator.quiet_until = self.now + self.rng.u64(3_000..6_000) * MS;
                self.later(600 * MS, Step::ReplicationHeals);
                Some(700)
            }
        }
    }

    /// `None` if another one is being replaced, or this one cannot be the primary now.
    fn replace(&mut self, to: usize, how: Failover) -> Option<()> {
        let up = self.db.instances[self.db.primary].up;
        if self.operator.busy > 1 || !self.is_fit(to) || !up {
            return None;
        }
        self.operator.busy += 1;
        self.fail(to, how, 0);
        Some(())
    }

    /// A lane is away for longer than a node may be without news; when it is back, the others break while the node still
    /// waits for it.
    fn return_in_parts(&mut self) {
        let node = self.rng.usize(..self.size.nodes);
        let region = self.rng.usize(..self.size.regions);
        self.note(|| format!("the link of invalidator {region} to node {node} is cut, for long"));
        self.cut_link(region, node);
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

    /// A lane is slow, so that much is on its way, and then away for a while.
    fn fall_behind_the_log(&mut self) {
        let node = self.rng.usize(..self.size.nodes);
        let region = self.rng.usize(..self.size.regions);
        self.slow_down(region, node);
        let breaks = self.rng.u64(40..150) * MS;
        self.later(breaks, Step::Chain(Link::Overtaken { region, node }));
    }

    fn overtaken(&mut self, region: usize, node: usize) {
        let Some(connection) = self.regions[region].connections[node] else { return };
        let away = self.rng.u64(100..900) * MS;
        self.note(|| format!("the link of invalidator {region} to node {node} is cut"));
        self.cut_link(region, node);
        let arrives = self.now + away + self.rng.u64(10..80) * MS;
        self.nodes[node].drains(connection, arrives);
        self.later(away - MS, Step::Retention);
        self.later(away, Step::HealLink { region, node });
    }

    /// All news comes late for a while, and meanwhile the clock of a node is behind, so that they look new.
    fn late_news(&mut self) {
        let node = self.rng.usize(..self.size.nodes);
        let by_us = self.rng.u64(1_600..2_600) * MS;
        let for_us = self.rng.u64(200..1_500) * MS;
        self.later(0, Step::Chain(Link::LogLags { by_us }));
        self.later(by_us, Step::Chain(Link::ClockBack { node, for_us }));
        self.later(by_us + 3_000 * MS, Step::Chain(Link::LogLags { by_us: 0 }));
    }

    /// The clock of a node is behind, is right when a lane looks, for which that needs no news, and is behind again when late news
    /// comes, the last one for a while.
    fn clock_comes_and_goes(&mut self) {
        let node = self.rng.usize(..self.size.nodes);
        let by_us = self.rng.u64(1_550..1_800) * MS;
        self.later(0, Step::Chain(Link::ClockBack { node, for_us: 500 * MS }));
        self.later(200 * MS, Step::Chain(Link::LogLags { by_us }));
        self.later(505 * MS, Step::Chain(Link::NewTerm));
        let for_us = by_us + 1_500 * MS;
        self.later(600 * MS, Step::Chain(Link::ClockBack { node, for_us }));
        self.later(by_us + 300 * MS, Step::Chain(Link::BreakWhenFresh { node, left: 1_000 }));
        self.later(by_us + 1_300 * MS, Step::Chain(Link::LogLags { by_us: 0 }));
    }

    fn break_when_fresh(&mut self, node: usize, left: u16) {
        if self.nodes[node].up && self.nodes[node].rules.is_fresh(self.moment()) {
            self.cut_off(node, 1_200 * MS);
        } else if left > 0 {
            let next = Link::BreakWhenFresh { node, left: left - 1 };
            self.later(MS, Step::Chain(next));
        }
    }

    /// No invalidator reaches the node.
    fn cut_off(&mut self, node: usize, heals: u64) {
        self.note(|| format!("no invalidator reaches node {node}"));
        for region in 0..self.size.regions {
            self.cut_link(region, node);
            self.later(heals, Step::HealLink { region, node });
        }
    }

    /// An operator ends an epoch, and a node hears nothing of it while others, writers among them, hear it one after the other.
    fn epoch_unheard(&mut self) {
        let node = self.rng.usize(..self.size.nodes);
        let heals = self.rng.u64(600..1_600) * MS;
        self.cut_off(node, heals);
        self.later(MS, Step::ForceEpoch { then: None });
    }
}

/// The tailer that comes back finds another server's reign between two of the one that it reads.
fn to_and_fro_unread(old: usize, new: usize) -> Vec<Leg> {
    let hands_over = |to| Leg::HandOver(Some(to));
    vec![Leg::TailersLeave, hands_over(new), hands_over(old), Leg::CutOff(new), Leg::Lose(new)]
}

/// The tailer reads on where it is, through another server's reign.
fn to_and_fro_untold(old: usize, new: usize) -> Vec<Leg> {
    vec![Leg::NobodyTells, Leg::HandOver(Some(new)), Leg::CutOff(old), Leg::Lose(old)]
}

/// The tailer that comes back does not find the server that knew of the loss; or it finds the one that lost, made anew.
fn lost_and_handed_on(_old: usize, new: usize) -> Vec<Leg> {
    vec![Leg::CutOff(new), Leg::TailersLeave, Leg::Lose(new), Leg::HandOver(None)]
}
