//! [`Past`]: invalidations made anew from the binlog. What the stream says of its progress tells which transactions
//! are in a range; the rules may be other ones than those that filled the stream.

use std::{
    hash::{BuildHasher, RandomState},
    ops::ControlFlow,
    path::Path,
    sync::Arc,
};

use anyhow::{Context, anyhow};
use binlog::assemble::Change;
use schemas::{
    config::Region,
    cursor::{Partition, Place},
    epochs::EpochTable,
    gtid::{Dialect, Gtid, GtidSet},
    record::{Progress, Record, UnixMicros},
    rules::Rules,
    version::Version,
};
use stream::{AnyReader, Reader};
use tailer::{
    StatementKeys,
    map::{Mapped, Mapper},
    preflight::{self, Report},
};
use tokio::sync::mpsc;

use super::{Mark, Past as PastKey, PastFloor, Range, STEP_KEYS_MAX, Step};
use crate::{
    failure::Failure,
    run,
    stream::{Found, From, Select, next},
};

/// Progress is said many times in so much time; so much earlier it is looked for.
const PROGRESS_MICROS: u64 = 10_000_000;
/// A tool is one more reader of the binlog, and needs a number that no server has: one of these, at random.
const SERVER_ID_MIN: u32 = 1 << 31;

/// Signs of life without an event between them, one each second, after which the binlog has ended. A server also gives
/// some while it skips what is before the range.
const IDLE_MAX: u32 = 5;

/// What is read: every transaction of `to` that is not in `from`.
#[derive(Clone)]
pub(crate) struct Past {
    settings: tailer::Settings,
    rules: Arc<Rules>,
    known: Known,
    epochs: EpochTable,
    from: GtidSet,
    to: GtidSet,
    select: Select,
}

