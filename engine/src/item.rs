//! [`Head`]: what stands before an item's key and value in a segment, 12 bytes and what it needs more.
//!
//! ```text
//! key length 1 | value length 2 | bits 2 | stored 2 | used 2 | cas 3 or 8 | mark 0, 3 or 8 | expiry 0, 3 or 4
//!     | client flags 0 or 4 | 0, or for a value out of line: length 4, first block 4 | key | value
//! ```
//!
//! CAS, mark and expiry are kept as distances from a base in the segment's header where that fits in three bytes. Times of the past
//! take two bytes: exact for four and a half hours from the segment's beginning, later to 4096 s, and then towards "older".

use crate::{Meta, traits};

/// The longest key.
pub const KEY_BYTES_MAX: usize = 255;
/// The head without what it may have more.
const FIXED_BYTES: usize = 12;
/// The longest head.
pub(crate) const HEAD_BYTES_MAX: usize = FIXED_BYTES + 5 + 8 + 4 + 4 + 8;

/// It is not the item of its key any more.
const DEAD: u16 = 1 << 8;
const WIDE_CAS: u16 = 1 << 9;
const MARK: u16 = 1 << 10;
const WIDE_MARK: u16 = 1 << 11;
const EXPIRY: u16 = 1 << 12;
const WIDE_EXPIRY: u16 = 1 << 13;
const FLAGS: u16 = 1 << 14;
/// Its value is out of line.
const LARGE: u16 = 1 << 15;

/// Distances from a base are below this.
const DISTANCES: u64 = 1 << 24;
/// What each bit from [`WIDE_CAS`] on adds to a head.
const MORE_BYTES: [u8; 7] = [5, 3, 5, 3, 1, 4, 8];
/// The sums of these, by those bits.
const MORE: [u8; 128] = {
    let mut sums = [0; 128];
    let mut bits = 1;
    while bits < sums.len() {
        let lowest = bits.trailing_zeros() as usize;
        sums[bits] = sums[bits & (bits - 1)] + MORE_BYTES[lowest];
        bits += 1;
    }
    sums
};

/// What these `bits` add to a head.
#[inline]
fn more_bytes(bits: u16) -> usize {
    usize::from(MORE[usize::from(bits >> 9)])
}

/// What heads of one segment are relative to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bases {
    pub(crate) cas: u64,
    pub(crate) mark: u64,
    /// Seconds since 1970 when the segment began.
    pub(crate) unix: u32,
    /// Seconds on the clock that never jumps, likewise.
    pub(crate) uptime: u32,
}

impl Bases {
    /// Such that the item with this `meta` and its like are near.
    pub(crate) fn around(meta: &Meta, unix: u32, uptime: u32) -> Bases {
        const HALF: u64 = DISTANCES / 2;
        let mark = meta.mark.filter(|mark| *mark != u64::MAX).unwrap_or(0);
        Bases { cas: meta.cas.saturating_sub(HALF), mark: mark.saturating_sub(HALF), unix, uptime }
    }

    fn is_near(base: u64, number: u64) -> bool {
        number.checked_sub(base).is_some_and(|distance| distance < DISTANCES)
    }

    fn is_near_expiry(&self, expiry: u32) -> bool {
        Bases::is_near(u64::from(self.unix), u64::from(expiry))
    }
}

/// Where an item's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Behind its key: so many bytes.
    Inline(u16),
    /// So many bytes in a chain of blocks.
    Blocks { bytes: u32, first: u32 },
}

impl Body {
    /// Bytes of the value.
    pub(crate) fn len(self) -> usize {
        match self {
            Body::Inline(bytes) => usize::from(bytes),
            Body::Blocks { bytes, .. } => bytes as usize,
        }
    }
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    /// All of its bytes.
    Whole,
    /// Three bytes, from a base.
    Distance,
}

/// The sizes of an item, read with as little as possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    bits: u16,
    key_bytes: usize,
    inline_bytes: usize,
}

impl Shape {
    #[inline]
    pub(crate) fn read(item: &[u8]) -> Shape {
        let start = &item[..5];
        Shape {
            key_bytes: usize::from(start[0]),
            inline_bytes: usize::from(u16::from_le_bytes([start[1], start[2]])),
            bits: u16::from_le_bytes([start[3], start[4]]),
        }
    }

