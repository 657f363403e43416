//! Another configuration for a process that runs: by a change of its files, by SIGHUP, which looks at once, or by a version that was
//! published beside the stream, which goes before the files. What each process runs, it says beside the stream, too.
//!
//! A file is taken up as a whole or not at all. What is refused changes nothing: the one before goes on, and `/health`, a metric and
//! the log say why. The order is fixed: first everything is checked that can be, also against the source; then the lanes; then
//! the rules.
//!
//! **Rules**: whatever the source has executed by then is mapped by the old rules and the new ones, because clients may have filled
//! by either; what comes behind it by the new ones alone.

mod plan;
mod process;
mod published;
mod shown;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use schemas::{gtid::GtidSet, rules::Rules};
use stream::{AnyCursors, AnyReader, Board};
use tailer::preflight;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

pub(crate) use self::{
    process::{Process, id},
    published::{Published, note_of},
    shown::{Config, Shown},
};
use crate::{
    clock,
    failure::Failure,
    load::{self, Loaded},
    run::{Daemon, cluster_settings},
};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the source may take to say whether new rules can work.
const SOURCE_DEADLINE: Duration = Duration::from_secs(5);

/// How long a process that stops may take to say so.
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);

/// The lanes of a process.
pub(crate) type Lanes = invalidator::Invalidator<AnyReader, AnyCursors>;

/// What is taken up, and how.
pub(crate) struct Reloader {
    daemon: Daemon,
    file: PathBuf,
    /// The control ports of nodes in this process.
    inside: HashMap<String, invalidator::ControlPort>,
    settings: tailer::Settings,
    running: Loaded,
    /// What was looked at last, and is not to be looked at again until it changes.
    looked: u64,
    board: Board,
    /// Names this process.
    id: String,
    /// What this process has said of itself.
    said: Option<Process>,
    rules: watch::Sender<Arc<Rules>>,
    /// Old rules that still count, and what must be mapped until they do not.
    settling: Option<Settling>,
    tailer: watch::Receiver<tailer::Status>,
    hangup: Signal,
    ticks: tokio::time::Interval,
    shown: Shown,
}

struct Settling {
    executed: GtidSet,
    rules: Arc<Rules>,
}

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// It is time to look at the files.
    Look,
    /// Somebody says that they have changed.
    Hangup,
}

/// What a reloader begins with.
pub(crate) struct Start {
    pub(crate) daemon: Daemon,
    pub(crate) file: PathBuf,
    pub(crate) inside: HashMap<String, invalidator::ControlPort>,
    pub(crate) settings: tailer::Settings,
    pub(crate) running: Loaded,
    /// The version that `running` is, if it is a published one.
    pub(crate) published: Option<u64>,
    pub(crate) board: Board,
    /// Names this process.
    pub(crate) id: String,
    pub(crate) tailer: watch::Receiver<tailer::Status>,
    pub(crate) shown: Shown,
}

/// Another configuration, checked as far as can be.
struct Next {
    loaded: Loaded,
    clusters: Vec<invalidator::Settings>,
    /// Where rules change: what the source has executed so far.
    executed: Option<GtidSet>,
    changes: plan::Changes,
}

impl Reloader {
    pub(crate) fn new(start: Start) -> Result<Reloader, Failure> {
        let hangup = signal(SignalKind::hangup()).context("catch SIGHUP")?;
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let Start { daemon, file, inside, settings, running, published, board, id, tailer, shown } =
            start;
        let rules = watch::Sender::new(Arc::new(running.rules.clone()));
        shown.took(1, published, running.hash);
        let looked = running.hash;
        Ok(Reloader {
            daemon,
            file,
            inside,
            settings,
            running,
            looked,
            board,
            id,
            said: None,
            rules,
            settling: None,
            tailer,
            hangup,
            ticks,
            shown,
        })
    }

    /// The rules in force.
    pub(crate) fn rules(&self) -> watch::Receiver<Arc<Rules>> {
        self.rules.subscribe()
    }

