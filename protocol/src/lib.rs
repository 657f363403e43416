//! The memcached text protocol as a pure codec, no I/O.
