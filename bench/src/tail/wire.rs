//! From the server's socket: to keys, and beside it the same bytes merely read through `mysql_async`.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use binlog::assemble::{Change, Commit};
use e2e::servers::Database;
use futures_util::StreamExt;
use mysql_async::BinlogStreamRequest;
use schemas::{config::Address, rules::Rules};
use tailer::{
    Metrics, Settings, Status,
    map::{Mapped, Mapper},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{backlog::Phase, null::Null};

/// A pass that takes longer has stopped.
const DEADLINE: Duration = Duration::from_secs(300);
const ROTATE: u8 = 4;
const SOURCE: &str = "bench";

/// What a tailer needs to know of `database`.
pub(super) fn settings(database: &Database, server_id: u32) -> Result<Settings> {
    let address: Address = database.address().parse().ok().context("an address")?;
    Ok(Settings::new(SOURCE, address, server_id))
}

/// Seconds from the socket to keys, which go nowhere.
pub(super) async fn keys(database: &Database, phase: &Phase, rules: &Arc<Rules>) -> Result<f64> {
    let mut mapper = Mapper::new(Arc::clone(rules));
    let (mut keys, mut floors, mut executed) = (0_u64, 0_u64, phase.before.clone());
    let mut begin = None;
    let settings = settings(database, 4005)?;
    let mut each = |change: Change<'_>| {
        begin.get_or_insert_with(Instant::now);
        match change {
            Change::Rows(rows) => {
                mapper.rows(&rows, &mut |mapped| match mapped {
                    Mapped::Key { key, .. } => {
                        std::hint::black_box(&key);
                        keys += 1;
                    }
                    _ => floors += 1,
                });
            }
            Change::Undecodable(_) => floors += 1,
            Change::Commit(Commit { gtid: Some(gtid), .. })
                if executed.insert(&gtid) && executed.contains_all(&phase.after) =>
            {
                return ControlFlow::Break(());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let reading = tailer::read_changes(&settings, &phase.before, &mut each);
    timeout(DEADLINE, reading).await.context("read a phase in time")??;
    ensure!(keys >= phase.keys && floors == 0, "{keys} of {} keys, {floors} floors", phase.keys);
    Ok(begin.context("nothing came")?.elapsed().as_secs_f64())
}

/// Seconds that the whole tailer takes for a phase, on a stream that takes everything at once.
pub(super) async fn published(
    database: &Database,
    phase: &Phase,
    rules: &Arc<Rules>,
) -> Result<f64> {
    let null = Null::new(SOURCE, phase.before.clone());
    let (mut executed, keys) = (null.executed(), null.keys());
    let shutdown = CancellationToken::new();
    let status = watch::Sender::new(Status::default());
    let mut told = status.subscribe();
    let settings = settings(database, 4001)?;
    let tailing = tailer::run(
        settings,
        watch::channel(Arc::clone(rules)).1,
        null,
        Metrics::default(),
        status,
        shutdown.clone(),
    );
    let tailing = tokio::spawn(tailing);
    let connected = told.wait_for(|status| status.connected);
    timeout(DEADLINE, connected).await.context("connect in time")?.context("a tailer")?;
    drop(told);
    let begin = Instant::now();
    let through = executed.wait_for(|executed| executed.contains_all(&phase.after));
    timeout(DEADLINE, through).await.context("read a phase in time")?.context("a tailer")?;
    let seconds = begin.elapsed().as_secs_f64();
    shutdown.cancel();
    tailing.await.context("a tailer")??;
    let keys = keys.load(std::sync::atomic::Ordering::Relaxed);
    ensure!(keys >= phase.keys, "{} gave {keys} of {} keys", phase.name, phase.keys);
    Ok(seconds)
}

/// Seconds that `mysql_async` takes to read the events of a phase, and nothing else.
pub(super) async fn raw(database: &Database, phase: &Phase) -> Result<f64> {
    let conn = database.connect().await?;
    let file = phase.names.first().context("a phase has a file")?;
    let last = phase.names.last().context("a phase has a file")?.as_bytes();
    let request = BinlogStreamRequest::new(4002).with_filename(file.as_bytes()).with_pos(4);
    let mut stream = conn.get_binlog_stream(request).await.context("ask for a dump")?;
    let begin = Instant::now();
    let mut in_last = false;
    let reading = async {
        while let Some(event) = stream.next().await {
            let event = event.context("read an event")?;
            if event.header().event_type_raw() == ROTATE {
                let is_last = event.data().get(8..).is_some_and(|name| name.starts_with(last));
                if in_last && !is_last {
                    return Ok(begin.elapsed().as_secs_f64());
                }
                in_last |= is_last;
            }
        }
        bail!("the server ended the dump")
    };
    timeout(DEADLINE, reading).await.context("read a phase in time")?
}
