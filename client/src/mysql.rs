//! What connections of `mysql_async` say of their sessions.
//!
//! `mysql_async` does not ask for session tracking, so MySQL's own word for the last transaction of a session is not to be
//! had; [`Commit::mysql_newest`] is a bound from above, of the same server. Where transactions do not have the server's
//! UUID (tags, group replication), give [`Commit::mysql`] what a driver with a session tracker says.

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

/// The transaction that was committed last on `conn`, asked right after the commit, on the same connection.
pub async fn commit_of(conn: &mut Conn, dialect: Dialect) -> Result<Commit, SessionError> {
    let asked = match dialect {
        Dialect::Mysql => "SELECT @@server_uuid, @@global.gtid_executed",
        Dialect::MariaDb => "SELECT @@last_gtid, @@global.gtid_binlog_pos",
    };
    let row: Option<(String, String)> = conn.query_first(asked).await?;
    let (of, executed) = row.filter(|(of, _)| !of.is_empty()).ok_or(SessionError::Nothing)?;
    Ok(match dialect {
        Dialect::Mysql => Commit::mysql_newest(&of, &executed)?,
        Dialect::MariaDb => Commit::mariadb(&of, &executed)?,
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
