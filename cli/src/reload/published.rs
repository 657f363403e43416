//! [`Published`]: clusters and rules for all processes of a region, as a note; and how a process's own file takes them in. Pure.
//!
//! Only `cluster` and `shutdown` of the region file travel, and the texts of the rules. What else a file says is each machine's own,
//! its secrets above all.

use std::path::Path;

use anyhow::{Context, bail};
use schemas::{config::Region, rules::Rules};
use serde::{Deserialize, Serialize};
use toml::Table;
use xxhash_rust::xxh64::Xxh64;

use crate::load::Loaded;

/// What of a region file is published.
const KEYS: [&str; 2] = ["cluster", "shutdown"];

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Published {
    /// Counted in the region, from 1.
    pub(crate) version: u64,
    region: String,
    rules: Vec<RulesText>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesText {
    name: String,
    text: String,
}

/// The note of a region's published version.
pub(crate) fn note_of(region: &str) -> String {
    format!("config:{region}")
}

impl Published {
    /// What is published of a region file, whose rules have these names and texts.
    pub(crate) fn new(
        version: u64,
        region: &str,
        rules: Vec<(String, String)>,
    ) -> anyhow::Result<Published> {
        let mut table: Table = region.parse().context("the region file")?;
        table.retain(|key, _| KEYS.contains(&key));
        let region = toml::to_string(&table).context("write the clusters")?;
        let rules = rules.into_iter().map(|(name, text)| RulesText { name, text }).collect();
        Ok(Published { version, region, rules })
    }

    pub(crate) fn encode(&self) -> anyhow::Result<Vec<u8>> {
        serde_json::to_vec(self).context("write the note")
    }

    pub(crate) fn decode(note: &[u8]) -> anyhow::Result<Published> {
        serde_json::from_slice(note).context("the published configuration cannot be read")
    }

    /// The same wherever the same is published.
    pub(crate) fn hash(&self) -> u64 {
        let mut hash = Xxh64::new(0);
        let texts = self.rules.iter().flat_map(|rules| [&rules.name, &rules.text]);
        for text in std::iter::once(&self.region).chain(texts) {
            hash.update(&text.len().to_be_bytes());
            hash.update(text.as_bytes());
        }
        hash.digest()
    }

    /// This, in the region file `own` of a process at `path`.
    pub(crate) fn merged(&self, path: &Path, own: &str) -> anyhow::Result<Loaded> {
        let published: Table = self.region.parse().context("the published clusters")?;
        if let Some(key) = published.keys().find(|key| !KEYS.contains(&key.as_str())) {
            bail!("{key} cannot be published");
        }
        let mut table: Table = own.parse().context("the region file")?;
        table.retain(|key, _| !KEYS.contains(&key));
        table.extend(published);
        let text =
            toml::to_string(&table).context("put the published clusters into the region file")?;
        let name = format!("{} with version {}", path.display(), self.version);
        let region = Region::parse(&name, &text)?;
        let mut all: Option<Rules> = None;
        for RulesText { name, text } in &self.rules {
            let rules = Rules::parse(&format!("{name} of version {}", self.version), text)?;
            all = Some(match all {
                None => rules,
                Some(all) => all.beside(rules)?,
            });
        }
        let rules = all.context("it has no rules")?;
        Ok(Loaded { region, rules, hash: self.hash() })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const EXAMPLE: &str = include_str!("../../../region-configs/shop-kafka.toml");
    const RULES: &str = "[[rule]]\ntable = \"shop.users\"\nkeys = [\"user:{id}\"]\n";

    fn published(region: &str) -> Published {
        Published::new(7, region, vec![("r.toml".to_owned(), RULES.to_owned())]).unwrap()
    }

    #[test]
    fn only_clusters_and_rules_travel() {
        let secrets = EXAMPLE
            .replace("\"compression.type\" = \"lz4\"", "\"sasl.password\" = \"hush\"")
            .replace("MCSQUEAL_SOURCE_PASSWORD", "HUSH");
        assert!(secrets.contains("hush") && secrets.contains("HUSH"));
        let note = published(&secrets).encode().unwrap();
        let text = String::from_utf8(note.clone()).unwrap();
        assert!(!text.to_lowercase().contains("hush"), "{text}");
        for key in ["source", "stream", "http", "brokers", "password"] {
            assert!(!text.contains(key), "{key}: {text}");
        }
        assert_eq!(Published::decode(&note).unwrap(), published(&secrets));
    }

    #[test]
    fn a_process_keeps_what_is_its_own() {
        let theirs = EXAMPLE.replace("127.0.0.1:11211", "127.0.0.1:11299").replace("4217", "9999");
        let loaded = published(&theirs).merged(Path::new("shop.toml"), EXAMPLE).unwrap();
        let own = Region::parse("shop.toml", EXAMPLE).unwrap();
        assert_eq!(loaded.region.source, own.source);
        assert_eq!(loaded.region.clusters[0].nodes[0].address.port, 11299);
        assert_eq!(loaded.hash, published(&theirs).hash());
        assert_ne!(loaded.hash, published(EXAMPLE).hash());
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let said = |published: &Published| {
            format!("{:#}", published.merged(Path::new("shop.toml"), EXAMPLE).unwrap_err())
        };
        let bad = Published { region: "name = \"x\"".to_owned(), ..published(EXAMPLE) };
        expect!["name cannot be published"].assert_eq(&said(&bad));
        let bad = Published { rules: Vec::new(), ..published(EXAMPLE) };
        expect!["it has no rules"].assert_eq(&said(&bad));
        assert!(Published::decode(b"{}").is_err());
        assert!(Published::decode(b"\xff").is_err());
    }
}
