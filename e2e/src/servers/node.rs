//! The cache node under test: `mcsqueal node`.

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Memcached, Servers, served::Served};

/// A running (or killed) cache node.
pub type CacheNode = Served;

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
        Served::start(self, "node", directory, flags).await
    }
}
