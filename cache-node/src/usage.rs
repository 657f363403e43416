//! [`Usage`]: which prefixes and which keys are used most. Bounded; off until somebody asks.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Most prefixes that are told apart; the others are not counted.
const PREFIXES_MAX: usize = 4096;
/// Most keys that compete for being hot.
const HOT_KEYS_MAX: usize = 128;
/// One access in so many is looked at.
const HOT_SAMPLE: u64 = 256;
/// So many samples later all counts are halved: what is hot must stay hot.
const HOT_SAMPLES_PER_HALVING: u64 = 16_384;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Hit,
    Miss,
    Set,
    Delete,
}

/// See the module.
#[derive(Debug)]
pub struct Usage {
    detailed: AtomicBool,
    delimiter: u8,
    prefixes: Mutex<HashMap<Box<[u8]>, Prefix>>,
    hot: Mutex<Hot>,
}

/// Counts of one prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    pub gets: u64,
    pub hits: u64,
    pub sets: u64,
    pub deletes: u64,
}

/// The keys that are read and written most, by the space-saving algorithm: a new key takes the place, and the count, of the
/// coldest. So a key that makes up more than 1 / [`HOT_KEYS_MAX`] of the accesses is always among them.
#[derive(Debug, Default)]
struct Hot {
    counts: HashMap<Box<[u8]>, u64>,
    samples: u64,
}

impl Usage {
    pub fn new(delimiter: u8) -> Usage {
        Usage {
            detailed: AtomicBool::new(false),
            delimiter,
            prefixes: Mutex::default(),
            hot: Mutex::default(),
        }
    }

    /// From now on prefixes are counted (`stats detail on`).
    pub fn begin(&self) {
        self.detailed.store(true, Ordering::Relaxed);
    }

    /// No more.
    pub fn end(&self) {
        self.detailed.store(false, Ordering::Relaxed);
    }

    pub fn is_detailed(&self) -> bool {
        self.detailed.load(Ordering::Relaxed)
    }

    /// Counts an access. `turn` is any number that differs from call to call; it chooses the sample.
    #[inline]
    pub fn note(&self, key: &[u8], access: Access, turn: u64) {
        if turn.is_multiple_of(HOT_SAMPLE) {
            self.note_hot(key);
        }
        if self.is_detailed() {
            self.note_prefix(key, access);
        }
    }

    #[cold]
    fn note_hot(&self, key: &[u8]) {
        self.hot.lock().unwrap_or_else(PoisonError::into_inner).note(key);
    }

    #[cold]
    fn note_prefix(&self, key: &[u8], access: Access) {
        let Some(end) = memchr::memchr(self.delimiter, key) else { return };
        let Some(prefix) = key.get(..end) else { return };
        let mut prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        if prefixes.len() >= PREFIXES_MAX && !prefixes.contains_key(prefix) {
            return;
        }
        let counts = prefixes.entry(prefix.into()).or_default();
        let count = match access {
            Access::Hit => {
                counts.hits = counts.hits.saturating_add(1);
                &mut counts.gets
            }
            Access::Miss => &mut counts.gets,
            Access::Set => &mut counts.sets,
            Access::Delete => &mut counts.deletes,
        };
        *count = count.saturating_add(1);
    }

    /// The prefixes in order, with their counts.
    pub fn prefixes(&self) -> Vec<(Box<[u8]>, Prefix)> {
        let prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out: Vec<_> =
            prefixes.iter().map(|(prefix, counts)| (prefix.clone(), *counts)).collect();
        out.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        out
    }

    /// The `most` hottest keys, hottest first, each with its share of all accesses, in parts of a million.
    pub fn hot_keys(&self, most: usize) -> Vec<(Box<[u8]>, u64)> {
        let hot = self.hot.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out: Vec<_> = hot.counts.iter().map(|(key, count)| (key.clone(), *count)).collect();
        out.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        out.truncate(most);
        let share =
            |count: u64| count.saturating_mul(1_000_000).checked_div(hot.samples).unwrap_or(0);
        out.into_iter().map(|(key, count)| (key, share(count))).collect()
    }

    /// From zero again.
    pub fn reset(&self) {
        self.prefixes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.hot.lock().unwrap_or_else(PoisonError::into_inner) = Hot::default();
    }

    /// As `stats detail dump` prints it.
    pub fn dump(&self) -> String {
        let mut out = String::new();
        for (prefix, counts) in self.prefixes() {
            let Prefix { gets, hits, sets, deletes } = counts;
            let name = String::from_utf8_lossy(&prefix).into_owned();
            let line = format!("PREFIX {name} get {gets} hit {hits} set {sets} del {deletes}\r\n");
            out.push_str(&line);
        }
        out
    }
}

impl Hot {
    fn note(&mut self, key: &[u8]) {
        self.samples = self.samples.saturating_add(1);
        if let Some(count) = self.counts.get_mut(key) {
            *count = count.saturating_add(1);
        } else if self.counts.len() < HOT_KEYS_MAX {
            self.counts.insert(key.into(), 1);
        } else {
            let coldest = self.counts.iter().min_by_key(|(_, count)| **count);
            let Some((coldest, count)) = coldest.map(|(key, count)| (key.clone(), *count)) else {
                return;
            };
            self.counts.remove(&coldest);
            self.counts.insert(key.into(), count.saturating_add(1));
        }
        if self.samples.is_multiple_of(HOT_SAMPLES_PER_HALVING) {
            self.samples /= 2;
            self.counts.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hot_among_many() {
        let usage = Usage::new(b':');
        for turn in 0..400_000_u64 {
            let cold = format!("cold:{turn}");
            let key = if turn % 10 < 3 {
                "hot:1"
            } else if turn % 10 < 5 {
                "hot:2"
            } else {
                &cold
            };
            usage.note(key.as_bytes(), Access::Hit, turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20);
        }
        let hot = usage.hot_keys(2);
        assert_eq!(&*hot[0].0, b"hot:1");
        assert_eq!(&*hot[1].0, b"hot:2");
        assert!((250_000..400_000).contains(&hot[0].1), "{hot:?}");
    }

    #[test]
    fn counts_prefixes_once_it_is_told_to() {
        let usage = Usage::new(b':');
        usage.note(b"a:1", Access::Set, 1);
        usage.begin();
        usage.note(b"a:1", Access::Hit, 1);
        usage.note(b"a:2", Access::Miss, 1);
        usage.note(b"b:2", Access::Delete, 1);
        usage.note(b"none", Access::Set, 1);
        assert_eq!(
            usage.dump(),
            "PREFIX a get 2 hit 1 set 0 del 0\r\nPREFIX b get 0 hit 0 set 0 del 1\r\n"
        );
    }
}
