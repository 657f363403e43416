//! [`Nodes`]: the nodes that a replay deletes from. Those with a control port get each delete with its version, through it; the
//! others, and deletes whose version is not known any more, plain ones. Connections are made when they are needed.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use invalidator::{ControlPort, Deleter, NodeSettings};
use protocol::control::Item;
use schemas::{config::Region, cursor::StreamId, key::Key, ring::Ring, version::Version};
use tokio::time::{sleep, timeout};

use super::plain::Plain;
use crate::{failure::Failure, history::Step, run};

/// How long a node may take for one batch, or to accept a connection.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How often a node that fails is tried, and the wait before it is tried again.
const TRIES_MAX: u32 = 5;
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The chosen nodes, cluster by cluster.
pub(super) struct Nodes {
    clusters: Vec<Cluster>,
    /// What control ports must be told: the stream, and how many partitions it has.
    stream: Option<(StreamId, u16)>,
    plain: BTreeMap<String, Plain>,
    versioned: BTreeMap<String, Deleter>,
    /// Values that were there, and were not, where there are no versions.
    pub(super) removed: u64,
    pub(super) absent: u64,
    /// Deletes with versions.
    pub(super) deleted: u64,
}

struct Cluster {
    ring: Ring,
    nodes: Vec<NodeSettings>,
    /// Which of them are deleted from.
    chosen: Vec<bool>,
}

/// What one node is to do.
#[derive(Default)]
struct Work<'a> {
    plain: Vec<&'a Key>,
    versioned: Vec<Item>,
    /// Where those go.
    port: Option<&'a ControlPort>,
}

impl Nodes {
    /// All nodes of the region, of one cluster, or one alone. `file` is the region file.
    pub(super) fn choose(
        file: &Path,
        region: &Region,
        cluster: Option<&str>,
        node: Option<&str>,
    ) -> Result<Nodes, Failure> {
        let mut clusters = Vec::new();
        for named in &region.clusters {
            if cluster.is_some_and(|name| *named.name != *name) {
                continue;
            }
            let settings = run::cluster_settings(file, named, &HashMap::new())?;
            let ring = settings.ring().context("spread keys over the nodes");
            let ring = ring.map_err(Failure::Config)?;
            let is_chosen = |it: &NodeSettings| node.is_none_or(|node| node == it.address);
            let chosen = settings.nodes.iter().map(is_chosen).collect();
            clusters.push(Cluster { ring, nodes: settings.nodes, chosen });
        }
        let nodes = Nodes {
            clusters,
            stream: None,
            plain: BTreeMap::new(),
            versioned: BTreeMap::new(),
            removed: 0,
            absent: 0,
            deleted: 0,
        };
        if nodes.len() == 0 {
            return Err(Failure::Config(anyhow!("the region has no such cluster or node")));
        }
        Ok(nodes)
    }

    /// The stream whose cursors the nodes hold.
    pub(super) fn of_stream(&mut self, stream: StreamId, partitions: u16) {
        self.stream = Some((stream, partitions));
    }

    /// How many are deleted from.
    pub(super) fn len(&self) -> usize {
        self.chosen().count()
    }

    /// How many of them know versions.
    pub(super) fn len_versioned(&self) -> usize {
        self.chosen().filter(|node| node.control.is_some()).count()
    }

    fn chosen(&self) -> impl Iterator<Item = &NodeSettings> {
        self.clusters.iter().flat_map(Cluster::chosen)
    }

    /// How many chosen nodes may hold `key`.
    pub(super) fn count_owners(&self, key: &Key) -> u64 {
        self.clusters.iter().filter_map(|cluster| cluster.owner(key)).map(|_| 1).sum()
    }

    /// Deletes wherever keys may be; an error is a node that does not answer, after some tries.
    pub(super) async fn delete(&mut self, step: &Step) -> Result<()> {
        let clusters = std::mem::take(&mut self.clusters);
        let done = self.work_through(work(&clusters, step)).await;
        self.clusters = clusters;
        done
    }

    async fn work_through(&mut self, all: BTreeMap<&str, Work<'_>>) -> Result<()> {
        for (address, work) in all {
            let mut tries = 0;
            while let Err(err) = timeout(ANSWER_DEADLINE, self.work_at(address, &work))
                .await
                .unwrap_or_else(|_| Err(anyhow!("no answer within {ANSWER_DEADLINE:?}")))
            {
                // What was answered is not known; deletes may be repeated.
                self.plain.remove(address);
                self.versioned.remove(address);
                tries += 1;
                if tries >= TRIES_MAX {
                    return Err(err.context(format!("delete from {address}")));
                }
                sleep(RETRY_DELAY * tries).await;
            }
        }
        Ok(())
    }

    async fn work_at(&mut self, address: &str, work: &Work<'_>) -> Result<()> {
        if let (Some(port), Some((stream, partitions))) = (work.port, self.stream)
            && !work.versioned.is_empty()
        {
            let mut deleter = match self.versioned.remove(address) {
                Some(deleter) => deleter,
                None => Deleter::connect(port, stream, partitions).await?,
            };
            deleter.apply(work.versioned.clone()).await?;
            self.deleted += work.versioned.len() as u64;
            self.versioned.insert(address.to_owned(), deleter);
        }
        if !work.plain.is_empty() {
            let mut plain = match self.plain.remove(address) {
                Some(plain) => plain,
                None => Plain::connect(address).await?,
            };
            let found = plain.delete(&work.plain).await?;
            self.removed += found.removed;
            self.absent += found.absent;
            self.plain.insert(address.to_owned(), plain);
        }
        Ok(())
    }
}

impl Cluster {
    fn chosen(&self) -> impl Iterator<Item = &NodeSettings> {
        self.nodes.iter().zip(&self.chosen).filter(|(_, chosen)| **chosen).map(|(node, _)| node)
    }

    /// The node that may hold `key`, if it is chosen.
    fn owner(&self, key: &Key) -> Option<&NodeSettings> {
        let owner = self.ring.owner(key);
        self.nodes.get(owner).filter(|_| self.chosen.get(owner) == Some(&true))
    }
}

/// What a step means to each node.
fn work<'a>(clusters: &'a [Cluster], step: &'a Step) -> BTreeMap<&'a str, Work<'a>> {
    let mut all: BTreeMap<&str, Work<'_>> = BTreeMap::new();
    for cluster in clusters {
        for past in &step.keys {
            let Some(owner) = cluster.owner(&past.key) else { continue };
            let work = all.entry(&owner.address).or_default();
            work.port = owner.control.as_ref();
            if work.port.is_some() && past.version != Version::ZERO {
                let (key, version) = (past.key.clone(), past.version);
                work.versioned.push(Item::Delete { key, version });
            } else {
                work.plain.push(&past.key);
            }
        }
        for node in cluster.chosen().filter(|node| node.control.is_some()) {
            let work = all.entry(&node.address).or_default();
            work.port = node.control.as_ref();
            work.versioned.extend(
                step.floors.iter().map(|floor| Item::Floor {
                    scope: floor.scope.clone(),
                    version: floor.version,
                }),
            );
        }
    }
    all
}
