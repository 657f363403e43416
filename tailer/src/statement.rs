//! What a statement that was logged as text may have done to mapped tables. Pure.
//!
//! Not a parser: the statement's first words decide whether it can change rows at all, and if it can, every name in it
//! counts, be it a table's, a column's or an alias. Too many names make a floor wider than needed; too few would lose
//! changes. Comments and strings hold no names, but executable comments (`/*! ... */`, `/*M! ... */`) are part of the
//! statement, and text in double quotes counts as a name, since a session may quote names so.

use schemas::{
    record::Scope,
    rules::{Rule, Rules},
};

use crate::scope;

pub(crate) mod keys;
mod lexer;
use lexer::{Escapes, Lexer, Token};

/// The keys that may be stale after `text`, which ran with `schema` as default database; `None` if there are none.
pub fn scope_of(rules: &Rules, schema: &str, text: &str) -> Option<Scope> {
    let tokens = Lexer::new(text, Escapes::Backslash).collect::<Vec<_>>();
    match reach(&tokens) {
        Reach::Nothing => None,
        Reach::Everything => Some(Scope::All),
        Reach::Schema(name) => scope::of_rules(rules.iter().filter(|rule| may_be_in(rule, &name))),
        Reach::NamedTables => {
            let mut names = names(schema, &tokens);
            // What a backslash means in a string depends on the session's sql_mode, so both readings count.
            let plain = if text.contains('\\') {
                Lexer::new(text, Escapes::None).collect()
            } else {
                Vec::new()
            };
            names.extend(self::names(schema, &plain));
            if tokens.iter().chain(&plain).any(Token::is_unreadable) {
                return Some(Scope::All);
            }
            let named = |rule: &&Rule| {
                names.iter().any(|(schema, table)| rule_matches(rule, schema, table))
            };
            scope::of_rules(rules.iter().filter(named))
        }
    }
}

/// What a statement can touch.
#[derive(Debug, PartialEq, Eq)]
enum Reach {
    /// No rows.
    Nothing,
    /// Rows of the tables that it names.
    NamedTables,
    /// All tables of a database.
    Schema(String),
    /// Rows that were logged earlier, under a name that the statement does not repeat.
    Everything,
}

/// Statements that change no rows, by their first word.
const HARMLESS: [&str; 29] = [
    "begin",
    "change",
    "check",
    "checksum",
    "commit",
    "deallocate",
    "describe",
    "explain",
    "flush",
    "grant",
    "install",
    "kill",
    "lock",
    "optimize",
    "prepare",
    "purge",
    "release",
    "reset",
    "revoke",
    "rollback",
    "savepoint",
    "set",
    "show",
    "shutdown",
    "start",
    "stop",
    "uninstall",
    "unlock",
    "use",
];
/// Words between ALTER, CREATE or DROP and the kind of object.
const MODIFIERS: [&str; 12] = [
    "online",
    "offline",
    "ignore",
    "temporary",
    "unique",
    "fulltext",
    "spatial",
    "or",
    "replace",
    "aggregate",
    "undo",
    "definer",
];

fn reach(tokens: &[Token]) -> Reach {
    let mut words = tokens.iter().map(Token::word);
    let Some(verb) = words.next().flatten() else {
        // Nothing, or something in brackets.
        return if tokens.is_empty() { Reach::Nothing } else { Reach::NamedTables };
    };
    let second = words.next().flatten().unwrap_or_default();
    match verb.as_str() {
        "alter" | "create" | "drop" => reach_of_ddl(&verb, tokens),
        "rename" if second == "user" => Reach::Nothing,
        "xa" if second == "commit" => Reach::Everything,
        // MariaDB: `SET STATEMENT variable = value FOR DELETE ...`, `ANALYZE DELETE ...`.
        "set" if second == "statement" => Reach::NamedTables,
        "analyze"
            if !["table", "tables", "local", "no_write_to_binlog"].contains(&second.as_str()) =>
        {
            Reach::NamedTables
        }
        "analyze" | "xa" => Reach::Nothing,
        verb if HARMLESS.contains(&verb) => Reach::Nothing,
        _ => Reach::NamedTables,
    }
}

