//! Caches that decide item by item, bounded by bytes: to compare with.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::trace::Trace;

/// A cache of keys.
pub(super) trait Cache {
    /// A request; true if it is a hit. What is missing is stored.
    fn request(&mut self, key: u32, bytes: u64) -> bool;
}

/// Replays a trace; every item takes `overhead` bytes more.
pub(super) fn hits(cache: &mut impl Cache, trace: &Trace, overhead: u64) -> u64 {
    let hit = |key: &&u32| cache.request(**key, trace.bytes(**key) + overhead);
    trace.requests.iter().filter(hit).count() as u64
}

/// What was not used for longest goes.
#[derive(Debug)]
pub(super) struct Lru {
    room: u64,
    bytes: u64,
    turns: HashMap<u32, u64>,
    order: BTreeMap<u64, (u32, u64)>,
    turn: u64,
}

impl Lru {
    pub(super) fn new(room: u64) -> Lru {
        Lru { room, bytes: 0, turns: HashMap::new(), order: BTreeMap::new(), turn: 0 }
    }
}

impl Cache for Lru {
    fn request(&mut self, key: u32, bytes: u64) -> bool {
        self.turn += 1;
        let before = self.turns.insert(key, self.turn);
        if before.is_none() {
            self.bytes += bytes;
        }
        let hit = before.is_some_and(|before| self.order.remove(&before).is_some());
        self.order.insert(self.turn, (key, bytes));
        while self.bytes > self.room {
            let Some((_, (gone, bytes))) = self.order.pop_first() else { break };
            self.turns.remove(&gone);
            self.bytes -= bytes;
        }
        hit
    }
}

/// S3-FIFO: a small queue, a main queue, and ghosts of what left the small one.
#[derive(Debug)]
pub(super) struct S3Fifo {
    room: u64,
    items: HashMap<u32, Item>,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    small_bytes: u64,
    main_bytes: u64,
    ghosts: HashMap<u32, u64>,
    evictions: u64,
}

#[derive(Debug)]
struct Item {
    bytes: u64,
    uses: u8,
}

const SMALL_SHARE: u64 = 10;
const USES_MAX: u8 = 3;
const PROMOTION: u8 = 2;

impl S3Fifo {
    pub(super) fn new(room: u64) -> S3Fifo {
        S3Fifo {
            room,
            items: HashMap::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            small_bytes: 0,
            main_bytes: 0,
            ghosts: HashMap::new(),
            evictions: 0,
        }
    }

    fn evict(&mut self) {
        if self.small_bytes * SMALL_SHARE > self.room || self.main.is_empty() {
            self.evict_small();
        } else {
            self.evict_main();
        }
    }

    fn evict_small(&mut self) {
        let Some(key) = self.small.pop_front() else { return };
        let Some(item) = self.items.get_mut(&key) else { return };
        self.small_bytes -= item.bytes;
        if item.uses >= PROMOTION {
            item.uses = 0;
            self.main_bytes += item.bytes;
            self.main.push_back(key);
        } else {
            self.items.remove(&key);
            self.evictions += 1;
            self.ghosts.insert(key, self.evictions);
        }
    }

    fn evict_main(&mut self) {
        let Some(key) = self.main.pop_front() else { return };
        let Some(item) = self.items.get_mut(&key) else { return };
        if item.uses > 0 {
            item.uses -= 1;
            self.main.push_back(key);
        } else {
            self.main_bytes -= item.bytes;
            self.items.remove(&key);
        }
    }
}

impl Cache for S3Fifo {
    fn request(&mut self, key: u32, bytes: u64) -> bool {
        if let Some(item) = self.items.get_mut(&key) {
            item.uses = (item.uses + 1).min(USES_MAX);
            return true;
        }
        if bytes > self.room {
            return false;
        }
        while self.small_bytes + self.main_bytes + bytes > self.room {
            self.evict();
        }
        let known = self.ghosts.remove(&key);
        let fresh = known.is_some_and(|at| self.evictions - at <= self.main.len() as u64);
        self.items.insert(key, Item { bytes, uses: 0 });
        if fresh {
            self.main.push_back(key);
            self.main_bytes += bytes;
        } else {
            self.small.push_back(key);
            self.small_bytes += bytes;
        }
        false
    }
}

/// A model of memcached's segmented LRU: hot, warm and cold, each with its share.
#[derive(Debug)]
pub(super) struct Segmented {
    room: u64,
    /// Segment, turn, bytes, and whether it was read in this segment.
    items: HashMap<u32, (usize, u64, u64, bool)>,
    orders: [BTreeMap<u64, u32>; 3],
    bytes: [u64; 3],
    turn: u64,
}

