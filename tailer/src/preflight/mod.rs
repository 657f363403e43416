//! Preflight: whether a server and a set of rules can be trusted to hide no change, and the SQL that mends what cannot.
//!
//! [`ask`] puts the questions; [`judge`] is pure. A finding that refuses stops the start, unless it has a name
//! ([`Danger`]) and the configuration accepts it; one that warns names what would turn into floors, or what nobody can see.

mod ask;
mod grants;
mod server;
mod sessions;
mod tables;

use std::collections::BTreeMap;

use schemas::{
    config::Danger,
    gtid::{Dialect, GtidError, GtidSet, Uuid},
    record::{FilePosition, Origin},
    rules::Rules,
};

pub(crate) use ask::{ask, binlog_end, binlog_state, executed, sealed, standing};
pub use grants::grants;
pub use sessions::sessions;

use crate::{
    cascades::Cascade,
    disguises::Disguised,
    epochs::origin_of,
    settings::Settings,
    source::{self, SourceError},
    tailer::{Mode, Server},
};

/// What the server answered.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// `VERSION()`.
    pub version: String,
    /// The global variables that we know of, by name.
    pub variables: BTreeMap<String, String>,
    /// `SHOW GRANTS`, line by line.
    pub grants: Vec<String>,
    /// Whether the server is itself a replica.
    pub replication: Replication,
    /// `binlog_do_db` and `binlog_ignore_db`, as far as they may be asked.
    pub filters: Vec<String>,
    /// Every table that some rule is about.
    pub tables: Vec<Table>,
    /// Foreign keys that change rows unseen; `None` if the server logs what they do.
    pub cascades: Option<Vec<Cascade>>,
    /// What it has executed; empty without GTIDs.
    pub executed: String,
    /// What it has executed and does not have in its binlog any more.
    pub purged: String,
    /// Its oldest binlog file, where it may be asked.
    pub oldest: Option<String>,
    /// The end of the binlog.
    pub end: Option<FilePosition>,
}

/// What a server takes from another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replication {
    /// Nothing.
    #[default]
    None,
    /// Nothing at the moment: it is set up, and stopped.
    Stopped,
    /// Its transactions.
    Running,
}

/// A table that exists.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Database.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Storage engine.
    pub engine: String,
    /// In order.
    pub columns: Vec<Column>,
}

/// A column that exists.
#[derive(Clone, Debug, Default)]
pub struct Column {
    /// Name.
    pub name: String,
    /// `data_type`, such as `int`.
    pub kind: String,
    /// Where its values come from.
    pub origin: Values,
    /// What it is to the primary key.
    pub key: Key,
}

/// What a column is to the primary key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Key {
    /// It is part of it.
    Primary,
    /// It is not.
    #[default]
    None,
}

/// Where a column's values come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Values {
    /// From statements.
    #[default]
    Given,
    /// `GENERATED ALWAYS`, stored or not.
    Generated,
}

/// What preflight found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Worst first.
    pub findings: Vec<Finding>,
    /// Server family.
    pub dialect: Dialect,
    /// `VERSION()`.
    pub version: String,
    /// How resume points are named.
    pub mode: Mode,
    /// Of the server.
    pub server_id: u32,
    /// Who it is, and what it has executed.
    pub server: Server,
    /// Whether it takes writes.
    pub role: Role,
    /// Foreign keys that change rows unseen; `None` if it logs what they do.
    pub cascades: Option<Vec<Cascade>>,
    /// Columns of mapped tables that a binlog shows as BINARY, and are not.
    pub disguised: Vec<Disguised>,
    /// The start of its binlog, where it may be asked.
    pub start: Option<FilePosition>,
    /// The end of its binlog, where it may be asked.
    pub end: Option<FilePosition>,
}

/// Whether a server takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Applications may write to it: what it has executed bounds everybody's staleness.
    Writer,
    /// It is read-only: another server may be ahead of it.
    ReadOnly,
}

impl Role {
    /// From `@@read_only`, as a number or a word.
    fn of(read_only: &str) -> Role {
        match read_only {
            "0" | "OFF" | "" => Role::Writer,
            _ => Role::ReadOnly,
        }
    }
}

/// One thing to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub what: String,
    /// SQL statements, or lines of the server's configuration, that mend it.
    pub fix: Vec<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Changes would be hidden: no start.
    Refuse,
    /// Some changes can be hidden, or become floors.
    Warn,
}

/// Asks the server and judges its answers.
pub async fn check(settings: &Settings, rules: &Rules) -> Result<Report, SourceError> {
    let mut conn = source::connect(settings).await?;
    let answers = ask(&mut conn, rules).await?;
    drop(conn.disconnect().await); // The answers are here.
    judge(settings, rules, &answers)
}

impl Report {
    /// Whether nothing stands against a start.
    pub fn is_passed(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Refuse)
    }
}

