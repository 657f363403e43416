//! One database of a region, and how it is asked what its readers see. A question must never be answered with a transaction that readers
//! of this server cannot see yet, at any moment of a commit.
//!
//! | server | question |
//! |---|---|
//! | MySQL | `@@global.gtid_executed`: moves with the commit in the engine |
//! | MariaDB replica | `@@global.gtid_slave_pos`: written by the transaction itself. What somebody wrote there is not in it, so that is asked too: its own part of `gtid_binlog_state` |
//! | MariaDB that writes | the binlog position of a consistent snapshot: `gtid_binlog_pos` and `gtid_current_pos` run ahead of the engine |

use std::{fmt, time::Duration};

use mysql_async::{Conn, Opts, prelude::Queryable};
use schemas::{
    gtid::{Dialect, GtidSet},
    moment::Moment,
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use crate::{
    poller::{InstanceId, Role},
    positions::{Answer, Visible},
};

/// Connecting, and each question, take at most this long.
const DEADLINE: Duration = Duration::from_secs(2);
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// A database that caches are filled from.
#[derive(Clone)]
pub struct Instance {
    /// `host:port`, for logs.
    pub address: String,
    pub opts: Opts,
    pub role: Role,
}

/// Options have the password.
impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Instance { address, role, .. } = self;
        f.debug_struct("Instance")
            .field("address", address)
            .field("role", role)
            .finish_non_exhaustive()
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("ask")]
    Server(#[from] mysql_async::Error),
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Deadline,
    #[error("it says {0:?}, which is no position")]
    Answer(String),
}

/// Answers each question, until nobody asks any more. A server that does not answer is asked again, and says nothing meanwhile: it
/// counts with its last answer.
pub(crate) async fn answer(
    instance: Instance,
    dialect: Dialect,
    id: InstanceId,
    mut asked: watch::Receiver<Moment>,
    answers: mpsc::Sender<Answer>,
) {
    let (mut conn, mut last) = (None, Last::default());
    let mut silent = false;
    while asked.changed().await.is_ok() {
        let moment = *asked.borrow_and_update();
        let answered = timeout(DEADLINE, ask(&instance, dialect, &mut conn, &mut last)).await;
        match answered.unwrap_or(Err(Unanswered::Deadline)) {
            Ok(visible) => {
                if std::mem::take(&mut silent) {
                    tracing::info!(instance = instance.address, "answers again");
                }
                let answer = Answer { instance: id, asked: moment, visible: Some(visible) };
                if answers.send(answer).await.is_err() {
                    return;
                }
            }
            Err(err) => {
                conn = None;
                if !std::mem::replace(&mut silent, true) {
                    err.warn(&instance);
                }
                let answer = Answer { instance: id, asked: moment, visible: None };
                if answers.send(answer).await.is_err() {
                    return;
                }
                sleep(RETRY_DELAY).await;
            }
        }
    }
}

impl Unanswered {
    /// Says that the region waits.
    pub(crate) fn warn(&self, instance: &Instance) {
        let cause = std::error::Error::source(self).map_or_else(String::new, ToString::to_string);
        tracing::warn!(
            instance = instance.address,
            error = %self,
            cause,
            "does not say how far it is; the region's position stands still until it does, or is taken out of the region file"
        );
    }
}

/// The last answer, as text and as what it means: mostly, the next one is the same.
#[derive(Debug, Default)]
struct Last {
    said: String,
    visible: Option<Visible>,
}

impl Last {
    /// What the server said, if it says the same again.
    fn means(&self, said: &str) -> Option<Visible> {
        self.visible.clone().filter(|_| self.said == said)
    }

    /// From now on, `said` means these sets.
    fn learn(
        &mut self,
        dialect: Dialect,
        said: String,
        (executed, wrote): (&str, &str),
    ) -> Result<Visible, Unanswered> {
        let set = |text: &str| {
            GtidSet::parse(dialect, text).map_err(|_| Unanswered::Answer(text.to_owned()))
        };
        let visible = Visible { executed: set(executed)?, wrote: set(wrote)? };
        (self.said, self.visible) = (said, Some(visible.clone()));
        Ok(visible)
    }
}

