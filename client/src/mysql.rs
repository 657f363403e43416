//! What connections of `mysql_async` say of their sessions.
//!
//! `mysql_async` does not ask for session tracking, so what MySQL would say with the commit (`session_track_gtids`) is not to be had.
//! The performance schema remembers the same of each session, and is asked instead; where it may not be,
//! [`Commit::mysql_newest`] is a bound from above, of the same server. Drivers that have the session tracker need neither: what
//! it says goes into [`Commit::mysql`].

use mysql_async::{Conn, prelude::Queryable};
use schemas::gtid::Dialect;

use crate::{
    commit::{Commit, CommitError},
    reading::Isolation,
};

/// Why a session has not said what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// It does not answer.
    #[error("ask the session")]
    Ask(#[from] mysql_async::Error),
    /// It answers something else.
    #[error("understand the session's answer")]
    Answer(#[from] CommitError),
    /// The variable is not set: GTIDs are off, or nothing was written.
    #[error("the session says nothing")]
    Nothing,
    /// A level that is not known here.
    #[error("isolation level {0:?} is not known")]
    Isolation(String),
}

/// MySQL: the server, what it has, and the session's own last transaction, as the performance schema remembers it; NULL where that
/// is not told to remember every transaction of this session.
const OWN: &str = "SELECT @@server_uuid, @@global.gtid_executed, \
    (SELECT history.gtid FROM performance_schema.events_transactions_history AS history \
        JOIN performance_schema.threads AS thread USING (thread_id) \
        WHERE thread.processlist_id = CONNECTION_ID() AND thread.instrumented = 'YES' AND thread.history = 'YES' \
            AND history.gtid LIKE '%:%' \
            AND (SELECT COUNT(*) FROM performance_schema.setup_consumers WHERE enabled = 'YES' AND name IN \
                ('global_instrumentation', 'thread_instrumentation', 'events_transactions_current', 'events_transactions_history')) = 4 \
            AND (SELECT enabled FROM performance_schema.setup_instruments WHERE name = 'transaction') = 'YES' \
        ORDER BY history.event_id DESC LIMIT 1)";
/// MySQL, for accounts that may not ask the performance schema.
const NEWEST: &str = "SELECT @@server_uuid, @@global.gtid_executed, NULL";
/// MariaDB: every session knows its last transaction.
const LAST: &str = "SELECT @@last_gtid, @@global.gtid_binlog_pos, NULL";

/// The transaction that was committed last on `conn`, asked right after the commit, on the same connection: the session's own.
/// On MySQL that takes an account with `GRANT SELECT ON performance_schema.*`; for others it is the newest of the server, after a
/// question that was asked in vain.
pub async fn commit_of(conn: &mut Conn, dialect: Dialect) -> Result<Commit, SessionError> {
    let row = match dialect {
        Dialect::Mysql => match conn.query_first(OWN).await {
            // No right, or no such table.
            Err(mysql_async::Error::Server(_)) => conn.query_first(NEWEST).await?,
            answered => answered?,
        },
        Dialect::MariaDb => conn.query_first(LAST).await?,
    };
    let row: Option<(String, String, Option<String>)> = row;
    let row = row.filter(|(of, _, _)| !of.is_empty());
    let (of, executed, own) = row.ok_or(SessionError::Nothing)?;
    Ok(match (dialect, own) {
        (Dialect::Mysql, Some(own)) => Commit::mysql(&own, &executed)?,
        (Dialect::Mysql, None) => Commit::mysql_newest(&of, &executed)?,
        (Dialect::MariaDb, _) => Commit::mariadb(&of, &executed)?,
    })
}

/// The isolation level of the session's next transactions. A level that was set for one transaction alone is not seen.
pub async fn isolation_of(conn: &mut Conn, dialect: Dialect) -> Result<Isolation, SessionError> {
    let asked = match dialect {
        Dialect::Mysql => "SELECT @@session.transaction_isolation",
        Dialect::MariaDb => "SELECT @@session.tx_isolation",
    };
    let name: Option<String> = conn.query_first(asked).await?;
    let name = name.ok_or(SessionError::Nothing)?;
    Isolation::parse(&name).ok_or(SessionError::Isolation(name))
}
