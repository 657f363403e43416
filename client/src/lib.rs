//! Reads and writes through cache nodes without serving what is stale.

pub mod cycle;
pub mod reading;
pub mod token;
pub mod wire;
