//! Bytes to a node.

use std::{io::Read, time::Duration};

use super::{
    Refused,
    format::{self, Announced, Bits, Copied, HEAD_BYTES, Header, Item, Kind, MAGIC, MAGIC_OF_ALL},
    times::Passed,
};
use crate::{
    node::Node,
    now::{Expiry, Now},
    rules::{Condition, Kept, Mark},
    snapshot::Times,
    store::{Entry, Pool, Traits},
};

/// What a node takes.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Which node this is.
    pub node: &'a str,
    /// No older one.
    pub age_max: Duration,
    pub now: &'a Times,
    pub versions: Versions<'a>,
    /// What it at least was, whatever it says itself: a file that has been used is not exact any more.
    pub copied: Copied,
}

/// Whether a source is attached to the node that starts.
#[derive(Clone, Copy, Debug)]
pub enum Versions<'a> {
    None,
    /// Keys with these prefixes have no versions.
    Unless(&'a [Box<[u8]>]),
}

/// A snapshot whose beginning was read, and which this node may have. The rules come first: [`Loading::kept`]; then the entries
/// can be given to a node that goes by them.
#[derive(Debug)]
pub struct Loading<R> {
    blocks: Blocks<R>,
    header: Header,
    kept: Option<Kept>,
    copied: Copied,
    passed: Passed,
    /// The block that was read last.
    kind: Kind,
}

/// What a node got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub entries: u64,
    /// What was over, did not fit, or has no versions.
    pub left_out: u64,
}

impl<R: Read> Loading<R> {
    /// Reads what stands before the entries; `bytes` is the length of it all.
    pub fn begin(input: R, bytes: u64, wanted: Wanted<'_>) -> Result<Loading<R>, Refused> {
        let mut blocks = Blocks::open(input, bytes)?;
        if blocks.next()? != Kind::Header {
            return Err(super::Malformed("there is no header").into());
        }
        let header = format::header(&blocks.payload)?;
        if header.node != wanted.node {
            let (of, this) = (header.node, wanted.node.to_owned());
            return Err(Refused::OtherNode { of, this });
        }
        let passed = header.taken.until(wanted.now)?;
        if passed.age > wanted.age_max {
            let (age_seconds, age_seconds_max) = (passed.age.as_secs(), wanted.age_max.as_secs());
            return Err(Refused::TooOld { age_seconds, age_seconds_max });
        }
        let exact = header.copied == Copied::Exactly && wanted.copied == Copied::Exactly;
        match (wanted.versions, header.source) {
            (Versions::None, Some(_)) => return Err(Refused::HasVersions),
            (Versions::Unless(_), None) => return Err(Refused::NoVersions),
            (Versions::None, None) if !exact => return Err(Refused::NotExact),
            _ => {}
        }
        let copied = if exact { Copied::Exactly } else { Copied::WhileServing };
        let kind = blocks.next()?;
        let kept = header.source.is_some().then(Kept::default);
        let mut loading = Loading { blocks, header, kept, copied, passed, kind };
        if loading.kept.is_some() {
            loading.rules()?;
        }
        Ok(loading)
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How old it is.
    pub fn age(&self) -> Duration {
        self.passed.age
    }

    /// What the rules knew; `None` without a source.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// Whether nobody could mark a key, or store anything, since.
    pub fn copied(&self) -> Copied {
        self.copied
    }

    fn rules(&mut self) -> Result<(), Refused> {
        if self.kind != Kind::Rules {
            return Err(super::Malformed("there are no rules").into());
        }
        let mut kept = format::rules(&self.blocks.payload)?;
        loop {
            self.kind = self.blocks.next()?;
            let payload = &self.blocks.payload;
            match self.kind {
                Kind::Tombstones => kept.tombstones.append(&mut format::tombstones(payload)?),
                Kind::Marks => kept.marks.append(&mut format::marks(payload)?),
                _ => break,
            }
        }
        self.kept = Some(kept);
        Ok(())
    }

    /// Gives all entries to an empty node; `note` is told now and then how many there are. If this fails, what the node got so
    /// far must not be served.
    pub fn fill(
        mut self,
        node: &Node,
        now: Now,
        versions: Versions<'_>,
        mut note: impl FnMut(u64),
    ) -> Result<Loaded, Refused> {
        let mut loaded = Loaded::default();
        let fill = Fill { node, now, versions, copied: self.copied, passed: self.passed };
        let mut count = 0_u64;
        while self.kind == Kind::Entries {
            format::entries(&self.blocks.payload, |item| {
                count = count.saturating_add(1);
                loaded.entries = loaded.entries.saturating_add(u64::from(fill.put(&item)));
            })?;
            note(count);
            self.kind = self.blocks.next()?;
        }
        if self.kind != Kind::End {
            return Err(super::Malformed("a block is where it must not be").into());
        }
        if format::end(&self.blocks.payload)? != count {
            return Err(super::Malformed("there are not as many entries as it says").into());
        }
        self.blocks.nothing_follows()?;
        // With versions, CAS stands for leases too: those of this life begin elsewhere.
        let cas = if self.kept.is_none() { self.header.cas } else { 0 };
        node.restore(cas, self.header.flush_at, now);
        loaded.left_out = count.saturating_sub(loaded.entries);
        Ok(loaded)
    }
}

/// Reads all of a snapshot, and keeps nothing: whether it is whole. Returns how many entries it has.
pub fn check(input: impl Read, bytes: u64) -> Result<u64, Refused> {
    let mut blocks = Blocks::open(input, bytes)?;
    let mut count = 0_u64;
    loop {
        let kind = blocks.next()?;
        let payload = &blocks.payload;
        match kind {
            Kind::Header => drop(format::header(payload)?),
            Kind::Rules => drop(format::rules(payload)?),
            Kind::Tombstones => drop(format::tombstones(payload)?),
            Kind::Marks => drop(format::marks(payload)?),
            Kind::Entries => format::entries(payload, |_| count = count.saturating_add(1))?,
            Kind::End => {
                let said = format::end(payload)?;
                blocks.nothing_follows()?;
                let all = (said == count).then_some(count);
                let differs = super::Malformed("there are not as many entries as it says");
                return all.ok_or(differs.into());
            }
        }
    }
}

struct Fill<'a> {
    node: &'a Node,
    now: Now,
    versions: Versions<'a>,
    copied: Copied,
    passed: Passed,
}

