//! The server's settings, its topology, and the account.

use schemas::{config::Danger, gtid::Dialect};

use super::{Judge, Replication, Role, Severity, grants};
use crate::{
    settings::{Order, Settings, StatementKeys, Versions},
    tailer::Mode,
};

/// How versions that nobody can compare are lived with.
const HOLD_OFF: &str = "# or, to run in hold-off mode, below [source]: hold_off_ms = 10000 # longer than any replica is ever behind";

pub(super) fn judge(judge: &mut Judge<'_>, settings: &Settings, mode: Mode) {
    judge.version();
    judge.binlog();
    judge.gtids(settings, mode);
    judge.topology(settings);
    judge.writers(settings);
    judge.statement_keys(settings);
    judge.account(settings);
}

impl Judge<'_> {
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
            (Danger::BinlogFormat, "ROW", "statements do not say which rows they changed"),
            (Danger::BinlogRowImage, "FULL", "keys are built from the whole row, before and after"),
            (Danger::BinlogRowMetadata, "FULL", "only then does each event name its columns"),
        ];
        for (danger, wanted, why) in demands {
            let name = danger.name();
            // A server that no longer has the variable no longer has the choice.
            if let Some(value) = self.answers.variable(name)
                && !value.eq_ignore_ascii_case(wanted)
            {
                let fix = self.set(name, wanted);
                let what = format!("{name} is {value}, and must be {wanted}: {why}");
                self.find_danger(danger, what, fix);
            }
        }
        for filter in &self.answers.filters {
            let what = format!("{filter}: changes elsewhere are not in the binlog");
            let fix = vec!["# remove it from my.cnf, and restart".to_owned()];
            self.find_danger(Danger::BinlogFilter, what, fix);
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

    fn gtids(&mut self, settings: &Settings, mode: Mode) {
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
            let mut fix = fix.map(|set| format!("SET PERSIST {set};")).to_vec();
            let compared = settings.versions == Versions::Compared;
            if compared && settings.order == Order::Numbers {
                let what = format!("{what}; nor can any node tell how far a replica is");
                fix.push(HOLD_OFF.to_owned());
                self.find(Severity::Refuse, what, fix);
            } else {
                self.find(Severity::Warn, what, fix);
            }
        }
        let several = self.answers.executed.split(',').count() > 1;
        if several && self.dialect == Dialect::MariaDb && settings.order == Order::Numbers {
            let what = "the binlog has transactions of several domains: every change between them opens an epoch";
            self.find(Severity::Warn, what, vec![HOLD_OFF.to_owned()]);
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
        if self.answers.replication != Replication::None && !logs {
            let name = if self.dialect == Dialect::MariaDb {
                "log_slave_updates"
            } else {
                "log_replica_updates"
            };
            let fix = vec![format!("# in my.cnf, then restart: {name} = ON")];
            let what = format!(
                "the server is a replica and {name} is OFF: what it replicates is not in its binlog"
            );
            self.find_danger(Danger::LogReplicaUpdates, what, fix);
        }
    }

    /// Transactions of several servers have no common order, and so no versions that all of them agree about.
    fn writers(&mut self, settings: &Settings) {
        if settings.order == Order::Binlog {
            let what = "hold-off mode (source.hold_off_ms): a changed key is not stored again for so long, and replicas must \
                        never be further behind than that";
            return self.find(Severity::Warn, what, vec![]);
        }
        let several = self.answers.is_on("wsrep_on")
            || (self.answers.is("group_replication_single_primary_mode", "OFF")
                && self
                    .answers
                    .variable("group_replication_group_name")
                    .is_some_and(|name| !name.is_empty()));
        if several {
            let what =
                "several servers write at the same time, and their changes have no common order";
            let fix = match self.dialect {
                Dialect::Mysql => "SELECT group_replication_switch_to_single_primary_mode();",
                Dialect::MariaDb => {
                    "# let one server take all writes, and set read_only = ON on the others"
                }
            };
            self.find(Severity::Refuse, what, vec![fix.to_owned(), HOLD_OFF.to_owned()]);
        }
        let takes_writes = Role::of(self.answers.variable("read_only").unwrap_or_default());
        if self.answers.replication == Replication::Running && takes_writes == Role::Writer {
            let what = "the server takes writes, and replicates from another one: if that one takes writes too (a ring), \
                        their changes have no common order";
            let fix = vec![
                "# on the one that should not take writes: SET GLOBAL read_only = ON;".to_owned(),
                HOLD_OFF.to_owned(),
            ];
            self.find(Severity::Warn, what, fix);
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
