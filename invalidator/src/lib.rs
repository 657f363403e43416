//! The stream, delivered to the cache nodes of one region: for each node a lane, with a window and a cursor of its own.
//!
//! Nothing is spooled here: the stream is the spool. A dead node delays nobody else, and gets everything that it
//! missed when it is back. A node that has no cursor yet begins with the oldest record that is kept.

mod connection;
mod delivery;
mod intake;
pub mod lane;
mod metrics;
pub mod node_lane;
pub mod poller;
mod report;
mod settings;
mod shell;

pub use metrics::Metrics;
pub use report::LaneStatus;
pub use settings::{NodeSettings, OnFloor, Settings};
pub use shell::Invalidator;
