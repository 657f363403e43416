//! Tests against real servers. `cargo xtask test` provides them; what this machine lacks is skipped by
//! name, or fails if `MCSQUEAL_REQUIRE` names it.

mod auditor;
mod dead_node;
mod demo;
mod every_key;
mod kills;
mod look_aside;
mod node;
mod past;
mod readme;
mod recorder;
mod refusals;
mod ring_live;
mod router;
mod tail;
mod versions;

use e2e::lab as support;
