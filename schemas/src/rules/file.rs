//! From the text of a rules file to [`Rules`]: the raw form, and every check on it.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::{
    Operations, Rule, RuleKey, Rules,
    error::RulesError,
    limits::{
        FILE_BYTES_MAX, REGEXES_MAX, RULE_COLUMNS_MAX, RULE_KEYS_MAX, RULE_NAME_BYTES_MAX,
        RULES_MAX,
    },
    table::{TableKind, TablePattern},
    template::Template,
};
use crate::record::Operation;

/// Most characters of a template in a message.
const SHOWN_CHARACTERS_MAX: usize = 120;

/// Which row feeds which cache keys.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "mcsqueal rules")]
pub(super) struct RawFile {
    /// One block per rule.
    #[schemars(with = "Vec<RawRule>")]
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
    // A later step; taken here so that its refusal says so.
    #[schemars(skip)]
    query: Option<Spanned<toml::Value>>,
}

/// Which keys a row of a table feeds.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rule")]
struct RawRule {
    /// In metrics and messages; `rule-1`, `rule-2`, .. if left out.
    #[schemars(with = "Option<String>")]
    name: Option<Spanned<String>>,
    /// `schema.table`, letter by letter; or a regex that must match all of it: `/shop_[0-9]+\.users/`.
    #[schemars(with = "String")]
    table: Spanned<String>,
    /// Every key that the application builds from a row, with columns and filters in braces: `user-by-email:{email|lower}`.
    #[schemars(with = "Vec<String>")]
    keys: Spanned<Vec<Spanned<String>>>,
    /// Updates count only if they change one of these columns, or one that the keys name.
    #[schemars(with = "Option<Vec<String>>")]
    columns: Option<Spanned<Vec<Spanned<String>>>>,
    /// On which changes the rule fires; all if left out.
    #[schemars(with = "Option<Vec<String>>")]
    operations: Option<Spanned<Vec<Spanned<String>>>>,
}

/// What a rules file may have, for editors.
pub(super) fn json_schema() -> schemars::Schema {
    schemars::schema_for!(RawFile)
}

/// Parses and checks `text`; the first thing that is wrong is the answer.
pub(super) fn parse(file: &str, text: &str) -> Result<Rules, RulesError> {
    let source = SourceText { file: Arc::from(file), line_starts: line_starts(text) };
    if text.len() > FILE_BYTES_MAX {
        let what = format!("the file has {} bytes, more than {FILE_BYTES_MAX}", text.len());
        return Err(source.error(0, what));
    }
    let raw: RawFile = toml::from_str(text).map_err(|error| source.toml_error(text, &error))?;
    if let Some(query) = &raw.query {
        let what =
            "`[[query]]` is not supported yet; write a `[[rule]]` with the keys of the table";
        return Err(source.error(query.span().start, what.to_owned()));
    }
    if raw.rule.is_empty() {
        return Err(source.error(0, "no `[[rule]]`: nothing would ever be invalidated".to_owned()));
    }
    if let Some(rule) = raw.rule.get(RULES_MAX) {
        return Err(source.error(rule.span().start, format!("more than {RULES_MAX} rules")));
    }
    let mut rules = Vec::with_capacity(raw.rule.len());
    let mut lines_by_name: HashMap<Arc<str>, usize> = HashMap::new();
    let mut regexes = 0_usize;
    for (index, raw) in raw.rule.into_iter().enumerate() {
        let start = raw.span().start;
        let rule = source.rule(index.saturating_add(1), start, raw.into_inner())?;
        regexes = regexes.saturating_add(rule.regexes());
        if regexes > REGEXES_MAX {
            return Err(source.error(start, format!("more than {REGEXES_MAX} regexes in the file")));
        }
        if let Some(line) = lines_by_name.insert(Arc::clone(&rule.name), rule.line) {
            let what = format!("rule {:?}: the rule at line {line} has this name too", rule.name);
            return Err(source.error(start, what));
        }
        rules.push(rule);
    }
    Ok(Rules { rules })
}

/// The file's name and where its lines begin, for messages.
struct SourceText {
    file: Arc<str>,
    line_starts: Vec<usize>,
}

/// A rule under way: all of its messages begin alike.
struct Context<'a> {
    source: &'a SourceText,
    name: Arc<str>,
}

