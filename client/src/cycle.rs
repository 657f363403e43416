//! [`Cycle`]: one look-aside read, as decisions: what to do with each answer of a node. No I/O, no clock.
//!
//! ```text
//!            ┌────────────── Wait ◀─────────────┐ somebody else reads it
//!            ▼                                  │
//! begin ──▶ Ask ──▶ answered ──▶ Serve          │
//!                      │  └─────────────────────┘
//!                      ├──▶ PeekMarker ──▶ peeked     a stock memcached only
//!                      └──▶ Read ──▶ fetched ──▶ Store, GiveBack or nothing
//! ```
//!
//! What it promises, and the model below checks:
//!
//! - What is served contains what the reader demands, unless he allowed an old value and gets it marked as such.
//! - A value is stored with a lease only, in a session that may fill, and only if it was read after the lease was given.
//! - Whoever has waited in vain reads the primary: the node tells only the holder of a lease that the replicas lag, so for
//!   anybody else a replica may be too old, and a reader who has seen the change may not go back behind it.
//! - It ends: waiting is bounded by [`Patience`].

use std::time::Duration;

use bytes::Bytes;
use schemas::version::Version;

use crate::{
    reading::{Reading, Unfit},
    token::Token,
    wire::{Age, Answer, AtLeast, Found, Get, Hint, Lease, Turn, ValueKind},
};

/// What a reader wants.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// The session in which he reads what is not cached.
    pub reading: Reading,
    /// What he must see, if anything.
    pub token: Option<Token>,
    /// Whether an outdated value is better than waiting, or than reading the database.
    pub old: OldValues,
}

/// What to do with a value that is known to be outdated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OldValues {
    /// Never take it.
    #[default]
    Refuse,
    /// Take it if waiting was in vain, or the database fails.
    AtLast,
    /// Take it while somebody else renews it.
    AtOnce,
}

/// What the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// One of ours, with versions.
    Versioned,
    /// A stock memcached, or a node of ours without a source.
    Stock,
}

/// How long readers wait for somebody else's read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The first wait; each next one is twice as long.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// All waits together.
    pub whole: Duration,
}

/// How values are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a lease lasts at a stock memcached; a node of ours has its own time.
    pub lease_s: u32,
    /// A value with no more time left than this is renewed by one reader; 0: never before it expires.
    pub renew_s: u32,
    /// How long to wait for others.
    pub patience: Patience,
}

/// Where to read what is not cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which database.
    pub database: Database,
    /// What must be visible there. The primary has it, unless it was lost; a replica may be asked to wait for it.
    pub at_least: Option<Version>,
}

/// Which database to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// Any instance of the region that the invalidator knows.
    Any,
    /// The primary: replicas may lack what this reader must see.
    Primary,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the node; then [`Cycle::answered`].
    Ask(Get),
    /// Ask a stock memcached whether the key is marked; then [`Cycle::peeked`].
    PeekMarker,
    /// Let so much time pass; then [`Cycle::waited`].
    Wait(Duration),
    /// Answer with this.
    Serve(Value),
    /// Read the database; then [`Cycle::fetched`] or [`Cycle::failed`].
    Read(Place),
}

/// A value from the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The bytes; `None`: the database has none, as far as the cache knows.
    pub data: Option<Bytes>,
    /// How old it may be.
    pub age: Age,
    /// A version that it contains, if the node knows.
    pub version: Option<Version>,
}

/// What to do with what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Store it.
    Store(Lease),
    /// It must not be stored: let somebody else fill the key.
    GiveBack(Lease, Unfit),
    /// It must not be stored, and nobody waits for that.
    Nothing(Unfit),
    /// There is no lease to store it with.
    NoLease,
}

/// One read. Made by [`Cycle::begin`].
#[derive(Clone, Debug)]
pub struct Cycle {
    want: Want,
    kind: NodeKind,
    terms: Terms,
    waited: Duration,
    next_wait: Duration,
    lease: Option<Lease>,
    /// Whether a value stands where the lease was given, which is better than nothing.
    spare: Option<Value>,
    fit: Result<(), Unfit>,
}

impl Cycle {
    /// Begins to read a key of a node.
    pub fn begin(want: Want, kind: NodeKind, terms: Terms) -> (Cycle, Action) {
        let cycle = Cycle {
            want,
            kind,
            terms,
            waited: Duration::ZERO,
            next_wait: terms.patience.first,
            lease: None,
            spare: None,
            fit: want.reading.may_fill(),
        };
        let blind = match (want.token, kind) {
            (Some(Token::Primary), _) | (Some(Token::AtLeast(_)), NodeKind::Stock) => true,
            (Some(Token::AtLeast(_)) | None, _) => false,
        };
        // What is cached could not be told from what is too old.
        let action = if blind { cycle.read(Hint::Primary) } else { Action::Ask(cycle.get()) };
        (cycle, action)
    }

    /// The node has answered [`Action::Ask`].
    pub fn answered(&mut self, answer: Answer) -> Action {
        match answer {
            Answer::Value(found) => self.found(found),
            Answer::Missing(hint) => self.missed(hint),
            // What no node answers to `mg`; and refusals. The database knows.
            Answer::Done
            | Answer::Known { .. }
            | Answer::NotStored
            | Answer::Exists
            | Answer::NotFound
            | Answer::Refused(_) => self.read(Hint::None),
        }
    }

