//! [`Slot`]: eight bytes of the table: `tag:16 | kind:2 | frequency:2 | place:44`. In its bucket the tag stands apart.
//!
//! The place of an item is where it begins, in bytes from the start of the memory; that of a ghost is the number of the
//! eviction that made it.

const PLACE_BITS: u32 = 44;
const FREQUENCY_SHIFT: u32 = PLACE_BITS;
const KIND_SHIFT: u32 = FREQUENCY_SHIFT + 2;
const TAG_SHIFT: u32 = KIND_SHIFT + 2;
const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;
const ITEM: u64 = 1;
const GHOST: u64 = 2;

/// Uses of an item that are told apart: none, one, two, more.
pub(crate) const FREQUENCY_MAX: u8 = 3;
/// Places are below this.
pub(crate) const PLACES: u64 = 1 << PLACE_BITS;

/// See the module. Zero is an empty slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u64);

impl Slot {
    pub(crate) const EMPTY: Slot = Slot(0);

    #[inline]
    pub(crate) fn item(hash: u64, place: u64) -> Slot {
        Slot::from_parts(Slot::tag_of(hash), (ITEM << KIND_SHIFT) | (place & PLACE_MASK))
    }

    /// A slot from its tag and the bytes after that.
    #[inline]
    pub(crate) fn from_parts(tag: u16, rest: u64) -> Slot {
        Slot((u64::from(tag) << TAG_SHIFT) | rest)
    }

    /// The tag of a hash.
    #[inline]
    pub(crate) fn tag_of(hash: u64) -> u16 {
        (hash >> TAG_SHIFT) as u16
    }

    #[inline]
    pub(crate) fn tag(self) -> u16 {
        Slot::tag_of(self.0)
    }

    /// The ghost of an item that is gone.
    pub(crate) fn into_ghost(self, eviction: u64) -> Slot {
        Slot::from_parts(self.tag(), (GHOST << KIND_SHIFT) | (eviction & PLACE_MASK))
    }

    /// Whether it is that of an item whose key may have this hash.
    #[inline]
    pub(crate) fn is_item_of(self, hash: u64) -> bool {
        self.is_item() && self.tag() == Slot::tag_of(hash)
    }

    /// Whether it is the ghost of such an item.
    pub(crate) fn is_ghost_of(self, hash: u64) -> bool {
        self.is_ghost() && self.tag() == Slot::tag_of(hash)
    }

    #[inline]
    pub(crate) fn is_item(self) -> bool {
        (self.0 >> KIND_SHIFT) & 3 == ITEM
    }

    #[inline]
    pub(crate) fn is_ghost(self) -> bool {
        (self.0 >> KIND_SHIFT) & 3 == GHOST
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(crate) fn place(self) -> u64 {
        self.0 & PLACE_MASK
    }

    #[must_use]
    pub(crate) fn at(self, place: u64) -> Slot {
        Slot((self.0 & !PLACE_MASK) | (place & PLACE_MASK))
    }

    #[inline]
    pub(crate) fn frequency(self) -> u8 {
        (self.0 >> FREQUENCY_SHIFT) as u8 & 3
    }

    #[inline]
    #[must_use]
    pub(crate) fn with_frequency(self, frequency: u8) -> Slot {
        let frequency = u64::from(frequency.min(FREQUENCY_MAX));
        Slot((self.0 & !(3 << FREQUENCY_SHIFT)) | (frequency << FREQUENCY_SHIFT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_its_parts_apart() {
        let hash = 0xabcd_0000_1234_5678;
        let slot = Slot::item(hash, PLACES - 1).with_frequency(9);
        assert!(slot.is_item() && !slot.is_ghost() && slot.tag() == Slot::tag_of(hash));
        assert_eq!((slot.place(), slot.frequency()), (PLACES - 1, 3));
        let moved = slot.at(5).with_frequency(1);
        assert_eq!((moved.place(), moved.frequency()), (5, 1));
        let ghost = moved.into_ghost(77);
        assert!(ghost.is_ghost() && ghost.tag() == Slot::tag_of(hash) && !ghost.is_item());
        assert_eq!(ghost.place(), 77);
        assert!(Slot::EMPTY.is_empty() && !Slot::EMPTY.is_item());
    }
}
