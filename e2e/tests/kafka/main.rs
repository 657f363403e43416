//! Tests on a real Kafka. `cargo xtask test --stage kafka` provides it; where there is none, they are skipped by
//! name, or fail if `MCSQUEAL_REQUIRE` names it.

mod absent;
mod access;
mod conformance;
mod covered;
mod degraded;
mod faults;
mod gap;
mod kills;
mod lost;
mod mirror;
mod progress;
mod published;
mod readers;
mod sharing;
mod storm;
mod strikes;
#[path = "../../../stream/tests/suite/mod.rs"]
mod suite;
mod tools;
