//! Benchmarks. What they share: [`figures`] prints and keeps results, [`reference`] says how fast the machine is.

#![expect(clippy::cast_precision_loss, reason = "measurements have few digits")]

mod args;
pub mod figures;
pub mod hitratio;
pub mod invalidate;
mod lane;
mod load;
pub mod node;
pub mod reference;
pub mod router;
pub mod snapshot;
pub mod stream;
pub mod tail;
pub mod warm;
