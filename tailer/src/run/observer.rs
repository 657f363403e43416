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
    preflight::{self, Report},
    settings::Settings,
    source::{self, SourceError},
    tailer::{Mode, Observation},
};

/// How often the end of the binlog is asked for where nothing but the lag in bytes depends on it.
const END_INTERVAL: Duration = Duration::from_secs(1);
/// After a failure.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A task that asks; it ends with the value.
pub(super) struct Observer {
    received: mpsc::Receiver<Observation>,
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
            end_asked: None,
        };
        Observer { received, task: tokio::spawn(asker.run(conn, answers)) }
    }

    pub(super) async fn next(&mut self) -> Result<Observation, SourceError> {
        let gone =
            || SourceError::Broken("the connection that asks for the source's position".to_owned());
        self.received.recv().await.ok_or_else(gone)
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
    end_asked: Option<Instant>,
}

impl Asker {
    async fn run(mut self, conn: Conn, answers: mpsc::Sender<Observation>) {
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
                Ok(observation) => {
                    if answers.send(observation).await.is_err() {
                        return;
                    }
                    self.settings.progress_interval
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

    async fn ask(&mut self, conn: &mut Conn) -> Result<Observation, SourceError> {
        let at = now();
        let executed = match self.mode {
            Mode::Gtid => preflight::executed(conn, self.dialect).await?,
            Mode::Position => String::new(),
        };
        let executed = GtidSet::parse(self.dialect, &executed)
            .map_err(|error| SourceError::Answer(error.to_string()))?;
        let due = self.mode == Mode::Position
            || self.end_asked.is_none_or(|at| at.elapsed() >= END_INTERVAL);
        let mut end = None;
        if due {
            self.end_asked = Some(Instant::now());
            end = preflight::binlog_end(conn).await?;
        }
        Ok(Observation { at, executed, end })
    }
}
