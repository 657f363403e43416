//! [`Health`]: whether a node may be asked. One for each target; events in, a condition out.
//!
//! ```text
//!            refused, or timeouts in a row            probed, and ready
//!  in use ───────────────────────────────> out of use ─────────────────> in use
//!    │ ^                                     │    ^
//!    │ └── caught up                         └────┘ each probe that fails, or finds a node that is not ready:
//!    └ fell behind: no reads                        wait 1.5 times as long, and 5 to 50 % more
//! ```
//!
//! Nothing but a probe brings a node back: a late answer does not, because a node that answers again may hold what was true
//! before it went away. Ready means: a node of ours says that it is out of quarantine; a stock memcached was told all that was
//! kept for it. What is missed in the meantime leaves it behind, so that there is no gap between the two.

use std::time::Duration;

use schemas::cure::Cure;
use tokio::time::Instant;

use super::{Condition, Failure, Outcome};

/// When a node is out of use, and when it is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Timeouts in a row after which it is out of use.
    pub timeouts_until_tko: u32,
    /// When it is probed first.
    pub probe_first: Duration,
    /// Longest wait between probes, before the jitter.
    pub probe_max: Duration,
}

/// What happened to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request ended like this. Not for probes, and not for requests that were never sent.
    Ended(Outcome),
    /// No connection, or one that broke.
    Disconnected,
    /// A probe was sent.
    Probing,
    /// A probe failed, or what was kept for the node could not be told to it.
    ProbeFailed,
    /// The node answers. `ready`: it is out of quarantine, or all that was kept for it was told to it.
    Returned {
        /// Whether it may be asked.
        ready: bool,
    },
    /// A change is missing on it.
    FellBehind,
    /// Nothing is missing on it any more.
    CaughtUp,
}

/// Whether one node may be asked.
#[derive(Clone, Debug)]
pub struct Health {
    terms: Terms,
    state: State,
    behind: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    InUse {
        timeouts: u32,
    },
    /// `probe_at` is `None` while a probe is under way.
    OutOfUse {
        probe_at: Option<Instant>,
        wait: Duration,
    },
}

impl Health {
    /// A node that is in use; a daemon that begins does not know better.
    pub fn new(terms: Terms) -> Health {
        Health { terms, state: State::InUse { timeouts: 0 }, behind: false }
    }

    /// A node that is out of use until it was probed, at once: for nodes for which something is kept.
    pub fn suspect(terms: Terms, now: Instant) -> Health {
        let state = State::OutOfUse { probe_at: Some(now), wait: terms.probe_first };
        Health { terms, state, behind: false }
    }

    /// What it may be asked.
    pub fn condition(&self) -> Condition {
        match self.state {
            State::OutOfUse { .. } => Condition::Down,
            State::InUse { .. } if self.behind => Condition::Behind,
            State::InUse { .. } => Condition::Ready,
        }
    }

    /// When it is to be probed; `None`: not before something happens.
    pub fn probe_at(&self) -> Option<Instant> {
        match self.state {
            State::OutOfUse { probe_at, .. } => probe_at,
            State::InUse { .. } => None,
        }
    }

    /// Takes note of what happened. `dice`: any number.
    pub fn step(&mut self, now: Instant, event: Event, dice: u64) {
        match (event, self.state) {
            (Event::FellBehind, _) => self.behind = true,
            (Event::CaughtUp, _) => self.behind = false,
            (Event::Ended(outcome), State::InUse { timeouts }) => {
                self.ended(now, outcome, timeouts, dice);
            }
            (Event::Disconnected, State::InUse { .. }) => self.out_of_use(now, dice),
            (Event::Probing, State::OutOfUse { wait, .. }) => {
                self.state = State::OutOfUse { probe_at: None, wait };
            }
            (Event::Returned { ready: true }, State::OutOfUse { .. }) => {
                self.state = State::InUse { timeouts: 0 };
            }
            (Event::ProbeFailed, State::OutOfUse { wait, .. }) => {
                let wait = (wait * 3 / 2).min(self.terms.probe_max);
                self.wait(now, wait, dice);
            }
            // It is on its way: soon is soon enough, but the wait does not grow.
            (Event::Returned { ready: false }, State::OutOfUse { .. }) => {
                self.wait(now, self.terms.probe_first, dice);
            }
            (Event::Ended(_), State::OutOfUse { .. }) if !Cure::ReturnAsksProbe.works() => {
                self.state = State::InUse { timeouts: 0 };
            }
            // What comes late from before it went out of use says nothing.
            (Event::Ended(_) | Event::Disconnected, State::OutOfUse { .. })
            | (Event::Probing | Event::ProbeFailed | Event::Returned { .. }, State::InUse { .. }) =>
                {}
        }
    }

