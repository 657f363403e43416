//! The router: the memcached protocol in front of many nodes.

pub mod wire;
