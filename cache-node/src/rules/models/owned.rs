//! Rings that change while a slow sweep goes on: an entry that is not a miss has had every delete of its key, and one that could stay did.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use protocol::control::RingPlace;
use schemas::{
    cure::Cure,
    ring::{Hashing, Ring, RingNode},
};

use super::check;
use crate::rules::owned::{Owned, PENDING_MAX};

const KEYS: u8 = 12;

#[derive(Clone, Debug)]
enum Step {
    /// Another ring, and whether clients use the former one, too: by number.
    Ring {
        nodes: u8,
        own: u8,
        former: bool,
    },
    /// Nobody uses the former ring any more.
    Settled,
    /// A lane that has not heard that yet.
    Late,
    Fill(u8),
    Change(u8),
    /// Looks at so many entries.
    Sweep(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1..4_u8, 0..4_u8, any::<bool>())
            .prop_map(|(nodes, own, former)| Step::Ring { nodes, own: own % nodes, former }),
        1 => Just(Step::Settled),
        1 => Just(Step::Late),
        4 => (0..KEYS).prop_map(Step::Fill),
        4 => (0..KEYS).prop_map(Step::Change),
        3 => (1..KEYS).prop_map(Step::Sweep),
    ]
}

#[test]
fn what_is_no_miss_has_had_its_deletes() {
    let steps = vec(step(), 0..60);
    check(&steps, &[Cure::SweepRemembersRings], |steps| {
        let mut world = World::new();
        for step in &steps {
            world.play(step);
            world.is_good()?;
        }
        world.sweep(usize::MAX);
        prop_assert_eq!(world.owned.sweeping(), None, "a sweep ends");
        prop_assert!(world.entries.keys().all(|key| world.owned.is_kept(&name(*key))));
        world.is_good()
    });
}

struct World {
    owned: Owned,
    version: u64,
    /// As lanes said last, and what the narrowest of them delivers by.
    said: Vec<RingPlace>,
    delivered: Vec<RingPlace>,
    entries: BTreeMap<u8, Entry>,
    /// Of the sweep: its round, and the next key.
    round: Option<u64>,
    next: u8,
    /// Changes since a sweep ended.
    rings: usize,
}

struct Entry {
    /// A change of its key did not come here.
    stale: bool,
    /// Its key was ours by every ring since.
    stayed: bool,
}

impl World {
    fn new() -> World {
        let said = vec![place(1, 0)];
        let mut owned = Owned::default();
        owned.told(0, &said).expect("a ring");
        let delivered = said.clone();
        let (entries, round) = (BTreeMap::new(), None);
        World { owned, version: 0, said, delivered, entries, round, next: 0, rings: 1 }
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Ring { nodes, own, former } => {
                let mut said = vec![place(*nodes, *own)];
                said.extend(former.then(|| self.delivered[0].clone()));
                self.version += 1;
                (self.said, self.delivered) = (said.clone(), said);
                self.rings += 1;
                self.tell();
            }
            Step::Settled => {
                self.delivered.truncate(1);
                let said = self.delivered.clone();
                self.rings += 1;
                self.owned.told(self.version, &said).expect("a narrower one");
                self.leave();
            }
            Step::Late => self.tell(),
            Step::Fill(key) => {
                if self.owned.is_own(&name(*key)) {
                    // One that comes while older ones of its key may be there counts as old until the sweep was there.
                    let stayed = self.owned.is_kept(&name(*key));
                    self.entries.insert(*key, Entry { stale: false, stayed });
                }
            }
            Step::Change(key) if is_ours(&self.delivered, *key) => {
                self.entries.remove(key);
            }
            Step::Change(key) => {
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.stale = true;
                }
            }
            Step::Sweep(looks) => self.sweep(usize::from(*looks)),
        }
    }

    fn tell(&mut self) {
        self.owned.told(self.version, &self.said).expect("a ring");
        self.leave();
    }

    fn leave(&mut self) {
        for (key, entry) in &mut self.entries {
            entry.stayed &= is_ours(&self.delivered, *key);
        }
    }

    fn sweep(&mut self, looks: usize) {
        for _ in 0..looks {
            let Some(round) = self.owned.sweeping() else { return };
            if self.round != Some(round) {
                (self.round, self.next) = (Some(round), 0);
            }
            if self.next == KEYS {
                self.owned.swept(round);
                self.rings = 0;
                return;
            }
            if !self.owned.is_kept(&name(self.next)) {
                self.entries.remove(&self.next);
            }
            self.next += 1;
        }
    }

    fn is_good(&self) -> Result<(), TestCaseError> {
        for (key, entry) in &self.entries {
            let served = self.owned.is_kept(&name(*key));
            prop_assert!(!served || !entry.stale, "key {key} is stale");
            // A sweep that takes too long forgets.
            let stayed = entry.stayed && self.rings <= PENDING_MAX;
            prop_assert!(served || !stayed, "key {key} has never left");
        }
        Ok(())
    }
}

fn name(key: u8) -> Vec<u8> {
    format!("key:{key}").into_bytes()
}

fn place(nodes: u8, own: u8) -> RingPlace {
    let node = |number: u8| RingNode { name: format!("node-{number}"), weight: 1 };
    let nodes = (0..nodes).map(node).collect();
    RingPlace { hashing: Hashing::Crc32, nodes, own: own.into() }
}

fn is_ours(rings: &[RingPlace], key: u8) -> bool {
    rings.iter().any(|place| {
        let ring = Ring::new(place.hashing, &place.nodes).expect("a ring");
        ring.owner_of(&name(key)) == usize::from(place.own)
    })
}
