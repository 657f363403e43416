//! The rules against the tables that really exist.

use std::collections::BTreeSet;

use super::{Rule, Rules, error::RulesError, file::shortened, table::TableKind};

/// Most columns that a message lists.
const LISTED_COLUMNS_MAX: usize = 50;
/// Most edits between a name and the one that was meant.
const TYPO_EDITS_MAX: usize = 2;

impl Rules {
    /// Every column that a rule names and that table `schema.table` with `columns` does not have: an
    /// error for each rule and column, in the order of the file. Case does not count (ASCII).
    pub fn check_columns(&self, schema: &str, table: &str, columns: &[&str]) -> Vec<RulesError> {
        let mut errors = Vec::new();
        for rule in self.iter().filter(|rule| rule.matches(schema, table)) {
            let mut missing = BTreeSet::new();
            for (line, place, name) in rule.named_columns() {
                let exists = columns.iter().any(|column| column.eq_ignore_ascii_case(name));
                if !exists && missing.insert(name.to_ascii_lowercase()) {
                    let what = format!(
                        "rule {:?}: {place}: table {schema}.{table} has no column {name:?}{}",
                        rule.name,
                        hint(name, columns)
                    );
                    errors.push(RulesError::new(&rule.file, line, what));
                }
            }
        }
        errors.sort_by_key(RulesError::line);
        errors
    }

    /// Each (schema, table) that a rule names exactly, once, in order.
    pub fn exact_tables(&self) -> impl Iterator<Item = (&str, &str)> {
        let names: BTreeSet<(&str, &str)> = self.iter().filter_map(Rule::exact_table).collect();
        names.into_iter()
    }

    /// The errors to report when table `schema.table` does not exist: one for each rule that names it
    /// exactly. A regex that matches nothing is no error.
    pub fn missing_table(&self, schema: &str, table: &str) -> Vec<RulesError> {
        let about = self.iter().filter(|rule| rule.exact_table() == Some((schema, table)));
        about
            .map(|rule| {
                let what = format!("rule {:?}: table {schema}.{table} does not exist", rule.name);
                RulesError::new(&rule.file, rule.line, what)
            })
            .collect()
    }
}

impl Rule {
    /// Where each column is named: line, what names it, the name. One column may come often.
    fn named_columns(&self) -> impl Iterator<Item = (usize, String, &str)> {
        let in_keys = self.keys.iter().flat_map(|key| {
            key.template
                .columns()
                .map(|name| (key.line, format!("key {:?}", shortened(&key.text)), name))
        });
        let own = self.columns.iter().flatten();
        in_keys.chain(own.map(|(line, name)| (*line, "columns".to_owned(), name.as_str())))
    }

    fn exact_table(&self) -> Option<(&str, &str)> {
        match &self.table.kind {
            TableKind::Exact { schema, table } => Some((schema, table)),
            TableKind::Regex(_) => None,
        }
    }
}

/// `; did you mean "x"? It has: x, y` for a name that is not one of `columns`.
fn hint(name: &str, columns: &[&str]) -> String {
    let name = name.to_ascii_lowercase();
    let nearest = columns
        .iter()
        .map(|column| (edits(&name, &column.to_ascii_lowercase()), column))
        .filter(|(edits, column)| *edits <= TYPO_EDITS_MAX && *edits < column.chars().count())
        .min();
    let meant = nearest.map_or(String::new(), |(_, column)| format!("; did you mean {column:?}?"));
    let listed = columns.iter().take(LISTED_COLUMNS_MAX).copied().collect::<Vec<_>>().join(", ");
    let more = columns.len().saturating_sub(LISTED_COLUMNS_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let joint = if meant.is_empty() { "; it" } else { " It" };
    format!("{meant}{joint} has: {listed}{more}")
}

/// Levenshtein's distance, row by row.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, a) in from.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index.saturating_add(1);
        let mut next = vec![left];
        for (above, b) in row.iter().skip(1).zip(&to) {
            let swapped = diagonal.saturating_add(usize::from(a != *b));
            left = swapped.min(left.saturating_add(1)).min(above.saturating_add(1));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::edits;

    #[test]
    fn distances() {
        for (from, to, distance) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("emial", "email", 2), ("idd", "id", 1)]
        {
            assert_eq!(edits(from, to), distance, "{from} {to}");
        }
    }
}
