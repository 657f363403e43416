//! [`Prepared`]: what XA transactions change that are prepared, and not committed yet. Pure.
//!
//! The rows of an XA transaction are logged, and their keys published, when it is prepared. Readers see them only after
//! its XA COMMIT, and can fill in between: so its keys are published again then. Of a transaction that was prepared
//! before this tailer began to read, or that found no room here, nothing is known: its XA COMMIT is a floor over all keys.

use std::collections::{BTreeMap, HashMap};

use schemas::{
    key::Key,
    record::{Invalidation, Scope},
};

use crate::{scope::ScopeSum, stale::StaleKey};

/// Keys that are remembered, of all transactions together; of those beyond it, only their scopes.
const KEYS_MAX: usize = 100_000;
/// Transactions that are remembered.
const TRANSACTIONS_MAX: usize = 10_000;

/// Invariant: `keys` is the number of keys in `open` and `waiting`.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// The XA transaction that is being read, and its name.
    open: Option<(Box<str>, Changed)>,
    waiting: HashMap<Box<str>, Changed>,
    keys: usize,
}

/// What one transaction changes.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    pub(crate) keys: BTreeMap<Key, Invalidation>,
    /// Covers its keys.
    pub(crate) scope: ScopeSum,
    /// Covers those of its keys that cannot be listed.
    pub(crate) unlisted: ScopeSum,
}

impl Prepared {
    /// The transaction that is being read is an XA one.
    pub(crate) fn start(&mut self, name: &str) {
        self.end();
        self.open = Some((name.into(), Changed::default()));
    }

    /// A key of the transaction that is being read.
    pub(crate) fn key(&mut self, key: StaleKey<'_>, scope: &Scope) {
        let Some((_, changed)) = &mut self.open else { return };
        drop(changed.scope.add(scope)); // The sum is what counts.
        if changed.keys.contains_key(key.key.as_bytes()) {
            return;
        }
        if self.keys >= KEYS_MAX {
            drop(changed.unlisted.add(scope));
            return;
        }
        let kept = key.invalidation();
        changed.keys.insert(kept.key.clone(), kept);
        self.keys = self.keys.saturating_add(1);
    }

    /// It also changes keys that cannot be listed.
    pub(crate) fn floor(&mut self, scope: &Scope) {
        if let Some((_, changed)) = &mut self.open {
            drop(changed.unlisted.add(scope));
        }
    }

    /// It waits for its XA COMMIT from here on.
    pub(crate) fn prepare(&mut self) {
        if self.waiting.len() >= TRANSACTIONS_MAX {
            return self.end();
        }
        if let Some((name, changed)) = self.open.take()
            && let Some(older) = self.waiting.insert(name, changed)
        {
            self.keys = self.keys.saturating_sub(older.keys.len());
        }
    }

    /// The transaction that was being read is complete.
    pub(crate) fn end(&mut self) {
        if let Some((_, changed)) = self.open.take() {
            self.keys = self.keys.saturating_sub(changed.keys.len());
        }
    }

    /// A prepared transaction is committed or rolled back; `None` if nothing is known of it.
    pub(crate) fn take(&mut self, name: &str) -> Option<Changed> {
        let changed = self.waiting.remove(name)?;
        self.keys = self.keys.saturating_sub(changed.keys.len());
        Some(changed)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// How a prepared transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End<'a> {
    Commit(&'a str),
    Rollback(&'a str),
}

/// What a statement that a server logged says of a prepared transaction.
pub(crate) fn end_of(statement: &str) -> Option<End<'_>> {
    let behind = |verb: &str| {
        let (begin, name) = statement.trim().split_at_checked(verb.len())?;
        begin.eq_ignore_ascii_case(verb).then(|| name.trim())
    };
    behind("XA COMMIT ").map(End::Commit).or_else(|| behind("XA ROLLBACK ").map(End::Rollback))
}

#[cfg(test)]
mod tests {
    use schemas::record::Operation;

    use super::*;

    fn key(number: usize) -> Invalidation {
        let (table, rule) = ("shop.users".into(), "users".into());
        let key = Key::new(format!("user:{number}")).unwrap();
        Invalidation { key, table, rule, operation: Operation::Update }
    }

    fn scope() -> Scope {
        Scope::Prefixes(vec!["user:".into()])
    }

    #[test]
    fn keys_wait_for_the_commit() {
        let mut prepared = Prepared::default();
        prepared.key((&key(0)).into(), &scope()); // Of no XA transaction.
        prepared.start("a");
        prepared.key((&key(1)).into(), &scope());
        prepared.key((&key(1)).into(), &scope());
        prepared.prepare();
        prepared.start("b");
        prepared.key((&key(2)).into(), &scope());
        prepared.end(); // In one phase.
        assert_eq!(prepared.waiting(), 1);
        assert!(prepared.take("b").is_none());
        let changed = prepared.take("a").unwrap();
        assert_eq!(changed.keys.len(), 1);
        assert_eq!(changed.unlisted.scope(), None);
        assert_eq!(prepared.keys, 0);
        assert!(prepared.take("a").is_none());
    }

    #[test]
    fn what_finds_no_room_is_a_scope() {
        let mut prepared = Prepared::default();
        for name in ["a", "b"] {
            prepared.start(name);
            for number in 0..KEYS_MAX * 2 / 3 {
                prepared.key((&key(number)).into(), &scope());
            }
            prepared.prepare();
        }
        assert_eq!(prepared.keys, KEYS_MAX);
        assert_eq!(prepared.take("a").unwrap().unlisted.scope(), None);
        let changed = prepared.take("b").unwrap();
        assert_eq!(changed.keys.len(), KEYS_MAX - KEYS_MAX * 2 / 3);
        assert_eq!(changed.unlisted.scope(), Some(scope()));
        assert_eq!(prepared.keys, 0);
    }

    #[test]
    fn ends() {
        assert_eq!(end_of("XA COMMIT X'78',X'',1"), Some(End::Commit("X'78',X'',1")));
        assert_eq!(end_of(" xa rollback X'78',X'',1 "), Some(End::Rollback("X'78',X'',1")));
        assert_eq!(end_of("XA COMMI€"), None);
        assert_eq!(end_of("COMMIT"), None);
    }
}
