//! A node to a file and back, in this process.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use cache_node::{
    node::{Allowed, Node, Placeholders, Settings},
    now::{Expiry, Now},
    rules::{Condition, Mark},
    snapshot::{About, Copied, Loading, Times, Versions, Wanted, file, write},
    store::{Entry, Eviction},
};
use schemas::{moment::Moment, version::Version};
use tokio::time::{Duration, Instant};

use super::{Scale, VALUE_BYTES};
use crate::figures::{Figures, median};

const MEGABYTE: f64 = 1e6;

pub(super) fn measure(scale: Scale, figures: &mut Figures) -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let path = folder.path().join("node.snapshot");
    let full = filled(scale.entries)?;
    let now = now();
    let about = || About {
        copied: Copied::Exactly,
        node: "bench".to_owned(),
        taken: Times::read(),
        source: None,
    };
    let (mut saves, mut copies, mut loads, mut disks) = (vec![], vec![], vec![], vec![]);
    for _ in 0..scale.runs {
        let begin = Instant::now();
        let saved = file::save(&path, |out| write(&full, &about(), now, out, |_| {}))?;
        let megabytes = saved.bytes as f64 / MEGABYTE;
        saves.push(megabytes / begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        write(&full, &about(), now, &mut std::io::sink(), |_| {})?;
        copies.push(megabytes / begin.elapsed().as_secs_f64());
        disks.push(megabytes / disk_seconds(folder.path(), saved.bytes)?);
        let (input, bytes) = file::open(&path)?.context("what was just saved")?;
        let begin = Instant::now();
        let (times, copied) = (Times::read(), Copied::Exactly);
        let age_max = Duration::from_secs(3600);
        let versions = Versions::None;
        let wanted = Wanted { node: "bench", age_max, now: &times, versions, copied };
        let empty = node();
        let input = std::io::BufReader::with_capacity(1 << 20, input);
        let loading = Loading::begin(input, bytes, wanted).context("begin to read")?;
        let loaded = loading.fill(&empty, now, Versions::None, |_| {}).context("read")?;
        loads.push(megabytes / begin.elapsed().as_secs_f64());
        ensure!(loaded.entries == u64::from(scale.entries), "{loaded:?}");
    }
    figures.say("snapshot_mb_per_s", median(saves), "MB/s");
    figures.say("snapshot_copy_mb_per_s", median(copies), "MB/s");
    figures.say("snapshot_load_mb_per_s", median(loads), "MB/s");
    figures.say("snapshot_disk_mb_per_s", median(disks), "MB/s");
    Ok(())
}

/// The bound: the same bytes, written and synchronized, and nothing else.
fn disk_seconds(folder: &std::path::Path, bytes: u64) -> Result<f64> {
    let path = folder.join("bound");
    let chunk = vec![0x5a; 1 << 20];
    let begin = Instant::now();
    let mut out = std::fs::File::create(&path)?;
    let mut left = usize::try_from(bytes)?;
    while left > 0 {
        let part = left.min(chunk.len());
        out.write_all(&chunk[..part])?;
        left -= part;
    }
    out.sync_all()?;
    let took = begin.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(took)
}

fn now() -> Now {
    Now { moment: Moment::after_start(Duration::from_secs(1)), unix: 1_800_000_000 }
}

fn node() -> Node {
    let settings = Settings {
        memory_bytes_max: 1 << 30,
        item_bytes_max: 1 << 20,
        eviction: Eviction::S3Fifo,
        workers: 4,
        placeholders: Placeholders::Hidden,
        prefix_delimiter: b':',
        allowed: Allowed::NOTHING,
    };
    Node::new(settings, None, 1)
}

fn filled(entries: u32) -> Result<Node> {
    let (node, now) = (node(), now());
    let value: Vec<u8> = (0..=250).cycle().take(VALUE_BYTES).collect();
    let mark = Mark { filled: Version::ZERO, condition: Condition::Good, since: None };
    for number in 0..entries {
        let key = format!("user:{number:08}");
        let entry = Entry::new(0, Expiry::NEVER, u64::from(number), mark, now);
        node.shard(key.as_bytes()).put(key.as_bytes(), &[&value], &entry, now)?;
    }
    Ok(node)
}
