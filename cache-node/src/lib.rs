//! The cache node: a memcached that knows about versions.
//!
//! [`node::Node`] is what all connections share: entries in [`store`], and the [`rules`]. [`commands`] turns requests
//! into replies; [`server`] puts sockets around it, [`control`] is the port of the invalidators, [`warm`] fills a cold node from
//! a warm cluster, and [`http`] is the side port.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)
)]

pub mod access;
pub mod commands;
pub mod control;
pub mod copies;
pub mod counters;
pub mod http;
pub mod node;
pub mod now;
pub mod rules;
pub mod server;
pub mod server_facts;
pub mod store;
pub mod usage;
pub mod warm;
