//! What the rules mean, as a number.

use xxhash_rust::xxh64::xxh64;

use super::{Rule, Rules};

impl Rules {
    /// A digest of the file's meaning, to tell versions of rules apart: xxh64 of a canonical form.
    ///
    /// Comments, layout, the order of rules (unless their names depend on it) and of what is inside a
    /// rule, and the spelling of templates do not matter. Names do: records carry them.
    pub fn digest(&self) -> u64 {
        let mut rules: Vec<Vec<u8>> = self.iter().map(Rule::canonical).collect();
        rules.sort_unstable();
        xxh64(&rules.concat(), 0)
    }
}

impl Rule {
    /// Lists of texts, each with its length before it, so that no two rules look alike.
    pub(super) fn canonical(&self) -> Vec<u8> {
        let mut keys: Vec<String> = self.keys.iter().map(|key| key.template.canonical()).collect();
        keys.sort_unstable();
        let columns = self.columns.iter().flatten();
        let mut columns: Vec<String> = columns.map(|(_, name)| name.to_ascii_lowercase()).collect();
        columns.sort_unstable();
        let head = vec![
            self.name.to_string(),
            self.table.text.clone(),
            format!("{:?} filter={}", self.operations, self.columns.is_some()),
        ];
        let mut out = Vec::new();
        for list in [head, keys, columns] {
            out.extend(length(list.len()));
            for text in list {
                out.extend(length(text.len()));
                out.extend(text.into_bytes());
            }
        }
        out
    }
}

fn length(length: usize) -> [u8; 8] {
    u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes()
}
