//! [`StaleKey`]: a key that a change made stale, and why; lent by the one who has made it.

use std::sync::Arc;

use schemas::{
    key::KeyRef,
    record::{Invalidation, Operation},
};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleKey<'a> {
    /// The cache key.
    pub key: KeyRef<'a>,
    /// `schema.table` that changed.
    pub table: &'a Arc<str>,
    /// The rule that made the key.
    pub rule: &'a Arc<str>,
    /// What happened to the row.
    pub operation: Operation,
}

impl StaleKey<'_> {
    /// One to keep.
    pub fn invalidation(&self) -> Invalidation {
        Invalidation {
            key: self.key.to_key(),
            table: Arc::clone(self.table),
            rule: Arc::clone(self.rule),
            operation: self.operation,
        }
    }
}

impl<'a> From<&'a Invalidation> for StaleKey<'a> {
    fn from(kept: &'a Invalidation) -> StaleKey<'a> {
        let Invalidation { key, table, rule, operation } = kept;
        StaleKey { key: key.as_key_ref(), table, rule, operation: *operation }
    }
}
