//! [`Settings`]: everything that the auditor is told.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mysql_async::Opts;
use regex::bytes::Regex;
use schemas::{config, key::Key};
use xxhash_rust::xxh64::xxh64;

use crate::{
    auditor::Looks,
    mapping::{Mapping, MappingError},
    placement::Placement,
    transactions::Sample,
};

/// What is audited, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    pub looks: Looks,
    pub sample: Sample,
    pub watches_max: usize,
    pub placement: Placement,
    pub mapping: Mapping,
    /// One for each value rule of the mapping.
    pub values: Vec<ValueRule>,
    /// All servers that may take writes: the first that does is asked.
    pub databases: Vec<Opts>,
    pub canary: Option<CanarySettings>,
    /// What the numbers of transactions are good for.
    pub numbers: Numbers,
    /// Goes into the names of the auditor's own entries, so that regions do not disturb each other.
    pub region: Arc<str>,
}

/// What the numbers of transactions are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// The versions of entries are made of them.
    Compared,
    /// Several servers write: versions are something else (hold-off mode).
    Unused,
}

/// Which row is written, and how often.
#[derive(Clone, Debug)]
pub struct CanarySettings {
    pub schema: String,
    pub table: String,
    pub interval: Duration,
}

/// What a key should hold.
#[derive(Clone, Debug)]
pub struct ValueRule {
    /// A statement whose first column of the first row it is.
    pub sql: String,
    /// The part of the cached bytes that is compared: the first group, or all that matches; `None`: all bytes.
    pub part: Option<Regex>,
    /// What that part is where there is no such row, or NULL; `None`: nothing is cached then.
    pub absent: Option<Bytes>,
}

impl ValueRule {
    /// Of a region file.
    pub fn new(of: &config::AuditedValue) -> Result<ValueRule, regex::Error> {
        let part = of.part.as_deref().map(Regex::new).transpose()?;
        let absent = of.absent.as_ref().map(|text| Bytes::copy_from_slice(text.as_bytes()));
        Ok(ValueRule { sql: of.sql.clone(), part, absent })
    }

    /// A digest of what is compared of a cached value; `None` if it does not look like one.
    pub fn digest_of(&self, cached: &[u8]) -> Option<u64> {
        let Some(regex) = &self.part else { return Some(digest(cached)) };
        let found = regex.captures(cached)?;
        let group = if regex.captures_len() > 1 { found.get(1) } else { found.get(0) };
        group.map(|group| digest(group.as_bytes()))
    }
}

/// Two values are the same if their digests are.
pub(crate) fn digest(value: &[u8]) -> u64 {
    xxh64(value, 0)
}

/// Why there is nothing to audit by.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("read the rules")]
    Mapping(#[from] MappingError),
    #[error("spread keys over the nodes")]
    Ring(#[from] schemas::ring::RingError),
    #[error("auditor.value.part")]
    Part(#[from] regex::Error),
}

impl Settings {
    /// Of a region file, with the texts of its rules files by their names, and how its databases are reached.
    pub fn new(
        region: &config::Region,
        rules: &[(String, String)],
        databases: Vec<Opts>,
    ) -> Result<Settings, SettingsError> {
        let auditor = &region.auditor;
        let mut mapping = Mapping::default();
        for (file, text) in rules {
            mapping.add_rules(file, text)?;
        }
        let mut values = Vec::new();
        for value in &auditor.values {
            mapping.add_value(&value.table, &value.key)?;
            values.push(ValueRule::new(value)?);
        }
        let looks = Looks { in_flight: auditor.in_flight, late: auditor.late, lost: auditor.lost };
        let canary = auditor.canary_table.clone().map(|(schema, table)| CanarySettings {
            schema,
            table,
            interval: auditor.canary_interval,
        });
        Ok(Settings {
            looks,
            sample: Sample::millionths(auditor.sample_millionths),
            watches_max: auditor.watches_max,
            placement: Placement::new(&region.clusters)?,
            mapping,
            values,
            databases,
            canary,
            numbers: match region.source.hold_off {
                Some(_) => Numbers::Unused,
                None => Numbers::Compared,
            },
            region: Arc::clone(&region.name),
        })
    }

    /// The auditor's own entry on each node, which shows how the node counts.
    pub(crate) fn probe_key(&self) -> Key {
        let text = format!("mcsqueal-auditor:{}", self.region);
        Key::new(text).expect("names of regions are short, and plain")
    }
}

#[cfg(test)]
mod tests {
    use schemas::config::Region;

    use super::*;
    use crate::canary::perches;

    /// Of the example, with more rules and a canary.
    fn settings(more: &str) -> Settings {
        let text = include_str!("../../region-configs/shop.toml");
        let text = text.replace("#canary_table", "canary_table");
        let region = Region::parse("shop.toml", &text).unwrap();
        let rules = include_str!("../../region-configs/shop.rules.toml").to_owned() + more;
        Settings::new(&region, &[("shop.rules.toml".to_owned(), rules)], Vec::new()).unwrap()
    }

    #[test]
    fn the_example_says_what_a_user_is() {
        let settings = settings("");
        let rule = &settings.values[0];
        assert_eq!(rule.digest_of(b"user:7 = user 7 v3 Ann@x Ann"), Some(digest(b"v3")));
        assert_eq!(rule.digest_of(b"user:7 = none"), Some(digest(b"none")));
        assert_eq!(rule.digest_of(b"something else"), None);
        assert!(settings.mapping.is_about("shop", "orders"));
    }

    #[test]
    fn each_node_has_a_row_of_the_canary() {
        let canary = settings("").canary.expect("a canary");
        let none = perches(&settings(""), &canary).unwrap_err().to_string();
        assert!(none.contains("mcsqueal.canary"), "{none}");
        let rule = "\n[[rule]]\ntable = \"mcsqueal.canary\"\nkeys = [\"mcsqueal-canary:{id}\"]\n";
        assert_eq!(perches(&settings(rule), &canary).unwrap().len(), 2);
    }
}
