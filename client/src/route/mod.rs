//! Which nodes a request goes to, and what is made of their answers: without I/O, without a clock.
//!
//! ```text
//! RoutesFile (TOML) ─┐
//! mcrouter's JSON ───┴─> Routes ── direct() ──> one node, the usual case
//!                           └───── Errand ────> what to send, what was missed, the reply
//! Health, one for each target: what happened to it ──> Condition ──> asked for by Routes and Errand
//! Leases: whose token is this?
//! ```
//!
//! # How a daemon uses it
//!
//! 1. [`Routes::new`] once for each configuration; an `Arc` of it is shared. [`Routes::targets`] are the nodes to connect to.
//! 2. For each request [`Routes::direct`]. It allocates nothing. If it names a node, the request goes there, without the
//!    [`Direct::strip`] first bytes of its key. If [`Direct::ends_with`] the outcome, the answer goes to the client.
//! 3. Otherwise [`Errand::resume`], or [`Errand::begin`] where there was no direct way; then [`Errand::answered`] for each
//!    sending until [`Errand::is_over`]. In each step: keep what is in `missed`, send what is in `sends`, give the `reply`.
//! 4. [`Health`](health::Health) is told what happens to a target; [`Nodes`] is how the daemon hands its conditions to the
//!    routes. A target of kind `memcached` that missed a change is told [`Event::FellBehind`](health::Event) until what was
//!    kept for it was replayed. A node of ours that is out of use is asked by [`Returning`](returning::Returning) when it may
//!    be used again.
//! 5. Requests with a token are looked up in [`Leases`](leases::Leases) first: one that came from a node which stood in goes
//!    back to that node.

pub mod ask;
mod build;
pub mod config;
pub mod errand;
mod explain;
pub mod health;
mod judge;
pub mod leases;
pub mod mcrouter;
pub mod returning;
mod tree;

pub use self::{
    ask::{Ask, Class, Failure, Op, Outcome},
    build::RoutesError,
    config::{Kind, RoutesFile},
    errand::{Change, Errand, Form, Missed, Place, Reply, Send, Step, Ticket},
    tree::{Direct, Routes, Target},
};

/// A node of [`Routes::targets`], by its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(u16);

impl TargetId {
    /// The place in [`Routes::targets`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A limit of [`Routes::limits`], by its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitId(u16);

impl LimitId {
    /// The place in [`Routes::limits`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a node may be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Everything.
    Ready,
    /// No reads: a change is missing on it.
    Behind,
    /// Nothing.
    Down,
}

/// What the routes must know of the present.
pub trait Nodes {
    /// What this node may be asked.
    fn condition(&self, target: TargetId) -> Condition;
    /// Takes a token of this limit, if there is one.
    fn take(&self, limit: LimitId) -> bool;
    /// Takes the right to ask another node after one has not answered in time, if there is one: see
    /// [`Retries`](health::Retries).
    fn retry(&self) -> bool;
}

/// A part of the tree, by its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct NodeId(u16);

#[cfg(test)]
mod tests;