    /// The node cannot be asked: it is down, or too slow.
    pub fn unreachable(&mut self) -> Action {
        self.read(if self.waited > Duration::ZERO { Hint::Primary } else { Hint::None })
    }

    /// The time of [`Action::Wait`] has passed.
    pub fn waited(&mut self) -> Action {
        Action::Ask(self.get())
    }

    /// A stock memcached has said whether the key is marked. `None`: it did not answer.
    pub fn peeked(&mut self, marked: Option<bool>) -> Action {
        if marked == Some(false) {
            return self.read(Hint::None);
        }
        // Replicas may lack the write, and what is filled from the primary now would be deleted by nobody who is sure.
        self.fit = self.fit.and(Err(Unfit::Marked));
        self.read(Hint::Primary)
    }

    /// The lease that this reader holds.
    pub fn lease(&self) -> Option<Lease> {
        self.lease.filter(|_| !self.spare_is_good())
    }

    /// The database was read; `may_store` is what the reader knows now of his session.
    pub fn fetched(&mut self, may_store: Result<(), Unfit>) -> Then {
        match (self.fit.and(may_store), self.lease.take()) {
            (Ok(()), Some(lease)) => Then::Store(lease),
            (Ok(()), None) => Then::NoLease,
            // Who renews early leaves the value where it is: it is good.
            (Err(unfit), Some(_)) if self.spare_is_good() => Then::Nothing(unfit),
            (Err(unfit), Some(lease)) => Then::GiveBack(lease, unfit),
            (Err(unfit), None) => Then::Nothing(unfit),
        }
    }

    /// The database could not be read: what can be served instead, and the lease that somebody else should have.
    pub fn failed(&mut self) -> (Option<Value>, Option<Lease>) {
        let lease = self.lease.take().filter(|_| !self.spare_is_good());
        let usable = |spare: &Value| spare.age != Age::Old || self.want.old != OldValues::Refuse;
        let spare = self.spare.take().filter(usable);
        // An old value stays for those who take it: the lease ends by itself.
        (spare.clone(), lease.filter(|_| spare.is_none()))
    }

    fn get(&self) -> Get {
        let fit = self.fit.is_ok();
        let renew = fit && self.terms.renew_s > 0;
        Get {
            lease_s: fit.then_some(self.terms.lease_s),
            renew_s: renew.then_some(self.terms.renew_s),
            versions: (self.kind == NodeKind::Versioned).then(|| AtLeast(self.at_least())),
        }
    }

    fn at_least(&self) -> Version {
        match self.want.token {
            Some(Token::AtLeast(version)) => version,
            Some(Token::Primary) | None => Version::ZERO,
        }
    }

    fn found(&mut self, found: Found) -> Action {
        let is_place = found.data.is_empty()
            && found.flags == ValueKind::Value.flags()
            && found.turn != Turn::Nobody;
        let absent = found.flags == ValueKind::Absent.flags();
        let data = if absent { None } else { Some(found.data) };
        let value = Value { data, age: found.age, version: found.version };
        match (found.turn, found.age) {
            (Turn::Ours, _) => {
                self.lease = Some(Lease(found.cas));
                self.spare = (!is_place).then_some(value);
                self.missed(found.hint)
            }
            (Turn::Theirs, _) if is_place => self.wait(),
            (Turn::Theirs | Turn::Nobody, Age::Old) => {
                let at_once = self.want.old == OldValues::AtOnce;
                self.spare = Some(value.clone());
                if at_once { Action::Serve(value) } else { self.wait() }
            }
            (Turn::Theirs | Turn::Nobody, Age::Current | Age::Unknown) => Action::Serve(value),
        }
    }

    /// It is not cached: where is it read?
    fn missed(&self, hint: Hint) -> Action {
        match self.kind {
            NodeKind::Versioned => self.read(hint),
            NodeKind::Stock => Action::PeekMarker,
        }
    }

    fn wait(&mut self) -> Action {
        let Patience { longest, whole, .. } = self.terms.patience;
        let left = whole.saturating_sub(self.waited);
        if left > Duration::ZERO {
            let wait = self.next_wait.min(left).max(Duration::from_millis(1));
            self.waited = self.waited.saturating_add(wait);
            self.next_wait = self.next_wait.saturating_mul(2).min(longest);
            return Action::Wait(wait);
        }
        match self.spare.take() {
            Some(spare) if self.want.old != OldValues::Refuse => Action::Serve(spare),
            _ => self.read(Hint::Primary),
        }
    }

    fn read(&self, hint: Hint) -> Action {
        let at_least = match self.want.token {
            Some(Token::AtLeast(version)) => Some(version),
            Some(Token::Primary) | None => None,
        };
        let primary = hint == Hint::Primary || self.want.token.is_some();
        let database = if primary { Database::Primary } else { Database::Any };
        Action::Read(Place { database, at_least })
    }

    fn spare_is_good(&self) -> bool {
        self.spare.as_ref().is_some_and(|spare| spare.age != Age::Old)
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
