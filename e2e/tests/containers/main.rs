//! Two regions, end to end: a MySQL primary in region A and a replica in B, a real Kafka, an invalidator and two clusters of nodes in each
//! region, readers and writers in both, and 80 ms between them and back. `cargo xtask e2e` runs the scenarios.
//!
//! After each one, no cached value in either region may differ from the database, and no read may have returned, unflagged, what had been
//! superseded for too long; and an auditor in each region has found nothing. What was measured goes into a table.

mod crowd;
mod failover;
mod faults;
mod files;
mod growth;
mod own_writes;
mod replayed;
mod table;
mod world;
