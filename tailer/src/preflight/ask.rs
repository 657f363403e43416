//! The questions. Each answer is bounded: only tables that rules are about are looked at closely.

use binlog::charset;
use mysql_async::{Conn, Row, Value, prelude::Queryable};
use schemas::{gtid::Dialect, record::FilePosition, rules::Rules};
use tokio::time::timeout;

use super::{Answers, Column, Key, Replication, Role, Table, Values};
use crate::{
    cascades::Cascade,
    source::{ANSWER_DEADLINE, SourceError},
    tailer::Mode,
};

/// Tables that are asked for at a time.
const TABLES_ASKED_MAX: usize = 200;
/// More columns in cascading foreign keys than any server has.
const CASCADE_COLUMNS_MAX: usize = 100_000;

const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format', \
    'binlog_row_image', 'binlog_row_metadata', 'binlog_row_value_options', 'binlog_checksum', 'gtid_mode', 'server_id', \
    'log_replica_updates', 'log_slave_updates', 'wsrep_on', 'group_replication_single_primary_mode', \
    'group_replication_group_name', 'innodb_native_foreign_keys', 'server_uuid', 'gtid_domain_id', 'read_only', \
    'binlog_rows_query_log_events', 'binlog_annotate_row_events')";

/// Puts all questions.
pub(crate) async fn ask(conn: &mut Conn, rules: &Rules) -> Result<Answers, SourceError> {
    // The whole takes as long as its tables; each question has its own deadline.
    let version: Option<String> = within(conn.query_first("SELECT VERSION()")).await?;
    let version = version.unwrap_or_default();
    let dialect = if version.contains("MariaDB") { Dialect::MariaDb } else { Dialect::Mysql };
    let variables: Vec<(String, String)> = within(conn.query(VARIABLES)).await?;
    let grants: Vec<String> = within(conn.query("SHOW GRANTS")).await?;
    let mut answers = Answers {
        version,
        variables: variables.into_iter().collect(),
        grants,
        ..Answers::default()
    };
    if let Some(status) = binlog_status(conn).await? {
        answers.end = end(&status);
        for (column, name) in
            [("Binlog_Do_DB", "binlog_do_db"), ("Binlog_Ignore_DB", "binlog_ignore_db")]
        {
            let filter = text(&status, column).unwrap_or_default();
            if !filter.is_empty() {
                answers.filters.push(format!("{name} is {filter}"));
            }
        }
    }
    answers.executed = executed(conn, dialect).await?;
    answers.oldest = oldest_file(conn).await?;
    answers.purged = purged(conn, dialect, answers.oldest.as_deref()).await?;
    answers.replication = replication(conn, dialect).await;
    answers.tables = tables(conn, rules).await?;
    let native = dialect == Dialect::MariaDb || !answers.is("innodb_native_foreign_keys", "OFF");
    if native {
        answers.cascades = Some(cascades(conn).await?);
    }
    Ok(answers)
}

/// What the server has executed, as text.
pub(crate) async fn executed(conn: &mut Conn, dialect: Dialect) -> Result<String, SourceError> {
    let question = match dialect {
        Dialect::Mysql => "SELECT @@global.gtid_executed",
        Dialect::MariaDb => "SELECT @@global.gtid_binlog_pos",
    };
    let executed: Option<String> = within(conn.query_first(question)).await?;
    Ok(executed.unwrap_or_default())
}

/// MariaDB: the highest number of each server in each domain.
pub(crate) async fn binlog_state(conn: &mut Conn) -> Result<String, SourceError> {
    let state: Option<String> =
        within(conn.query_first("SELECT @@global.gtid_binlog_state")).await?;
    Ok(state.unwrap_or_default())
}

/// The name of the oldest binlog file; `None` where we may not ask, or where there is no binlog.
async fn oldest_file(conn: &mut Conn) -> Result<Option<String>, SourceError> {
    let row: Option<Row> = match within(conn.query_first("SHOW BINARY LOGS")).await {
        Err(SourceError::Lost(mysql_async::Error::Server(_)) | SourceError::Refused(_)) => None,
        answer => answer?,
    };
    Ok(row.and_then(|row| text(&row, "Log_name")))
}

/// What the server has executed and does not have in its binlog any more, as text. MariaDB says what stands before
/// its oldest file.
async fn purged(
    conn: &mut Conn,
    dialect: Dialect,
    oldest: Option<&str>,
) -> Result<String, SourceError> {
    let purged: Option<Option<String>> = match (dialect, oldest) {
        (Dialect::Mysql, _) => within(conn.query_first("SELECT @@global.gtid_purged")).await?,
        (Dialect::MariaDb, Some(file)) => {
            let question =
                format!("SELECT BINLOG_GTID_POS({}, 4)", Value::from(file).as_sql(false));
            within(conn.query_first(question)).await?
        }
        (Dialect::MariaDb, None) => None,
    };
    Ok(purged.flatten().unwrap_or_default())
}

