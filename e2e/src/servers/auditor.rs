//! `mcsqueal auditor` beside whatever it judges.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{
    Region, Servers,
    child::{Child, Launch, Patience, Signal},
    mcsqueal::{http_of, mcsqueal_binary, sum_of},
};

const PATIENCE: Patience =
    Patience { deadline: Duration::from_secs(60), poll: Duration::from_millis(10) };
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// A running auditor.
#[derive(Debug)]
pub struct Auditor {
    child: Child,
    log: PathBuf,
    http: Option<String>,
    _directory: TempDir,
}

/// What it said in the end.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Whether its exit status was 0.
    pub success: bool,
    /// The last line: colour and sample.
    pub verdict: String,
    /// How many keys on nodes were judged.
    pub sample: u64,
    /// Its log and its table.
    pub text: String,
}

impl Servers {
    /// Starts an auditor of `region`, with what its section `[auditor]` says, and flags of `mcsqueal auditor`. It is
    /// ready when it is about to read the binlog.
    pub async fn auditor(&self, region: &Region, section: &str, flags: &[&str]) -> Result<Auditor> {
        let directory = self.new_directory("auditor")?;
        let config = region.write(directory.path())?;
        let text = fs::read_to_string(&config).context("read the region file")?;
        let section = format!("{text}\n[auditor]\nlisten = \"127.0.0.1:0\"\n{section}\n");
        fs::write(&config, section).context("write the region file")?;
        let (ready_file, log) = (directory.path().join("ready"), directory.path().join("log"));
        let mut argv = vec![mcsqueal_binary()?.into_os_string(), "auditor".into()];
        argv.extend(["--config".into(), config.into_os_string()]);
        argv.extend(["--ready-file".into(), ready_file.clone().into_os_string()]);
        argv.extend(["--log-format", "json"].iter().chain(flags).map(Into::into));
        let launch = Launch {
            name: "mcsqueal auditor".to_owned(),
            argv,
            env: region.env(),
            directory: directory.path().to_owned(),
            log: log.clone(),
            input: None,
            pids: self.pids.clone(),
        };
        let probe = async || http_of(&ready_file).context("there is no ready file").map(drop);
        let child = Child::start_ready(&launch, PATIENCE, probe).await?;
        let http = http_of(&ready_file);
        Ok(Auditor { child, log, http, _directory: directory })
    }
}

impl Auditor {
    /// Where it answers `/metrics` and `/health`.
    pub fn http(&self) -> Option<&str> {
        self.http.as_deref()
    }

    /// Its log file; one JSON object per line, and a table in the end.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The sum of a metric over all labels that have `label`; 0 if it does not answer.
    pub async fn metric(&self, name: &str, label: &str) -> f64 {
        match self.http() {
            Some(address) => sum_of(address, name, label).await,
            None => 0.0,
        }
    }

    /// Ends it, and says what it said.
    pub async fn stop(self) -> Result<Audit> {
        self.child.signal(Signal::Terminate)?;
        self.finish(STOP_DEADLINE).await
    }

    /// Waits until it ends by itself.
    pub async fn finish(mut self, deadline: Duration) -> Result<Audit> {
        let status = self.child.wait(deadline).await?;
        let text = fs::read_to_string(&self.log).context("read the auditor's log")?;
        let line = text.lines().rev().find(|line| line.starts_with("auditor: "));
        let verdict = line.with_context(|| format!("no verdict in\n{text}"))?.to_owned();
        let sample = verdict.rsplit(' ').next().and_then(|sample| sample.parse().ok());
        let sample = sample.with_context(|| format!("no sample in {verdict}"))?;
        Ok(Audit { success: status.success(), verdict, sample, text })
    }
}
