//! The stream, delivered to the cache nodes of one region: for each node a lane, with a window and a cursor of its own.
//!
//! Nothing is spooled here: the stream is the spool. A dead node delays nobody else, and gets everything that it
//! missed when it is back. A stock memcached that has no cursor yet begins with the oldest record that is kept.
//!
//! Several processes may share the partitions ([`Feed`]): then each of them has a lane to every node, for its own part of the
//! stream. While a partition changes hands two may deliver it, which is harmless.
//!
//! What clusters there are, and which nodes they have, may change meanwhile ([`Invalidator::reconfigure`]).
//!
//! Cache nodes of ours have a [`ControlPort`]: they get each delete once, with its version, and hear how far the region's
//! databases are, which a task here asks all the time; or, in hold-off mode, goes by time.

mod connection;
mod control;
mod copier;
mod databases;
mod deleter;
mod delivery;
mod hold_off;
mod instance;
mod intake;
pub mod lane;
mod metrics;
mod node_delivery;
pub mod node_lane;
pub mod poller;
mod positions;
mod report;
pub mod rings;
mod settings;
mod shell;
mod socket;
mod tls;
mod trouble;

pub use connection::ConnectionError;
pub use control::ControlPort;
pub use copier::Copier;
pub use databases::Databases;
pub use deleter::Deleter;
pub use instance::Instance;
pub use intake::Feed;
pub use lane::Markers;
pub use metrics::Metrics;
pub use positions::Visibility;
pub use report::LaneStatus;
pub use settings::{Former, NodeSettings, OnFloor, Settings};
pub use shell::{Invalidator, ReconfigureError, Statuses};
pub use tls::{Identity, Tls, TlsError};