/// How far a server is.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// What it had executed, as text; empty without GTIDs.
    pub(crate) executed: String,
    /// Whether it took writes after that.
    pub(crate) role: Role,
    pub(crate) server_id: u32,
}

/// Asks how far a server is.
pub(crate) async fn standing(
    conn: &mut Conn,
    dialect: Dialect,
    mode: Mode,
) -> Result<Standing, SourceError> {
    // Left to right: a server that takes writes now did so when it said what it had executed.
    let executed = match (mode, dialect) {
        (Mode::Position, _) => "''",
        (Mode::Gtid, Dialect::Mysql) => "@@global.gtid_executed",
        (Mode::Gtid, Dialect::MariaDb) => "@@global.gtid_binlog_pos",
    };
    let question = format!(
        "SELECT {executed} AS executed, @@global.read_only AS read_only, @@global.server_id AS server_id"
    );
    let row: Option<Row> = within(conn.query_first(question)).await?;
    let answer = |name| row.as_ref().and_then(|row| text(row, name));
    let server_id = answer("server_id").and_then(|id| id.parse().ok());
    Ok(Standing {
        executed: answer("executed").unwrap_or_default(),
        role: Role::of(&answer("read_only").unwrap_or_default()),
        server_id: server_id.ok_or_else(|| SourceError::Answer("no server_id".to_owned()))?,
    })
}

/// How far a server is that nobody can write to, but for what it replicates; `None` if somebody can.
pub(crate) async fn sealed(
    conn: &mut Conn,
    dialect: Dialect,
) -> Result<Option<Standing>, SourceError> {
    let seal = match dialect {
        Dialect::Mysql => "SELECT @@global.super_read_only",
        // It has no stronger one.
        Dialect::MariaDb => "SELECT @@global.read_only",
    };
    // It was sealed before it says how far it is.
    let sealed: Option<Row> = within(conn.query_first(seal)).await?;
    let sealed = sealed.and_then(|row| row.get::<Value, _>(0)).and_then(value_text);
    let standing = standing(conn, dialect, Mode::Gtid).await?;
    Ok((Role::of(&sealed.unwrap_or_default()) == Role::ReadOnly).then_some(standing))
}

/// The end of the binlog; `None` where we may not ask, or where there is no binlog.
pub(crate) async fn binlog_end(conn: &mut Conn) -> Result<Option<FilePosition>, SourceError> {
    Ok(binlog_status(conn).await?.as_ref().and_then(end))
}

