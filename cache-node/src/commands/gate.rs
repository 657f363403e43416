//! [`Gate`]: the rules as commands see them. Without a source it lets everything through.

use std::{
    sync::{RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use schemas::{key::Key, version::Version};

use crate::{
    node::{Judged, Node},
    now::{Expiry, Now},
    rules::{
        Accepted, Ask, Condition, Fill, Leased, Mark, MarkersFull, Named, Nonce, Reader, Refused,
        Rules, Served, Subject, Token,
    },
    store::Entry,
};

/// Held while the commands of one read are executed: shared by all who only read values, until one of the commands may change what
/// the rules know.
#[derive(Debug)]
pub(super) struct Gate<'a> {
    node: &'a Node,
    hold: Hold<'a>,
}

#[derive(Debug)]
enum Hold<'a> {
    /// There is no source.
    Nothing,
    Shared(RwLockReadGuard<'a, Rules>),
    Alone(RwLockWriteGuard<'a, Rules>),
}

/// The answer to a reader who wants to renew a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// He shall.
    Win,
    /// He shall, with what the primary says.
    WinFromPrimary,
    /// Somebody else does.
    Wait,
    /// Nobody can now: the region has not got the last change yet. The primary has.
    ReadPrimary,
    /// Nobody can now: what can be read is too old.
    Never,
}

impl<'a> Gate<'a> {
    pub(super) fn new(node: &'a Node) -> Gate<'a> {
        Gate { node, hold: node.rules_shared().map_or(Hold::Nothing, Hold::Shared) }
    }

    pub(super) fn has_source(&self) -> bool {
        self.node.has_source()
    }

    /// From now on the rules may be changed. Not to be called by one who holds a shard.
    pub(super) fn change(&mut self) {
        if let Hold::Shared(_) = self.hold {
            // It must be given back before it can be had alone.
            self.hold = Hold::Nothing;
            self.hold = self.node.rules().map_or(Hold::Nothing, Hold::Alone);
        }
    }

    /// Whether the rules may be changed now, or there are none.
    pub(super) fn may_change(&self) -> bool {
        !matches!(self.hold, Hold::Shared(_))
    }

    fn asked(&self) -> Option<&Rules> {
        match &self.hold {
            Hold::Nothing => None,
            Hold::Shared(rules) => Some(rules),
            Hold::Alone(rules) => Some(rules),
        }
    }

    fn changed(&mut self) -> Option<&mut Rules> {
        assert!(self.may_change(), "who changes the rules has said so before");
        match &mut self.hold {
            Hold::Alone(rules) => Some(rules),
            Hold::Nothing | Hold::Shared(_) => None,
        }
    }

    /// Whether nothing is served until the node has caught up, and how old what it knows is; `None` without a source.
    pub(super) fn catching_up(&self, now: Now) -> Option<(bool, Option<Duration>)> {
        let rules = self.asked()?;
        Some((rules.is_quarantined(), rules.age(now.moment)))
    }

    pub(super) fn serve(
        &self,
        now: Now,
        key: &[u8],
        mark: impl FnOnce() -> Mark,
        ask: Ask,
    ) -> Served {
        let Some(rules) = self.asked() else { return Served::Hit };
        rules.serve(now.moment, &Subject::new(key), &mark(), ask)
    }

    /// The fill version of a copy, if the entry may be copied. To be asked by one who holds its shard.
    pub(super) fn copy_version(&self, now: Now, key: &[u8], entry: &Entry) -> Option<Version> {
        self.asked()?.copy_version(now.moment, &Subject::new(key), &entry.mark)
    }

    /// Whether a value may be stored, and what to keep with it.
    pub(super) fn accept(&mut self, now: Now, key: &[u8], fill: Fill) -> Result<Accepted, Refused> {
        match self.changed() {
            Some(rules) => rules.accept(now.moment, &Subject::new(key), fill),
            None => Ok(Accepted { mark: unmarked(now), ttl_max: None }),
        }
    }

    /// Whether the reader of a value that is missing or outdated shall renew it. `cas` is what he has to show.
    pub(super) fn lease(&mut self, now: Now, key: &[u8], reader: Reader, cas: u64) -> Turned {
        let Some(rules) = self.changed() else { return Turned::Win };
        match rules.lease(now.moment, &Subject::new(key), reader, Token(cas)) {
            Leased::Fill(_) => Turned::Win,
            Leased::FillFromPrimary(_) => Turned::WinFromPrimary,
            Leased::Wait => Turned::Wait,
            Leased::ReadPrimary => Turned::ReadPrimary,
            Leased::Read => Turned::Never,
        }
    }

    /// Whether the region lacks the last change of the key.
    pub(super) fn hints_primary(&self, now: Now, key: &[u8]) -> bool {
        self.asked().is_some_and(|rules| rules.hints_primary(now.moment, &Subject::new(key)))
    }

    /// A client is about to write the key.
    pub(super) fn mark(&mut self, now: Now, key: &[u8], nonce: Nonce) -> Result<(), MarkersFull> {
        // What no stream can delete by name cannot be marked either.
        let (Some(rules), Ok(_)) = (self.changed(), Key::new(key.to_vec())) else {
            return Err(MarkersFull);
        };
        rules.mark(now.moment, &Subject::new(key), nonce)
    }

    /// A client has written the key. Not to be called by one who holds a shard.
    pub(super) fn name_mark(
        &mut self,
        now: Now,
        key: &[u8],
        nonce: Nonce,
        version: Version,
    ) -> Named {
        let node = self.node;
        let (Some(rules), Ok(key)) = (self.changed(), Key::new(key.to_vec())) else {
            return Named::Expired;
        };
        rules.name_mark(now.moment, &key, nonce, version, &mut Judged { node, now })
    }

    /// A client deleted the key: who has a lease, by this CAS, has lost it.
    pub(super) fn void_lease(&mut self, key: &[u8], cas: u64) {
        if let Some(rules) = self.changed() {
            rules.void_lease(&Subject::new(key), Token(cas));
        }
    }
}

/// What an entry of a node without a source is marked with: it says nothing.
pub(super) fn unmarked(now: Now) -> Mark {
    Mark { filled: Version::ZERO, condition: Condition::Good, since: Some(now.moment) }
}

/// The earlier of what the client wants and what the rules allow.
pub(super) fn cap(expiry: Expiry, accepted: Accepted, now: Now) -> Expiry {
    let longest = accepted.ttl_max.map(|ttl| Expiry::after(ttl.as_secs().max(1), now));
    longest.map_or(expiry, |longest| longest.min(expiry))
}
