//! [`Select`]: which keys and records somebody wants to see.

use anyhow::Context;
use regex::bytes::Regex;
use schemas::{
    record::{Floor, Invalidation, Record, Scope, Transaction},
    version::Version,
};
use tailer::StaleKey;

use super::version_of;
use crate::{args::Filters, failure::Failure, stream::From};

/// All that is asked for must be so; nothing asked for is all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Select {
    key: Option<String>,
    prefix: Option<String>,
    regex: Option<Regex>,
    table: Option<String>,
    rule: Option<String>,
    version_min: Option<Version>,
    version_max: Option<Version>,
}

impl Select {
    /// What lies between `from` and `to`, and passes the filters.
    pub(crate) fn of(filters: &Filters, from: From, to: From) -> Result<Select, Failure> {
        let regex = filters.regex.as_deref().map(Regex::new).transpose();
        let version = |bound: From| match bound {
            From::Version(version) => Some(version),
            _ => None,
        };
        Ok(Select {
            key: filters.key.clone(),
            prefix: filters.prefix.clone(),
            regex: regex.context("--regex").map_err(Failure::Config)?,
            table: filters.table.clone(),
            rule: filters.rule.clone(),
            version_min: version(from),
            version_max: version(to),
        })
    }

    /// Whether a version is within the bounds.
    pub(crate) fn wants_version(&self, version: Version) -> bool {
        self.version_min.is_none_or(|min| version >= min)
            && self.version_max.is_none_or(|max| version <= max)
    }

    /// What it asks for, for people; empty if that is all.
    pub(crate) fn describe(&self) -> String {
        let regex = self.regex.as_ref().map(|regex| regex.as_str().to_owned());
        let wanted = [
            ("key", self.key.clone()),
            ("prefix", self.prefix.clone()),
            ("regex", regex),
            ("table", self.table.clone()),
            ("rule", self.rule.clone()),
        ];
        let named = wanted.into_iter().filter_map(|(name, it)| Some(format!("{name} {}", it?)));
        named.collect::<Vec<_>>().join(", ")
    }

    /// Whether records that are no invalidations are of interest.
    pub(crate) fn wants_all_kinds(&self) -> bool {
        self.table.is_none() && self.rule.is_none() && !self.is_about_keys()
    }

    pub(crate) fn wants_key<'a>(&self, key: impl Into<StaleKey<'a>>) -> bool {
        let StaleKey { key, table, rule, .. } = key.into();
        let key = key.as_bytes();
        self.key.as_ref().is_none_or(|wanted| wanted.as_bytes() == key)
            && self.prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix.as_bytes()))
            && self.regex.as_ref().is_none_or(|regex| regex.is_match(key))
            && self.table.as_ref().is_none_or(|wanted| **wanted == **table)
            && self.rule.as_ref().is_none_or(|wanted| **wanted == **rule)
    }

    /// The keys of a transaction that are asked for; its record may begin before the version that is.
    pub(crate) fn keys_of<'a>(
        &'a self,
        transaction: &'a Transaction,
    ) -> impl Iterator<Item = &'a Invalidation> {
        let keys = transaction.keys.iter();
        keys.filter(|key| self.wants_version(transaction.version) && self.wants_key(*key))
    }

    /// A floor may cover the keys that are asked for.
    pub(crate) fn wants_floor(&self, floor: &Floor) -> bool {
        let Scope::Prefixes(prefixes) = &floor.scope else { return true };
        let of = |wanted: &str| {
            prefixes
                .iter()
                .any(|prefix| wanted.starts_with(&**prefix) || prefix.starts_with(wanted))
        };
        self.key.as_deref().is_none_or(of) && self.prefix.as_deref().is_none_or(of)
    }

    pub(crate) fn wants_version_of(&self, record: &Record) -> bool {
        let Some(min) = self.version_min else { return true };
        version_of(record).is_some_and(|version| version >= min)
    }

    fn is_about_keys(&self) -> bool {
        self.key.is_some() || self.prefix.is_some() || self.regex.is_some()
    }
}
