//! The cache node beside the real memcached, and with clients that others wrote.

mod differential;
mod wire;