async fn binlog_status(conn: &mut Conn) -> Result<Option<Row>, SourceError> {
    // The first is MySQL's since 8.2, the second MySQL's before, and MariaDB's.
    for question in ["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"] {
        match within(conn.query_first(question)).await {
            Ok(row) => return Ok(row),
            Err(SourceError::Lost(mysql_async::Error::Server(_)) | SourceError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn end(status: &Row) -> Option<FilePosition> {
    let offset = text(status, "Position")?.parse().ok()?;
    Some(FilePosition { file: text(status, "File")?.into(), offset })
}

fn text(row: &Row, column: &str) -> Option<String> {
    value_text(row.get::<Value, _>(column)?)
}

fn value_text(value: Value) -> Option<String> {
    match value {
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Value::Int(number) => Some(number.to_string()),
        Value::UInt(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Where we may not ask, it is taken for none: its own binlog then says so by what it lacks.
async fn replication(conn: &mut Conn, dialect: Dialect) -> Replication {
    let questions: &[&str] = match dialect {
        Dialect::Mysql => &["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"],
        Dialect::MariaDb => &["SHOW ALL SLAVES STATUS"],
    };
    let runs = |row: &Row| {
        let is_yes = |column| text(row, column).is_some_and(|running| running == "Yes");
        is_yes("Replica_IO_Running") || is_yes("Slave_IO_Running")
    };
    for question in questions {
        if let Ok(rows) = within(conn.query::<Row, _>(*question)).await {
            return match &rows[..] {
                [] => Replication::None,
                rows if rows.iter().any(runs) => Replication::Running,
                _ => Replication::Stopped,
            };
        }
    }
    Replication::None
}

async fn tables(conn: &mut Conn, rules: &Rules) -> Result<Vec<Table>, SourceError> {
    let question = "SELECT table_schema, table_name, COALESCE(engine, '') FROM information_schema.tables \
        WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')";
    let named = |table: Table, (schema, name, engine): (String, String, String)| Table {
        schema,
        name,
        engine,
        ..table
    };
    let found = conn.query_fold(
        question,
        Vec::new(),
        |mut tables: Vec<Table>, row: (String, String, String)| {
            if rules.iter().any(|rule| rule.matches(&row.0, &row.1)) {
                tables.push(named(Table::default(), row));
            }
            tables
        },
    );
    let mut tables = within(found).await?;
    for some in tables.chunks_mut(TABLES_ASKED_MAX) {
        // A column in a set whose text we cannot have is said to be of a type of its own: `varchar in other`.
        let question = format!(
            "SELECT table_schema, table_name, column_name, \
             IF(COALESCE(character_set_name, 'binary') NOT IN ('{}'), \
             CONCAT(data_type, ' in ', character_set_name), \
             IF(data_type IN ('float', 'double') AND numeric_scale IS NOT NULL, column_type, data_type)), \
             COALESCE(generation_expression, '') <> '', column_key = 'PRI' FROM information_schema.columns \
             WHERE (table_schema, table_name) IN ({}) ORDER BY table_schema, table_name, ordinal_position",
            charset::KNOWN.join("', '"),
            list(some)
        );
        let columns: Vec<(String, String, String, String, bool, bool)> =
            within(conn.query(question)).await?;
        for (schema, table, name, kind, generated, primary) in columns {
            if let Some(table) =
                some.iter_mut().find(|known| known.schema == schema && known.name == table)
            {
                let origin = if generated { Values::Generated } else { Values::Given };
                let key = if primary { Key::Primary } else { Key::None };
                table.columns.push(Column { name, kind, origin, key });
            }
        }
    }
    Ok(tables)
}

/// Those of all tables: one may lead to another that rules are about.
async fn cascades(conn: &mut Conn) -> Result<Vec<Cascade>, SourceError> {
    let acts = "('CASCADE', 'SET NULL', 'SET DEFAULT')";
    let question = format!(
        "SELECT r.constraint_schema, r.constraint_name, r.table_name, k.referenced_table_schema, \
         k.referenced_table_name, k.referenced_column_name, r.delete_rule IN {acts}, r.update_rule IN {acts} \
         FROM information_schema.referential_constraints r JOIN information_schema.key_column_usage k \
         ON k.constraint_schema = r.constraint_schema AND k.constraint_name = r.constraint_name \
         AND k.table_name = r.table_name \
         WHERE (r.delete_rule IN {acts} OR r.update_rule IN {acts}) AND k.referenced_table_name IS NOT NULL \
         ORDER BY r.constraint_schema, r.constraint_name, r.table_name, k.ordinal_position LIMIT {CASCADE_COLUMNS_MAX}"
    );
    let rows: Vec<Row> = within(conn.query(question)).await?;
    if rows.len() >= CASCADE_COLUMNS_MAX {
        return Err(SourceError::Answer(format!(
            "the server has more than {CASCADE_COLUMNS_MAX} columns in cascading foreign keys"
        )));
    }
    let mut all: Vec<Cascade> = Vec::new();
    for row in rows {
        let answer = |at: usize| row.get::<Value, _>(at).and_then(value_text).unwrap_or_default();
        let (schema, name, column) = (answer(0), answer(1), answer(5));
        let child = (schema, answer(2));
        match all.last_mut() {
            Some(last) if last.name == name && last.child == child => last.columns.push(column),
            _ => all.push(Cascade {
                name,
                child,
                parent: (answer(3), answer(4)),
                columns: vec![column],
                on_delete: answer(6) == "1",
                on_update: answer(7) == "1",
            }),
        }
    }
    Ok(all)
}

/// `('a', 'b'), ...`
fn list(tables: &[Table]) -> String {
    let quoted = |text: &str| Value::from(text).as_sql(false);
    let pairs =
        tables.iter().map(|table| format!("({}, {})", quoted(&table.schema), quoted(&table.name)));
    let list = pairs.collect::<Vec<_>>().join(", ");
    if list.is_empty() { "('', '')".to_owned() } else { list }
}

async fn within<T>(
    question: impl Future<Output = Result<T, mysql_async::Error>>,
) -> Result<T, SourceError> {
    let answer = timeout(ANSWER_DEADLINE, question).await;
    Ok(answer.map_err(|_| SourceError::Silent(ANSWER_DEADLINE))??)
}