    fn ended(&mut self, now: Instant, outcome: Outcome, timeouts: u32, dice: u64) {
        let Outcome::Failed(failure) = outcome else {
            self.state = State::InUse { timeouts: 0 };
            return;
        };
        match failure {
            Failure::Timeout if timeouts + 1 < self.terms.timeouts_until_tko => {
                self.state = State::InUse { timeouts: timeouts + 1 };
            }
            Failure::Timeout
            | Failure::ConnectError
            | Failure::ConnectTimeout
            | Failure::Shutdown => self.out_of_use(now, dice),
            // It answers, or we were at fault.
            Failure::Busy
            | Failure::TryAgain
            | Failure::RemoteError
            | Failure::LocalError
            | Failure::Tko => {}
        }
    }

    fn out_of_use(&mut self, now: Instant, dice: u64) {
        self.wait(now, self.terms.probe_first, dice);
    }

    fn wait(&mut self, now: Instant, wait: Duration, dice: u64) {
        let jitter = 5 + u32::try_from(dice % 46).unwrap_or(0);
        let probe_at = Some(now + wait + wait * jitter / 100);
        self.state = State::OutOfUse { probe_at, wait };
    }
}

/// The tokens of a limit.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: f64, burst: f64, now: Instant) -> Bucket {
        Bucket { rate, burst, tokens: burst, filled: now }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let gone = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = gone.mul_add(self.rate, self.tokens).min(self.burst);
        self.filled = now;
        take_one(&mut self.tokens)
    }
}

/// Requests that may go on to another node after one has not answered them in time: a share of all requests, so that nodes that
/// are too slow for their load do not bring it upon others as well.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    share: f64,
    burst: f64,
    tokens: f64,
    /// How many requests there were when one was taken last.
    seen: u64,
}

impl Retries {
    /// All of `burst` is there. `requests`: how many there were before.
    pub fn new(share: f64, burst: f64, requests: u64) -> Retries {
        Retries { share, burst, tokens: burst, seen: requests }
    }

    /// Takes the right to send one request again, if there is one. `requests`: how many there were so far.
    pub fn take(&mut self, requests: u64) -> bool {
        let more = u32::try_from(requests.saturating_sub(self.seen)).unwrap_or(u32::MAX);
        self.tokens = f64::from(more).mul_add(self.share, self.tokens).min(self.burst);
        self.seen = requests;
        take_one(&mut self.tokens)
    }
}

