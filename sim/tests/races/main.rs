//! Every race of `docs/races.md`, told step by step on a small stage: with its cure, and without.

#![cfg(debug_assertions)] // Cures can be switched off there only.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests: a panic is a failed test"
)]

mod catalogue;
mod copies;
mod events;
mod filling;
mod fleet;
mod mapping;
mod positions;
mod promotions;
mod race;
mod reading;
mod routed;
mod stage;
mod tail;
mod transport;
mod wander;