/// What kind of server it is.
pub(crate) async fn dialect(instance: &Instance) -> Result<Dialect, Unanswered> {
    let ask = async {
        let mut conn = Conn::new(instance.opts.clone()).await?;
        let version = global(&mut conn, "VERSION()").await?;
        drop(conn.disconnect().await); // The answer is here.
        Ok::<_, Unanswered>(version)
    };
    let version = timeout(DEADLINE, ask).await.unwrap_or(Err(Unanswered::Deadline))?;
    let is_mariadb = version.to_ascii_lowercase().contains("mariadb");
    Ok(if is_mariadb { Dialect::MariaDb } else { Dialect::Mysql })
}

async fn ask(
    instance: &Instance,
    dialect: Dialect,
    conn: &mut Option<Conn>,
    last: &mut Last,
) -> Result<Visible, Unanswered> {
    let conn = match conn {
        Some(conn) => conn,
        None => conn.insert(Conn::new(instance.opts.clone()).await?),
    };
    match (dialect, instance.role) {
        (Dialect::Mysql, _) => {
            let said = global(conn, "@@global.gtid_executed").await?;
            match last.means(&said) {
                Some(visible) => Ok(visible),
                None => last.learn(dialect, said.clone(), (&said, "")),
            }
        }
        (Dialect::MariaDb, Role::Replica) => replica(conn, last).await,
        (Dialect::MariaDb, Role::Primary) => snapshot(conn, last).await,
    }
}

async fn global(conn: &mut Conn, name: &str) -> Result<String, Unanswered> {
    let said: Option<String> = conn.query_first(format!("SELECT {name}")).await?;
    Ok(said.unwrap_or_default())
}

/// What a MariaDB replica has of its source, and what it has written itself.
async fn replica(conn: &mut Conn, last: &mut Last) -> Result<Visible, Unanswered> {
    let asked = "SELECT @@global.gtid_slave_pos, @@global.gtid_binlog_state, @@global.server_id";
    let row: Option<(Option<String>, Option<String>, u32)> = conn.query_first(asked).await?;
    let (position, state, server) = row.ok_or_else(|| Unanswered::Answer("nothing".to_owned()))?;
    let (position, state) = (position.unwrap_or_default(), state.unwrap_or_default());
    let said = format!("{position} {state}");
    if let Some(visible) = last.means(&said) {
        return Ok(visible);
    }
    let server = server.to_string();
    let is_own = |gtid: &&str| gtid.split('-').nth(1) == Some(&*server);
    let own: Vec<&str> = state.split(',').map(str::trim).filter(is_own).collect();
    last.learn(Dialect::MariaDb, said, (&position, &own.join(",")))
}

/// Where the binlog was when a snapshot was opened that contains every transaction up to there, and none behind. What that place means
/// is asked only when it has moved: before MariaDB 11.4, the server reads its binlog from the beginning to tell.
async fn snapshot(conn: &mut Conn, last: &mut Last) -> Result<Visible, Unanswered> {
    conn.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
    let rows: Vec<(String, String)> =
        conn.query("SHOW SESSION STATUS LIKE 'binlog\\_snapshot\\_%'").await?;
    conn.query_drop("COMMIT").await?;
    let value = |name: &str| {
        let row = rows.iter().find(|(of, _)| of.eq_ignore_ascii_case(name));
        row.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let (file, position) = (value("binlog_snapshot_file"), value("binlog_snapshot_position"));
    let place = format!("{file}:{position}");
    if let Some(visible) = last.means(&place) {
        return Ok(visible);
    }
    let plain = file.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it));
    let number = !position.is_empty() && position.bytes().all(|it| it.is_ascii_digit());
    if file.is_empty() || !plain || !number {
        return Err(Unanswered::Answer(place));
    }
    let asked = format!("SELECT BINLOG_GTID_POS('{file}', {position})");
    let said: Option<Option<String>> = conn.query_first(asked).await?;
    let said = said.flatten().ok_or_else(|| Unanswered::Answer(place.clone()))?;
    last.learn(Dialect::MariaDb, place, (&said, ""))
}
