//! Routers of others, beside which ours is measured.

use std::{ffi::OsString, net::Ipv4Addr, process::Command, time::Duration};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{
    Memcached, Servers,
    child::{Child, Launch, Patience},
    port::{free_port, is_taken},
};

const PATIENCE: Patience =
    Patience { deadline: Duration::from_secs(20), poll: Duration::from_millis(5) };
/// How often a first start is tried with other ports.
const STARTS_MAX: u32 = 3;

/// A running twemproxy. It has one thread.
#[derive(Debug)]
pub struct Twemproxy {
    port: u16,
    child: Child,
    _directory: TempDir,
}

impl Servers {
    /// Starts twemproxy in front of these nodes, with the hashing of its own example. `None`: this machine has none.
    pub async fn twemproxy(&self, nodes: &[String]) -> Result<Option<Twemproxy>> {
        let Some(program) = self.manifest.program("nutcracker") else { return Ok(None) };
        let mut attempt = 1;
        loop {
            let (port, statistics) = (free_port()?, free_port()?);
            let directory = self.new_directory("twemproxy")?;
            let mut file = format!(
                "main:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n  \
                 auto_eject_hosts: false\n  preconnect: true\n  servers:\n"
            );
            for node in nodes {
                file.push_str(&format!("   - {node}:1\n"));
            }
            let path = directory.path().join("nutcracker.yml");
            std::fs::write(&path, file).context("write twemproxy's file")?;
            let mut argv = program.argv.clone();
            argv.extend(["-c".into(), path.into(), "-a".into(), "127.0.0.1".into()]);
            argv.extend(["-s".into(), OsString::from(statistics.to_string())]);
            // Packages have another place for it, which is not there.
            argv.extend(["-o".into(), "/dev/stderr".into()]);
            let launch = Launch {
                name: format!("twemproxy {} on port {port}", program.version),
                argv,
                env: Vec::new(),
                directory: directory.path().to_owned(),
                log: directory.path().join("log"),
                input: None,
                pids: self.pids.clone(),
            };
            let probe = async || {
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.context("connect")?;
                Ok(())
            };
            match Child::start_ready(&launch, PATIENCE, probe).await {
                Ok(child) => return Ok(Some(Twemproxy { port, child, _directory: directory })),
                // Another process has taken a port in between.
                Err(_) if attempt < STARTS_MAX && (is_taken(port) || is_taken(statistics)) => {
                    attempt += 1;
                }
                Err(err) => return Err(err),
            }
        }
    }

    /// Starts memcached as a proxy in front of these nodes, with one thread and the routes that it brings. `None`: the memcached of
    /// this machine has no proxy built in.
    pub async fn memcached_proxy(&self, nodes: &[String]) -> Result<Option<Memcached>> {
        let argv = &self.program("memcached")?.argv;
        let (program, words) = argv.split_first().context("memcached has no program")?;
        let help = Command::new(program).args(words).arg("-h").output().context("run memcached")?;
        if !String::from_utf8_lossy(&help.stdout).contains("use proxy_config=routelib") {
            return Ok(None);
        }
        let quoted: Vec<String> = nodes.iter().map(|node| format!("{node:?}")).collect();
        let file = format!(
            "pools{{ main = {{ backends = {{ {} }} }} }}\nroutes{{ default = route_direct{{ child = \"main\" }} }}\n",
            quoted.join(", ")
        );
        let path = self.directory().join("proxy.lua");
        std::fs::write(&path, file).context("write the proxy's file")?;
        let option = format!("proxy_config=routelib,proxy_arg={}", path.display());
        self.memcached_with(&["-t", "1", "-c", "20000", "-o", &option]).await.map(Some)
    }
}

impl Twemproxy {
    /// `host:port`, as clients write it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }
}
