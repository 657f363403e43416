//! [`Slot`]: eight bytes of the table: `tag:16 | kind:2 | frequency:2 | place:44`.
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

    pub(crate) fn item(hash: u64, place: u64) -> Slot {
        Slot((Slot::wanted(hash) << KIND_SHIFT) | (place & PLACE_MASK))
    }

    /// What the upper bits of an item's slot are, if its key has this hash.
    pub(crate) fn wanted(hash: u64) -> u64 {
        ((hash >> TAG_SHIFT) << 2) | ITEM
    }

    /// What the upper bits of a ghost's slot are, likewise.
    pub(crate) fn wanted_ghost(hash: u64) -> u64 {
        ((hash >> TAG_SHIFT) << 2) | GHOST
    }

    /// Whether the upper bits are these.
    pub(crate) fn is(self, wanted: u64) -> bool {
        self.0 >> KIND_SHIFT == wanted
    }

    /// The ghost of an item that is gone.
    pub(crate) fn into_ghost(self, eviction: u64) -> Slot {
        let tag = self.0 >> TAG_SHIFT;
        Slot((tag << TAG_SHIFT) | (GHOST << KIND_SHIFT) | (eviction & PLACE_MASK))
    }

    pub(crate) fn is_item(self) -> bool {
        (self.0 >> KIND_SHIFT) & 3 == ITEM
    }

    pub(crate) fn is_ghost(self) -> bool {
        (self.0 >> KIND_SHIFT) & 3 == GHOST
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn place(self) -> u64 {
        self.0 & PLACE_MASK
    }

    #[must_use]
    pub(crate) fn at(self, place: u64) -> Slot {
        Slot((self.0 & !PLACE_MASK) | (place & PLACE_MASK))
    }

    pub(crate) fn frequency(self) -> u8 {
        (self.0 >> FREQUENCY_SHIFT) as u8 & 3
    }

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
        assert!(slot.is_item() && !slot.is_ghost() && slot.is(Slot::wanted(hash)));
        assert_eq!((slot.place(), slot.frequency()), (PLACES - 1, 3));
        let moved = slot.at(5).with_frequency(1);
        assert_eq!((moved.place(), moved.frequency()), (5, 1));
        let ghost = moved.into_ghost(77);
        assert!(ghost.is_ghost() && ghost.is(Slot::wanted_ghost(hash)) && !ghost.is_item());
        assert_eq!(ghost.place(), 77);
        assert!(Slot::EMPTY.is_empty() && !Slot::EMPTY.is_item());
    }
}