    /// The layout for a new item.
    pub(crate) fn new(key_bytes: usize, meta: &Meta, body: Body, bases: &Bases) -> Shape {
        let mut bits = u16::from(meta.traits);
        let mut set = |when: bool, bit: u16| bits |= if when { bit } else { 0 };
        set(!Bases::is_near(bases.cas, meta.cas), WIDE_CAS);
        if let Some(mark) = meta.mark {
            set(true, MARK);
            set(!Bases::is_near(bases.mark, mark), WIDE_MARK);
        }
        if meta.expiry != 0 {
            set(true, EXPIRY);
            set(!bases.is_near_expiry(meta.expiry), WIDE_EXPIRY);
        }
        set(meta.flags != 0, FLAGS);
        let inline_bytes = match body {
            Body::Inline(bytes) => usize::from(bytes),
            Body::Blocks { .. } => {
                set(true, LARGE);
                0
            }
        };
        Shape { bits, key_bytes, inline_bytes }
    }

    #[inline]
    pub(crate) fn head_bytes(self) -> usize {
        FIXED_BYTES + more_bytes(self.bits)
    }

    /// All of it.
    #[inline]
    pub(crate) fn bytes(self) -> usize {
        self.head_bytes() + self.key_bytes + self.inline_bytes
    }

    #[inline]
    pub(crate) fn key(self, item: &[u8]) -> &[u8] {
        &item[self.head_bytes()..][..self.key_bytes]
    }

    #[inline]
    pub(crate) fn inline(self, item: &[u8]) -> &[u8] {
        &item[self.head_bytes() + self.key_bytes..][..self.inline_bytes]
    }

    pub(crate) fn is_dead(self) -> bool {
        self.bits & DEAD != 0
    }

    #[inline]
    pub(crate) fn traits(self) -> u8 {
        self.bits as u8
    }

    #[inline]
    pub(crate) fn is_large(self) -> bool {
        self.bits & LARGE != 0
    }

    #[inline]
    fn width(self, bit: u16) -> Width {
        if self.bits & bit == 0 { Width::Distance } else { Width::Whole }
    }

    /// Whether `meta` can be written over the head that has this layout.
    fn holds(self, meta: &Meta, bases: &Bases) -> bool {
        let has = |bit| self.bits & bit != 0;
        let cas = has(WIDE_CAS) || Bases::is_near(bases.cas, meta.cas);
        let mark = match meta.mark {
            None => !has(MARK),
            Some(mark) => has(MARK) && (has(WIDE_MARK) || Bases::is_near(bases.mark, mark)),
        };
        let expiry = match meta.expiry {
            0 => !has(EXPIRY),
            expiry => has(EXPIRY) && (has(WIDE_EXPIRY) || bases.is_near_expiry(expiry)),
        };
        cas && mark && expiry && (has(FLAGS) || meta.flags == 0)
    }
}

/// Marks the item as not its key's any more.
pub(crate) fn kill(item: &mut [u8]) {
    item[4] |= (DEAD >> 8) as u8;
}

/// A whole head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) shape: Shape,
    pub(crate) meta: Meta,
    pub(crate) body: Body,
}

fn distance([low, middle, high]: [u8; 3]) -> u32 {
    u32::from_le_bytes([low, middle, high, 0])
}

/// The bytes of `item` from `at` on.
#[inline]
fn bytes_at<const N: usize>(item: &[u8], at: usize) -> [u8; N] {
    *item[at..].first_chunk().expect("heads are written whole")
}

/// The parts of a head where they lie, each read alone.
impl Shape {
    /// Where what this bit stands for begins.
    #[inline]
    fn begin_of(self, bit: u16) -> usize {
        FIXED_BYTES + more_bytes(self.bits & (bit - 1))
    }

    #[inline]
    fn has(self, bit: u16) -> bool {
        self.bits & bit != 0
    }

    /// When the item was stored, on the clock that never jumps.
    #[inline]
    pub(crate) fn stored(item: &[u8], bases: &Bases) -> u32 {
        time_from(u16::from_le_bytes(bytes_at(item, 5)), bases.uptime)
    }

    fn used(item: &[u8], bases: &Bases) -> u32 {
        time_from(u16::from_le_bytes(bytes_at(item, 7)), bases.unix)
    }

    #[inline]
    pub(crate) fn cas(self, item: &[u8], bases: &Bases) -> u64 {
        self.number(item, FIXED_BYTES - 3, WIDE_CAS, bases.cas)
    }

    #[inline]
    pub(crate) fn mark(self, item: &[u8], bases: &Bases) -> Option<u64> {
        self.has(MARK).then(|| self.number(item, self.begin_of(MARK), WIDE_MARK, bases.mark))
    }

