//! [`Plan`]: what a cold node asks for next, how fast, and when it is warm. Pure: no clock, no sockets.
//!
//! ```text
//! Waiting ── this node is up to date ──▶ Warming ── the hit rates meet, or everything was copied
//!                                                   and nobody reads, or the deadline ──▶ Ended
//! ```
//!
//! Nothing is asked for while this node is not up to date itself: what it kept would be capped to a short life, and the deletes
//! that it has not seen would only make misses of it later. Whether a copy may be kept is not decided here, but by the rules.

use std::{collections::VecDeque, time::Duration};

use protocol::control::wire::GiverState;
use schemas::moment::Moment;

/// Hit rates are compared over so many ticks,
const WINDOW_TICKS: usize = 10;
/// if there were so many reads in them.
const READS_MIN: u64 = 500;
/// The cold rate must be so much of the warm one, in percent.
const MEET_PERCENT: u64 = 97;
/// Entries that one question looks at.
const LOOKS: u32 = 500;
/// Fewer are not worth a question.
const LOOKS_MIN: u32 = 50;
/// Before a node that broke, or gives nothing, is asked again: doubled each time.
const BACK_OFF: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// A walk is done again, after a while, if more than one in so many of its copies could not be kept: the source, or this node, was behind.
const REFUSED_ONE_IN: u64 = 10;
const AGAIN: Duration = Duration::from_secs(2);
/// Before somebody who has nothing to do asks again.
const IDLE: Duration = Duration::from_millis(100);

/// How a warm-up goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// It ends after this, whatever was reached.
    pub deadline: Duration,
    /// Entries that are looked at in a second, at all sources together.
    pub entries_per_s_max: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Plan {
    pace: Pace,
    phase: Phase,
    sources: Vec<Source>,
    /// Entries that may be looked at now, in thousandths.
    allowed: u64,
    at: Moment,
    /// What was read here and at the sources, tick by tick.
    window: VecDeque<(Reads, Reads)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Warming { since: Moment, live: Live },
    Ended(Ended),
}

#[derive(Clone, Debug, Default)]
struct Source {
    over: bool,
    up: bool,
    looked: u64,
    /// Of what was looked at, copies that the rules refused.
    refused: u64,
    entries: u64,
    reads: Reads,
    failures: u32,
    not_before: Moment,
}

/// Whether this node is up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Live {
    Yes,
    No,
}

/// Reads so far, and how many found a value without help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads {
    pub(super) gets: u64,
    pub(super) hits: u64,
}

/// Why a warm-up has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The node finds about as much as the warm cluster does; in percent.
    RatesMet {
        own: u64,
        warm: u64,
    },
    /// All entries were looked at, and nobody reads here.
    Copied,
    Deadline,
}

/// What somebody who asks a source does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Wait(Duration),
    /// Walk on, with so many looks.
    Walk(u32),
    Over,
}

/// What a source answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) state: GiverState,
    pub(super) looked: u32,
    /// Copies that the rules refused.
    pub(super) refused: u64,
    pub(super) entries: u64,
    pub(super) reads: Reads,
    /// There is nothing behind it.
    pub(super) over: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) looked: u64,
    pub(super) entries: u64,
    pub(super) sources_up: usize,
    /// `None`: nobody can tell.
    pub(super) seconds_left: Option<u64>,
}

impl Plan {
    pub(super) fn new(sources: usize, pace: Pace) -> Plan {
        Plan {
            pace,
            phase: Phase::Waiting,
            sources: vec![Source::default(); sources],
            allowed: 0,
            at: Moment::START,
            window: VecDeque::new(),
        }
    }

    /// To be called once a second. Returns why the warm-up ends, when it does.
    pub(super) fn tick(&mut self, now: Moment, live: Live, own: Reads) -> Option<Ended> {
        let since = match self.phase {
            Phase::Ended(_) => return None,
            Phase::Waiting if live == Live::No => return None,
            Phase::Waiting => {
                self.at = now;
                now
            }
            Phase::Warming { since, .. } => since,
        };
        self.phase = Phase::Warming { since, live };
        let warm = self.sources.iter().fold(Reads::default(), |sum, source| Reads {
            gets: sum.gets.saturating_add(source.reads.gets),
            hits: sum.hits.saturating_add(source.reads.hits),
        });
        if self.window.len() > WINDOW_TICKS {
            self.window.pop_front();
        }
        self.window.push_back((own, warm));
        let ended = self.ended(now.since(since))?;
        self.phase = Phase::Ended(ended);
        Some(ended)
    }

