//! Random histories of one cluster with an invalidator that is fine, or broken in one way: the verdict must say which, and
//! never anything else of a good one. Every change of a key is watched in the end, unless another of the same key follows.

use std::collections::{BTreeMap, HashMap};

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    tests::{at, changed, placement},
    *,
};

const LOOKS: Looks = Looks {
    in_flight: Duration::from_millis(100),
    late: Duration::from_secs(1),
    lost: Duration::from_secs(3),
};

/// How the invalidator treats a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Delivery {
    /// Within so many milliseconds.
    After(u64),
    Never,
    /// At once; and much later, somebody stores what he read before the change.
    Planted,
}

/// A node: for each key, what is stored and since when it is so (its CAS is the place in the history).
#[derive(Debug, Default)]
struct World {
    cas: u64,
    /// Key to (cas, value read).
    entries: HashMap<u8, (u64, u64)>,
    /// The database's value of each key: the number of its last change.
    rows: HashMap<u8, u64>,
    /// What happens later: deletes and plantings, in order.
    later: BTreeMap<(u64, u64), (u8, Option<u64>)>,
}

impl World {
    fn store(&mut self, key: u8, value: u64) {
        self.cas += 1;
        self.entries.insert(key, (self.cas, value));
    }

    fn catch_up(&mut self, now: u64) {
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            match first.remove() {
                (key, None) => drop(self.entries.remove(&key)),
                (key, Some(value)) => self.store(key, value),
            }
        }
    }
}

fn delivery() -> impl Strategy<Value = Delivery> {
    prop_oneof![
        6 => (0..80_u64).prop_map(Delivery::After),
        1 => (1200..2500_u64).prop_map(Delivery::After),
        1 => Just(Delivery::Never),
        1 => Just(Delivery::Planted),
    ]
}

proptest! {
    #[test]
    fn says_what_is_broken(
        of_keys in vec(delivery(), 4),
        steps in vec((1..400_u64, 0..4_u8, select(vec!["change", "read", "read", "read"])), 1..60),
    ) {
        let mut auditor = Auditor::new(LOOKS, 3, placement());
        let (mut world, mut now, mut found) = (World::default(), 1000, Vec::new());
        let mut skipped = 0;
        let mut judged = 0_usize;
        let mut last_change = HashMap::new();
        let steps = steps.into_iter().map(Some).chain(std::iter::repeat_n(None, 400));
        for step in steps {
            now += step.map_or(50, |(wait, ..)| wait);
            // The shell wakes it in time, and the world goes on meanwhile.
            while let Some(due) = auditor.due().filter(|due| *due <= at(now)) {
                let then = u64::try_from(due.since(at(0)).as_millis()).unwrap();
                world.catch_up(then);
                let mut actions = auditor.step(due, Event::Woke);
                while let Some(action) = actions.pop() {
                    match action {
                        Action::Look { watch, node, key, .. } => {
                            let key = key.as_bytes()[0] - b'0';
                            let sight = world.entries.get(&key).map_or(Sight::Absent, |(cas, value)| {
                                Sight::Entry { cas: *cas, value: Some(*value), filled: None }
                            });
                            actions.extend(auditor.step(due, Event::Seen { watch, node, sight }));
                        }
                        Action::Ask { watch, value } => {
                            let row = world.rows[&value.parameters[0][0]];
                            let answer = Answer::Value(row);
                            actions.extend(auditor.step(due, Event::Answered { watch, answer }));
                        }
                        Action::Found(finding) => found.push(finding),
                        Action::Judged { .. } => judged += 1,
                        Action::Unjudged { why, .. } => prop_assert!(false, "unjudged: {why:?}"),
                        Action::Skipped => {}
                    }
                }
            }
            world.catch_up(now);
            world.cas += 1;
            for node in 0..2 {
                auditor.step(at(now), Event::Ticked { node: NodeId(node), cas: world.cas });
            }
            match step {
                Some((_, key, "change")) => {
                    let before = world.rows.get(&key).copied().unwrap_or(0);
                    world.rows.insert(key, now);
                    last_change.insert(key, now);
                    let delivery = of_keys[usize::from(key)];
                    // Whoever was there is deleted by the delivery of each change.
                    match delivery {
                        Delivery::After(ms) => drop(world.later.insert((now + ms, now), (key, None))),
                        Delivery::Never => {}
                        Delivery::Planted => {
                            world.later.insert((now + 1, now), (key, None));
                            world.later.insert((now + 2, now), (key, Some(before)));
                        }
                    }
                    let mut change = changed(&format!("{key}"), Some("r"), at(now));
                    change.value = Some(ValueOf { rule: 0, parameters: vec![vec![key].into()] });
                    for action in auditor.step(at(now), Event::Changed(change)) {
                        prop_assert_eq!(action, Action::Skipped);
                        skipped += 1;
                    }
                }
                Some((_, key, _)) if !world.entries.contains_key(&key) => {
                    let value = *world.rows.entry(key).or_insert(0);
                    world.store(key, value);
                }
                _ => {}
            }
            prop_assert!(auditor.watching() <= 3, "unbounded");
        }
        prop_assert_eq!(auditor.watching(), 0, "a watch does not end");
        prop_assert!(judged > 0 || last_change.is_empty());
        for finding in &found {
            let delivery = of_keys[usize::from(finding.key.as_bytes()[0] - b'0')];
            let fits = match finding.verdict {
                Verdict::InFlight => delivery == Delivery::Never || matches!(delivery, Delivery::After(100..)),
                Verdict::Late => delivery == Delivery::Never || matches!(delivery, Delivery::After(1000..)),
                Verdict::Lost => delivery == Delivery::Never,
                Verdict::Resurrected => delivery == Delivery::Planted,
                Verdict::WrongRule => false,
            };
            prop_assert!(fits, "{finding:?} of {delivery:?}");
        }
        // And nothing is missed: who still has an old value at the end was found out.
        for (key, (_, value)) in &world.entries {
            let stale = world.rows[key] != *value && last_change.contains_key(key);
            let seen = found.iter().any(|it| it.verdict.is_red() && it.key.as_bytes()[0] - b'0' == *key);
            prop_assert!(!stale || seen || skipped > 0, "key {key} is stale, and nobody said so: {found:?}");
        }
    }
}
