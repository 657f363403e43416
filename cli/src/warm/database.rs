//! [`Database`]: values for keys, by a statement of the user's. What its places stand for, the rules say: they made the keys of columns.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use schemas::{config::Region, key::Key, rules::Rules};
use tailer::{Selecting, Settings};

use crate::{failure::Failure, history};

/// See the module. It connects when it is first asked.
pub(super) struct Database {
    settings: Settings,
    rules: Rules,
    template: Template,
    connection: Option<Selecting>,
}

/// `SELECT v FROM t WHERE id = {id}`: with `?` for each place, and the columns for them.
#[derive(Debug, PartialEq, Eq)]
struct Template {
    statement: String,
    columns: Vec<String>,
}

impl Database {
    pub(super) fn new(
        file: &Path,
        region: &Region,
        rules: Rules,
        select: &str,
    ) -> Result<Database, Failure> {
        let template = Template::parse(select).map_err(Failure::Config)?;
        let settings = history::binlog_settings(file, region)?;
        Ok(Database { settings, rules, template, connection: None })
    }

    /// The statement for a key, and what its places stand for; `None` if no rule makes the key of the columns that the statement needs.
    pub(super) fn statement(&self, key: &Key) -> Option<(&str, Vec<String>)> {
        let texts = self.rules.iter().find_map(|rule| {
            let origin = rule.explain_key(key)?;
            let text = |column: &String| {
                let found =
                    origin.columns.iter().find(|(name, _)| name.eq_ignore_ascii_case(column));
                found.map(|(_, text)| text.to_string())
            };
            self.template.columns.iter().map(text).collect::<Option<Vec<_>>>()
        })?;
        Some((&self.template.statement, texts))
    }

    /// What the database has for a key.
    pub(super) async fn value(&mut self, key: &Key) -> Result<Option<Vec<u8>>> {
        let Some((statement, texts)) = self.statement(key) else { return Ok(None) };
        let statement = statement.to_owned();
        let connection = match &mut self.connection {
            Some(open) => open,
            none => none.insert(Selecting::connect(&self.settings).await?),
        };
        connection
            .value(&statement, texts)
            .await
            .with_context(|| format!("read the value of {key}"))
    }
}

impl Template {
    fn parse(select: &str) -> Result<Template> {
        let (mut statement, mut columns, mut rest) = (String::new(), Vec::new(), select);
        while let Some((before, after)) = rest.split_once('{') {
            let (column, behind) = after
                .split_once('}')
                .with_context(|| format!("--select: {{{after}: where is the }}?"))?;
            statement.push_str(before);
            statement.push('?');
            columns.push(column.trim().to_owned());
            rest = behind;
        }
        statement.push_str(rest);
        if columns.is_empty() {
            return Err(anyhow!("--select: name a column of the key, like {{id}}"));
        }
        Ok(Template { statement, columns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_have_places() {
        let parsed =
            Template::parse("SELECT v FROM t WHERE a = {id} AND b = { lang }").expect("one");
        let statement = "SELECT v FROM t WHERE a = ? AND b = ?".to_owned();
        assert_eq!(
            parsed,
            Template { statement, columns: vec!["id".to_owned(), "lang".to_owned()] }
        );
        for wrong in ["SELECT 1", "SELECT v FROM t WHERE id = {id"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}