    fn ended(&self, took: Duration) -> Option<Ended> {
        if took >= self.pace.deadline {
            return Some(Ended::Deadline);
        }
        let (first, last) = (self.window.front()?, self.window.back()?);
        if self.window.len() <= WINDOW_TICKS {
            return None;
        }
        let own = last.0.since(first.0);
        let lately = last.1.since(first.1);
        // Where the warm cluster is not read any more, what it found before counts.
        let warm = if lately.gets >= READS_MIN { lately } else { last.1 };
        if own.gets >= READS_MIN && warm.gets > 0 {
            let (own, warm) = (own.percent(), warm.percent());
            let met = own.saturating_mul(100) >= warm.saturating_mul(MEET_PERCENT);
            return met.then_some(Ended::RatesMet { own, warm });
        }
        let copied = self.sources.iter().all(|source| source.over);
        (copied && own.gets < READS_MIN).then_some(Ended::Copied)
    }

    /// What to do at a source.
    pub(super) fn next(&mut self, now: Moment, source: usize) -> Next {
        match self.phase {
            Phase::Ended(_) => return Next::Over,
            Phase::Waiting | Phase::Warming { live: Live::No, .. } => return Next::Wait(IDLE),
            Phase::Warming { live: Live::Yes, .. } => {}
        }
        self.allow(now);
        let Some(source) = self.sources.get(source) else { return Next::Over };
        if source.not_before > now {
            return Next::Wait(source.not_before.since(now));
        }
        let allowed = u32::try_from(self.allowed / 1000).unwrap_or(u32::MAX);
        if source.over {
            // It still tells how much it is read.
            return Next::Walk(0);
        }
        if allowed < LOOKS_MIN {
            return Next::Wait(IDLE.min(Duration::from_millis(20)));
        }
        let looks = allowed.min(LOOKS);
        self.allowed = self.allowed.saturating_sub(u64::from(looks).saturating_mul(1000));
        Next::Walk(looks)
    }

    /// A source has answered.
    pub(super) fn answered(&mut self, now: Moment, at: usize, answer: &Answer) {
        let Some(source) = self.sources.get_mut(at) else { return };
        source.reads = answer.reads;
        if answer.state != GiverState::Gives {
            return self.failed(now, at);
        }
        source.up = true;
        source.failures = 0;
        source.entries = answer.entries;
        source.looked = source.looked.saturating_add(answer.looked.into());
        source.refused = source.refused.saturating_add(answer.refused);
        if answer.over && source.refused.saturating_mul(REFUSED_ONE_IN) > source.looked {
            (source.looked, source.refused) = (0, 0);
            source.not_before = now.later(AGAIN);
            return;
        }
        source.over |= answer.over;
        if source.over {
            source.not_before = now.later(Duration::from_millis(500));
        }
    }

    /// A source did not answer, or gives nothing now.
    pub(super) fn failed(&mut self, now: Moment, at: usize) {
        let Some(source) = self.sources.get_mut(at) else { return };
        let times = 1_u32.wrapping_shl(source.failures.min(8));
        source.up = false;
        source.failures = source.failures.saturating_add(1);
        source.not_before = now.later(BACK_OFF.saturating_mul(times).min(BACK_OFF_MAX));
    }

    /// Whether copies are asked for when a key is missing.
    pub(super) fn helps(&self) -> bool {
        matches!(self.phase, Phase::Warming { live: Live::Yes, .. })
    }

    pub(super) fn progress(&self, now: Moment) -> Progress {
        let sum = |of: fn(&Source) -> u64| self.sources.iter().map(of).sum::<u64>();
        let looked = sum(|source| source.looked);
        // A walk meets some entries twice.
        let entries =
            sum(
                |source| {
                    if source.over { source.looked } else { source.entries.max(source.looked) }
                },
            );
        let took = match self.phase {
            Phase::Warming { since, .. } => now.since(since).as_millis(),
            Phase::Waiting | Phase::Ended(_) => 0,
        };
        let took_ms = u64::try_from(took).unwrap_or(u64::MAX);
        let left_ms = entries.saturating_sub(looked).saturating_mul(took_ms).checked_div(looked);
        Progress {
            looked,
            entries,
            sources_up: self.sources.iter().filter(|source| source.up).count(),
            seconds_left: left_ms.filter(|_| took_ms > 0).map(|left| left.div_ceil(1000)),
        }
    }

    fn allow(&mut self, now: Moment) {
        let rate = u64::from(self.pace.entries_per_s_max);
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        // Thousandths in a millisecond are entries in a second. Half a second's worth is saved up.
        let most = rate.saturating_mul(500).max(u64::from(LOOKS_MIN).saturating_mul(1000));
        self.allowed = self.allowed.saturating_add(passed.saturating_mul(rate)).min(most);
        self.at = self.at.max(now);
    }
}

impl Reads {
    fn since(self, earlier: Reads) -> Reads {
        // Who starts again counts from zero.
        let gets = self.gets.saturating_sub(earlier.gets);
        Reads { gets, hits: self.hits.saturating_sub(earlier.hits).min(gets) }
    }

    fn percent(self) -> u64 {
        self.hits.saturating_mul(100).checked_div(self.gets).unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
