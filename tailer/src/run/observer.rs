//! [`Observer`]: asks the source how far it is, on a connection of its own.

use std::time::Duration;

use mysql_async::Conn;
use schemas::gtid::{Dialect, GtidSet};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::now;
use crate::{
    preflight::{self, Report, Role},
    settings::Settings,
    source::{self, SourceError},
    tailer::{Mode, Observation},
};

/// How often the end of the binlog is asked for where nothing but the lag in bytes depends on it.
const END_INTERVAL: Duration = Duration::from_secs(1);
/// After a failure.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) observation: Observation,
    /// Only what a writer has executed bounds anybody's staleness.
    pub(super) role: Role,
}

/// A task that asks; it ends with the value.
pub(super) struct Observer {
    received: mpsc::Receiver<Result<Answer, SourceError>>,
    task: JoinHandle<()>,
}

impl Observer {
    pub(super) fn start(conn: Conn, settings: &Settings, report: &Report) -> Observer {
        // One: an answer that nobody takes yet is old when it is taken, and says so by itself.
        let (answers, received) = mpsc::channel(1);
        let asker = Asker {
            settings: settings.clone(),
            dialect: report.dialect,
            mode: report.mode,
            server_id: report.server_id,
            end_asked: None,
        };
        Observer { received, task: tokio::spawn(asker.run(conn, answers)) }
    }

    pub(super) async fn next(&mut self) -> Result<Answer, SourceError> {
        let gone =
            || SourceError::Broken("the connection that asks for the source's position".to_owned());
        self.received.recv().await.ok_or_else(gone)?
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Asker {
    settings: Settings,
    dialect: Dialect,
    mode: Mode,
    /// Of the server whose binlog is read. Behind one address, another may answer tomorrow.
    server_id: u32,
    end_asked: Option<Instant>,
}

impl Asker {
    async fn run(mut self, conn: Conn, answers: mpsc::Sender<Result<Answer, SourceError>>) {
        let mut conn = Some(conn);
        loop {
            let asked = match conn.as_mut() {
                Some(conn) => self.ask(conn).await,
                None => match source::connect(&self.settings).await {
                    Ok(new) => self.ask(conn.insert(new)).await,
                    Err(error) => Err(error),
                },
            };
            let wait = match asked {
                Ok(answer) => {
                    if answers.send(Ok(answer)).await.is_err() {
                        return;
                    }
                    self.settings.progress_interval
                }
                Err(error @ SourceError::Answer(_)) => {
                    drop(answers.send(Err(error)).await); // The last, whether anybody listens or not.
                    return;
                }
                Err(error) => {
                    // Without answers nothing is claimed; the binlog goes on being read.
                    tracing::debug!(%error, "cannot ask the source for its position");
                    conn = None;
                    RETRY_DELAY
                }
            };
            sleep(wait).await;
        }
    }

    async fn ask(&mut self, conn: &mut Conn) -> Result<Answer, SourceError> {
        let at = now();
        let standing = preflight::standing(conn, self.dialect, self.mode).await?;
        if standing.server_id != self.server_id {
            let what =
                format!("server {} answers in place of {}", standing.server_id, self.server_id);
            return Err(SourceError::Answer(what));
        }
        let executed = GtidSet::parse(self.dialect, &standing.executed)
            .map_err(|error| SourceError::Answer(error.to_string()))?;
        let due = self.mode == Mode::Position
            || self.end_asked.is_none_or(|at| at.elapsed() >= END_INTERVAL);
        let mut end = None;
        if due {
            self.end_asked = Some(Instant::now());
            end = preflight::binlog_end(conn).await?;
        }
        Ok(Answer { observation: Observation { at, executed, end }, role: standing.role })
    }
}
