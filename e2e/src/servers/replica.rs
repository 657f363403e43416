//! Replication between databases, and commits that are held between binlog and engine.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use mysql_async::prelude::Queryable;
use tokio::time::{Instant, sleep};

use super::{Database, DatabaseOptions, Kind};

const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// What a server in a chain of replicas is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// An ordinary one.
    Plain,
    /// Its commits wait, between binlog and engine, until a [`Link::Holder`] behind it has them.
    Held,
    /// While it is frozen, commits of the server before it are held.
    Holder,
}

/// Options of a server in a chain; `number` is its own in the chain, from 1.
pub fn options_of(kind: Kind, number: u16, link: Link) -> DatabaseOptions {
    let mut more = vec![format!("--server-id={number}")];
    let plugins: &[&str] = match (kind, link) {
        (_, Link::Plain) => &[],
        (Kind::Mysql, Link::Held) => &[
            "--plugin-load-add=semisync_source.so",
            "--loose-rpl-semi-sync-source-enabled=1",
            "--loose-rpl-semi-sync-source-timeout=30000",
        ],
        (Kind::Mysql, Link::Holder) => {
            &["--plugin-load-add=semisync_replica.so", "--loose-rpl-semi-sync-replica-enabled=1"]
        }
        (Kind::Mariadb, Link::Held) => &[
            "--rpl-semi-sync-master-enabled=1",
            "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
            "--rpl-semi-sync-master-timeout=30000",
        ],
        (Kind::Mariadb, Link::Holder) => &["--rpl-semi-sync-slave-enabled=1"],
    };
    more.extend(plugins.iter().map(|&it| it.to_owned()));
    if kind == Kind::Mariadb {
        more.push("--log-slave-updates=ON".to_owned());
    }
    DatabaseOptions { more, ..DatabaseOptions::default() }
}

impl Database {
    /// Makes this server a replica of `source`.
    pub async fn replicate(&self, source: &Database) -> Result<()> {
        self.replicate_from(source.port()).await
    }

    /// The same, where the source is reached at another port of 127.0.0.1.
    pub async fn replicate_from(&self, port: u16) -> Result<()> {
        let (change, start) = match self.kind() {
            Kind::Mysql => (
                format!(
                    "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, SOURCE_USER = 'root', \
                     SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_CONNECT_RETRY = 1"
                ),
                "START REPLICA",
            ),
            Kind::Mariadb => (
                format!(
                    "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, MASTER_USER = 'root', \
                     MASTER_USE_GTID = slave_pos, MASTER_SSL_VERIFY_SERVER_CERT = 0, MASTER_CONNECT_RETRY = 1"
                ),
                "START SLAVE",
            ),
        };
        self.run(&[&change, start]).await
    }

    /// Stops applying what comes from the source; it goes on coming.
    pub async fn stop_applying(&self) -> Result<()> {
        match self.kind() {
            Kind::Mysql => self.run(&["STOP REPLICA SQL_THREAD"]).await,
            Kind::Mariadb => self.run(&["STOP SLAVE SQL_THREAD"]).await,
        }
    }

    /// Is no replica any more, and takes writes.
    pub async fn promote(&self) -> Result<()> {
        let (stop, forget, open) = match self.kind() {
            Kind::Mysql => ("STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL read_only = OFF"),
            Kind::Mariadb => ("STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = OFF"),
        };
        self.run(&[stop, forget, open]).await
    }

    /// Goes on applying.
    pub async fn start_applying(&self) -> Result<()> {
        match self.kind() {
            Kind::Mysql => self.run(&["START REPLICA SQL_THREAD"]).await,
            Kind::Mariadb => self.run(&["START SLAVE SQL_THREAD"]).await,
        }
    }

    /// Waits until this server has what `source` has now.
    pub async fn caught_up(&self, source: &Database) -> Result<()> {
        let (asked, wait) = match self.kind() {
            Kind::Mysql => ("SELECT @@global.gtid_executed", "WAIT_FOR_EXECUTED_GTID_SET"),
            Kind::Mariadb => ("SELECT @@global.gtid_binlog_pos", "MASTER_GTID_WAIT"),
        };
        let position: Option<String> = source.connect().await?.query_first(asked).await?;
        let position = position.unwrap_or_default().replace('\n', "");
        let seconds = DEADLINE.as_secs();
        let waited: Option<i64> = self
            .connect()
            .await?
            .query_first(format!("SELECT {wait}('{position}', {seconds})"))
            .await?;
        if waited != Some(0) {
            bail!("the replica does not reach {position}: {waited:?}");
        }
        Ok(())
    }

    /// Waits until a server behind this one has said that it acknowledges commits.
    pub async fn is_held_by_somebody(&self) -> Result<()> {
        let name = match self.kind() {
            Kind::Mysql => "Rpl_semi_sync_source_clients",
            Kind::Mariadb => "Rpl_semi_sync_master_clients",
        };
        let late = Instant::now() + DEADLINE;
        let mut conn = self.connect().await?;
        while Instant::now() < late {
            let row: Option<(String, String)> =
                conn.query_first(format!("SHOW GLOBAL STATUS LIKE '{name}'")).await?;
            if row.context("a server without semi-synchronous replication")?.1 != "0" {
                return Ok(());
            }
            sleep(POLL).await;
        }
        bail!("nobody acknowledges commits")
    }
}
