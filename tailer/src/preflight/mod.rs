//! Preflight: whether a server and a set of rules can be trusted to hide no change, and the SQL that mends what cannot.
//!
//! [`ask`] puts the questions; [`judge`] is pure. A finding that refuses stops the start; one that warns names what
//! would turn into floors, or what nobody can see; a note says what is different from the usual.

mod ask;
mod grants;
mod tables;

use std::collections::BTreeMap;

use schemas::{
    gtid::{Dialect, GtidError, GtidSet, Uuid},
    record::{FilePosition, Origin},
    rules::Rules,
};

pub(crate) use ask::{ask, binlog_end, binlog_state, executed, sealed, standing};
pub use grants::grants;

use crate::{
    cascades::Cascade,
    disguises::Disguised,
    epochs::origin_of,
    settings::{Settings, StatementKeys},
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
    pub is_replica: bool,
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
    /// What it has executed and does not have in its binlog any more.
    pub purged: GtidSet,
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
    /// Good to know.
    Note,
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
                Severity::Note => "note",
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
    let (executed, purged) = (set(&answers.executed)?, set(&answers.purged)?);
    let has_gtids = dialect == Dialect::MariaDb || answers.is("gtid_mode", "ON");
    let mode = if has_gtids { Mode::Gtid } else { Mode::Position };
    let mut judge = Judge { dialect, answers, findings: Vec::new() };
    judge.version();
    judge.binlog();
    judge.gtids(mode);
    judge.topology(settings);
    judge.statement_keys(settings);
    judge.account(settings);
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
        server: server(answers, mode, server_id, executed)?,
        role: Role::of(answers.variable("read_only").unwrap_or_default()),
        cascades: answers.cascades.clone(),
        disguised: tables::disguised(&answers.tables),
        purged,
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
    Ok(Server { origin, next_number: last.saturating_add(1), executed, predecessor: None })
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
    findings: Vec<Finding>,
}