    /// When it ends; 0 for never.
    #[inline]
    pub(crate) fn expiry(self, item: &[u8], bases: &Bases) -> u32 {
        let at = self.begin_of(EXPIRY);
        match (self.has(EXPIRY), self.width(WIDE_EXPIRY)) {
            (false, _) => 0,
            (true, Width::Whole) => u32::from_le_bytes(bytes_at(item, at)),
            (true, Width::Distance) => bases.unix.wrapping_add(distance(bytes_at(item, at))),
        }
    }

    #[inline]
    pub(crate) fn flags(self, item: &[u8]) -> u32 {
        if !self.has(FLAGS) {
            return 0;
        }
        u32::from_le_bytes(bytes_at(item, self.begin_of(FLAGS)))
    }

    #[inline]
    pub(crate) fn body(self, item: &[u8]) -> Body {
        if !self.is_large() {
            return Body::Inline(self.inline_bytes as u16);
        }
        let [bytes, first] = [0, 4].map(|past| bytes_at(item, self.begin_of(LARGE) + past));
        Body::Blocks { bytes: u32::from_le_bytes(bytes), first: u32::from_le_bytes(first) }
    }

    /// A number that was written as [`Out::number`] does.
    #[inline]
    fn number(self, item: &[u8], at: usize, wide: u16, base: u64) -> u64 {
        match self.width(wide) {
            Width::Whole => u64::from_le_bytes(bytes_at(item, at)),
            Width::Distance => base.wrapping_add(u64::from(distance(bytes_at(item, at)))),
        }
    }
}

impl Head {
    pub(crate) fn read(item: &[u8], bases: &Bases) -> Head {
        let shape = Shape::read(item);
        let meta = Meta {
            flags: shape.flags(item),
            expiry: shape.expiry(item, bases),
            cas: shape.cas(item, bases),
            mark: shape.mark(item, bases),
            traits: shape.traits(),
            stored: Shape::stored(item, bases),
            used: Shape::used(item, bases),
        };
        Head { shape, meta, body: shape.body(item) }
    }

    /// Whether the item at the front of `item` ever ends.
    #[inline]
    pub(crate) fn expires(item: &[u8]) -> bool {
        Shape::read(item).has(EXPIRY)
    }

    /// Writes the head of a new item.
    pub(crate) fn write(&self, bases: &Bases, item: &mut [u8]) {
        let Head { shape, meta, body } = self;
        let has = |bit| shape.bits & bit != 0;
        let mut out = Out { item, at: 0 };
        out.put(&[shape.key_bytes as u8]);
        out.put(&(shape.inline_bytes as u16).to_le_bytes());
        out.put(&shape.bits.to_le_bytes());
        out.put(&time_code(meta.stored, bases.uptime).to_le_bytes());
        out.put(&time_code(meta.used, bases.unix).to_le_bytes());
        out.number(shape.width(WIDE_CAS), bases.cas, meta.cas);
        if has(MARK) {
            out.number(shape.width(WIDE_MARK), bases.mark, meta.mark.unwrap_or_default());
        }
        if has(EXPIRY) {
            out.expiry(shape.width(WIDE_EXPIRY), bases.unix, meta.expiry);
        }
        if has(FLAGS) {
            out.put(&meta.flags.to_le_bytes());
        }
        if let Body::Blocks { bytes, first } = body {
            out.put(&bytes.to_le_bytes());
            out.put(&first.to_le_bytes());
        }
    }

    /// Writes `meta` over the head that is there, if it has room for it. Layout, key and value stay.
    pub(crate) fn amend(item: &mut [u8], bases: &Bases, meta: &Meta) -> bool {
        let old = Head::read(item, bases);
        if !old.shape.holds(meta, bases) {
            return false;
        }
        let bits = (old.shape.bits & 0xff00) | u16::from(meta.traits);
        Head { shape: Shape { bits, ..old.shape }, meta: *meta, body: old.body }.write(bases, item);
        true
    }

    /// The item was read: it says so, and when, to a minute.
    pub(crate) fn note_use(item: &mut [u8], bases: &Bases, unix: u32) {
        const MINUTE: u32 = 60;
        // Written once: what is only read can stay in every processor's cache.
        if item[3] & traits::FETCHED == 0 {
            item[3] |= traits::FETCHED;
        }
        let before = Shape::used(item, bases);
        if unix.saturating_sub(before) >= MINUTE {
            item[7..9].copy_from_slice(&time_code(unix, bases.unix).to_le_bytes());
        }
    }

    /// Says where the first block of a value out of line is now.
    pub(crate) fn set_first_block(item: &mut [u8], first: u32) {
        let end = Shape::read(item).head_bytes();
        item[end - 4..end].copy_from_slice(&first.to_le_bytes());
    }
}

