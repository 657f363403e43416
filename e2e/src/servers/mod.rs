//! Private real servers on loopback, for the demo and for tests: databases, memcached and `mcsqueal`.
//!
//! Everything listens on a free port of 127.0.0.1, keeps its files in a directory of its own that goes
//! when it goes, and is killed when its handle is dropped. See [`child`] for what a crash of ours leaves.

mod auditor;
pub mod child;
mod container;
mod database;
mod kafka;
mod manifest;
mod mcsqueal;
mod memcached;
mod node;
mod peer;
mod port;
mod proxy;
mod replica;
mod router;
mod served;
mod template;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;

pub use auditor::{Audit, Auditor};
pub use database::{Account, Database, DatabaseOptions, Durability, root_at};
pub use kafka::{Access, Far, Kafka};
pub use manifest::{Kind, MANIFEST_ENV, Manifest, Program};
pub use mcsqueal::{
    Group, Mcsqueal, McsquealOptions, Region, StreamPlace, mcsqueal_binary, shop_rules,
};
pub use memcached::Memcached;
pub use node::{AnyNode, CacheNode, NodeKind};
pub use peer::Twemproxy;
pub use port::free_port;
pub use proxy::{Proxy, Way, Weather};
pub use replica::{Link, options_of};
pub use router::RunningRouter;
pub use served::Served;

/// The variable that names the directory in which everything of this run is kept.
pub const RUN_DIR_ENV: &str = "MCSQUEAL_RUN_DIR";

/// Starts servers.
#[derive(Debug)]
pub struct Servers {
    manifest: Manifest,
    directory: TempDir,
    pids: Option<PathBuf>,
}

impl Servers {
    /// What the environment offers.
    pub fn from_env() -> Result<Servers> {
        let run = std::env::var_os(RUN_DIR_ENV).map(PathBuf::from);
        let parent = run.clone().unwrap_or_else(std::env::temp_dir);
        std::fs::create_dir_all(&parent)
            .with_context(|| format!("make the run directory {}", parent.display()))?;
        let directory = tempfile::Builder::new().prefix("mcsqueal-").tempdir_in(&parent);
        let directory = directory.context("make a directory for servers")?;
        let pids = run.map(|run| run.join("pids"));
        Ok(Servers { manifest: Manifest::from_env()?, directory, pids })
    }

    /// What this machine has.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The directory that all servers' directories are in.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn program(&self, name: &str) -> Result<&Program> {
        self.manifest.program(name).ok_or_else(|| {
            anyhow!(
                "there is no {name} in the manifest ({MANIFEST_ENV}): run this through cargo xtask"
            )
        })
    }

    /// A fresh directory for one server.
    fn new_directory(&self, name: &str) -> Result<TempDir> {
        let made =
            tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(self.directory());
        made.with_context(|| format!("make a directory for {name}"))
    }
}
