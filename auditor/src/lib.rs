//! The auditor: measures from the binlog, the nodes and the database alone whether what changed is gone from the caches.
//!
//! ```text
//! binlog ──▶ Transactions ──changes──▶ Auditor ──looks──▶ nodes
//!             Mapping                     │  ◀──sights──┘
//!                                         ├──questions──▶ database
//!                                         └──verdicts──▶ metrics, logs, summary
//! ```
//!
//! It never reads the stream of invalidations, and shares no step between a row and a key with the tailer
//! ([`mapping`] says what that means). [`auditor::Auditor`] decides, without clock and I/O; [`run`] is the shell. The caller
//! reads the binlog, and hands over what it says.

pub mod auditor;
mod canary;
pub mod clock;
mod database;
pub mod mapping;
mod node;
pub mod placement;
pub mod report;
mod run;
mod settings;
pub mod transactions;
pub mod verdict;

pub use self::{
    canary::NoCanary,
    report::{Colour, Report, State},
    run::{Running, Shared, start},
    settings::{CanarySettings, Numbers, Settings, SettingsError, ValueRule},
    transactions::Transactions,
};
