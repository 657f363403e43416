//! [`Nodes`]: the nodes that a replay deletes from, each with a connection that is made when it is needed.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use bytes::BytesMut;
use protocol::{
    reply::{self, Reply},
    request::Request,
};
use schemas::{
    config::Region,
    key::Key,
    ring::{Ring, RingNode},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::failure::Failure;

/// How long a node may take for one batch, or to accept a connection.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How often a node that fails is tried, and the wait before it is tried again.
const TRIES_MAX: u32 = 5;
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The chosen nodes, cluster by cluster.
pub(super) struct Nodes {
    clusters: Vec<Cluster>,
    connections: BTreeMap<String, TcpStream>,
    /// Values that were there, and were not.
    pub(super) removed: u64,
    pub(super) absent: u64,
}

struct Cluster {
    ring: Ring,
    addresses: Vec<String>,
    /// Which of them are deleted from.
    chosen: Vec<bool>,
}

impl Nodes {
    /// All nodes of the region, of one cluster, or one alone.
    pub(super) fn choose(
        region: &Region,
        cluster: Option<&str>,
        node: Option<&str>,
    ) -> Result<Nodes, Failure> {
        let mut clusters = Vec::new();
        for named in &region.clusters {
            if cluster.is_some_and(|name| *named.name != *name) {
                continue;
            }
            let nodes: Vec<RingNode> = named
                .nodes
                .iter()
                .map(|node| RingNode { name: node.address.to_string(), weight: node.weight })
                .collect();
            let ring = Ring::new(named.hashing, &nodes).context("spread keys over the nodes");
            let ring = ring.map_err(Failure::Config)?;
            let addresses: Vec<String> = nodes.into_iter().map(|node| node.name).collect();
            let chosen = addresses.iter().map(|address| node.is_none_or(|node| node == address));
            let chosen = chosen.collect();
            clusters.push(Cluster { ring, addresses, chosen });
        }
        let nodes = Nodes { clusters, connections: BTreeMap::new(), removed: 0, absent: 0 };
        if nodes.len() == 0 {
            return Err(Failure::Config(anyhow!("the region has no such cluster or node")));
        }
        Ok(nodes)
    }

    /// How many are deleted from.
    pub(super) fn len(&self) -> usize {
        self.clusters.iter().flat_map(|cluster| &cluster.chosen).filter(|chosen| **chosen).count()
    }

    /// The chosen nodes that may hold `key`.
    pub(super) fn owners<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a str> {
        self.clusters.iter().filter_map(move |cluster| {
            let owner = cluster.ring.owner(key);
            let chosen = cluster.chosen.get(owner).copied().unwrap_or(false);
            cluster.addresses.get(owner).filter(|_| chosen).map(String::as_str)
        })
    }

    /// Deletes keys wherever they may be; an error is a node that does not answer, after some tries.
    pub(super) async fn delete(&mut self, keys: impl Iterator<Item = &Key>) -> Result<()> {
        let mut batches: BTreeMap<String, (BytesMut, u64)> = BTreeMap::new();
        for key in keys {
            for owner in self.owners(key) {
                let (bytes, count) = batches.entry(owner.to_owned()).or_default();
                Request::Delete { key }.encode(bytes);
                *count += 1;
            }
        }
        for (address, (bytes, count)) in batches {
            let mut tries = 0;
            loop {
                let asked = timeout(ANSWER_DEADLINE, self.ask(&address, &bytes, count)).await;
                let err = match asked {
                    Ok(Ok((removed, absent))) => {
                        self.removed += removed;
                        self.absent += absent;
                        break;
                    }
                    Ok(Err(err)) => err,
                    Err(_) => anyhow!("no answer within {ANSWER_DEADLINE:?}"),
                };
                // What was answered on it is not known; deletes may be repeated.
                self.connections.remove(&address);
                tries += 1;
                if tries >= TRIES_MAX {
                    return Err(err.context(format!("delete from {address}")));
                }
                sleep(RETRY_DELAY * tries).await;
            }
        }
        Ok(())
    }

    /// Sends a batch, and counts its answers: values removed, and keys that were not there.
    async fn ask(&mut self, address: &str, bytes: &[u8], count: u64) -> Result<(u64, u64)> {
        let mut stream = match self.connections.remove(address) {
            Some(stream) => stream,
            None => TcpStream::connect(address).await.context("connect")?,
        };
        let (mut removed, mut absent) = (0, 0);
        let (mut read, mut write) = stream.split();
        let hear = async {
            let mut input = BytesMut::new();
            while removed + absent < count {
                while let Some(reply) = reply::decode(&mut input)? {
                    match reply {
                        Reply::Deleted => removed += 1,
                        Reply::NotFound => absent += 1,
                        other => bail!("it answered {other:?}"),
                    }
                }
                if removed + absent < count && read.read_buf(&mut input).await? == 0 {
                    bail!("it closed the connection");
                }
            }
            Ok(())
        };
        let (said, heard) =
            tokio::join!(async { write.write_all(bytes).await.context("write") }, hear);
        said.and(heard)?;
        self.connections.insert(address.to_owned(), stream);
        Ok((removed, absent))
    }
}