impl SourceText {
    fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).max(1)
    }

    fn error(&self, offset: usize, what: String) -> RulesError {
        RulesError::new(&self.file, self.line(offset), what)
    }

    fn toml_error(&self, text: &str, error: &toml::de::Error) -> RulesError {
        let start = error.span().map_or(0, |span| span.start);
        if text.get(start..).is_some_and(|rest| rest.starts_with("[rule]")) {
            return self.error(start, "write `[[rule]]`, with two brackets".to_owned());
        }
        self.error(start, one_line(error.message()))
    }

    fn rule(&self, number: usize, start: usize, raw: RawRule) -> Result<Rule, RulesError> {
        let name = self.name(number, raw.name)?;
        let context = Context { source: self, name: Arc::clone(&name) };
        let table = TablePattern::parse(raw.table.get_ref())
            .map_err(|error| context.error(raw.table.span().start, &format!("table {error}")))?;
        let keys = context.keys(raw.keys, &table)?;
        let columns = raw.columns.map(|columns| context.columns(columns)).transpose()?;
        let operations = match raw.operations {
            Some(operations) => context.operations(operations)?,
            None => Operations::ALL,
        };
        let file = Arc::clone(&self.file);
        Ok(Rule { file, line: self.line(start), name, table, keys, columns, operations })
    }

    fn name(&self, number: usize, raw: Option<Spanned<String>>) -> Result<Arc<str>, RulesError> {
        let Some(raw) = raw else { return Ok(Arc::from(format!("rule-{number}"))) };
        let what = match raw.get_ref() {
            name if name.is_empty() => "is empty",
            name if name.len() > RULE_NAME_BYTES_MAX => "is longer than 100 bytes",
            name if name.chars().any(char::is_control) => "contains a control character",
            name => return Ok(Arc::from(name.as_str())),
        };
        Err(self.error(raw.span().start, format!("rule {number}: name {what}")))
    }
}

impl Context<'_> {
    fn error(&self, offset: usize, what: &str) -> RulesError {
        self.source.error(offset, format!("rule {:?}: {what}", self.name))
    }

    fn keys(
        &self,
        raw: Spanned<Vec<Spanned<String>>>,
        table: &TablePattern,
    ) -> Result<Vec<RuleKey>, RulesError> {
        self.check_length(&raw, "keys", "without one the rule does nothing", RULE_KEYS_MAX)?;
        let mut keys: Vec<RuleKey> = Vec::with_capacity(raw.get_ref().len());
        for raw in raw.into_inner() {
            let start = raw.span().start;
            let text = raw.into_inner();
            let template = Template::parse(&text, table.groups()).map_err(|error| {
                self.error(start, &format!("key {:?}: {error}", shortened(&text)))
            })?;
            let canonical = template.canonical();
            if keys.iter().any(|other| other.template.canonical() == canonical) {
                return Err(
                    self.error(start, &format!("key {:?} is there twice", shortened(&text)))
                );
            }
            let line = self.source.line(start);
            keys.push(RuleKey { line, text: Arc::from(text), template: Arc::new(template) });
        }
        Ok(keys)
    }

    fn columns(
        &self,
        raw: Spanned<Vec<Spanned<String>>>,
    ) -> Result<Vec<(usize, String)>, RulesError> {
        self.check_length(
            &raw,
            "columns",
            "leave it out to fire on all updates",
            RULE_COLUMNS_MAX,
        )?;
        let mut seen = std::collections::HashSet::new();
        let mut columns = Vec::with_capacity(raw.get_ref().len());
        for raw in raw.into_inner() {
            let start = raw.span().start;
            let name = raw.into_inner();
            if name.is_empty() {
                return Err(self.error(start, "columns: a name is empty"));
            }
            if !seen.insert(name.to_ascii_lowercase()) {
                return Err(self.error(start, &format!("columns: {name:?} is there twice")));
            }
            columns.push((self.source.line(start), name));
        }
        Ok(columns)
    }

    fn operations(&self, raw: Spanned<Vec<Spanned<String>>>) -> Result<Operations, RulesError> {
        self.check_length(&raw, "operations", "leave it out for all of them", 3)?;
        let mut operations = Operations::NONE;
        for raw in raw.into_inner() {
            let start = raw.span().start;
            let operation = match raw.get_ref().as_str() {
                "insert" => Operation::Insert,
                "update" => Operation::Update,
                "delete" => Operation::Delete,
                other => {
                    let what = format!(
                        "operations: {other:?} is not one of \"insert\", \"update\", \"delete\""
                    );
                    return Err(self.error(start, &what));
                }
            };
            if operations.contains(operation) {
                let what = format!("operations: {:?} is there twice", raw.get_ref());
                return Err(self.error(start, &what));
            }
            operations.insert(operation);
        }
        Ok(operations)
    }

    fn check_length<T>(
        &self,
        raw: &Spanned<Vec<T>>,
        what: &str,
        hint: &str,
        max: usize,
    ) -> Result<(), RulesError> {
        let start = raw.span().start;
        match raw.get_ref().len() {
            0 => Err(self.error(start, &format!("{what} is empty; {hint}"))),
            length if length > max => {
                Err(self.error(start, &format!("{what} has {length} entries, more than {max}")))
            }
            _ => Ok(()),
        }
    }
}

impl Rule {
    fn regexes(&self) -> usize {
        let table = usize::from(matches!(self.table.kind, TableKind::Regex(_)));
        let filters: usize = self.keys.iter().map(|key| key.template.regexes()).sum();
        table.saturating_add(filters)
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
    std::iter::once(0).chain(ends.map(|(offset, _)| offset.saturating_add(1))).collect()
}

/// A template as messages show it: whole, if a person wrote it.
pub(super) fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}...", text.get(..end).unwrap_or(text))),
    }
}

fn one_line(message: &str) -> String {
    message.split('\n').map(str::trim).collect::<Vec<_>>().join("; ")
}