impl Judge<'_> {
    fn find(&mut self, severity: Severity, what: impl Into<String>, fix: Vec<String>) {
        self.findings.push(Finding { severity, what: what.into(), fix });
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

    fn version(&mut self) {
        let mut numbers = self
            .answers
            .version
            .split(['.', '-'])
            .map(|part| part.parse::<u32>().unwrap_or_default());
        let mut version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        // Some MariaDB servers say `5.5.5-` before their version, for old replicas.
        if self.dialect == Dialect::MariaDb
            && version == (5, 5)
            && self.answers.version.starts_with("5.5.5-")
        {
            numbers.next();
            version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        }
        let oldest = match self.dialect {
            Dialect::Mysql => (8, 0),
            Dialect::MariaDb => (10, 6),
        };
        if version < oldest {
            let what = format!(
                "the server is {} {}, older than {}.{}",
                self.dialect, self.answers.version, oldest.0, oldest.1
            );
            self.find(Severity::Refuse, what, vec![]);
        }
    }

    fn binlog(&mut self) {
        if !self.answers.is_on("log_bin") {
            let section = if self.dialect == Dialect::MariaDb { "mariadb" } else { "mysqld" };
            let fix =
                vec![format!("# in my.cnf, below [{section}], then restart: log_bin = binlog")];
            self.find(Severity::Refuse, "log_bin is OFF: there is no binlog to read", fix);
        }
        let demands = [
            ("binlog_format", "ROW", "statements do not say which rows they changed"),
            ("binlog_row_image", "FULL", "keys are built from the whole row, before and after"),
            ("binlog_row_metadata", "FULL", "only then does each event name its columns"),
        ];
        for (name, wanted, why) in demands {
            // A server that no longer has the variable no longer has the choice.
            if let Some(value) = self.answers.variable(name)
                && !value.eq_ignore_ascii_case(wanted)
            {
                let fix = self.set(name, wanted);
                self.find(
                    Severity::Refuse,
                    format!("{name} is {value}, and must be {wanted}: {why}"),
                    fix,
                );
            }
        }
        for filter in &self.answers.filters {
            let what = format!("{filter}: changes elsewhere are not in the binlog");
            self.find(
                Severity::Refuse,
                what,
                vec!["# remove it from my.cnf, and restart".to_owned()],
            );
        }
        if self.answers.is("binlog_checksum", "NONE") {
            let fix = self.set("binlog_checksum", "CRC32");
            self.find(
                Severity::Warn,
                "binlog_checksum is NONE: events that changed on the way cannot be told",
                fix,
            );
        }
        if self.answers.is("binlog_row_value_options", "PARTIAL_JSON") {
            let what = "binlog_row_value_options is PARTIAL_JSON: updates of JSON columns that rules name become floors";
            self.find(Severity::Warn, what, self.set("binlog_row_value_options", "''"));
        }
    }

    fn gtids(&mut self, mode: Mode) {
        if mode == Mode::Position {
            let what = format!(
                "gtid_mode is {}: reading by file and position, which ends when another server takes over; \
                 then a floor is raised over all keys",
                self.answers.variable("gtid_mode").unwrap_or("not there")
            );
            let fix = [
                "enforce_gtid_consistency = ON",
                "gtid_mode = OFF_PERMISSIVE",
                "gtid_mode = ON_PERMISSIVE",
                "gtid_mode = ON",
            ];
            self.find(Severity::Warn, what, fix.map(|set| format!("SET PERSIST {set};")).to_vec());
        }
        if self.answers.executed.split(',').count() > 1 && self.dialect == Dialect::MariaDb {
            let what = "the binlog has transactions of several domains: every change between them opens an epoch";
            self.find(Severity::Warn, what, vec![]);
        }
    }

    fn topology(&mut self, settings: &Settings) {
        if self.answers.variable("server_id") == Some(settings.server_id.to_string().as_str()) {
            let what = format!(
                "server_id {} is the server's own; ours must be another",
                settings.server_id
            );
            self.find(Severity::Refuse, what, vec![]);
        }
        if Role::of(self.answers.variable("read_only").unwrap_or_default()) == Role::ReadOnly {
            let what = "the server is read-only: it is not read before it takes writes";
            let fix = vec!["# name the server that takes writes as the source".to_owned()];
            self.find(Severity::Warn, what, fix);
        }
        let logs =
            self.answers.is_on("log_replica_updates") || self.answers.is_on("log_slave_updates");
        if self.answers.is_replica && !logs {
            let name = if self.dialect == Dialect::MariaDb {
                "log_slave_updates"
            } else {
                "log_replica_updates"
            };
            let fix = vec![format!("# in my.cnf, then restart: {name} = ON")];
            let what = format!(
                "the server is a replica and {name} is OFF: what it replicates is not in its binlog"
            );
            self.find(Severity::Refuse, what, fix);
        }
        let several = self.answers.is_on("wsrep_on")
            || (self.answers.is("group_replication_single_primary_mode", "OFF")
                && self
                    .answers
                    .variable("group_replication_group_name")
                    .is_some_and(|name| !name.is_empty()));
        if several {
            let what =
                "several servers write at the same time: every change of the writer opens an epoch";
            self.find(Severity::Warn, what, vec![]);
        }
    }

    fn statement_keys(&mut self, settings: &Settings) {
        let name = match self.dialect {
            Dialect::Mysql => "binlog_rows_query_log_events",
            Dialect::MariaDb => "binlog_annotate_row_events",
        };
        if settings.statement_keys == StatementKeys::Taken && !self.answers.is_on(name) {
            let what = format!("{name} is OFF: keys that statements name are not in the binlog");
            self.find(Severity::Refuse, what, self.set(name, "ON"));
        }
    }

    fn account(&mut self, settings: &Settings) {
        let monitor =
            if self.dialect == Dialect::MariaDb { "BINLOG MONITOR" } else { "REPLICATION CLIENT" };
        let has = |privilege: &str| {
            let global = self.answers.grants.iter().filter(|line| line.contains(" ON *.* "));
            global
                .into_iter()
                .any(|line| line.contains(privilege) || line.contains("ALL PRIVILEGES"))
        };
        // A role's privileges are not in the lines.
        let has_roles = self
            .answers
            .grants
            .iter()
            .any(|line| line.starts_with("GRANT ") && !line.contains(" ON "));
        let missing: Vec<&str> =
            ["REPLICATION SLAVE", monitor].into_iter().filter(|name| !has(name)).collect();
        if missing.is_empty() || self.answers.grants.is_empty() {
            return;
        }
        let severity = if has_roles || !missing.contains(&"REPLICATION SLAVE") {
            Severity::Warn
        } else {
            Severity::Refuse
        };
        let missing = missing.join(", ");
        let what = format!("account {} lacks {missing}", settings.user);
        let fix = vec![format!("GRANT {missing} ON *.* TO {};", grants::account(&settings.user))];
        self.find(severity, what, fix);
    }
}

#[cfg(test)]
mod tests;
