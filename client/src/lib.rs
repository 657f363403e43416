//! Reads and writes through cache nodes without serving what is stale.

pub mod client;
pub mod commit;
pub mod cycle;
pub mod marks;
#[cfg(feature = "mysql")]
pub mod mysql;
mod node;
pub mod reading;
pub mod settings;
pub mod token;
pub mod wire;

pub use self::{
    client::{Client, ClientError, Fetched, Got, Origin, Read, Stored},
    commit::{Commit, CommitError, Epochs, EpochsError},
    cycle::{Database, OldValues, Patience, Place},
    marks::{Mark, Marked, TooManyKeys, Written},
    node::NodeError,
    reading::{Isolation, Reading, Snapshot, Unfit, Writes},
    settings::{Cluster, NoCluster, Settings},
    token::{NoToken, Token},
    wire::Age,
};
