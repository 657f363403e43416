//! The only place of the auditor that knows `mysql_async`: what a key should hold, and the canary's row.

use std::time::Duration;

use bytes::Bytes;
use mysql_async::{Conn, Opts, Params, Row, Value, prelude::Queryable};
use tokio::time::timeout;

use crate::{
    settings::{ValueRule, digest},
    verdict::Answer,
};

/// Connecting, and each question, take at most this long.
const DEADLINE: Duration = Duration::from_secs(2);

/// One connection to whichever server takes writes; made when it is needed, and anew after a failure.
#[derive(Debug)]
pub(crate) struct Database {
    servers: Vec<Opts>,
    conn: Option<Conn>,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    #[error("ask the database: {0}")]
    Server(#[from] mysql_async::Error),
    #[error("the database does not answer within {} s", DEADLINE.as_secs())]
    Deadline,
    #[error("no database takes writes")]
    NoWriter,
}

impl Database {
    pub(crate) fn new(servers: Vec<Opts>) -> Database {
        Database { servers, conn: None }
    }

    /// What a key should hold.
    pub(crate) async fn ask(
        &mut self,
        rule: &ValueRule,
        parameters: &[Bytes],
    ) -> Result<Answer, DatabaseError> {
        let values = parameters.iter().map(|text| Value::Bytes(text.to_vec())).collect();
        let params = if parameters.is_empty() { Params::Empty } else { Params::Positional(values) };
        let row = self.query(&rule.sql, params).await?;
        let found = row.and_then(|row| row.as_ref(0).and_then(text));
        Ok(match (found, &rule.absent) {
            (Some(text), _) => Answer::Value(digest(&text)),
            (None, Some(absent)) => Answer::Value(digest(absent)),
            (None, None) => Answer::NoRow,
        })
    }

    /// Writes a row of the canary.
    pub(crate) async fn beat(
        &mut self,
        schema: &str,
        table: &str,
        (id, number): (u64, u64),
    ) -> Result<(), DatabaseError> {
        let (schema, table) = (schema.replace('`', "``"), table.replace('`', "``"));
        let sql = format!(
            "INSERT INTO `{schema}`.`{table}` (id, n) VALUES (?, ?) ON DUPLICATE KEY UPDATE n = VALUES(n)"
        );
        self.query(&sql, Params::Positional(vec![id.into(), number.into()])).await?;
        Ok(())
    }

    async fn query(&mut self, sql: &str, params: Params) -> Result<Option<Row>, DatabaseError> {
        let asking = async {
            let mut conn = match self.conn.take() {
                Some(conn) => conn,
                None => connect(&self.servers).await?,
            };
            let row = conn.exec_first(sql, params).await?;
            self.conn = Some(conn); // One that has failed is not used again.
            Ok(row)
        };
        timeout(DEADLINE, asking).await.unwrap_or(Err(DatabaseError::Deadline))
    }
}

async fn connect(servers: &[Opts]) -> Result<Conn, DatabaseError> {
    let mut failed = DatabaseError::NoWriter;
    for opts in servers {
        match Conn::new(opts.clone()).await {
            Ok(mut conn) => {
                let read_only: Option<bool> = conn.query_first("SELECT @@global.read_only").await?;
                if read_only != Some(true) {
                    return Ok(conn);
                }
            }
            Err(err) => failed = err.into(),
        }
    }
    Err(failed)
}

/// As a client would print it; `None` is NULL.
fn text(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(bytes.clone()),
        Value::Int(number) => Some(number.to_string().into_bytes()),
        Value::UInt(number) => Some(number.to_string().into_bytes()),
        Value::Float(number) => Some(number.to_string().into_bytes()),
        Value::Double(number) => Some(number.to_string().into_bytes()),
        Value::Date(..) | Value::Time(..) => {
            Some(value.as_sql(true).trim_matches('\'').as_bytes().to_vec())
        }
    }
}
