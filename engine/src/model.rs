//! The engine against an obvious model: a map with the same rules. And the engine's own invariants, after every step.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use crate::{
    Cursor, Engine, Full, Meta, Now, Policy, Settings,
    blocks::BLOCKS_PER_FRAME,
    item::{Body, Shape},
    segment::{POOLS, Use},
};

/// A random step.
#[derive(Clone, Debug)]
enum Op {
    Get(u8),
    Put(u8, usize, Kept),
    Amend(u8, Kept),
    Remove(u8),
    Wait(u32),
    Sweep,
    Walk(usize),
    Limit(usize),
    Clear,
}

/// What is kept with a value.
#[derive(Clone, Copy, Debug)]
struct Kept {
    ttl: Option<u32>,
    cas: u64,
    mark: Option<u64>,
    flags: u32,
}

fn kept() -> impl Strategy<Value = Kept> {
    let cas = prop_oneof![8 => 0..1000_u64, 1 => any::<u64>()];
    let mark = prop_oneof![
        2 => Just(None),
        4 => (7 << 48..(7 << 48) + 1000_u64).prop_map(Some),
        1 => Just(Some(u64::MAX))
    ];
    let ttl = proptest::option::of(1..300_u32);
    let flags = prop_oneof![3 => Just(0), 1 => any::<u32>()];
    (ttl, cas, mark, flags).prop_map(|(ttl, cas, mark, flags)| Kept { ttl, cas, mark, flags })
}

fn op(value_bytes_max: usize, bytes_max: usize) -> impl Strategy<Value = Op> {
    let key = any::<u8>();
    let bytes = prop_oneof![
        6 => 0..600_usize,
        2 => 0..9000_usize.min(value_bytes_max),
        1 => 0..=value_bytes_max
    ];
    prop_oneof![
        16 => key.prop_map(Op::Get),
        24 => (key, bytes, kept()).prop_map(|(key, bytes, kept)| Op::Put(key, bytes, kept)),
        4 => (key, kept()).prop_map(|(key, kept)| Op::Amend(key, kept)),
        4 => key.prop_map(Op::Remove),
        4 => (0..40_u32).prop_map(Op::Wait),
        2 => Just(Op::Sweep),
        3 => (1..60_usize).prop_map(Op::Walk),
        1 => (bytes_max / 2..bytes_max * 2).prop_map(Op::Limit),
        1 => (0..12_u8).prop_map(|dice| if dice == 0 { Op::Clear } else { Op::Sweep }),
    ]
}

/// An entry as it should be.
#[derive(Clone, Debug)]
struct Known {
    value: Vec<u8>,
    meta: Meta,
    /// Differs from put to put.
    birth: u64,
}

/// A walk on its way.
struct Walk {
    cursor: Cursor,
    /// What was there at its beginning.
    births: BTreeMap<u8, u64>,
    seen: BTreeSet<u8>,
}

struct World {
    engine: Engine,
    model: BTreeMap<u8, Known>,
    now: Now,
    walk: Option<Walk>,
    births: u64,
    bytes_max: usize,
}

fn key(number: u8) -> Vec<u8> {
    let mut key = format!("key:{number}:").into_bytes();
    key.resize(key.len() + usize::from(number) % 200, b'x');
    key
}

fn value(birth: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (birth.wrapping_mul(31) as usize + at * at) as u8).collect()
}

impl World {
    fn new(bytes_max: usize, policy: Policy) -> World {
        let settings = Settings { bytes_max, policy, hash_seed: 9 };
        World {
            engine: Engine::new(settings).expect("memory"),
            model: BTreeMap::new(),
            now: Now { unix: 1_800_000_000, uptime: 50 },
            walk: None,
            births: 0,
            bytes_max,
        }
    }

    fn meta(&self, kept: Kept) -> Meta {
        Meta {
            flags: kept.flags,
            expiry: kept.ttl.map_or(0, |ttl| self.now.unix + ttl),
            cas: kept.cas,
            mark: kept.mark,
            ..Meta::new(self.now)
        }
    }

