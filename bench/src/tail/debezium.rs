//! Debezium's engine on the same backlog: from the binlog to JSON that goes nowhere, as ours goes to keys that go nowhere.
//!
//! Its jars are in the folder that `DEBEZIUM_JARS` names; a Java of 17 or newer with a compiler runs them.

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use e2e::servers::Database;
use mysql_async::prelude::Queryable;
use schemas::{config::Address, rules::Rules};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{sleep, timeout},
};

use super::{backlog, wire};

/// Names the folder of jars.
pub(super) const JARS: &str = "DEBEZIUM_JARS";
const PROGRAM: &str = include_str!("Debezium.java");
/// It reads slowly.
const DEADLINE: Duration = Duration::from_secs(600);

/// How many times as many rows of bulk statements ours reads in a second.
pub(super) async fn ratio(
    database: &Database,
    rules: &Arc<Rules>,
    jars: &Path,
    statements: u32,
) -> Result<f64> {
    let mut peer = Peer::start(database, jars).await?;
    peer.learn(database).await?;
    let phase = backlog::bulk(database, statements).await?;
    peer.ask(phase.keys).await?;
    let theirs = peer.answer().await?;
    peer.child.kill().await.context("end Debezium")?;
    let ours = wire::published(database, &phase, rules).await?;
    Ok(theirs / ours)
}

/// The process that runs its engine.
struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    _folder: tempfile::TempDir,
}

impl Peer {
    async fn start(database: &Database, jars: &Path) -> Result<Peer> {
        let folder = tempfile::tempdir().context("make a folder for Debezium")?;
        let program = folder.path().join("Debezium.java");
        tokio::fs::write(&program, PROGRAM).await.context("write its program")?;
        let address: Address = database.address().parse().ok().context("an address")?;
        let mut child = Command::new("java")
            .args(["-Xmx2g", "-cp", &jars.join("*").display().to_string()])
            .arg(&program)
            .args([address.host, address.port.to_string()])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start java")?;
        let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        Ok(Peer { child, lines, _folder: folder })
    }

    /// Runs it until it knows the tables, and has seen a change; then it waits.
    async fn learn(&mut self, database: &Database) -> Result<()> {
        self.ask(1).await?;
        let mut conn = database.connect().await?;
        let change = async {
            loop {
                conn.query_drop("UPDATE bench.u SET state = 1 - state WHERE id = 1").await?;
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            answer = self.answer() => answer.map(drop),
            failed = change => failed,
        }
    }

    /// Runs it until so many changes have come.
    async fn ask(&mut self, changes: u64) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("a pipe")?;
        stdin.write_all(format!("{changes}\n").as_bytes()).await.context("ask Debezium")
    }

    /// Seconds from the first change to the last.
    async fn answer(&mut self) -> Result<f64> {
        let line = timeout(DEADLINE, self.lines.next_line()).await.context("Debezium in time")?;
        let line = line.context("an answer")?.context("Debezium has ended")?;
        line.parse().with_context(|| format!("a number: {line}"))
    }
}