/// For people: one line for each finding, and its fix indented below.
impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, Finding { severity, what, fix }) in self.findings.iter().enumerate() {
            let word = match severity {
                Severity::Refuse => "refused",
                Severity::Warn => "warning",
            };
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{word}: {what}")?;
            for line in fix {
                write!(f, "\n    {line}")?;
            }
        }
        Ok(())
    }
}

/// Judges the answers; pure. Fails only on answers that make no sense.
pub fn judge(settings: &Settings, rules: &Rules, answers: &Answers) -> Result<Report, SourceError> {
    let dialect =
        if answers.version.contains("MariaDB") { Dialect::MariaDb } else { Dialect::Mysql };
    let set = |text: &str| {
        GtidSet::parse(dialect, text).map_err(|err| SourceError::Answer(err.to_string()))
    };
    let executed = set(&answers.executed)?;
    let has_gtids = dialect == Dialect::MariaDb || answers.is("gtid_mode", "ON");
    let mode = if has_gtids { Mode::Gtid } else { Mode::Position };
    let accepted = &settings.accept;
    let mut judge = Judge { dialect, answers, accepted, findings: Vec::new() };
    server::judge(&mut judge, settings, mode);
    tables::judge(&mut judge, settings, rules);
    let mut findings = judge.findings;
    findings.sort_by_key(|finding| finding.severity); // Stable: the order above stays.
    let server_id =
        answers.variable("server_id").and_then(|id| id.parse().ok()).unwrap_or_default();
    let file_start = |file: &String| FilePosition { file: file.as_str().into(), offset: 4 };
    Ok(Report {
        findings,
        dialect,
        version: answers.version.clone(),
        mode,
        server_id,
        server: Server {
            purged: set(&answers.purged)?,
            ..server(answers, mode, server_id, executed)?
        },
        role: Role::of(answers.variable("read_only").unwrap_or_default()),
        cascades: answers.cascades.clone(),
        disguised: tables::disguised(&answers.tables),
        start: answers.oldest.as_ref().map(file_start),
        end: answers.end.clone(),
    })
}

/// Who numbers what the server writes itself, and the number that comes next.
fn server(
    answers: &Answers,
    mode: Mode,
    server_id: u32,
    executed: GtidSet,
) -> Result<Server, SourceError> {
    let answer = |name: &str| answers.variable(name).unwrap_or_default();
    let (origin, last) = match (&executed, mode) {
        (_, Mode::Position) => {
            let (origin, next) = origin_of(None, server_id, answers.end.as_ref());
            (origin, next.saturating_sub(1))
        }
        (GtidSet::Mysql(executed), Mode::Gtid) => {
            let uuid: Uuid = answer("server_uuid")
                .parse()
                .map_err(|err: GtidError| SourceError::Answer(err.to_string()))?;
            (Origin::Mysql { uuid, tag: "".into(), server_id }, executed.highest(uuid, ""))
        }
        (GtidSet::MariaDb(executed), Mode::Gtid) => {
            let domain = answer("gtid_domain_id").parse().unwrap_or_default();
            (Origin::MariaDb { domain, server_id }, executed.up_to(domain))
        }
    };
    let next_number = last.saturating_add(1);
    let purged = GtidSet::empty(executed.dialect());
    Ok(Server { origin, next_number, executed, purged, predecessor: None })
}

impl Answers {
    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.variable(name).is_some_and(|is| is.eq_ignore_ascii_case(value))
    }

    fn is_on(&self, name: &str) -> bool {
        self.is(name, "ON") || self.is(name, "1")
    }
}

struct Judge<'a> {
    dialect: Dialect,
    answers: &'a Answers,
    accepted: &'a [Danger],
    findings: Vec<Finding>,
}

impl Judge<'_> {
    fn find(&mut self, severity: Severity, what: impl Into<String>, fix: Vec<String>) {
        self.findings.push(Finding { severity, what: what.into(), fix });
    }

    /// Refuses, unless the configuration accepts it by name.
    fn find_danger(&mut self, danger: Danger, what: impl Into<String>, mut fix: Vec<String>) {
        let (what, name) = (what.into(), danger.name());
        if self.accepted.contains(&danger) {
            let what = format!("{what} (accepted: {name})");
            self.find(Severity::Warn, what, fix);
        } else {
            fix.push(format!("# or, to run all the same, below [source]: accept = [\"{name}\"]"));
            self.find(Severity::Refuse, what, fix);
        }
    }

    /// The statement that sets a variable for good.
    fn set(&self, name: &str, value: &str) -> Vec<String> {
        match self.dialect {
            Dialect::Mysql => vec![format!("SET PERSIST {name} = {value};")],
            Dialect::MariaDb => vec![
                format!("SET GLOBAL {name} = {value};"),
                format!("# and in my.cnf, below [mariadb]: {name} = {value}"),
            ],
        }
    }
}

#[cfg(test)]
mod tests;