    fn run(&mut self, op: &Op) {
        let (before, usage) = (self.engine.losses(), self.engine.usage());
        let needed = match op {
            Op::Put(number, bytes, kept) => {
                self.put(*number, *bytes, *kept);
                *bytes
            }
            Op::Amend(number, kept) => {
                self.amend(*number, *kept);
                self.model.get(number).map_or(0, |known| known.value.len())
            }
            Op::Get(number) => {
                self.get(*number);
                0
            }
            Op::Remove(number) => {
                let (hash, key) = (self.engine.hash(&key(*number)), key(*number));
                if let Some(found) = self.engine.find(hash, &key, self.now) {
                    self.engine.remove(found);
                }
                self.model.remove(number);
                0
            }
            Op::Wait(seconds) => {
                self.now.unix += seconds;
                self.now.uptime += seconds;
                0
            }
            Op::Sweep => {
                self.engine.sweep(0, usize::MAX, self.now);
                0
            }
            Op::Walk(count) => {
                self.walk(*count);
                0
            }
            Op::Limit(bytes_max) => {
                self.bytes_max = *bytes_max;
                self.engine.limit(*bytes_max, self.now);
                usize::MAX
            }
            Op::Clear => {
                self.engine.clear();
                self.model.clear();
                0
            }
        };
        // Nothing goes while there is room.
        let lost = self.engine.losses().evicted - before.evicted;
        let slack = 6 * self.engine.frame_bytes + needed.saturating_mul(5) / 4;
        let full = usage.used_bytes.saturating_add(slack) >= self.bytes_max;
        assert!(lost == 0 || full, "{lost} evicted by {op:?} with {usage:?} of {}", self.bytes_max);
        self.check();
    }

    fn put(&mut self, number: u8, bytes: usize, kept: Kept) {
        let (name, meta) = (key(number), self.meta(kept));
        self.births += 1;
        let value = value(self.births, bytes);
        let (head, tail) = value.split_at(bytes / 3);
        let hash = self.engine.hash(&name);
        self.model.remove(&number);
        if let Ok(found) = self.engine.put(hash, &name, &[head, tail], &meta, self.now) {
            assert_eq!(self.engine.value(found).to_vec(), value);
            self.model.insert(number, Known { value, meta, birth: self.births });
            return;
        }
        let may_evict = self.engine.settings.policy != Policy::Never;
        // A value must leave the table and some frames their room.
        let fits = bytes * 5 / 4 + 16 * self.engine.frame_bytes < self.bytes_max / 2;
        assert!(!(may_evict && fits), "{bytes} bytes were refused");
    }

    fn amend(&mut self, number: u8, kept: Kept) {
        let (name, meta) = (key(number), self.meta(kept));
        let Some(found) = self.engine.find(self.engine.hash(&name), &name, self.now) else {
            return;
        };
        match self.engine.amend(found, &meta, self.now) {
            Ok(found) => {
                assert_eq!(self.engine.meta(found), meta);
                let known = self.model.get_mut(&number).expect("what is found is known");
                known.meta = meta;
                self.births += 1;
                known.birth = self.births;
            }
            Err(Full) => drop(self.model.remove(&number)),
        }
    }

    fn get(&mut self, number: u8) {
        let name = key(number);
        let hash = self.engine.hash(&name);
        self.engine.glance().prefetch(hash);
        self.engine.prefetch(hash);
        let Some(found) = self.engine.find(hash, &name, self.now) else { return };
        self.engine.used(found, self.now);
        let known = self.model.get_mut(&number).expect("what is found is known");
        known.meta.traits |= crate::traits::FETCHED;
        if self.now.unix - known.meta.used >= 60 {
            known.meta.used = self.now.unix;
        }
    }