    /// Returns when there is something to do. Cancelled, nothing is lost.
    pub(crate) async fn wait(&mut self) -> Wake {
        tokio::select! {
            Some(()) = self.hangup.recv() => Wake::Hangup,
            _ = self.ticks.tick() => Wake::Look,
        }
    }

    /// Looks at what is published and at the files, and takes up what is new.
    pub(crate) async fn look(&mut self, wake: Wake, lanes: &mut Lanes) {
        self.settle();
        self.update(wake, lanes).await;
        self.say();
    }

    async fn update(&mut self, wake: Wake, lanes: &mut Lanes) {
        let found = match published_in(&self.board, &self.running.region.name) {
            Ok(Some(published)) if wake == Wake::Look && published.hash() == self.looked => return,
            Ok(Some(published)) => merged(&published, &self.file),
            Ok(None) => load::loaded(&self.file)
                .map(|loaded| (None, loaded))
                .map_err(|(hash, failure)| (hash, failure.into_error())),
            Err(error) => Err((0, error)),
        };
        let (version, loaded) = match found {
            Ok(found) => found,
            Err((hash, error)) => return self.refuse(wake, hash, &error),
        };
        let hash = loaded.hash;
        if wake == Wake::Look && hash == self.looked {
            return;
        }
        if hash == self.running.hash {
            self.looked = hash;
            tracing::info!(config = self.shown.name(), "what was found is in force");
            self.shown.accepted(version);
            return;
        }
        let (began, taken) = (Instant::now(), self.take(version, loaded, lanes).await);
        match taken {
            Ok(changes) => {
                self.looked = hash;
                let took_ms = began.elapsed().as_millis();
                let config = self.shown.name();
                tracing::info!(config, %changes, took_ms, "another configuration is in force");
            }
            Err(error) => self.refuse(wake, hash, &error),
        }
    }

    /// Says it once.
    fn refuse(&mut self, wake: Wake, hash: u64, error: &anyhow::Error) {
        if wake == Wake::Hangup || self.looked != hash {
            let config = self.shown.name();
            tracing::error!(
                config,
                error = format!("{error:#}"),
                "refused; what was before goes on"
            );
            self.shown.refused(format!("{error:#}"));
        }
        self.looked = hash;
    }

    async fn take(
        &mut self,
        version: Option<u64>,
        loaded: Loaded,
        lanes: &mut Lanes,
    ) -> anyhow::Result<plan::Changes> {
        let next = self.check(loaded).await?;
        let Next { loaded, clusters, executed, changes } = next;
        lanes.reconfigure(&clusters).await?;
        if let Some(executed) = executed {
            let rules = Arc::new(loaded.rules.clone());
            let before = Rules::clone(&self.rules.borrow());
            let both = before.beside(loaded.rules.clone())?;
            self.rules.send_replace(Arc::new(both));
            self.settling = Some(Settling { executed, rules });
        }
        self.running = loaded;
        self.shown.took(self.shown.number().saturating_add(1), version, self.running.hash);
        Ok(changes)
    }

    /// Whatever can be refused is refused here.
    async fn check(&self, loaded: Loaded) -> anyhow::Result<Next> {
        let changes = plan::plan(&self.running.region, &loaded.region)?;
        let mut nodes = loaded.region.clusters.iter().flat_map(|cluster| &cluster.nodes);
        let is_here = |address: &str| self.inside.contains_key(address);
        if !self.inside.is_empty()
            && let Some(new) = nodes.find(|node| !is_here(&node.address.to_string()))
        {
            bail!("{}: the nodes of this process are made at its start", new.address);
        }
        let settings = |cluster| cluster_settings(&self.file, cluster, &self.inside);
        let clusters = loaded.region.clusters.iter().map(settings);
        let clusters = clusters.collect::<Result<Vec<_>, _>>().map_err(Failure::into_error)?;
        let same = loaded.rules.digest() == self.running.rules.digest();
        let executed = if same || self.daemon == Daemon::Invalidator {
            None
        } else {
            Rules::clone(&self.rules.borrow()).beside(loaded.rules.clone())?;
            Some(self.ask(&loaded.rules).await?)
        };
        Ok(Next { loaded, clusters, executed, changes })
    }

