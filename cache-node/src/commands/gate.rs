//! [`Gate`]: the rules as commands see them. Without a source it lets everything through.

use std::sync::MutexGuard;

use schemas::version::Version;

use crate::{
    now::{Expiry, Now},
    rules::{
        Accepted, Ask, Condition, Fill, Leased, Mark, Reader, Refused, Rules, Served, Subject,
        Token,
    },
    store::Entry,
};

/// Held while the commands of one read are executed.
#[derive(Debug)]
pub(super) struct Gate<'a>(Option<MutexGuard<'a, Rules>>);

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
    pub(super) fn new(rules: Option<MutexGuard<'a, Rules>>) -> Gate<'a> {
        Gate(rules)
    }

    pub(super) fn has_source(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn serve(&self, now: Now, key: &[u8], entry: &Entry, ask: Ask) -> Served {
        let Some(rules) = &self.0 else { return Served::Hit };
        rules.serve(now.moment, &Subject::new(key), &entry.mark, ask)
    }

    /// Whether a value may be stored, and what to keep with it.
    pub(super) fn accept(&mut self, now: Now, key: &[u8], fill: Fill) -> Result<Accepted, Refused> {
        match &mut self.0 {
            Some(rules) => rules.accept(now.moment, &Subject::new(key), fill),
            None => Ok(Accepted { mark: unmarked(now), ttl_max: None }),
        }
    }

    /// Whether the reader of a value that is missing or outdated shall renew it. `cas` is what he has to show.
    pub(super) fn lease(&mut self, now: Now, key: &[u8], reader: Reader, cas: u64) -> Turned {
        let Some(rules) = &mut self.0 else { return Turned::Win };
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
        self.0.as_ref().is_some_and(|rules| rules.hints_primary(now.moment, &Subject::new(key)))
    }

    /// A client deleted the key: who has a lease, by this CAS, has lost it.
    pub(super) fn void_lease(&mut self, key: &[u8], cas: u64) {
        if let Some(rules) = &mut self.0 {
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