    fn walk(&mut self, count: usize) {
        let births = self.model.iter().map(|(key, known)| (*key, known.birth)).collect();
        let engine = &mut self.engine;
        let walk = self.walk.take();
        let mut walk = walk.unwrap_or_else(|| {
            let hottest_first = self.births.is_multiple_of(2);
            let cursor = if hottest_first { engine.walk() } else { engine.walk_oldest_first() };
            Walk { cursor, births, seen: BTreeSet::new() }
        });
        let (model, now, seen) = (&self.model, self.now, &mut walk.seen);
        let next = engine.page(walk.cursor, count, now, |key, meta, value| {
            let number = key.split(|byte| *byte == b':').nth(1).expect("keys have a number");
            let number = std::str::from_utf8(number).expect("digits").parse().expect("a number");
            let known = model.get(&number).expect("what is shown is known");
            assert_eq!((&known.meta, &known.value), (meta, &value.to_vec()));
            seen.insert(number);
        });
        if let Some(cursor) = next {
            self.walk = Some(Walk { cursor, ..walk });
            return;
        }
        for (number, birth) in walk.births {
            let same = self.model.get(&number).is_some_and(|known| known.birth == birth);
            let name = key(number);
            let there = self.engine.find(self.engine.hash(&name), &name, self.now).is_some();
            assert!(!same || !there || walk.seen.contains(&number), "{number} was not met");
        }
    }

    /// Every key has its last value, or none; and none only if the engine says that it had to go.
    fn check(&mut self) {
        let (now, mut gone) = (self.now, Vec::new());
        let policy = self.engine.settings.policy;
        for (number, known) in &self.model {
            let name = key(*number);
            match self.engine.find(self.engine.hash(&name), &name, now) {
                Some(found) => {
                    assert!(!known.meta.is_over(now), "{number} is over");
                    assert_eq!(self.engine.meta(found), known.meta, "{number}");
                    assert_eq!(self.engine.value(found).to_vec(), known.value, "{number}");
                }
                None if known.meta.is_over(now) => gone.push(*number),
                None => {
                    assert!(self.engine.losses().evicted > 0, "{number} is lost");
                    gone.push(*number);
                }
            }
        }
        let limited = self.bytes_max;
        let evicted = policy == Policy::Never
            && gone.iter().any(|number| !self.model[number].meta.is_over(now));
        assert!(!evicted || self.engine.losses().evicted > 0, "with {limited} bytes");
        for number in &gone {
            self.model.remove(number);
        }
        assert_eq!(self.engine.len(), self.model.len());
        let usage = self.engine.usage();
        assert!(usage.used_bytes <= self.bytes_max.max(1 << 16), "{usage:?} of {limited}");
        invariants(&self.engine);
    }
}

/// Counts everything again.
fn invariants(engine: &Engine) {
    let (mut items, mut dead, mut blocks) = (0, 0, 0);
    let mut large_of = [0_u64; 2];
    for frame in 0..engine.segments.limit() as u32 {
        let segment = *engine.segments.frame(frame);
        let Use::Segment(pool) = segment.used else { continue };
        let start = engine.frame_start(frame);
        let (mut at, mut live, mut large) = (start, 0, 0);
        while at < start + segment.written as usize {
            let place = at as u64;
            let shape = Shape::read(engine.item(place));
            at += shape.bytes();
            if shape.is_dead() {
                dead += shape.bytes() as u64;
                continue;
            }
            live += shape.bytes();
            items += 1;
            let (_, slot) = engine.look_at(engine.hash_at(place), place);
            assert_eq!(slot.place(), place);
            if let Body::Blocks { bytes, .. } = engine.head(place).body {
                let parts: usize = engine.value_at(place).parts().map(<[u8]>::len).sum();
                assert_eq!(parts, bytes as usize);
                let count = engine.blocks.needed(bytes as usize);
                blocks += count;
                large += (count * engine.blocks.block_bytes()) as u64;
            }
            let expiry = engine.head(place).meta.expiry;
            assert!(
                expiry == 0 || (segment.expiry_min..=segment.expiry_max).contains(&expiry),
                "a sweep would miss it"
            );
        }
        assert_eq!(at, start + segment.written as usize);
        assert_eq!((live, large), (segment.live as usize, segment.large));
        large_of[pool as usize] += large;
    }
    assert_eq!((items, dead), (engine.len(), engine.segments.dead()));
    for pool in POOLS {
        assert_eq!(engine.segments.extent(pool).large, large_of[pool as usize]);
    }
    let frames = (0..engine.segments.limit() as u32).map(|at| engine.segments.frame(at).used);
    let sheets = frames.filter(|used| *used == Use::Blocks).count();
    assert_eq!(sheets * BLOCKS_PER_FRAME - engine.blocks.free(), blocks);
    assert_eq!(engine.blocks_wanted, 0);
}

