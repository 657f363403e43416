//! The cache node under test: `mcsqueal node`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::{
    Memcached, Servers,
    child::{Child, Launch, Patience, Signal},
    mcsqueal_binary,
};

const PATIENCE: Patience =
    Patience { deadline: Duration::from_secs(20), poll: Duration::from_millis(5) };
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// A running (or killed) cache node.
#[derive(Debug)]
pub struct CacheNode {
    launch: Launch,
    child: Option<Child>,
    address: String,
    http: Option<String>,
    control: Option<String>,
    ready_file: PathBuf,
    directory: TempDir,
}

/// What serves as a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A stock memcached.
    Memcached,
    /// Ours.
    Mcsqueal,
}

/// One of either kind.
#[derive(Debug)]
pub enum AnyNode {
    Memcached(Memcached),
    Mcsqueal(CacheNode),
}

impl AnyNode {
    /// `host:port`, as clients write it.
    pub fn address(&self) -> String {
        match self {
            AnyNode::Memcached(node) => node.address(),
            AnyNode::Mcsqueal(node) => node.address(),
        }
    }

    /// `host:port` of its control port, if it has one.
    pub fn control(&self) -> Option<String> {
        match self {
            AnyNode::Memcached(_) => None,
            AnyNode::Mcsqueal(node) => node.control(),
        }
    }
}

impl Servers {
    /// Starts a node of this kind.
    pub async fn any_node(&self, kind: NodeKind) -> Result<AnyNode> {
        Ok(match kind {
            NodeKind::Memcached => AnyNode::Memcached(self.memcached().await?),
            NodeKind::Mcsqueal => AnyNode::Mcsqueal(self.cache_node(&[]).await?),
        })
    }

    /// Starts a cache node that knows versions: an invalidator must connect to its control port. `versions` are lines of its
    /// file's `[versions]`.
    pub async fn versioned_node(&self, versions: &str) -> Result<CacheNode> {
        self.controlled_node("", versions).await
    }

    /// Likewise; `control` are lines of its file's `[control]`.
    pub async fn controlled_node(&self, control: &str, versions: &str) -> Result<CacheNode> {
        let directory = self.new_directory("versions")?;
        let file = directory.path().join("node.toml");
        let text = format!("[control]\n{control}\n[versions]\n{versions}\n");
        std::fs::write(&file, text).context("write a node file")?;
        let file = file.display().to_string();
        let flags = ["--control", "127.0.0.1:0", "--config", &file];
        self.node_in(directory, &flags).await
    }

    /// Likewise, with flags, and other sections of its file.
    pub async fn controlled_node_with(&self, flags: &[&str], sections: &str) -> Result<CacheNode> {
        let directory = self.new_directory("versions")?;
        let file = directory.path().join("node.toml");
        std::fs::write(&file, sections).context("write a node file")?;
        let file = file.display().to_string();
        let control = ["--control", "127.0.0.1:0", "--config", &file];
        self.node_in(directory, &[&control, flags].concat()).await
    }

    /// Starts a cache node with these flags beside its address.
    pub async fn cache_node(&self, flags: &[&str]) -> Result<CacheNode> {
        self.node_in(self.new_directory("node")?, flags).await
    }

    async fn node_in(&self, directory: TempDir, flags: &[&str]) -> Result<CacheNode> {
        let ready_file = directory.path().join("ready");
        let mut argv = vec![mcsqueal_binary()?.into(), "node".into()];
        argv.extend(["-l", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ready-file"].map(Into::into));
        argv.push(ready_file.clone().into());
        argv.extend(flags.iter().map(Into::into));
        let launch = Launch {
            name: "mcsqueal node".to_owned(),
            argv,
            env: Vec::new(),
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            input: None,
            pids: self.pids.clone(),
        };
        let mut node = CacheNode {
            launch,
            child: None,
            address: String::new(),
            http: None,
            control: None,
            ready_file,
            directory,
        };
        node.start().await?;
        Ok(node)
    }
}

impl CacheNode {
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

    /// `kill -9`: everything that it held is gone.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.take().map_or(Ok(()), |mut child| child.kill9())
    }

    /// Starts it again, empty unless it keeps a snapshot, on the same port.
    pub async fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} is running", self.launch.name);
        }
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

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn stay_at_ports(&mut self) {
        let taken = [Some(self.address.clone()), self.http.clone(), self.control.clone()];
        let mut taken = taken.into_iter().flatten();
        for word in self.launch.argv.iter_mut().filter(|word| *word == "127.0.0.1:0") {
            if let Some(address) = taken.next() {
                *word = address.into();
            }
        }
    }

    /// Freezes it: connections stay open, nothing is answered, nothing is forgotten.
    pub fn freeze(&self) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| child.signal(Signal::Stop))
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| child.signal(Signal::Continue))
    }

    /// SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| child.signal(Signal::Terminate))
    }

    /// Waits until it has ended by itself; true if it says that all went well.
    pub async fn ended(&mut self) -> Result<bool> {
        let Some(mut child) = self.child.take() else { bail!("it does not run") };
        Ok(child.wait(STOP_DEADLINE).await?.success())
    }

    /// Its process.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("it does not run")?.pid())
    }

    /// Memory that it has, in kilobytes.
    pub fn memory_kilobytes(&self) -> Result<u64> {
        let pid = self.child.as_ref().context("it does not run")?.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
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
        self.http = line("http=");
        self.control = line("control=");
        self.child = Some(child);
        Ok(())
    }
}
