//! `mcsqueal auditor`: reads the binlog, looks at nodes and database, and says whether what changed is gone from the caches.
//! Here the auditor meets the binlog's connection, which is the tailer's; what the tailer makes of it is not used.

mod side;

use std::{io::Write, ops::ControlFlow, path::Path, time::Duration};

use anyhow::{Context, anyhow};
use auditor::{Colour, Report, Running, Settings, Transactions};
use binlog::assemble::Change;
use prometheus_client::registry::Registry;
use schemas::{config::Region, defaults, gtid::GtidSet, rules::Rules};
use tailer::{SourceError, preflight, tailer::Mode};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{args::AuditorArgs, failure::Failure, history, load, ready, run::Signals, telemetry};

/// Before the source is asked again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Runs the command.
pub(crate) fn auditor(args: &AuditorArgs) -> Result<(), Failure> {
    telemetry::init(args.log_format, &args.log)?;
    let (region, rules) = load::region(&args.config)?;
    let source = history::binlog_settings(&args.config, &region)?;
    let settings = settings(&args.config, &region, &source)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(audit(args, &region, rules, source, settings))
}

/// Reads the rules files once more: the auditor has an understanding of its own.
fn settings(file: &Path, region: &Region, source: &tailer::Settings) -> Result<Settings, Failure> {
    let mut texts = Vec::new();
    for path in &region.rules {
        let path = load::beside(file, path);
        texts.push((path.display().to_string(), load::read(&path)?));
    }
    let servers = (0..=source.standbys.len()).map(|at| source.at(at).opts()).collect();
    Settings::new(region, &texts, servers).map_err(|err| Failure::Config(err.into()))
}

async fn audit(
    args: &AuditorArgs,
    region: &Region,
    rules: Rules,
    source: tailer::Settings,
    settings: Settings,
) -> Result<(), Failure> {
    let mut signals = Signals::install()?;
    let mut registry = Registry::default();
    let report = Report::register(settings.placement.clone(), &mut registry);
    let shutdown = CancellationToken::new();
    let address = side::serve(region, report.clone(), registry, &shutdown).await?;
    let mut running =
        auditor::start(settings, report.clone()).map_err(|err| Failure::Config(err.into()))?;
    let transactions = running.transactions(defaults::CLOCK_SKEW_MAX);
    let begin = begin(&source, &rules).await?;
    let reading = Reading { source, rules, executed: begin, transactions, report: report.clone() };
    let mut reading = tokio::spawn(reading.run(&running));
    if let Some(path) = &args.ready_file {
        ready::write_whole(path, &format!("http={address}\n"))?;
    }
    tracing::info!(region = &*region.name, http = address, "auditing");

    tokio::select! {
        name = signals.wait() => tracing::info!(signal = name, "stopping"),
        () = wait(args.length) => {
            tracing::info!("no more changes are taken; waiting until those that are watched are judged");
            tokio::select! {
                () = running.finish() => {}
                name = signals.wait() => tracing::info!(signal = name, "stopping"),
            }
        }
        ended = &mut reading => {
            ended.context("read the binlog")?;
        }
    }
    reading.abort();
    shutdown.cancel();
    std::io::stdout().write_all(report.summary().as_bytes()).context("print")?;
    match (report.state().colour, args.length) {
        (Colour::Red, _) | (Colour::Blind, Some(_)) => Err(Failure::Said),
        (Colour::Green, _) | (Colour::Blind, None) => Ok(()),
    }
}

async fn wait(length: Option<Duration>) {
    match length {
        Some(length) => sleep(length).await,
        None => std::future::pending().await,
    }
}

/// Where the server is now: what was before is not audited.
async fn begin(source: &tailer::Settings, rules: &Rules) -> Result<GtidSet, Failure> {
    let mut last = None;
    for at in 0..=source.standbys.len() {
        let report = match preflight::check(&source.at(at), rules).await {
            Ok(report) => report,
            Err(err) => {
                last = Some(err);
                continue;
            }
        };
        if report.mode == Mode::Position {
            let why = "the auditor follows transactions by GTIDs, which are off";
            return Err(Failure::Config(anyhow!(why)));
        }
        if report.role == preflight::Role::Writer {
            return Ok(report.server.executed);
        }
    }
    let why = last.map_or_else(|| anyhow!("no source takes writes"), Into::into);
    Err(Failure::Failed(why.context("ask the source where it is")))
}

/// The binlog, from one connection to the next.
struct Reading {
    source: tailer::Settings,
    rules: Rules,
    executed: GtidSet,
    transactions: Transactions,
    report: Report,
}

impl Reading {
    fn run(mut self, running: &Running) -> impl Future<Output = ()> + use<> {
        let shared = std::sync::Arc::clone(&running.shared);
        async move {
            for at in 0.. {
                let source = self.source.at(at);
                let why = self.read(&source, &shared).await;
                // Whatever the first connection said is not said any more.
                tracing::warn!(source = %source.address, error = %why, "the binlog is not read");
                self.report.disconnected(why);
                sleep(RETRY_DELAY).await;
            }
        }
    }

    /// Until it fails; says why.
    async fn read(&mut self, source: &tailer::Settings, shared: &auditor::Shared) -> String {
        match preflight::check(source, &self.rules).await {
            Ok(report) if report.role == preflight::Role::Writer => {}
            Ok(_) => return "the source takes no writes".to_owned(),
            Err(err) => return format!("{err:#}"),
        }
        self.transactions.reconnected();
        let (transactions, report) = (&mut self.transactions, &self.report);
        let from = self.executed.clone();
        let (executed, mut open, mut first) = (&mut self.executed, None, true);
        let mut take = |change: Change<'_>| {
            if std::mem::take(&mut first) {
                report.connected();
            }
            match &change {
                Change::Begin(begin) => open.clone_from(&begin.gtid),
                Change::Commit(commit) | Change::Rollback(commit) => {
                    if let Some(gtid) = commit.gtid.clone().or(open.take()) {
                        history::add(executed, &gtid);
                    }
                }
                _ => {}
            }
            shared.take(transactions, &change);
            ControlFlow::Continue(())
        };
        let read = tailer::read_changes(source, &from, &mut take).await;
        match read {
            Ok(()) => "the binlog has ended".to_owned(),
            Err(SourceError::Gone(what)) => {
                if let Ok(now) = begin(&self.source, &self.rules).await {
                    self.executed = now;
                }
                format!("changes are gone, and not audited: {what}")
            }
            Err(err) => anyhow::Error::from(err).to_string(),
        }
    }
}
