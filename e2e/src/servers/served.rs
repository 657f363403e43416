//! [`Served`]: a process of ours that listens, says where in its ready file, and can be taken over by a newer one.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

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
/// A port that the kernel chooses; at the next start, the same again.
const ANY_PORT: &str = "127.0.0.1:0";

/// A running (or ended) `mcsqueal node` or `mcsqueal router`.
#[derive(Debug)]
pub struct Served {
    launch: Launch,
    child: Option<Child>,
    address: String,
    http: Option<String>,
    control: Option<String>,
    ready_file: PathBuf,
    directory: TempDir,
}

impl Served {
    /// Starts it with these flags behind its command; it has a side port.
    pub(super) async fn start(
        servers: &Servers,
        command: &str,
        directory: TempDir,
        flags: &[&str],
    ) -> Result<Served> {
        Served::start_under(&[], servers, command, directory, flags).await
    }

    /// The same, by the command `under`, which becomes the program that is appended to it.
    pub(super) async fn start_under(
        under: &[&str],
        servers: &Servers,
        command: &str,
        directory: TempDir,
        flags: &[&str],
    ) -> Result<Served> {
        let ready_file = directory.path().join("ready");
        let mut argv: Vec<OsString> = under.iter().map(Into::into).collect();
        argv.extend([mcsqueal_binary()?.into(), command.into()]);
        argv.extend(["-l", ANY_PORT, "--http", ANY_PORT, "--ready-file"].map(Into::into));
        argv.push(ready_file.clone().into());
        argv.extend(flags.iter().map(Into::into));
        let launch = Launch {
            name: format!("mcsqueal {command}"),
            argv,
            env: Vec::new(),
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            input: None,
            pids: servers.pids.clone(),
        };
        let mut served = Served {
            launch,
            child: None,
            address: String::new(),
            http: None,
            control: None,
            ready_file,
            directory,
        };
        served.begin().await?;
        Ok(served)
    }

    /// `host:port`, as clients write it.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// `host:port` of the side port.
    pub fn http(&self) -> Option<&str> {
        self.http.as_deref()
    }

    /// `host:port` of the control port; `None` for a node without versions.
    pub fn control(&self) -> Option<String> {
        self.control.clone()
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// `kill -9`: everything that it held is gone.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.take().map_or(Ok(()), |mut child| child.kill9())
    }

    /// Starts it again on the same ports; a node is empty then, unless it keeps a snapshot.
    pub async fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} is running", self.launch.name);
        }
        self.stay_at_ports();
        self.begin().await
    }

    /// Starts a newer process, which takes over; waits until the older one has ended.
    pub async fn upgrade(&mut self) -> Result<()> {
        let mut older = self.child.take().context("it does not run")?;
        self.stay_at_ports();
        if !self.launch.argv.iter().any(|word| *word == "--take-over") {
            self.launch.argv.push("--take-over".into());
        }
        self.begin().await?;
        let status = older.wait(STOP_DEADLINE).await?;
        ensure!(status.success(), "the older process ended with {status}");
        Ok(())
    }

    /// Freezes it: connections stay open, nothing is answered, nothing is forgotten.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::Stop)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::Continue)
    }

    /// SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::Terminate)
    }

    /// SIGHUP.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::Hangup)
    }

    /// Waits until it has ended by itself; true if it says that all went well.
    pub async fn ended(&mut self) -> Result<bool> {
        let Some(mut child) = self.child.take() else { bail!("it does not run") };
        Ok(child.wait(STOP_DEADLINE).await?.success())
    }

    /// SIGTERM, and waits; true if it says that all went well.
    pub async fn stop(&mut self) -> Result<bool> {
        self.terminate()?;
        self.ended().await
    }

    /// Its process.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("it does not run")?.pid())
    }

    /// Memory that it has, in kilobytes.
    pub fn memory_kilobytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?));
        let status = status.context("read its status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.context("its status says nothing of memory")
    }

    /// Everything that it has logged.
    pub fn log(&self) -> Result<String> {
        let log = &self.launch.log;
        std::fs::read_to_string(log).with_context(|| format!("read {}", log.display()))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| child.signal(signal))
    }

    fn stay_at_ports(&mut self) {
        let taken = [Some(self.address.clone()), self.http.clone(), self.control.clone()];
        let mut taken = taken.into_iter().flatten();
        for word in self.launch.argv.iter_mut().filter(|word| *word == ANY_PORT) {
            if let Some(address) = taken.next() {
                *word = address.into();
            }
        }
    }

    async fn begin(&mut self) -> Result<()> {
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
        self.http = line("http=");
        self.control = line("control=");
        self.child = Some(child);
        Ok(())
    }
}
