//! The store against an obvious model: a list, the one that was not used for longest first.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};
use schemas::moment::Moment;

use super::*;
use crate::rules::{Condition, Mark};

const BYTES_MAX: usize = 1000;

#[derive(Clone, Debug)]
enum Op {
    Get(u8),
    Put(u8, usize, Option<u64>),
    Remove(u8),
    Flush(u64),
    Wait(u64),
    Sweep,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0_u8..12;
    prop_oneof![
        4 => key.clone().prop_map(Op::Get),
        4 => (key.clone(), 0_usize..300, proptest::option::of(1_u64..200)).prop_map(|(k, n, t)| Op::Put(k, n, t)),
        1 => key.prop_map(Op::Remove),
        1 => (0_u64..50).prop_map(Op::Flush),
        3 => (1_u64..90).prop_map(Op::Wait),
        1 => Just(Op::Sweep),
    ]
}

/// What the model knows of an entry.
#[derive(Clone, Debug)]
struct Known {
    key: u8,
    bytes: usize,
    ends: Option<u64>,
    stored: u64,
    used: u64,
}

#[derive(Default)]
struct Model {
    /// The one that was not used for longest first.
    entries: Vec<Known>,
    flush_at: Option<u64>,
}

impl Model {
    fn settle(&mut self, unix: u64) {
        if let Some(at) = self.flush_at.filter(|at| *at <= unix) {
            self.entries.retain(|known| known.stored >= at);
            self.flush_at = None;
        }
    }

    fn get(&mut self, key: u8, unix: u64) -> Option<Known> {
        let at = self.entries.iter().position(|known| known.key == key)?;
        if self.entries[at].ends.is_some_and(|ends| ends <= unix) {
            self.entries.remove(at);
            return None;
        }
        if unix - self.entries[at].used >= BUMP_SECONDS {
            let mut known = self.entries.remove(at);
            known.used = unix;
            self.entries.push(known);
            return self.entries.last().cloned();
        }
        Some(self.entries[at].clone())
    }

    fn bytes(&self) -> usize {
        self.entries.iter().map(|known| known.bytes).sum()
    }
}

fn key(number: u8) -> Vec<u8> {
    format!("key:{number}").into_bytes()
}

fn now(unix: u64) -> Now {
    Now { moment: Moment::START, unix }
}

fn entry(bytes: usize, ends: Option<u64>, unix: u64) -> Entry {
    let mark =
        Mark { filled: schemas::version::Version::ZERO, condition: Condition::Good, since: None };
    let expiry = ends.map_or(Expiry::NEVER, |ends| Expiry::after(ends - unix, now(unix)));
    Entry::new(vec![b'v'; bytes].into(), 0, expiry, 1, mark, now(unix))
}

proptest! {
    #[test]
    fn agrees_with_a_list(ops in vec(op(), 0..200)) {
        let mut store = Store::new(BYTES_MAX, Eviction::Allowed);
        let (mut model, mut unix) = (Model::default(), 1_000_000);
        for op in ops {
            model.settle(unix);
            match op {
                Op::Wait(seconds) => unix += seconds,
                Op::Get(number) => {
                    let found = store.get(&key(number), now(unix)).map(|entry| entry.stored);
                    store.used(&key(number), now(unix));
                    prop_assert_eq!(found, model.get(number, unix).map(|known| known.stored));
                }
                Op::Put(number, length, ttl) => {
                    let ends = ttl.map(|ttl| unix + ttl);
                    let put = store.put(&key(number), entry(length, ends, unix), now(unix));
                    prop_assert_eq!(put, Ok(()));
                    model.entries.retain(|known| known.key != number);
                    let bytes = item_bytes(key(number).len(), length, 0);
                    while model.bytes() + bytes > BYTES_MAX {
                        model.entries.remove(0);
                    }
                    model.entries.push(Known { key: number, bytes, ends, stored: unix, used: unix });
                }
                Op::Remove(number) => {
                    let there = store.get(&key(number), now(unix)).is_some();
                    prop_assert_eq!(there, model.get(number, unix).is_some());
                    prop_assert_eq!(store.remove(&key(number)).is_some(), there);
                    model.entries.retain(|known| known.key != number);
                }
                Op::Flush(delay) => {
                    store.flush(unix + delay, now(unix));
                    if delay == 0 {
                        model.entries.clear();
                    }
                    model.flush_at = (delay > 0).then_some(unix + delay);
                }
                Op::Sweep => {
                    let mut from = Some(0);
                    while let Some(begin) = from {
                        from = store.sweep(begin, 3, now(unix));
                    }
                    model.entries.retain(|known| known.ends.is_none_or(|ends| ends > unix));
                }
            }
            prop_assert!(store.bytes() <= BYTES_MAX);
            if store.flush_at.is_none_or(|at| at > unix) {
                prop_assert_eq!((store.len(), store.bytes()), (model.entries.len(), model.bytes()));
                let order: Vec<Vec<u8>> = store.order.values().map(|name| name.to_vec()).collect();
                let expected: Vec<Vec<u8>> = model.entries.iter().map(|it| key(it.key)).collect();
                prop_assert_eq!(order, expected);
            }
        }
    }

    /// Page by page, every entry once.
    #[test]
    fn pages_show_all(count in 0_u64..40, looks in 1_usize..9) {
        let mut store = Store::new(1 << 20, Eviction::Allowed);
        for number in 0..count {
            let name = number.to_string();
            prop_assert_eq!(store.put(name.as_bytes(), entry(3, None, 5), now(5)), Ok(()));
        }
        let (mut from, mut shown) = (Some(0), Vec::new());
        while let Some(begin) = from {
            let page = store.page(begin, looks, now(5));
            shown.extend(page.entries.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()));
            from = page.next;
        }
        prop_assert_eq!(shown, (0..count).map(|number| number.to_string()).collect::<Vec<_>>());
    }
}

#[test]
fn never_evicts_if_it_must_not() {
    let mut store = Store::new(500, Eviction::Never);
    assert_eq!(store.put(b"a", entry(200, None, 5), now(5)), Ok(()));
    assert_eq!(store.put(b"b", entry(400, None, 5), now(5)), Err(Full));
    assert!(store.get(b"a", now(5)).is_some());
}

#[test]
fn counts_what_is_lost() {
    let mut store = Store::new(500, Eviction::Allowed);
    let name: Arc<[u8]> = (*b"a").into();
    assert_eq!(store.put(&name, entry(300, Some(10), 5), now(5)), Ok(()));
    assert!(store.get(&name, now(10)).is_none());
    for number in 0..3 {
        assert_eq!(store.put(&key(number), entry(300, None, 11), now(11)), Ok(()));
        store.used(&key(number), now(11));
    }
    let losses = Losses { evicted: 2, evicted_unfetched: 0, expired: 1, expired_unfetched: 1 };
    assert_eq!(store.losses(), losses);
}
