//! The cache node beside the real memcached, and with clients that others wrote.

mod churn;
mod clients;
mod differential;
mod flags;
mod inside;
mod life;
mod soak;
pub(crate) mod sockets;
mod stats;
mod users;
pub(crate) mod wire;
