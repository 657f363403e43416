//! The engine alone: look-ups, memory per item, expiry, walking through all keys.

use std::hint::black_box;

use crate::load::log_normal;
use anyhow::{Context, Result, ensure};
use e2e::random::{Random, Zipf};
use engine::{Engine, Meta, Now, Settings};

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) items: u32,
    pub(super) lookups: usize,
    pub(super) runs: usize,
}

/// Look-ups whose buckets, and then items, are fetched together.
const BATCH: usize = 16;
const KEY_BYTES: usize = 24;
const VALUE_BYTES: usize = 176;
const SKEW: f64 = 0.99;

/// One run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) gets_per_s: f64,
    pub(super) batched_gets_per_s: f64,
    pub(super) sets_per_s: f64,
    pub(super) overhead_bytes: f64,
    pub(super) overhead_marked_bytes: f64,
    pub(super) expiry_s: f64,
    pub(super) walk_keys_per_s: f64,
}

/// Measures once.
pub(super) fn measure(scale: Scale) -> Result<Measured> {
    let now = Now { unix: 1_800_000_000, uptime: 10 };
    let bytes = scale.items as usize * (KEY_BYTES + VALUE_BYTES + 60);
    let mut engine = Engine::new(Settings { bytes_max: bytes, ..Settings::default() })?;
    let value = vec![b'v'; VALUE_BYTES];
    let begin = cpu_time()?;
    for number in 0..scale.items {
        put(
            &mut engine,
            &key(number.into()),
            &value,
            &Meta { expiry: now.unix + 60, ..Meta::new(now) },
            now,
        )?;
    }
    let sets_per_s = f64::from(scale.items) / (cpu_time()? - begin);
    ensure!(engine.len() == scale.items as usize, "{} of {} fit", engine.len(), scale.items);
    let keys = chosen(scale);
    let gets_per_s = rate(scale.lookups, || one_by_one(&mut engine, &keys, now))?;
    let batched_gets_per_s = rate(scale.lookups, || in_batches(&mut engine, &keys, now))?;
    let walk_keys_per_s = walk(&mut engine, now)?;
    let expiry_s = expire(&mut engine, now)?;
    drop(engine);
    Ok(Measured {
        gets_per_s,
        batched_gets_per_s,
        sets_per_s,
        overhead_bytes: overhead(None)?,
        overhead_marked_bytes: overhead(Some(7 << 48))?,
        expiry_s,
        walk_keys_per_s,
    })
}

fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = *b"key:00000000000000000000";
    let digits = format!("{number:020}");
    key[4..].copy_from_slice(digits.as_bytes());
    key
}

fn put(engine: &mut Engine, key: &[u8], value: &[u8], meta: &Meta, now: Now) -> Result<()> {
    engine.put(engine.hash(key), key, &[value], meta, now)?;
    Ok(())
}

/// Keys in the order in which they are looked up.
fn chosen(scale: Scale) -> Vec<[u8; KEY_BYTES]> {
    let (mut random, zipf) = (Random::new(7, 0), Zipf::with_skew(scale.items, SKEW));
    // The hottest are not those that were stored first, beside each other.
    let scatter =
        |rank: u32| u64::from(rank).wrapping_mul(0x9e37_79b9_7f4a_7c15) % u64::from(scale.items);
    (0..scale.lookups).map(|_| key(scatter(zipf.rank(&mut random)))).collect()
}

fn rate(count: usize, mut run: impl FnMut() -> usize) -> Result<f64> {
    let begin = cpu_time()?;
    let hits = run();
    let took = cpu_time()? - begin;
    ensure!(hits == count, "{hits} of {count} were found");
    Ok(count as f64 / took)
}

/// Seconds that this thread has had a processor.
fn cpu_time() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").context("read schedstat")?;
    let nanos = stat.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    Ok(nanos.context("a number of nanoseconds")? / 1e9)
}

fn one_by_one(engine: &mut Engine, keys: &[[u8; KEY_BYTES]], now: Now) -> usize {
    keys.iter().filter(|key| look_up(engine, engine.hash(*key), *key, now)).count()
}

fn in_batches(engine: &mut Engine, keys: &[[u8; KEY_BYTES]], now: Now) -> usize {
    let glance = engine.glance();
    let (mut hits, mut hashes) = (0, [0; BATCH]);
    for batch in keys.chunks(BATCH) {
        for (hash, key) in hashes.iter_mut().zip(batch) {
            *hash = engine.hash(key);
            glance.prefetch(*hash);
        }
        for hash in &hashes[..batch.len()] {
            engine.prefetch(*hash);
        }
        for (hash, key) in hashes.iter().zip(batch) {
            hits += usize::from(look_up(engine, *hash, key, now));
        }
    }
    hits
}

/// As a node does it: finds, notes the use, looks at the value.
fn look_up(engine: &mut Engine, hash: u64, key: &[u8], now: Now) -> bool {
    let Some(found) = engine.find(hash, key, now) else { return false };
    engine.used(found, now);
    let value = engine.value(found);
    black_box(value.whole().and_then(|bytes| bytes.first().copied()));
    true
}

/// Keys per second of a whole walk, a page at a time.
fn walk(engine: &mut Engine, now: Now) -> Result<f64> {
    const PAGE: usize = 200;
    let begin = cpu_time()?;
    let (mut bytes, mut keys, mut cursor) = (0, 0, Some(engine.walk()));
    while let Some(at) = cursor {
        cursor = engine.page(at, PAGE, now, |key, meta, value| {
            keys += 1;
            bytes += key.len() + value.len() + meta.flags as usize;
        });
    }
    black_box(bytes);
    ensure!(keys == engine.len(), "{keys} keys of {} were met", engine.len());
    Ok(keys as f64 / (cpu_time()? - begin))
}

/// Processor seconds until everything that ends at one time is gone.
fn expire(engine: &mut Engine, now: Now) -> Result<f64> {
    let later = Now { unix: now.unix + 60, uptime: now.uptime + 60 };
    let begin = cpu_time()?;
    engine.sweep(0, usize::MAX, later);
    let took = cpu_time()? - begin;
    let usage = engine.usage();
    ensure!(engine.is_empty(), "{} are left", engine.len());
    ensure!(usage.used_bytes < usage.table_bytes * 2, "memory is not given back: {usage:?}");
    Ok(took)
}

/// Bytes of memory for each item above key and value, in an engine that is full of a realistic mix.
fn overhead(mark: Option<u64>) -> Result<f64> {
    const BYTES: usize = 32 << 20;
    const VALUE_BYTES_MEAN: f64 = 350.0;
    let now = Now { unix: 1_800_000_000, uptime: 10 };
    let mut engine = Engine::new(Settings { bytes_max: BYTES, ..Settings::default() })?;
    let mut random = Random::new(11, 0);
    let value = vec![b'v'; 1 << 16];
    for number in 0..400_000_u64 {
        // Log-normal, as values are: the mean is that of the logarithm plus half its variance.
        let bytes = log_normal(&mut random, VALUE_BYTES_MEAN).min(value.len() as f64) as usize;
        let expiry = now.unix + 60 + random.below(86_400) as u32;
        let meta = Meta { expiry, mark, cas: number, ..Meta::new(now) };
        put(&mut engine, &key(number), &value[..bytes], &meta, now)?;
    }
    let (mut payload, mut items, mut cursor) = (0, 0, Some(engine.walk()));
    while let Some(at) = cursor {
        cursor = engine.page(at, 1000, now, |key, _, value| {
            items += 1;
            payload += key.len() + value.len();
        });
    }
    Ok((BYTES - payload) as f64 / f64::from(items))
}
