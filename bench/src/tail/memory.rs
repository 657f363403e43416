//! How much memory one large transaction takes: of a process that does nothing but tail, with the embedded stream.

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use e2e::servers::Database;
use mysql_async::prelude::Queryable;
use schemas::{config::Address, rules::Rules};
use stream::embedded::Embedded;
use tailer::{Metrics, Settings, Status};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::watch,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{backlog, latency};

/// The program's first argument when it is the one that is measured.
pub(super) const CHILD: &str = "--tail-for-memory";
const DEADLINE: Duration = Duration::from_secs(600);
/// Bytes of each row, that no compression makes shorter.
const ROW_BYTES: u64 = 1000;

/// How the transaction is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Compressed,
}

/// MiB above idle while a transaction of `mib` is read.
pub(super) async fn peak(database: &Database, form: Form, mib: u64) -> Result<f64> {
    let mut tailing = Tailing::start(database)?;
    let idle = tailing.ask("idle").await?;
    let mut conn = database.connect().await?;
    let compression = if form == Form::Compressed { "ON" } else { "OFF" };
    conn.query_drop(format!("SET SESSION binlog_transaction_compression = {compression}")).await?;
    conn.query_drop("DELETE FROM bench.noise").await.context("empty a table")?;
    let rows = mib * (1 << 20) / ROW_BYTES;
    let insert = format!(
        "INSERT INTO bench.noise (body) SELECT RANDOM_BYTES({ROW_BYTES}) FROM bench.seed a, bench.seed b, bench.seed c LIMIT {rows}"
    );
    conn.query_drop(insert).await.context("write a large transaction")?;
    conn.query_drop("UPDATE bench.u SET state = state + 1 WHERE id = 1").await?;
    conn.disconnect().await.context("disconnect")?;
    let peak = tailing.ask("peak").await?;
    tailing.child.kill().await.context("end the tailing process")?;
    Ok((peak - idle) / 1024.0)
}

/// The process that is measured.
struct Tailing {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    _folder: tempfile::TempDir,
}

impl Tailing {
    fn start(database: &Database) -> Result<Tailing> {
        let folder = tempfile::tempdir().context("make a folder for the stream")?;
        let program = std::env::current_exe().context("find ourselves")?;
        let mut child = Command::new(program)
            .args([CHILD, &database.address()])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start a tailing process")?;
        let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        Ok(Tailing { child, lines, _folder: folder })
    }

    /// KiB.
    async fn ask(&mut self, what: &str) -> Result<f64> {
        let stdin = self.child.stdin.as_mut().context("a pipe")?;
        stdin.write_all(format!("{what}\n").as_bytes()).await.context("ask")?;
        let line = timeout(DEADLINE, self.lines.next_line()).await.context("an answer in time")?;
        let line = line.context("an answer")?.context("the tailing process has ended")?;
        line.parse().with_context(|| format!("a number: {line}"))
    }
}

/// What the process does that is measured: tails `address`, and answers `idle` once it is connected, `peak` once it has
/// seen the row that is written last.
#[expect(clippy::print_stdout, reason = "answers")]
pub(super) async fn child(address: &str, folder: &Path) -> Result<()> {
    let address: Address = address.parse().ok().context("an address")?;
    let embedded = Embedded::open(&folder.join("stream.db"), latency::options())?;
    let rules = Arc::new(Rules::parse("bench", backlog::RULES).context("the bench's rules")?);
    let (_keep, rules) = watch::channel(rules);
    let status = watch::Sender::new(Status::default());
    let mut told = status.subscribe();
    let settings = Settings::new("bench", address, 4004);
    let shutdown = CancellationToken::new();
    tokio::spawn(tailer::run(settings, rules, embedded, Metrics::default(), status, shutdown));
    let mut seen = 0;
    for line in std::io::stdin().lines() {
        let line = line.context("read a question")?;
        // Everything is read when nothing is left to read, and something has come.
        let is_there = |status: &Status| match line.as_str() {
            "idle" => status.connected && status.lag_seconds.is_some(),
            _ => {
                status.keys > seen && status.lag_seconds == Some(0.0) && status.lag_bytes == Some(0)
            }
        };
        let status = timeout(DEADLINE, told.wait_for(is_there)).await.context("in time")?;
        seen = status.context("a tailer")?.keys;
        if line == "idle" {
            // Forgets the highest so far.
            std::fs::write("/proc/self/clear_refs", "5").context("reset the peak")?;
            println!("{}", kib("VmRSS:")?);
        } else {
            println!("{}", kib("VmHWM:")?);
        }
    }
    Ok(())
}

fn kib(name: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("read our own status")?;
    let line = status.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1)).context("a number")?;
    ensure!(line.is_some_and(|line| line.ends_with("kB")), "{name} is not in kB");
    number.parse().context("a number")
}