    /// Whether the source can serve these rules, and what it has executed.
    async fn ask(&self, rules: &Rules) -> anyhow::Result<GtidSet> {
        let asked = timeout(SOURCE_DEADLINE, preflight::check(&self.settings, rules)).await;
        let report = asked.map_err(|_| anyhow!("the source does not answer"));
        let report = report.and_then(|report| report.map_err(anyhow::Error::from));
        let report = report.context("ask the source whether the rules can work")?;
        if !report.is_passed() {
            bail!("the source cannot serve these rules:\n{report}");
        }
        Ok(report.server.executed)
    }

    /// Says what this process runs, while others go on; what cannot be said is said the next time.
    fn say(&mut self) {
        let process = Process {
            id: self.id.clone(),
            daemon: self.daemon.name().to_owned(),
            config: self.shown.look(),
            at: clock::now().0,
        };
        if !process.is_news(self.said.as_ref()) {
            return;
        }
        if let Ok(note) = serde_json::to_vec(&process) {
            let (board, name) = (self.board.clone(), self.name());
            tokio::spawn(async move {
                if let Err(err) = board.put(&name, note).await {
                    tracing::debug!(error = %err, "what this process runs cannot be said");
                }
            });
        }
        self.said = Some(process);
    }

    /// This process is going: nobody need look for it.
    pub(crate) async fn leave(&self) {
        drop(timeout(LEAVE_DEADLINE, self.board.put(&self.name(), Vec::new())).await);
    }

    /// Of this process's note.
    fn name(&self) -> String {
        format!("{}{}", Process::notes_of(&self.running.region.name), self.id)
    }

    /// The old rules end when everything has been mapped that was there when the new ones came.
    fn settle(&mut self) {
        let Some(Settling { executed, .. }) = &self.settling else { return };
        let mapped = |status: &tailer::Status| {
            let checkpoint = status.checkpoint.as_ref();
            checkpoint.is_some_and(|checkpoint| checkpoint.executed.contains_all(executed))
        };
        if !mapped(&self.tailer.borrow()) {
            return;
        }
        if let Some(Settling { rules, .. }) = self.settling.take() {
            self.rules.send_replace(rules);
            tracing::info!("the rules of before have ended: what was in flight is mapped by both");
        }
    }
}

/// What a process begins with: the version that is published, else its own files. A version that cannot be taken up is no reason not
/// to start.
pub(crate) fn begin(file: &Path, own: Loaded, board: &Board) -> (Option<u64>, Loaded) {
    let found = published_in(board, &own.region.name);
    match found
        .and_then(|found| found.map(|it| merged(&it, file).map_err(|(_, err)| err)).transpose())
    {
        Ok(Some(found)) => found,
        Ok(None) => (None, own),
        Err(error) => {
            let error = format!("{error:#}");
            tracing::error!(error, "the published configuration is refused; the files count");
            (None, own)
        }
    }
}

fn published_in(board: &Board, region: &str) -> anyhow::Result<Option<Published>> {
    let notes = board.known().context("read the notes beside the stream")?;
    notes.get(&note_of(region)).map(|note| Published::decode(note)).transpose()
}

/// A published version, as this process would run it.
fn merged(
    published: &Published,
    file: &Path,
) -> Result<(Option<u64>, Loaded), (u64, anyhow::Error)> {
    let own = load::read(file).map_err(Failure::into_error);
    let merged = own.and_then(|own| published.merged(file, &own));
    let merged = merged.map(|loaded| (Some(published.version), loaded));
    merged.map_err(|error| (published.hash(), error))
}
