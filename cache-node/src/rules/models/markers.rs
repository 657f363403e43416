//! A list of all writers.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::{collection::vec, prelude::*};

use super::{at, check, version};
use crate::rules::{
    Named, Nonce,
    markers::{Known, Markers},
    renumbered::Asked,
};
use schemas::{cure::Cure, moment::Moment, version::Version};

const TTL: Duration = Duration::from_millis(100);
const KEYS: u64 = 3;

#[derive(Clone, Debug)]
enum Op {
    Mark {
        key: u64,
        nonce: u64,
    },
    Name {
        key: u64,
        nonce: u64,
        version: u64,
    },
    Pass {
        milliseconds: u64,
    },
    /// An instance does not answer: what is visible anywhere is not known.
    Unknown,
    /// What is visible everywhere, or anywhere, rises.
    Seen {
        region: u64,
        highest: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..KEYS, 0..3_u64).prop_map(|(key, nonce)| Op::Mark { key, nonce }),
        3 => (0..KEYS, 0..3_u64, 1..20_u64)
            .prop_map(|(key, nonce, version)| Op::Name { key, nonce, version }),
        2 => (0..60_u64).prop_map(|milliseconds| Op::Pass { milliseconds }),
        1 => Just(Op::Unknown),
        2 => (0..4_u64, 0..4_u64).prop_map(|(region, highest)| Op::Seen { region, highest }),
    ]
}

/// Of an epoch that has not ended.
fn asked(number: u64) -> Asked {
    Asked { version: version(number), needs: version(number) }
}

fn has_seen(known: Known, version: Version) -> bool {
    known.highest < Version::MAX && version <= known.highest
}

#[derive(Default)]
struct Model {
    pending: BTreeMap<(u64, u64), Moment>,
    named: Vec<(u64, Version, Moment)>,
    /// Keys of which something was named for which there was no room, or which nobody saw in time.
    unsure: BTreeSet<u64>,
}

impl Model {
    /// What nobody saw in time may be gone from now on.
    fn doubt(&mut self, now: Moment, highest: Version) {
        let gone = self
            .named
            .extract_if(.., |(_, version, since)| *version > highest && now.since(*since) >= TTL);
        self.unsure.extend(gone.map(|(key, _, _)| key));
    }

    /// Marks that somebody needs: pending ones, and of each key what was seen, and what was not.
    fn live(&self, now: Moment, known: Known) -> usize {
        let mut named = BTreeSet::new();
        for key in 0..KEYS {
            let of = self
                .named
                .iter()
                .filter(|(of, version, _)| *of == key && has_seen(known, *version));
            let seen_max = of.map(|(_, version, _)| *version).max().unwrap_or_default();
            if seen_max > known.age_floor {
                named.insert((key, seen_max));
            }
            let unseen = self.named.iter().filter(|(of, version, since)| {
                let invented = *version > known.highest && now.since(*since) >= TTL;
                *of == key && !has_seen(known, *version) && !invented
            });
            named.extend(unseen.map(|(key, version, _)| (*key, *version)));
        }
        self.pending.values().filter(|until| now < **until).count() + named.len()
    }

    /// The highest version that was named, without those that nobody saw in time.
    fn named(&self, now: Moment, key: u64, known: Known) -> Version {
        let good = |(of, version, since): &&(u64, Version, Moment)| {
            let invented = *version > known.highest && now.since(*since) >= TTL;
            *of == key && *version > known.age_floor && !invented
        };
        self.named.iter().filter(good).map(|(_, version, _)| *version).max().unwrap_or_default()
    }
}

#[test]
fn a_key_is_marked_as_long_as_somebody_needs_it() {
    let cures = [Cure::MarkerPerWriter, Cure::MarkerKeepsHighest];
    let ops = (1..8_usize, vec(op(), 0..60));
    check(&ops, &cures, |(marks_max, ops)| agrees(marks_max, &ops));
}

#[test]
fn marks_of_a_former_life_are_not_missed() {
    check(&(0..200_u64), &[Cure::MarkersUnknownAfterStart], |later| {
        let markers = Markers::new(at(50), 10, TTL);
        let known = Known { age_floor: Version::ZERO, highest: Version::ZERO };
        let marked = markers.is_marked(at(50 + later), 1, Version::ZERO, known);
        prop_assert_eq!(marked, Duration::from_millis(later) < TTL);
        Ok(())
    });
}

fn agrees(marks_max: usize, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut markers = Markers::new(at(0), marks_max, TTL);
    markers.nothing_lost(at(0));
    let mut model = Model::default();
    let (mut now, mut region, mut highest) = (0, 0, 0);
    let mut unknown = false;
    let known = |region: u64, highest: u64, unknown: bool| Known {
        age_floor: version(region / 2),
        highest: if unknown { Version::MAX } else { version(highest) },
    };
    for op in ops {
        let before = known(region, highest, unknown);
        model.doubt(at(now), before.highest);
        match op {
            Op::Mark { key, nonce } => {
                if markers.mark(at(now), *key, Nonce(*nonce), before).is_ok() {
                    model.pending.insert((*key, *nonce), at(now).later(TTL));
                } else {
                    let live = model.live(at(now), before);
                    prop_assert!(
                        live >= marks_max || !model.unsure.is_empty(),
                        "refused beside {live} of {marks_max}"
                    );
                }
            }
            Op::Name { key, nonce, version: named } => {
                let full = markers.len() >= marks_max;
                let got = markers.name(at(now), *key, Nonce(*nonce), asked(*named), before);
                let until = model.pending.remove(&(*key, *nonce));
                let in_time = until.is_some_and(|until| at(now) < until);
                prop_assert_eq!(got == Named::InTime, in_time);
                let kept = markers.named(at(now), *key, before);
                let may_miss = full || version(*named) <= before.age_floor;
                prop_assert!(kept >= version(*named) || may_miss, "{} is forgotten", named);
                if full && !in_time {
                    model.unsure.insert(*key);
                } else {
                    model.named.push((*key, version(*named), at(now)));
                }
            }
            Op::Pass { milliseconds } => now += milliseconds,
            Op::Unknown => unknown = true,
            Op::Seen { region: by, highest: beyond } => {
                unknown = false;
                region += by;
                highest = highest.max(region + beyond);
            }
        }
        let known = known(region, highest, unknown);
        for key in 0..KEYS {
            let pending = |((of, _), until): (&(u64, u64), &Moment)| *of == key && at(now) < *until;
            let meant = model.pending.iter().any(pending)
                || model.named(at(now), key, known) > version(region);
            let marked = markers.is_marked(at(now), key, version(region), known);
            let unsure = model.unsure.contains(&key);
            prop_assert!(marked == meant || unsure, "{} is marked: {}", key, marked);
        }
    }
    Ok(())
}
