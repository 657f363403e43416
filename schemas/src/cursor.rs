//! Places in the stream: never a bare offset, because logs lose tails and topics are created anew.

use std::fmt;

use xxhash_rust::xxh64::xxh64;

/// Names one log for ever; drawn at random when the log is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// One ordered part of the stream; keys are spread over partitions by hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u16);

/// One tailer's leadership. The first term of a log is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u32);

/// A record's place in its partition. Sequences are dense from 1 within each (partition, term);
/// terms are chained, see [`crate::record::TermStart`]. `Place::START` is before every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The leadership that wrote the record.
    pub term: Term,
    /// The record's number within that term, from 1; 0 is before the first.
    pub sequence: u64,
}

impl Place {
    /// Before every record of a partition.
    pub const START: Place = Place { term: Term(0), sequence: 0 };
}

/// Everything up to `place` has been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The log that was read.
    pub stream: StreamId,
    /// The part of it.
    pub partition: Partition,
    /// The last record applied.
    pub place: Place,
}

/// The partition of `key` in a stream of `partitions`: xxh64 of the key's bytes with seed 0, modulo
/// their number. Part of the stream's format: every writer and every reader must agree on it, and a
/// stream whose number of partitions changes is a new one. No partitions are counted as one.
pub fn partition_of(key: &impl AsRef<[u8]>, partitions: u16) -> Partition {
    let rest = xxh64(key.as_ref(), 0) % u64::from(partitions.max(1));
    Partition(u16::try_from(rest).unwrap_or_default()) // Below `partitions`, so it always fits.
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.term, self.sequence)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.stream, self.partition, self.place)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::key::Key;

    /// Other writers of the stream can check themselves against these.
    #[test]
    fn vectors() {
        let mut table = String::new();
        for text in ["a", "user:1", "user:2", "user:by-email:ann@example.com", &"k".repeat(250)] {
            let key = Key::new(text.to_owned()).unwrap();
            let parts =
                [0, 1, 2, 16, 1000, u16::MAX].map(|partitions| partition_of(&key, partitions).0);
            let line = format!("{:.30} {:016x} {parts:?}\n", text, xxh64(key.as_bytes(), 0));
            table.push_str(&line);
        }
        expect![[r"
            a d24ec4f1a98c6e5b [0, 0, 1, 11, 955, 44840]
            user:1 d9c7c4609e6080f3 [0, 0, 1, 3, 763, 48508]
            user:2 337be5a0c611350a [0, 0, 0, 10, 946, 5176]
            user:by-email:ann@example.com 3efe4968c65866c4 [0, 0, 0, 4, 332, 46467]
            kkkkkkkkkkkkkkkkkkkkkkkkkkkkkk 4fcb46af8d2a43d7 [0, 0, 1, 7, 567, 26492]
        "]]
        .assert_eq(&table);
    }

    #[test]
    fn places_are_ordered_by_term_first() {
        let place = |term, sequence| Place { term: Term(term), sequence };
        assert!(Place::START < place(1, 1) && place(1, 9) < place(2, 1));
        assert_eq!(place(2, 1).to_string(), "2:1");
    }
}
