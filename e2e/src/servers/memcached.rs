//! A private memcached.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{
    Servers,
    child::{Child, Launch, Patience, Signal},
    port::{free_port, is_taken},
};

const PATIENCE: Patience =
    Patience { deadline: Duration::from_secs(20), poll: Duration::from_millis(5) };
/// How often a first start is tried with another port.
const STARTS_MAX: u32 = 3;

/// A running (or killed) memcached.
#[derive(Debug)]
pub struct Memcached {
    port: u16,
    launch: Launch,
    child: Option<Child>,
    _directory: TempDir,
}

impl Servers {
    /// Starts `count` of them.
    pub async fn memcached_nodes(&self, count: usize) -> Result<Vec<Memcached>> {
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(self.memcached().await?);
        }
        Ok(nodes)
    }

    /// Starts a memcached.
    pub async fn memcached(&self) -> Result<Memcached> {
        self.memcached_with(&[]).await
    }

    /// Starts a memcached with more flags.
    pub async fn memcached_with(&self, flags: &[&str]) -> Result<Memcached> {
        let program = self.program("memcached")?;
        let directory = self.new_directory("memcached")?;
        let mut attempt = 1;
        loop {
            let port = free_port()?;
            let mut argv = program.argv.clone();
            argv.extend(program.args.iter().cloned());
            let number = port.to_string();
            let options = ["-l", "127.0.0.1", "-p", &number, "-U", "0", "-m", "64", "-u", "root"];
            argv.extend(options.map(Into::into));
            argv.extend(flags.iter().map(Into::into));
            let launch = Launch {
                name: format!("memcached {} on port {port}", program.version),
                argv,
                env: Vec::new(),
                directory: directory.path().to_owned(),
                log: directory.path().join("log"),
                input: None,
                pids: self.pids.clone(),
            };
            match launch_until_ready(&launch, port).await {
                Ok(child) => {
                    return Ok(Memcached {
                        port,
                        launch,
                        child: Some(child),
                        _directory: directory,
                    });
                }
                // Another process has taken the port in between.
                Err(_) if attempt < STARTS_MAX && is_taken(port) => attempt += 1,
                Err(err) => return Err(err),
            }
        }
    }
}

impl Memcached {
    /// `host:port`, as clients write it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("it does not run")?.pid())
    }

    /// `kill -9`: everything that it held is gone.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.take().map_or(Ok(()), |mut child| child.kill9())
    }

    /// Starts it again, empty, on the same port.
    pub async fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} is running", self.launch.name);
        }
        self.child = Some(launch_until_ready(&self.launch, self.port).await?);
        Ok(())
    }

    /// Freezes it: connections stay open, nothing is answered, nothing is forgotten.
    pub fn freeze(&self) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| child.signal(Signal::Stop))
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| child.signal(Signal::Continue))
    }
}

/// Ready means that it accepts connections.
async fn launch_until_ready(launch: &Launch, port: u16) -> Result<Child> {
    let probe = async || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.context("connect")?;
        Ok(())
    };
    Child::start_ready(launch, PATIENCE, probe).await
}