fn play(bytes_max: usize, policy: Policy, ops: &[Op]) {
    let mut world = World::new(bytes_max, policy);
    for op in ops {
        world.run(op);
    }
}

const SMALL: usize = 200_000;
const LARGE: usize = 6 << 20;
const MEGABYTE: usize = 1 << 20;

/// More in a long run.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    let long = std::env::var_os("MCSQUEAL_LONG").is_some();
    let cases = if cfg!(miri) { 2 } else { cases * if long { 100 } else { 1 } };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

const STEPS: usize = if cfg!(miri) { 60 } else { 400 };

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn in_little_memory(ops in vec(op(20_000, SMALL), 0..STEPS)) {
        play(SMALL, Policy::S3Fifo, &ops);
    }

    #[test]
    fn by_the_control_policy(ops in vec(op(5000, SMALL), 0..STEPS)) {
        play(SMALL, Policy::Lru, &ops);
    }

    #[test]
    fn without_eviction(ops in vec(op(20_000, SMALL), 0..STEPS)) {
        play(SMALL, Policy::Never, &ops);
    }
}

#[cfg(not(miri))]
proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn with_values_of_a_megabyte(ops in vec(op(MEGABYTE, LARGE), 0..120)) {
        play(LARGE, Policy::S3Fifo, &ops);
    }
}

#[cfg(not(miri))]
#[test]
fn a_copy_in_the_order_of_a_walk_evicts_as_its_original_would() {
    let now = Now { unix: 1_800_000_000, uptime: 5 };
    let settings = Settings { bytes_max: 1 << 20, hash_seed: 3, ..Settings::default() };
    let name = |number: u32| format!("key:{number}").into_bytes();
    let put = |engine: &mut Engine, number: u32| {
        let (key, value) = (name(number), vec![7; 100]);
        engine.put(engine.hash(&key), &key, &[&value], &Meta::new(now), now).expect("room");
    };
    let read = |engine: &mut Engine, number: u32| {
        let key = name(number);
        let found = engine.find(engine.hash(&key), &key, now);
        found.inspect(|found| engine.used(*found, now)).is_some()
    };
    let mut original = Engine::new(settings).expect("memory");
    // What is used again and again, among much that is not.
    for number in 0..20_000 {
        put(&mut original, 100 + number);
        let hot = number % 100;
        if !read(&mut original, hot) {
            put(&mut original, hot);
        }
    }
    let mut copy = Engine::new(settings).expect("memory");
    let mut cursor = Some(original.walk_oldest_first());
    let mut pools = [0_usize; 2];
    while let Some(at) = cursor {
        cursor = original.page_with_pools(at, 50, now, |pool, key, meta, value| {
            pools[pool as usize] += 1;
            let hash = copy.hash(key);
            copy.put_in(pool, (hash, key), &[&value.to_vec()], meta, now).expect("room");
        });
    }
    assert!(pools[0] > 100 && pools[1] >= 90, "{pools:?}");
    assert!(copy.len() * 100 >= original.len() * 95, "{} of {}", copy.len(), original.len());
    for number in 0..2000 {
        put(&mut copy, 50_000 + number);
    }
    let hot = (0..100).filter(|number| read(&mut copy, *number)).count();
    assert!(hot >= 90, "{hot} of 100 survived a scan of new ones");
}

#[cfg(not(miri))]
#[test]
fn what_was_read_once_outlives_what_was_not() {
    let now = Now { unix: 1_800_000_000, uptime: 5 };
    let settings = Settings { bytes_max: 1 << 20, hash_seed: 3, ..Settings::default() };
    let mut engine = Engine::new(settings).expect("memory");
    let name = |number: u32| format!("key:{number}").into_bytes();
    for number in 0..20_000 {
        let key = name(number);
        let found = engine.put(engine.hash(&key), &key, &[&[7; 100]], &Meta::new(now), now);
        if number < 600 && number % 2 == 0 {
            engine.used(found.expect("room"), now);
        }
    }
    let [read, unread] = [0, 1].map(|first| {
        let keys = (first..600).step_by(2).map(name);
        keys.filter(|key| engine.find(engine.hash(key), key, now).is_some()).count()
    });
    assert!(read >= 270 && unread == 0, "{read} and {unread} of 300");
}