impl Fill<'_> {
    /// Whether the node has the entry now.
    fn put(&self, item: &Item<'_>) -> bool {
        let plain = match self.versions {
            Versions::None => true,
            Versions::Unless(prefixes) => prefixes.iter().any(|it| item.key.starts_with(it)),
        };
        if plain && self.copied != Copied::Exactly {
            return false;
        }
        let Some(entry) = self.entry(item) else { return false };
        let pool = if item.bits.has(Bits::HOT) { Pool::Main } else { Pool::Small };
        self.node.shard(item.key).put_back(pool, item.key, item.value, &entry, self.now).is_ok()
    }

    /// As it is now; `None` if it is over.
    fn entry(&self, item: &Item<'_>) -> Option<Entry> {
        let expiry = match item.expiry {
            0 => Expiry::NEVER,
            // On a clock that was set back it is over earlier.
            at => Expiry::at(at.saturating_sub(self.passed.back_seconds).max(1)),
        };
        let bits = item.bits;
        let condition = if bits.has(Bits::CONDEMNED) { Condition::Stale } else { Condition::Good };
        let mut traits = Traits::NONE;
        for (bit, of) in [
            (Bits::FETCHED, Traits::FETCHED),
            (Bits::STALE, Traits::STALE),
            (Bits::BASE64, Traits::BASE64),
        ] {
            traits = if bits.has(bit) { traits.with(of) } else { traits };
        }
        // When it was stored is not known on this life's clock, which makes it old for whoever asks.
        let mark = Mark { filled: item.filled, condition, since: None };
        let entry = Entry {
            flags: item.flags,
            expiry,
            cas: item.cas,
            traits,
            mark,
            used: item.used.into(),
        };
        (!expiry.is_over(self.now)).then_some(entry)
    }
}

/// The blocks of a snapshot, one after the other. What a block announces is read as far as it is there, and no more memory is taken.
#[derive(Debug)]
struct Blocks<R> {
    input: R,
    /// Bytes that are left.
    left: u64,
    number: u64,
    payload: Vec<u8>,
}

impl<R: Read> Blocks<R> {
    fn open(mut input: R, bytes: u64) -> Result<Blocks<R>, Refused> {
        let mut magic = *MAGIC;
        let all = u64::try_from(magic.len()).unwrap_or(u64::MAX);
        let left = bytes.checked_sub(all).ok_or(Refused::NoSnapshot)?;
        input.read_exact(&mut magic)?;
        if magic == *MAGIC {
            return Ok(Blocks { input, left, number: 0, payload: Vec::new() });
        }
        match magic.strip_prefix(MAGIC_OF_ALL) {
            None => Err(Refused::NoSnapshot),
            Some(rest) => {
                let says = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
                Err(Refused::OtherFormat { says: String::from_utf8_lossy(says).into_owned() })
            }
        }
    }

    /// Reads the next one; its payload is there then.
    fn next(&mut self) -> Result<Kind, Refused> {
        let mut head = [0; HEAD_BYTES];
        self.take(head.len())?;
        self.input.read_exact(&mut head)?;
        let announced = Announced::read(head)?;
        self.take(announced.payload_bytes)?;
        self.payload.resize(announced.payload_bytes, 0);
        self.input.read_exact(&mut self.payload)?;
        announced.check(self.number, &self.payload)?;
        self.number = self.number.saturating_add(1);
        Ok(announced.kind)
    }

    fn take(&mut self, bytes: usize) -> Result<(), Refused> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(bytes).ok_or(Refused::Truncated)?;
        Ok(())
    }

    fn nothing_follows(&self) -> Result<(), Refused> {
        let end = super::Malformed("something follows its end");
        if self.left == 0 { Ok(()) } else { Err(end.into()) }
    }
}
