//! The router under test: `mcsqueal router`.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::{
    Servers,
    child::{Child, Launch, Patience, Signal},
    mcsqueal_binary,
};

const PATIENCE: Patience =
    Patience { deadline: Duration::from_secs(20), poll: Duration::from_millis(5) };
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// A running (or ended) router.
#[derive(Debug)]
pub struct RunningRouter {
    launch: Launch,
    child: Option<Child>,
    address: String,
    http: String,
    ready_file: PathBuf,
    directory: TempDir,
}

impl Servers {
    /// Starts a router with this file; `DIR` in it stands for a folder of its own. It has a side port, and a socket for handing over.
    pub async fn router(&self, file: &str) -> Result<RunningRouter> {
        let directory = self.new_directory("router")?;
        let ready_file = directory.path().join("ready");
        let mut argv = vec![mcsqueal_binary()?.into(), "router".into()];
        argv.extend(["-l", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ready-file"].map(Into::into));
        argv.push(ready_file.clone().into());
        argv.extend(["--config".into(), directory.path().join("router.toml").into()]);
        let launch = Launch {
            name: "mcsqueal router".to_owned(),
            argv,
            env: Vec::new(),
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            input: None,
            pids: self.pids.clone(),
        };
        let (address, http) = (String::new(), String::new());
        let mut router =
            RunningRouter { launch, child: None, address, http, ready_file, directory };
        router.write(file)?;
        router.start().await?;
        Ok(router)
    }
}

impl RunningRouter {
    /// `host:port`, as clients write it.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// `host:port` of the side port.
    pub fn http(&self) -> &str {
        &self.http
    }

    /// Another file; the router takes it up by itself, or when it is told.
    pub fn write(&self, file: &str) -> Result<()> {
        let directory = self.directory.path();
        let text = format!(
            "handover = \"take\"\n{}",
            file.replace("DIR", &directory.display().to_string())
        );
        let (partial, path) = (directory.join("router.partial"), directory.join("router.toml"));
        std::fs::write(&partial, text).context("write a router file")?;
        std::fs::rename(partial, path).context("write a router file")
    }

    /// SIGHUP.
    pub fn hang_up(&self) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| child.signal(Signal::Hangup))
    }

    /// SIGTERM; true if it says that all went well.
    pub async fn stop(&mut self) -> Result<bool> {
        let Some(mut child) = self.child.take() else { bail!("it does not run") };
        child.signal(Signal::Terminate)?;
        Ok(child.wait(STOP_DEADLINE).await?.success())
    }

    /// `kill -9`, then another one on the same ports.
    pub async fn crash_and_restart(&mut self) -> Result<()> {
        self.child.take().map_or(Ok(()), |mut child| child.kill9())?;
        self.stay_at_ports();
        self.start().await
    }

    /// Starts a newer process, which takes over; waits until the older one has ended.
    pub async fn upgrade(&mut self) -> Result<()> {
        let mut older = self.child.take().context("it does not run")?;
        self.stay_at_ports();
        if !self.launch.argv.iter().any(|word| *word == "--take-over") {
            self.launch.argv.push("--take-over".into());
        }
        self.start().await?;
        let status = older.wait(STOP_DEADLINE).await?;
        ensure!(status.success(), "the older process ended with {status}");
        Ok(())
    }

    /// Everything that it has logged.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(&self.launch.log).context("read the router's log")
    }

    fn stay_at_ports(&mut self) {
        let mut taken = [self.address.clone(), self.http.clone()].into_iter();
        for word in self.launch.argv.iter_mut().filter(|word| *word == "127.0.0.1:0") {
            if let Some(address) = taken.next() {
                *word = address.into();
            }
        }
    }

    async fn start(&mut self) -> Result<()> {
        drop(std::fs::remove_file(&self.ready_file));
        let ready_file = &self.ready_file;
        let probe = async || {
            ensure!(ready_file.exists(), "there is no ready file");
            Ok(())
        };
        let child = Child::start_ready(&self.launch, PATIENCE, probe).await?;
        let text = std::fs::read_to_string(&self.ready_file).context("read the ready file")?;
        let line =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        self.address = line("tcp=").context("the ready file names no address")?;
        self.http = line("http=").context("the ready file names no side port")?;
        self.child = Some(child);
        Ok(())
    }
}