/// One transaction's changes, as they come: for whoever maps them.
type Sample<'a> = &'a mut (dyn FnMut(&Change<'_>) -> ControlFlow<()> + Send);

impl Past {
    pub(super) async fn find(
        reader: &AnyReader,
        range: Range,
        region: &Region,
        settings: tailer::Settings,
        rules: Rules,
    ) -> Result<Past, Failure> {
        let (from, to) = (begin(reader, range.from).await?, end(reader, range.to).await?);
        let mut epochs = EpochTable::default();
        for start in reader.epochs().await.context("read the table of epochs")? {
            if start.source == region.source.name {
                epochs.learn(start);
            }
        }
        let (known, rules) = (Known::ask(&settings, &rules).await?, Arc::new(rules));
        Ok(Past { settings, rules, known, epochs, from, to, select: range.select })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.from.contains_all(&self.to)
    }

    pub(super) async fn read(
        self,
        mark: Option<Mark>,
        tell: mpsc::Sender<Step>,
    ) -> Result<(), Failure> {
        let mut executed = match mark {
            Some(Mark::Binlog { executed }) => GtidSet::parse(self.from.dialect(), &executed)
                .context("read where the replay was")
                .map_err(Failure::Config)?,
            _ => self.from.clone(),
        };
        let mut mapper = self.known.mapper(Arc::clone(&self.rules));
        let begun_at = executed.clone();
        let (mut step, mut open, mut version) = (Step::default(), None, Version::ZERO);
        let (steps, taken) = std::sync::mpsc::sync_channel(1);
        let forward = tokio::task::spawn_blocking(move || {
            while let Ok(step) = taken.recv()
                && tell.blocking_send(step).is_ok()
            {}
        });
        let mut take = |change: &Change<'_>| {
            match change {
                Change::Begin(begin) => {
                    open.clone_from(&begin.gtid);
                    version = self.version(begin.gtid.as_ref(), &executed);
                }
                Change::Commit(commit) | Change::Rollback(commit) => {
                    if let Some(gtid) = commit.gtid.clone().or(open.take()) {
                        add(&mut executed, &gtid);
                    }
                    step.mark = Some(Mark::Binlog { executed: executed.to_string() });
                    // Blocks while whoever takes the steps is slow; then the source waits too.
                    if step.keys.len() >= STEP_KEYS_MAX
                        && steps.send(std::mem::take(&mut step)).is_err()
                    {
                        return ControlFlow::Break(());
                    }
                }
                other => map(&mut mapper, other, &mut |mapped| match mapped {
                    Mapped::Key { key, .. } if self.select.wants_key(key) => {
                        step.keys.push(PastKey { key: key.key.to_key(), version });
                    }
                    Mapped::Floor { scope, .. } => {
                        step.floors.push(PastFloor { scope: scope.clone(), version });
                    }
                    Mapped::Key { .. } | Mapped::Null { .. } | Mapped::Unusable { .. } => {}
                }),
            }
            ControlFlow::Continue(())
        };
        read(&self.settings, &begun_at, &self.to, &mut take).await?;
        drop(steps.send(step)); // Whoever is gone wants nothing.
        drop(steps);
        forward.await.context("hand over what was read")?;
        Ok(())
    }

    fn version(&self, gtid: Option<&Gtid>, executed: &GtidSet) -> Version {
        let version = gtid.and_then(|gtid| {
            let mut with = executed.clone();
            add(&mut with, gtid);
            self.epochs.version_of(gtid, &with)
        });
        version.unwrap_or(Version::ZERO)
    }
}

/// What the source must be asked before its rows can become keys.
#[derive(Clone)]
pub(crate) struct Known {
    report: Arc<Report>,
    statement_keys: StatementKeys,
}

impl Known {
    /// Asks the source for all that `rules` are about.
    pub(crate) async fn ask(settings: &tailer::Settings, rules: &Rules) -> Result<Known, Failure> {
        let report = preflight::check(settings, rules).await;
        let report = report.with_context(|| format!("ask {} for its columns", settings.address));
        let report = Arc::new(report.map_err(Failure::Failed)?);
        Ok(Known { report, statement_keys: settings.statement_keys })
    }

    /// Maps as the tailer does: columns are what they are, and not what the binlog shows; rows that a foreign key
    /// changes count; comments name keys where they may.
    pub(crate) fn mapper(&self, rules: Arc<Rules>) -> Mapper {
        let cascades = self.report.cascades.clone().unwrap_or_default();
        let mut mapper = Mapper::with_cascades(rules, cascades);
        mapper.take_statement_keys(self.statement_keys);
        if self.report.dialect == Dialect::MariaDb {
            mapper.undisguise(self.report.disguised.clone());
        }
        mapper
    }
}

/// What one change means by the rules.
pub(crate) fn map(mapper: &mut Mapper, change: &Change<'_>, each: &mut dyn FnMut(Mapped<'_>)) {
    match change {
        Change::Rows(rows) => drop(mapper.rows(rows, each)),
        Change::Said(text) => mapper.said(text, each),
        Change::Statement(statement) => mapper.statement(statement, each),
        Change::Undecodable(event) => mapper.undecodable(event, each),
        Change::Begin(_)
        | Change::XaStart(_)
        | Change::XaPrepared
        | Change::Commit(_)
        | Change::Rollback(_)
        | Change::Rotate(_)
        | Change::Heartbeat => {}
    }
}

/// Every change of the transactions that are in `to` and not in `from`.
pub(crate) async fn read(
    settings: &tailer::Settings,
    from: &GtidSet,
    to: &GtidSet,
    each: Sample<'_>,
) -> Result<(), Failure> {
    if from.contains_all(to) {
        return Ok(());
    }
    let (mut done, mut open, mut idle) = (from.clone(), None, 0);
    let mut take = |change: Change<'_>| {
        idle = if matches!(change, Change::Heartbeat) { idle + 1 } else { 0 };
        match &change {
            // The binlog goes on behind the range.
            Change::Begin(begin) => {
                if begin.gtid.as_ref().is_some_and(|gtid| !to.contains(gtid)) {
                    return ControlFlow::Break(());
                }
                open.clone_from(&begin.gtid);
            }
            Change::Heartbeat if idle >= IDLE_MAX => return ControlFlow::Break(()),
            Change::Commit(commit) | Change::Rollback(commit) => {
                if let Some(gtid) = commit.gtid.as_ref().or(open.as_ref()) {
                    add(&mut done, gtid);
                }
            }
            _ => {}
        }
        each(&change)?;
        if done.contains_all(to) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let read = tailer::read_changes(settings, from, &mut take).await;
    read.with_context(|| format!("read the binlog of {}", settings.address))
        .map_err(Failure::Failed)
}

