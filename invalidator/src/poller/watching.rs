//! What the [`Poller`] tells operators of each instance: where it stands, and whether the region waits for it. Nothing here moves a
//! position.

use std::time::Duration;

use schemas::{moment::Moment, version::Version};

use super::{Instance, InstanceId, NOWHERE, Poller, Role};

/// An instance may be ahead of the stream for a moment, and of an epoch until that is announced. What lasts longer is an alarm.
const FOREIGN_LASTS: Duration = Duration::from_secs(5);
/// A question has been given up by then.
const SILENT_AFTER: Duration = Duration::from_secs(3);

/// What is known of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceState {
    pub instance: InstanceId,
    pub role: Role,
    /// Everything up to it is visible there.
    pub position: Version,
    /// Transactions that the furthest instance shows and this one does not; `None` if they are of several epochs.
    pub behind: Option<u64>,
    /// How old its last answer is; `None` if it never answered.
    pub answered: Option<Duration>,
    /// How long it has been asked.
    pub asked: Duration,
    /// Why the region waits for it, if so.
    pub hold: Option<Hold>,
}

/// Why a region waits for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It has never said how far it is.
    NeverAnswered,
    /// It does not answer any more, and counts with what it said last.
    Silent,
    /// It has transactions that the source does not have, and has had them for a while.
    Foreign,
    /// The stream has announced no epoch, so that no answer means a position.
    NoEpoch,
    /// Another instance shows more.
    Behind,
}

impl Hold {
    /// Whether somebody has to do something: who is only behind catches up, and an epoch comes with the first transaction.
    pub fn is_alarm(self) -> bool {
        match self {
            Hold::NeverAnswered | Hold::Silent | Hold::Foreign => true,
            Hold::NoEpoch | Hold::Behind => false,
        }
    }

    /// As it is called where operators look.
    pub fn name(self) -> &'static str {
        match self {
            Hold::NeverAnswered => "never_answered",
            Hold::Silent => "silent",
            Hold::Foreign => "foreign",
            Hold::NoEpoch => "no_epoch",
            Hold::Behind => "behind",
        }
    }
}

impl Poller {
    /// Every instance at `now`, by its number.
    pub fn states(&mut self, now: Moment) -> Vec<InstanceState> {
        self.place();
        let position = |of: &Instance| of.stands.unwrap_or(NOWHERE).position;
        let furthest = self.instances.values().map(position).max().unwrap_or(Version::ZERO);
        let state = |(id, of): (&InstanceId, &Instance)| {
            let position = position(of);
            let behind = furthest.sequence().saturating_sub(position.sequence());
            InstanceState {
                instance: *id,
                role: of.role,
                position,
                behind: (furthest.epoch() == position.epoch()).then_some(behind),
                answered: of.answered.map(|at| now.since(at)),
                asked: now.since(of.added),
                hold: self.hold(of, now).or((position < furthest).then_some(Hold::Behind)),
            }
        };
        self.instances.iter().map(state).collect()
    }

    /// Whether some answer had transactions of which the epochs that are known say nothing: one that is not known may.
    pub fn has_foreign(&self) -> bool {
        self.instances.values().any(|of| of.foreign_since.is_some())
    }

    fn hold(&self, of: &Instance, now: Moment) -> Option<Hold> {
        let Some(answered) = of.answered else { return Some(Hold::NeverAnswered) };
        let lasts = |since: Moment| now.since(since) >= FOREIGN_LASTS;
        if now.since(answered) >= SILENT_AFTER {
            Some(Hold::Silent)
        } else if self.epochs.newest().is_none() {
            Some(Hold::NoEpoch)
        } else {
            of.foreign_since.is_some_and(lasts).then_some(Hold::Foreign)
        }
    }

