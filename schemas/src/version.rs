//! [`Version`]: a point in the commit order of one source.

use std::fmt;

/// Bits of a version that hold the sequence.
pub const SEQUENCE_BITS: u32 = 48;
/// Highest sequence that fits.
pub const SEQUENCE_MAX: u64 = (1 << SEQUENCE_BITS) - 1;

/// A place in the commit order of one source: epoch (16 bits, high) and sequence (48 bits).
///
/// The sequence is the number in the transaction's GTID; the epoch rises whenever those numbers
/// start anew or come from another origin. Versions of different sources are never compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// Before every transaction.
    pub const ZERO: Version = Version(0);
    /// After every transaction.
    pub const MAX: Version = Version(u64::MAX);

    /// The version of transaction number `sequence` in `epoch`; `None` above [`SEQUENCE_MAX`].
    pub const fn new(epoch: u16, sequence: u64) -> Option<Version> {
        if sequence > SEQUENCE_MAX {
            return None;
        }
        Some(Version(((epoch as u64) << SEQUENCE_BITS) | sequence))
    }

    /// The version whose wire form is `bits`; every `u64` is one.
    pub const fn from_bits(bits: u64) -> Version {
        Version(bits)
    }

    /// The wire form.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Which stretch of the source's history, counted by its tailers.
    pub const fn epoch(self) -> u16 {
        (self.0 >> SEQUENCE_BITS) as u16
    }

    /// The transaction's number within its epoch.
    pub const fn sequence(self) -> u64 {
        self.0 & SEQUENCE_MAX
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch(), self.sequence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_orders_before_sequence() {
        let old = Version::new(1, SEQUENCE_MAX).unwrap();
        let new = Version::new(2, 0).unwrap();
        assert!(old < new);
        assert_eq!((old.epoch(), old.sequence()), (1, SEQUENCE_MAX));
        assert_eq!(Version::from_bits(old.bits()), old);
        assert_eq!(new.to_string(), "2.0");
        assert_eq!(Version::new(0, SEQUENCE_MAX + 1), None);
    }
}