/// Takes a transaction into a set.
pub(crate) fn add(set: &mut GtidSet, gtid: &Gtid) {
    if !set.insert(gtid) {
        tracing::warn!(%gtid, "the transaction is of another kind than the source's");
    }
}

/// How a tool reads the region's source.
pub(crate) fn settings(file: &Path, region: &Region) -> Result<tailer::Settings, Failure> {
    let mut settings = run::tailer_settings(file, region)?;
    let random = u32::try_from(RandomState::new().hash_one(0) >> 33).unwrap_or(0);
    settings.server_id = SERVER_ID_MIN | random;
    Ok(settings)
}

/// What the source had executed when the range begins, or a little before.
pub(crate) async fn begin(reader: &AnyReader, from: From) -> Result<GtidSet, Failure> {
    let partition = Partition(0);
    let place = match from {
        From::Time(at) => {
            let early = UnixMicros(at.0.saturating_sub(PROGRESS_MICROS));
            reader.seek(partition, early).await.context("find where to begin")?
        }
        From::Start | From::Version(_) => Place::START,
        From::End | From::Place(_) => return Err(unfit()),
    };
    let mut found = None;
    scan(reader, place, &mut |progress| {
        let wanted = match from {
            From::Version(version) => progress.version < version,
            _ => found.is_none(),
        };
        if wanted {
            found = Some(progress.executed);
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })
    .await?;
    found.ok_or_else(|| Failure::Config(anyhow!("the stream does not reach back to --from")))
}

/// What the source had executed when the range ends, or a little after.
pub(crate) async fn end(reader: &AnyReader, to: From) -> Result<GtidSet, Failure> {
    let partition = Partition(0);
    let place = match to {
        From::Time(at) => reader.seek(partition, at).await.context("find where to end")?,
        // The newest is near the head.
        From::End => {
            let head = reader.head(partition).await.context("read the stream")?;
            Place { sequence: head.sequence.saturating_sub(1000), ..head }
        }
        From::Start | From::Version(_) => Place::START,
        From::Place(_) => return Err(unfit()),
    };
    let mut found = None;
    scan(reader, place, &mut |progress| {
        let enough = match to {
            From::Version(version) => progress.version >= version,
            From::End => false,
            _ => true,
        };
        found = Some(progress.executed);
        if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .await?;
    // A time that is still to come ends with what there is.
    match found {
        Some(executed) => Ok(executed),
        None if to != From::End => Box::pin(end(reader, From::End)).await,
        None => Err(Failure::Config(anyhow!("the stream says nothing of progress yet"))),
    }
}

/// Every progress after `place`.
async fn scan(
    reader: &AnyReader,
    mut place: Place,
    each: &mut (dyn FnMut(Progress) -> ControlFlow<()> + Send),
) -> Result<(), Failure> {
    loop {
        match next(reader, Partition(0), &mut place).await? {
            Found::Gap { .. } => {}
            Found::Entries(entries) if entries.is_empty() => return Ok(()),
            Found::Entries(entries) => {
                for entry in entries {
                    if let Record::Progress(progress) = entry.record
                        && each(progress).is_break()
                    {
                        return Ok(());
                    }
                }
            }
        }
    }
}

fn unfit() -> Failure {
    Failure::Config(anyhow!(
        "the binlog knows no places of the stream: give a time, a version, start or end"
    ))
}