fn reach_of_ddl(verb: &str, tokens: &[Token]) -> Reach {
    let words: Vec<String> = tokens.iter().filter_map(Token::word).collect();
    let count = |wanted: &str| words.iter().filter(|word| *word == wanted).count();
    let before_kind: Vec<&String> =
        words.iter().skip(1).take_while(|word| MODIFIERS.contains(&word.as_str())).collect();
    let temporary = before_kind.iter().any(|word| *word == "temporary");
    let replaces = before_kind.iter().any(|word| *word == "replace");
    let kind = words.get(before_kind.len().saturating_add(1)).map_or("", String::as_str);
    match (verb, kind) {
        (_, "table" | "tables") if temporary => Reach::Nothing,
        ("alter" | "drop", "table" | "tables") => Reach::NamedTables,
        // A new table has no rows, unless it takes the place of another or is filled at once.
        ("create", "table")
            if replaces || count("select") > 0 || count("values") > 0 || count("table") > 1 =>
        {
            Reach::NamedTables
        }
        ("drop", "database" | "schema") => schema_reach(tokens),
        ("create", "database" | "schema") if replaces => schema_reach(tokens),
        // MariaDB can drop rows that a new unique index does not admit.
        ("alter" | "create", "index") if count("ignore") > 0 => Reach::NamedTables,
        ("alter" | "drop", "tablespace") => Reach::Everything,
        _ => Reach::Nothing,
    }
}

/// The database is the last name: `DROP DATABASE IF EXISTS shop`. Of CREATE, the first after the keywords.
fn schema_reach(tokens: &[Token]) -> Reach {
    let at = tokens
        .iter()
        .position(|token| token.word().is_some_and(|word| word == "database" || word == "schema"));
    let rest = tokens.iter().skip(at.unwrap_or_default().saturating_add(1));
    let mut names = rest.filter_map(Token::name);
    let name =
        names.find(|name| !["if", "not", "exists"].contains(&name.to_ascii_lowercase().as_str()));
    match name {
        Some(name) if !name.contains(char::REPLACEMENT_CHARACTER) => Reach::Schema(name.to_owned()),
        _ => Reach::Everything,
    }
}

/// Each name as `(schema, table)`.
fn names<'a>(schema: &'a str, tokens: &'a [Token]) -> Vec<(&'a str, &'a str)> {
    let mut names = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Some(name) = token.name() else { continue };
        let near = |step: isize| at.checked_add_signed(step).and_then(|at| tokens.get(at));
        let is_dot = |step| near(step) == Some(&Token::Dot);
        let name_at = |step| near(step).and_then(Token::name);
        if is_dot(-1) && name_at(-2).is_some() {
            continue; // The second half of a name.
        }
        match name_at(2) {
            Some(table) if is_dot(1) => names.push((name, table)),
            _ => names.push((schema, name)),
        }
    }
    names
}

/// With `lower_case_table_names`, statements may write names in another case than the binlog's table maps do.
fn rule_matches(rule: &Rule, schema: &str, table: &str) -> bool {
    rule.matches(schema, table)
        || rule.matches(&schema.to_ascii_lowercase(), &table.to_ascii_lowercase())
}

/// Whether a table of database `schema` can be one of the rule's; true if that cannot be told.
fn may_be_in(rule: &Rule, schema: &str) -> bool {
    let start = literal_start(rule.table());
    let lower = schema.to_ascii_lowercase();
    [schema, &lower].iter().any(|schema| {
        let name = format!("{schema}.");
        name.starts_with(&start) || start.starts_with(&name)
    })
}

/// The text with which every `schema.table` begins that the rule's pattern matches.
fn literal_start(pattern: &str) -> String {
    let Some(regex) = pattern.strip_prefix('/') else { return pattern.to_owned() };
    let mut start = String::new();
    if regex.contains('|') || regex.contains("(?") {
        return start;
    }
    let mut chars = regex.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some(escaped) if escaped.is_ascii_punctuation() => start.push(escaped),
                _ => break,
            },
            '?' | '*' | '{' => {
                start.pop();
                break;
            }
            '.' | '+' | '(' | ')' | '[' | ']' | '}' | '^' | '$' | '/' => break,
            other => start.push(other),
        }
    }
    start
}

#[cfg(test)]
mod tests;