struct Out<'a> {
    item: &'a mut [u8],
    at: usize,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.item[self.at..][..bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// The number, or its distance from `base`.
    fn number(&mut self, width: Width, base: u64, number: u64) {
        match width {
            Width::Whole => self.put(&number.to_le_bytes()),
            Width::Distance => self.distance(number.wrapping_sub(base) as u32),
        }
    }

    fn expiry(&mut self, width: Width, base: u32, expiry: u32) {
        match width {
            Width::Whole => self.put(&expiry.to_le_bytes()),
            Width::Distance => self.distance(expiry.wrapping_sub(base)),
        }
    }

    fn distance(&mut self, distance: u32) {
        self.put(&distance.to_le_bytes()[..3]);
    }
}

/// Set for times before the base.
const BEFORE: u16 = 1 << 15;
/// So many seconds are exact; one more is worth [`COARSE`].
const EXACT: u32 = 1 << 14;
const COARSE: u32 = 4096;

/// A time in two bytes; never later than it was.
fn time_code(time: u32, base: u32) -> u16 {
    let most = u32::from(BEFORE - 1);
    if let Some(after) = time.checked_sub(base) {
        let code = if after < EXACT { after } else { EXACT + (after - EXACT) / COARSE };
        code.min(most) as u16
    } else {
        let before = base - time;
        let code = if before < EXACT { before } else { EXACT + (before - EXACT).div_ceil(COARSE) };
        BEFORE | code.min(most) as u16
    }
}

fn time_from(code: u16, base: u32) -> u32 {
    let seconds = match u32::from(code & !BEFORE) {
        exact if exact < EXACT => exact,
        coarse => EXACT + (coarse - EXACT) * COARSE,
    };
    if code & BEFORE == 0 { base.saturating_add(seconds) } else { base.saturating_sub(seconds) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: u32 = 1_800_000_000;

    proptest! {
        #![proptest_config(crate::model::config(256))]

        #[test]
        fn times_never_get_younger(time in BASE - 60_000_000..BASE + 60_000_000) {
            let read = time_from(time_code(time, BASE), BASE);
            prop_assert!(read <= time && time - read < COARSE, "{time} as {read}");
            if time.abs_diff(BASE) < EXACT {
                prop_assert_eq!(read, time);
            }
            prop_assert_eq!(time_from(time_code(read, BASE), BASE), read);
        }

        #[test]
        fn heads_come_back(
            flags in any::<u32>(), expiry in any::<u32>(), cas in any::<u64>(), near in any::<u32>(),
            mark in any::<Option<u64>>(), traits in any::<u8>(), changed in any::<u64>(), large in any::<bool>(),
            after in 0_u32..1 << 25,
        ) {
            let meta = Meta { flags, expiry, cas: u64::from(near), mark, traits, stored: 7, used: BASE };
            let bases = Bases::around(&meta, BASE, 7);
            let body = if large { Body::Blocks { bytes: 70_000, first: 9 } } else { Body::Inline(3) };
            let soon = Meta { expiry: BASE + after, ..meta };
            let bare = Meta { flags: 0, expiry: 0, mark: None, ..meta };
            for meta in [meta, Meta { cas, ..meta }, soon, bare] {
                let shape = Shape::new(3, &meta, body, &bases);
                let head = Head { shape, meta, body };
                let mut bytes = vec![0; HEAD_BYTES_MAX + 6];
                head.write(&bases, &mut bytes);
                prop_assert_eq!(Head::read(&bytes, &bases), head);
                prop_assert_eq!(shape.expiry(&bytes, &bases), meta.expiry);
                prop_assert!(shape.head_bytes() <= HEAD_BYTES_MAX);
                let other = Meta { cas: changed, used: BASE + 100, traits: !traits, ..meta };
                for other in [other, Meta { expiry, ..other }, Meta { expiry: 0, ..other }, soon] {
                    let before = Head::read(&bytes, &bases);
                    if Head::amend(&mut bytes, &bases, &other) {
                        prop_assert_eq!(Head::read(&bytes, &bases).meta, other);
                    } else {
                        prop_assert_eq!(Head::read(&bytes, &bases), before);
                    }
                }
                Head::note_use(&mut bytes, &bases, BASE + 1000);
                prop_assert_eq!(Head::read(&bytes, &bases).meta.used, BASE + 1000);
                kill(&mut bytes);
                prop_assert!(Shape::read(&bytes).is_dead());
            }
        }
    }
}
