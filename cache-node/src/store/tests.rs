//! What the store adds to the engine: the meaning of its numbers, and `flush_all` with a delay.

use proptest::prelude::*;
use schemas::moment::Moment;

use super::*;

fn at(unix: u64) -> Now {
    Now { moment: Moment::after_start(Duration::from_secs(unix - 1000)), unix }
}

fn mark(filled: u64, condition: Condition, since: Option<Moment>) -> Mark {
    Mark { filled: Version::from_bits(filled), condition, since }
}

fn store() -> Store {
    Store::new(1 << 20, Eviction::S3Fifo, 1).expect("memory")
}

proptest! {
    #[test]
    fn entries_come_back(
        flags in any::<u32>(), unix in 0..1_u32 << 31, cas in any::<u64>(), traits in 0..32_u8,
        filled in any::<u64>(), stale in any::<bool>(), since in proptest::option::of(0..10_000_u64),
    ) {
        let condition = if stale { Condition::Stale } else { Condition::Good };
        let since = since.map(|secs| Moment::after_start(Duration::from_secs(secs)));
        let mut entry = Entry::new(flags, Expiry::at(unix), cas, mark(filled, condition, since), at(5000));
        entry.traits = Traits(traits);
        prop_assert_eq!(Entry::from_meta(&entry.meta()), entry);
        // Each part alone is that of the whole.
        let (mut store, now, hash) = (store(), at(5000), 7);
        entry.expiry = entry.expiry.max(Expiry::after(1, now));
        store.put((hash, b"k"), &[b"value"], &entry, now).expect("room");
        let hit = store.look(hash, b"k", now).expect("it is there");
        let parts = (hit.flags(), hit.cas(), hit.traits(), hit.mark());
        let held = hit.hold();
        prop_assert_eq!(parts, (held.flags, held.cas, held.traits, held.mark));
        prop_assert_eq!((held.flags, held.cas, held.expiry), (flags, cas, entry.expiry));
    }
}

#[test]
fn what_is_changed_is_written_back() {
    let (mut store, now) = (store(), at(5000));
    let entry = Entry::new(0, Expiry::NEVER, 1, mark(0, Condition::Good, None), now);
    store.put((store.hash(b"k"), b"k"), &[b"va", b"lue"], &entry, now).expect("room");
    let mut held = store.look(store.hash(b"k"), b"k", now).expect("it is there").hold();
    held.expiry = Expiry::at(6000);
    held.mark.filled = Version::MAX;
    held.note_read();
    let held = store.look(store.hash(b"k"), b"k", at(5999)).expect("it is there").hold();
    assert_eq!(held.value().to_vec(), b"value");
    assert_eq!((held.expiry, held.mark.filled), (Expiry::at(6000), Version::MAX));
    assert!(held.traits.has(Traits::FETCHED));
    drop(held);
    assert!(store.look(store.hash(b"k"), b"k", at(6000)).is_none());
}

#[test]
fn a_time_is_never_younger_than_it_was() {
    let since = Some(Moment::after_start(Duration::from_millis(7900)));
    let entry = Entry::new(0, Expiry::NEVER, 1, mark(0, Condition::Good, since), at(5000));
    let read = Entry::from_meta(&entry.meta());
    assert_eq!(read.mark.since, Some(Moment::after_start(Duration::from_secs(7))));
}

#[test]
fn a_flush_takes_what_was_stored_before_its_time() {
    let mut store = store();
    let put = |store: &mut Store, key: &[u8], now| {
        let entry = Entry::new(0, Expiry::NEVER, 1, mark(0, Condition::Good, None), now);
        store.put((store.hash(key), key), &[b"v"], &entry, now).expect("room");
    };
    put(&mut store, b"before", at(5000));
    store.flush(5010, at(5000));
    put(&mut store, b"between", at(5009));
    assert!(store.look(store.hash(b"before"), b"before", at(5009)).is_some());
    put(&mut store, b"after", at(5010));
    assert_eq!(store.len(), 1);
    assert!(store.look(store.hash(b"after"), b"after", at(5011)).is_some());
    store.flush(5011, at(5011));
    assert!(store.is_empty());
}
