//! The entries of a cache in a fixed amount of memory: the engine behind a cache node. No I/O, no clock, no threads.
//!
//! ```
//! use engine::{Engine, Meta, Now, Settings};
//!
//! let mut engine = Engine::new(Settings { bytes_max: 1 << 20, ..Settings::default() }).expect("memory");
//! let now = Now { unix: 1_800_000_000, uptime: 5 };
//! let hash = engine.hash(b"key");
//! engine.put(hash, b"key", &[b"value"], &Meta::new(now), now).expect("there is room");
//! let found = engine.find(hash, b"key", now).expect("it is there");
//! assert_eq!(engine.value(found).to_vec(), b"value");
//! ```
//!
//! # Layout
//!
//! ```text
//! memory   frame 0 .. t          frame t .. limit                                     (address space to grow into)
//!          the table, growing ─▶ segments and blocks, handed out from the end ◀─
//! bucket   64 bytes: the tags of 8 slots, 16 bits each; kind:2 | frequency:2 | place:44 of each  (`slot`, `table`)
//! segment  items behind one another: head (12 to 41 bytes) | key | value              (`item`, `segment`)
//! blocks   64 to a frame: values above an eighth of a frame, in chains                (`blocks`)
//! ```
//!
//! One mapping holds everything, so the bound on memory holds by construction; what little lies beside it (a header for each frame) is
//! subtracted from it. There are some hundred frames, of 4 to 256 KiB.
//!
//! # Life of an item
//!
//! It is appended to a segment of the *small* pool, or, if its ghost is still known, of the *main* pool: to the newest but one, if that
//! has room for it, else to the newest. A value of the same
//! size and layout is written over the old one; otherwise the old item is marked dead where it lies. When no frame is free, one is
//! reclaimed (`reclaim`), in this order: blocks are moved together; a segment that is mostly dead is copied; the oldest segment of
//! the small pool goes, if that has more than a tenth of the memory, else the oldest of the main pool. From a small segment, what
//! was used is copied to the main pool and the rest leaves ghosts; from a main segment, what was used is copied to its front, with
//! one use less. This is S3-FIFO (Yang et al., SOSP 2023) on whole segments, but for two numbers: there it takes two uses, and ghosts
//! count for as long as the main pool has items. An item that is over is never shown; a sweep takes whole segments, and
//! through `frame.is_due` also those in which much is over.
//!
//! # Why it is correct
//!
//! 1. *A slot of an item points to an item that is not dead, and every item that is not dead has exactly one slot.* Slots are made
//!    where items are written ([`Engine::put`], `transfer`), and items are killed where their slots are taken away or changed
//!    (`discard`, `transfer`). A frame is released only once all of its items are dead or its slots were changed one by one.
//! 2. *A look-up compares the whole key*, and so finds its key's item or none; the tag only saves comparisons.
//! 3. *An item's slot is in a bucket of its hash, or in the stash*: `Table` moves slots only to where `find` looks, and reads the key
//!    again whenever it does.
//! 4. *A set never fails because of the table*: an empty slot, else a ghost's, else one that an item leaves for its other bucket,
//!    else the stash, else the item of the bucket that is used least goes.
//! 5. *Reclaiming ends*: a round frees a frame or, when it copies, uses up frequencies; after a few rounds it stops copying. One frame
//!    is kept free so that what is copied always has room.
//! 6. *Memory outside items is never read as an item*: offsets come from slots (1) or from walking a segment up to what was written.
//!
//! All of this is one writer's: whoever shares an engine between threads puts a lock around it. [`Glance`] alone can be used beside
//! the lock, since it only prefetches.

mod blocks;
mod engine;
mod expire;
mod item;
mod memory;
mod reclaim;
mod scan;
mod segment;
mod slot;
mod table;
mod value;

pub use crate::{
    engine::{Engine, Found, Full, Glance, hash},
    expire::Swept,
    item::KEY_BYTES_MAX,
    memory::NoMemory,
    scan::Cursor,
    segment::Pool,
    value::Value,
};

#[cfg(test)]
mod model;

const _: () = assert!(usize::BITS == 64, "places are numbers of 44 bits");

/// Bits of [`Meta::traits`] that the engine knows; the others are the caller's.
pub mod traits {
    /// The item was read since it was stored.
    pub const FETCHED: u8 = 1;
}

/// What time it is, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since 1970.
    pub unix: u32,
    /// On a clock that never jumps.
    pub uptime: u32,
}

/// What is kept with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The client's.
    pub flags: u32,
    /// From when on it is over, in seconds since 1970; 0 for never.
    pub expiry: u32,
    pub cas: u64,
    /// A number that the caller keeps with some items.
    pub mark: Option<u64>,
    /// See [`traits`].
    pub traits: u8,
    /// When it was stored, on [`Now::uptime`]; after some hours earlier than it was, by at most a few.
    pub stored: u32,
    /// When it was last used, in seconds since 1970, to a minute; likewise.
    pub used: u32,
}

impl Meta {
    /// Of an item that nothing has happened to.
    pub fn new(now: Now) -> Meta {
        let Now { unix, uptime } = now;
        Meta { flags: 0, expiry: 0, cas: 0, mark: None, traits: 0, stored: uptime, used: unix }
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Now) -> bool {
        self.expiry != 0 && self.expiry <= now.unix
    }
}

/// What goes when memory is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// What was not used again, and that soon.
    #[default]
    S3Fifo,
    /// What was not used for longest, as well as a second chance at the end of one queue tells: the control in benchmarks.
    Lru,
    /// Nothing: what does not fit is refused.
    Never,
}

/// How an engine is made.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// All memory of the engine.
    pub bytes_max: usize,
    pub policy: Policy,
    /// Nobody outside should know it: who does can make keys that meet in one bucket.
    pub hash_seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { bytes_max: 64 << 20, policy: Policy::S3Fifo, hash_seed: 0 }
    }
}

/// What left the engine without being asked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    pub evicted: u64,
    /// Of those, never read.
    pub evicted_unfetched: u64,
    /// Found to be over.
    pub expired: u64,
    pub expired_unfetched: u64,
}

/// What an engine holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub items: usize,
    /// Of items with their heads, keys and values.
    pub item_bytes: u64,
    /// Memory that is in use for any purpose.
    pub used_bytes: usize,
    pub table_bytes: usize,
}
