//! [`Sink`]: what the mapper says of a transaction, on its way to the stream.

use schemas::{record::Scope, version::Version};

use crate::{
    map::{Cause, Mapped},
    metrics::Metrics,
    prepared::{self, Prepared},
    publish::Publisher,
};

/// Where what a transaction means goes to.
pub(super) struct Sink<'a> {
    pub(super) version: Version,
    pub(super) publisher: &'a mut Publisher,
    pub(super) prepared: &'a mut Prepared,
    pub(super) metrics: &'a Metrics,
}

impl Sink<'_> {
    pub(super) fn take(&mut self, mapped: Mapped<'_>) {
        match mapped {
            Mapped::Key { key, scope } => {
                self.metrics.keys.inc();
                self.prepared.key(key, scope);
                self.publisher.key(key, scope);
            }
            Mapped::Null { rule } => self.metrics.key_null(rule),
            Mapped::Unusable { rule, shown, error } => {
                self.metrics.key_unusable(rule);
                tracing::debug!(rule = &**rule, key = shown, %error, "no client can have stored this key");
            }
            Mapped::Floor { scope, cause, reason } => {
                self.prepared.floor(scope);
                if cause.cure().works() && self.publisher.floor(scope, self.version, reason) {
                    self.metrics.floor(cause);
                    tracing::warn!(cause = cause.name(), ?scope, version = %self.version, reason, "keys cannot be listed, raising a floor");
                }
            }
        }
    }

    /// Whether a statement ends a prepared transaction that is known: then its keys are stale once more, or never were.
    pub(super) fn ends_prepared(&mut self, statement: &str) -> bool {
        let Some(end) = prepared::end_of(statement) else { return false };
        let (prepared::End::Commit(name) | prepared::End::Rollback(name)) = end;
        let Some(changed) = self.prepared.take(name) else { return false };
        if end == prepared::End::Commit(name) {
            let scope = changed.scope.scope().unwrap_or(Scope::All);
            for key in changed.keys.values() {
                self.take(Mapped::Key { key: key.into(), scope: &scope });
            }
            if let Some(scope) = changed.unlisted.scope() {
                let reason = format!("statement: {statement}, of keys that were not listed");
                self.take(Mapped::Floor {
                    scope: &scope,
                    cause: Cause::Statement,
                    reason: &reason,
                });
            }
        }
        true
    }
}