fn take_one(tokens: &mut f64) -> bool {
    let has = *tokens >= 1.0;
    if has {
        *tokens -= 1.0;
    }
    has
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const TERMS: Terms = Terms {
        timeouts_until_tko: 3,
        probe_first: Duration::from_secs(1),
        probe_max: Duration::from_secs(60),
    };
    const TIMEOUT: Event = Event::Ended(Outcome::Failed(Failure::Timeout));
    const REFUSED: Event = Event::Ended(Outcome::Failed(Failure::ConnectError));
    const FINE: Event = Event::Ended(Outcome::Hit);

    fn after(now: Instant, events: &[Event]) -> Health {
        let mut health = Health::new(TERMS);
        for event in events {
            health.step(now, *event, 0);
        }
        health
    }

    #[test]
    fn timeouts_in_a_row_count_and_a_refusal_is_enough() {
        let now = Instant::now();
        let condition = |events: &[Event]| after(now, events).condition();
        assert_eq!(condition(&[TIMEOUT, TIMEOUT]), Condition::Ready);
        assert_eq!(condition(&[TIMEOUT, TIMEOUT, FINE, TIMEOUT, TIMEOUT]), Condition::Ready);
        assert_eq!(condition(&[TIMEOUT, TIMEOUT, TIMEOUT]), Condition::Down);
        assert_eq!(condition(&[REFUSED]), Condition::Down);
        assert_eq!(condition(&[Event::Disconnected]), Condition::Down);
        let busy = Event::Ended(Outcome::Failed(Failure::Busy));
        assert_eq!(condition(&[busy; 9]), Condition::Ready);
    }

    #[test]
    fn probes_wait_longer_each_time_within_their_bounds() {
        let now = Instant::now();
        let mut health = after(now, &[REFUSED]);
        let mut waits = Vec::new();
        for dice in 0..14 {
            let at = health.probe_at().expect("a probe is due");
            waits.push((at - now).as_millis());
            health.step(now, Event::Probing, 0);
            assert_eq!(health.probe_at(), None);
            // 5 % and 50 % in turns.
            health.step(now, Event::ProbeFailed, dice % 2 * 45);
        }
        expect_test::expect![[r"
            [
                1050,
                1575,
                3375,
                3543,
                7593,
                7973,
                17085,
                17940,
                38443,
                40365,
                86497,
                63000,
                90000,
                63000,
            ]
        "]]
        .assert_debug_eq(&waits);
    }

    #[test]
    fn a_node_that_is_behind_is_not_read() {
        let now = Instant::now();
        assert_eq!(after(now, &[Event::FellBehind]).condition(), Condition::Behind);
        let both = [Event::FellBehind, Event::CaughtUp];
        assert_eq!(after(now, &both).condition(), Condition::Ready);
        let suspect = Health::suspect(TERMS, now);
        assert_eq!((suspect.condition(), suspect.probe_at()), (Condition::Down, Some(now)));
    }

    #[test]
    fn a_bucket_fills_with_time() {
        let now = Instant::now();
        let mut bucket = Bucket::new(10.0, 2.0, now);
        let taken = |bucket: &mut Bucket, now| (0..5).filter(|_| bucket.take(now)).count();
        assert_eq!(taken(&mut bucket, now), 2);
        assert_eq!(taken(&mut bucket, now + Duration::from_millis(110)), 1);
        assert_eq!(taken(&mut bucket, now + Duration::from_secs(60)), 2);
    }

    #[test]
    fn a_share_of_all_requests_may_be_sent_again() {
        let mut retries = Retries::new(0.2, 10.0, 7);
        let taken = |retries: &mut Retries, requests| {
            std::iter::from_fn(|| retries.take(requests).then_some(())).count()
        };
        assert_eq!(taken(&mut retries, 7), 10);
        assert_eq!(taken(&mut retries, 11), 0);
        assert_eq!(taken(&mut retries, 12), 1);
        assert_eq!(taken(&mut retries, 27), 3);
        assert_eq!(taken(&mut retries, 1_000_000), 10);
        assert_eq!(taken(&mut Retries::new(0.0, 0.0, 0), 1_000_000), 0);
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(TIMEOUT),
            Just(REFUSED),
            Just(FINE),
            Just(Event::Disconnected),
            Just(Event::Probing),
            Just(Event::ProbeFailed),
            any::<bool>().prop_map(|ready| Event::Returned { ready }),
            Just(Event::FellBehind),
            Just(Event::CaughtUp),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn nothing_but_a_probe_brings_a_node_back_and_one_is_always_due(
            events in vec((event(), any::<u64>()), 0..60),
        ) {
            let now = Instant::now();
            let (mut health, mut behind) = (Health::new(TERMS), false);
            for (event, dice) in events {
                let before = health.condition();
                let was_probing = before == Condition::Down && health.probe_at().is_none();
                health.step(now, event, dice);
                behind = (behind || event == Event::FellBehind) && event != Event::CaughtUp;
                let is = health.condition();
                if before == Condition::Down && is != Condition::Down {
                    prop_assert_eq!(event, Event::Returned { ready: true });
                }
                prop_assert!(!(behind && is == Condition::Ready));
                prop_assert_eq!(is == Condition::Down || health.probe_at().is_none(), true);
                if is == Condition::Down && health.probe_at().is_none() {
                    prop_assert!(was_probing || event == Event::Probing);
                }
                if let Some(at) = health.probe_at() {
                    prop_assert!(at >= now + TERMS.probe_first);
                    prop_assert!(at <= now + TERMS.probe_max * 3 / 2);
                }
            }
        }
    }
}