const HOT: usize = 0;
const WARM: usize = 1;
const COLD: usize = 2;
/// Of hot and warm, in percent.
const SHARES: [u64; 2] = [20, 40];

impl Segmented {
    pub(super) fn new(room: u64) -> Segmented {
        Segmented {
            room,
            items: HashMap::new(),
            orders: Default::default(),
            bytes: [0; 3],
            turn: 0,
        }
    }

    fn put(&mut self, segment: usize, key: u32, bytes: u64) {
        self.turn += 1;
        self.orders[segment].insert(self.turn, key);
        self.bytes[segment] += bytes;
        self.items.insert(key, (segment, self.turn, bytes, false));
    }

    fn take_oldest(&mut self, segment: usize) -> Option<(u32, u64, bool)> {
        let (_, key) = self.orders[segment].pop_first()?;
        let (_, _, bytes, used) = self.items.remove(&key)?;
        self.bytes[segment] -= bytes;
        Some((key, bytes, used))
    }

    fn balance(&mut self) {
        for segment in [HOT, WARM] {
            while self.bytes[segment] * 100 > self.room * SHARES[segment] {
                let Some((key, bytes, used)) = self.take_oldest(segment) else { break };
                self.put(if used { WARM } else { COLD }, key, bytes);
            }
        }
        while self.bytes.iter().sum::<u64>() > self.room {
            let segment = [COLD, HOT, WARM].into_iter().find(|at| !self.orders[*at].is_empty());
            let Some((key, bytes, used)) = segment.and_then(|at| self.take_oldest(at)) else {
                break;
            };
            if used && segment == Some(COLD) {
                self.put(WARM, key, bytes);
            }
        }
    }
}

impl Cache for Segmented {
    fn request(&mut self, key: u32, bytes: u64) -> bool {
        if let Some((_, _, _, used)) = self.items.get_mut(&key) {
            *used = true;
            return true;
        }
        if bytes <= self.room {
            self.put(HOT, key, bytes);
            self.balance();
        }
        false
    }
}

/// Hits of a cache that knows the future: what is needed last goes, be it what has just come. The bound, where all items have one
/// size; near it, where not.
pub(super) fn belady(trace: &Trace, room: u64) -> u64 {
    let never = trace.requests.len();
    let mut next = vec![never; trace.requests.len()];
    let mut seen = vec![never; trace.keys()];
    for (at, key) in trace.requests.iter().enumerate().rev() {
        next[at] = seen[*key as usize];
        seen[*key as usize] = at;
    }
    let mut due: HashMap<u32, usize> = HashMap::new();
    let (mut order, mut bytes, mut hits) = (BTreeSet::new(), 0, 0);
    for (at, &key) in trace.requests.iter().enumerate() {
        match due.insert(key, next[at]) {
            Some(before) => {
                hits += 1;
                order.remove(&(before, key));
            }
            None => bytes += trace.bytes(key),
        }
        order.insert((next[at], key));
        while bytes > room {
            let Some((_, gone)) = order.pop_last() else { break };
            due.remove(&gone);
            bytes -= trace.bytes(gone);
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(requests: &[u32]) -> Trace {
        let keys = requests.iter().max().map_or(0, |most| *most as usize + 1);
        let value_bytes = vec![76; keys];
        Trace { requests: requests.to_vec(), value_bytes, total_bytes: keys as u64 * 100 }
    }

    #[test]
    fn the_last_used_stay() {
        let trace = trace(&[0, 1, 0, 2, 1, 0]);
        assert_eq!(hits(&mut Lru::new(200), &trace, 0), 1);
        assert_eq!(hits(&mut Lru::new(300), &trace, 0), 3);
    }

    #[test]
    fn the_bound_sees_the_future() {
        // A loop over three keys with room for two: LRU never hits; who sees the future keeps two and lets the third pass.
        let looped: Vec<u32> = (0..30).map(|at| at % 3).collect();
        let trace = trace(&looped);
        assert_eq!(hits(&mut Lru::new(200), &trace, 0), 0);
        assert_eq!(belady(&trace, 200), 18);
    }

    #[test]
    fn a_scan_does_not_displace_what_is_used() {
        let mut requests: Vec<u32> = (0..10).cycle().take(50).collect();
        requests.extend(100..200);
        requests.extend(0..10);
        let trace = trace(&requests);
        let lost = |hits: u64| 50 - hits;
        assert!(lost(hits(&mut S3Fifo::new(3000), &trace, 0)) < 5);
        assert!(lost(hits(&mut Lru::new(3000), &trace, 0)) >= 10);
        assert!(hits(&mut Segmented::new(3000), &trace, 0) >= 40);
    }
}
