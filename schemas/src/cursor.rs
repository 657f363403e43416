//! Places in the stream: never a bare offset, because logs lose tails and topics are created anew.

use std::fmt;

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
