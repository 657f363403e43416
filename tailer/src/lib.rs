//! The binlog of one source, turned into keys on the stream.