    /// A round is over: who has foreign transactions now?
    pub(super) fn note_foreign(&mut self, now: Moment) {
        for of in self.instances.values_mut() {
            let foreign = of.answered.is_some() && of.stands.is_some_and(|stands| stands.foreign);
            of.foreign_since = foreign.then(|| of.foreign_since.unwrap_or(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use schemas::{
        gtid::{Dialect, GtidSet},
        record::{EpochStart, Origin},
    };

    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const OTHER: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn at(millis: u64) -> Moment {
        Moment::after_start(Duration::from_millis(millis))
    }

    fn set(text: &str) -> GtidSet {
        GtidSet::parse(Dialect::Mysql, text).expect("a set")
    }

    /// A primary and a replica, both asked since the beginning.
    fn poller() -> Poller {
        let mut poller = Poller::new(Dialect::Mysql, None);
        poller.add(Moment::START, InstanceId(0), Role::Primary);
        poller.add(Moment::START, InstanceId(1), Role::Replica);
        poller
    }

    fn epoch(poller: &mut Poller) {
        let uuid = UUID.parse().expect("a UUID");
        poller.learn(
            at(1),
            EpochStart {
                source: "s".into(),
                epoch: 1,
                origin: Origin::Mysql { uuid, tag: "".into(), server_id: 1 },
                first: 1,
                before: GtidSet::empty(Dialect::Mysql),
                lossless: true,
            },
        );
    }

    /// The two answer these sets, at a time; `-` is no answer.
    fn round(poller: &mut Poller, millis: u64, sets: [&str; 2]) {
        for (id, said) in (0..).zip(sets) {
            if said != "-" {
                poller.answered(at(millis), InstanceId(id), &set(said));
            }
        }
        poller.poll(at(millis), at(millis + 1));
    }

    fn check(poller: &mut Poller, millis: u64, expect: Expect) {
        let shown = poller.states(at(millis)).into_iter().map(|of| {
            let answered = of.answered.map_or("never".to_owned(), |age| format!("{age:?} ago"));
            let hold = of.hold.map_or("-", Hold::name);
            format!(
                "{} {:?} {} behind {:?} {answered} {hold}\n",
                of.instance.0, of.role, of.position, of.behind
            )
        });
        expect.assert_eq(&shown.collect::<String>());
    }

    #[test]
    fn what_operators_are_told() {
        let mut poller = poller();
        check(
            &mut poller,
            10,
            expect![[r"
            0 Primary 0.0 behind Some(0) never never_answered
            1 Replica 0.0 behind Some(0) never never_answered
        "]],
        );
        let (five, six) = (format!("{UUID}:1-5"), format!("{UUID}:1-6"));
        round(&mut poller, 20, [&five, "-"]);
        check(
            &mut poller,
            20,
            expect![[r"
            0 Primary 0.0 behind Some(0) 0ns ago no_epoch
            1 Replica 0.0 behind Some(0) never never_answered
        "]],
        );
        epoch(&mut poller);
        round(&mut poller, 30, [&six, &five]);
        check(
            &mut poller,
            40,
            expect![[r"
            0 Primary 1.6 behind Some(0) 10ms ago -
            1 Replica 1.5 behind Some(1) 10ms ago behind
        "]],
        );
        round(&mut poller, 4000, [&six, "-"]);
        check(
            &mut poller,
            4000,
            expect![[r"
            0 Primary 1.6 behind Some(0) 0ns ago -
            1 Replica 1.5 behind Some(1) 3.97s ago silent
        "]],
        );
        // A transaction of its own is no alarm at once, and stays one until it is gone.
        let own = format!("{six},{OTHER}:1");
        round(&mut poller, 5000, [&six, &own]);
        round(&mut poller, 9000, [&six, &own]);
        check(
            &mut poller,
            9000,
            expect![[r"
            0 Primary 1.6 behind Some(0) 0ns ago -
            1 Replica 0.0 behind None 0ns ago behind
        "]],
        );
        assert!(poller.has_foreign());
        round(&mut poller, 10_100, [&six, &own]);
        check(
            &mut poller,
            10_200,
            expect![[r"
            0 Primary 1.6 behind Some(0) 100ms ago -
            1 Replica 0.0 behind None 100ms ago foreign
        "]],
        );
        round(&mut poller, 10_300, [&six, &six]);
        check(
            &mut poller,
            10_300,
            expect![[r"
            0 Primary 1.6 behind Some(0) 0ns ago -
            1 Replica 1.6 behind Some(0) 0ns ago -
        "]],
        );
        assert!(!poller.has_foreign());
    }

    /// MariaDB's replicas leave out of their position what somebody wrote on them.
    #[test]
    fn what_a_replica_wrote_itself_is_foreign() {
        let set = |text: &str| GtidSet::parse(Dialect::MariaDb, text).expect("a set");
        let mut poller = Poller::new(Dialect::MariaDb, None);
        poller.add(Moment::START, InstanceId(0), Role::Replica);
        let start = |epoch, server_id, first, before| EpochStart {
            source: "s".into(),
            epoch,
            origin: Origin::MariaDb { domain: 0, server_id },
            first,
            before: set(before),
            lossless: false,
        };
        poller.learn(at(1), start(1, 1, 11, "0-1-10"));
        let position = |poller: &mut Poller, wrote: &str| {
            poller.wrote(InstanceId(0), &set(wrote));
            poller.answered(at(10), InstanceId(0), &set("0-1-15"));
            let poll = poller.poll(at(10), at(11));
            (poll.region.to_string(), poll.highest == Version::MAX, poller.has_foreign())
        };
        assert_eq!(position(&mut poller, ""), ("1.15".to_owned(), false, false));
        // Before it became a replica, or when it was the primary.
        assert_eq!(position(&mut poller, "0-2-9"), ("1.15".to_owned(), false, false));
        assert_eq!(position(&mut poller, "0-2-12"), ("0.0".to_owned(), true, true));
        assert_eq!(position(&mut poller, ""), ("1.15".to_owned(), false, false));
        // It was the primary, and lost the end of what it wrote. The domain is past that.
        poller.learn(at(12), start(2, 2, 21, "0-1-20"));
        poller.learn(at(13), start(3, 2, 31, "0-2-30"));
        poller.wrote(InstanceId(0), &set("0-1-25"));
        poller.answered(at(14), InstanceId(0), &set("0-2-40"));
        assert_eq!(poller.poll(at(14), at(15)).region.to_string(), "1.20");
    }
}
