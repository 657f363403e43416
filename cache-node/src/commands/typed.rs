//! The plain operations for callers that speak no protocol: the REST API.

use protocol::server::{Reply, Words};

use super::{
    Turn,
    text::{Mode, Outdated, Stored, Write},
};
use crate::{now::Expiry, rules::Fill, store::Traits, usage::Access};

/// A value, as somebody sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub value: Box<[u8]>,
    pub flags: u32,
    pub age_seconds: u64,
    /// `None` for ever.
    pub seconds_left: Option<u64>,
}

/// What became of a value that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Stored,
    TooLarge,
    /// Memory is full, and nothing may be evicted.
    NoRoom,
    /// It may be older than what the source has.
    Refused,
}

impl Turn<'_> {
    /// The value, if it may be served.
    pub fn read(&mut self, key: &[u8]) -> Option<View> {
        let (now, node) = (self.now, self.node);
        self.counters.cmd_get.up();
        let mut shard = node.shard(key);
        let view = self.visible(&mut shard, key).map(|hit| {
            let entry = hit.hold();
            let view = View {
                value: entry.value().to_vec().into(),
                flags: entry.flags,
                age_seconds: entry.age_seconds(now),
                seconds_left: entry.expiry.seconds_left(now),
            };
            entry.note_read();
            view
        });
        drop(shard);
        if view.is_some() {
            self.counters.get_hits.up();
            self.note(key, Access::Hit);
        } else {
            self.counters.get_misses.up();
            self.note(key, Access::Miss);
        }
        view
    }

    /// Stores a value, for so many seconds; `None` for ever.
    pub fn put(&mut self, key: &[u8], value: &[u8], ttl_seconds: Option<u64>) -> Put {
        if !self.fits(key, value, 0) {
            self.counters.store_too_large.up();
            self.node.shard(key).remove(key, self.now);
            return Put::TooLarge;
        }
        let expiry = ttl_seconds.map_or(Expiry::NEVER, |ttl| Expiry::after(ttl, self.now));
        let stored = self.write(&Write {
            key,
            value,
            flags: 0,
            expiry,
            mode: Mode::Set,
            cas: 0,
            cas_new: None,
            outdated: Outdated::Refuse,
            traits: Traits::NONE,
            fill: Fill::Plain,
        });
        match stored {
            Stored::Yes { .. } => Put::Stored,
            Stored::NoMemory => Put::NoRoom,
            Stored::No | Stored::Exists | Stored::NotFound => Put::Refused,
        }
    }

    /// Deletes the value; true if there was one.
    pub fn erase(&mut self, key: &[u8]) -> bool {
        let mut answer = Vec::new();
        self.delete(key, Reply::Wanted, &mut answer);
        answer.starts_with(b"DELETED")
    }

    /// What `stats` says, as names and values.
    pub fn statistics(&mut self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        self.stats(Words::default(), &mut lines);
        let text = String::from_utf8_lossy(&lines);
        let pairs = text.lines().filter_map(|line| line.strip_prefix("STAT ")?.split_once(' '));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}
