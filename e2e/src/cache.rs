//! A plain memcached client, as the shop has one: ketama over stock nodes, look-aside, no leases.
//!
//! One [`Cache`] belongs to one task. An operation that takes longer than [`DEADLINE`] fails and closes
//! the connection, so that nothing of it is executed much later.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use protocol::{
    reply::{self, Reply},
    request::Request,
};
use schemas::{
    key::Key,
    ring::{Hashing, Ring, RingNode},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

/// Longest operation.
pub const DEADLINE: Duration = Duration::from_millis(500);
/// How long a node that could not be reached is left alone.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// The nodes, and who owns which key; shared by all clients.
#[derive(Clone, Debug)]
pub struct Nodes {
    ring: Arc<Ring>,
    addresses: Arc<[String]>,
}

/// Connections to all nodes.
#[derive(Debug)]
pub struct Cache {
    nodes: Nodes,
    connections: Vec<Connection>,
}

#[derive(Debug)]
enum Connection {
    Closed,
    Open(Wire),
    Failed { at: Instant },
}

#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    received: BytesMut,
}

impl Nodes {
    /// Nodes by `host:port`.
    pub fn new(addresses: Vec<String>) -> Result<Nodes> {
        let node = |name: &String| RingNode { name: name.clone(), weight: 1 };
        let nodes: Vec<RingNode> = addresses.iter().map(node).collect();
        let ring = Ring::new(Hashing::Ketama, &nodes).context("make the ring")?;
        Ok(Nodes { ring: Arc::new(ring), addresses: addresses.into() })
    }

    /// All addresses; a node's number is its index here.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The number of the node that owns `key`.
    pub fn owner(&self, key: &str) -> Result<usize> {
        Ok(self.ring.owner(&checked(key)?))
    }
}

impl Cache {
    /// A client that connects when it first needs to.
    pub fn new(nodes: &Nodes) -> Cache {
        let connections = nodes.addresses.iter().map(|_| Connection::Closed).collect();
        Cache { nodes: nodes.clone(), connections }
    }

    /// The value of `key`.
    pub async fn get(&mut self, key: &str) -> Result<Option<String>> {
        let owner = self.nodes.owner(key)?;
        Ok(self.get_from(owner, &[key]).await?.remove(key))
    }

    /// The values that `node` has of `keys`, whoever owns them.
    pub async fn get_from(
        &mut self,
        node: usize,
        keys: &[&str],
    ) -> Result<HashMap<String, String>> {
        let keys: Vec<Key> = keys.iter().map(|key| checked(key)).collect::<Result<_>>()?;
        let mut found = HashMap::new();
        for reply in self.exchange(node, Request::Get { keys: &keys }).await? {
            match reply {
                Reply::Value { key, data, .. } => {
                    let (key, value) = (text(&key)?, text(&data)?);
                    found.insert(key, value);
                }
                Reply::End => {}
                other => bail!("get: {other:?}"),
            }
        }
        Ok(found)
    }

    /// Stores `value` for `ttl_s` seconds.
    pub async fn set(&mut self, key: &str, ttl_s: u32, value: &str) -> Result<()> {
        let (owner, key) = (self.nodes.owner(key)?, checked(key)?);
        let request =
            Request::Set { key: &key, flags: 0, exptime_s: ttl_s, value: value.as_bytes() };
        let replies = self.exchange(owner, request).await?;
        ensure!(replies == [Reply::Stored], "set {key}: {replies:?}");
        Ok(())
    }

    /// Deletes `key`, once.
    pub async fn delete(&mut self, key: &str) -> Result<()> {
        let (owner, key) = (self.nodes.owner(key)?, checked(key)?);
        let replies = self.exchange(owner, Request::Delete { key: &key }).await?;
        let done = matches!(replies.as_slice(), [Reply::Deleted | Reply::NotFound]);
        ensure!(done, "delete {key}: {replies:?}");
        Ok(())
    }

    /// All replies to one request.
    async fn exchange(&mut self, node: usize, request: Request<'_>) -> Result<Vec<Reply>> {
        let address = self.nodes.addresses.get(node).context("there is no such node")?;
        let slot = self.connections.get_mut(node).context("there is no such node")?;
        if let Connection::Failed { at } = slot
            && at.elapsed() < RETRY_AFTER
        {
            bail!("{address} failed a moment ago");
        }
        let work = async {
            let mut wire = match std::mem::replace(slot, Connection::Closed) {
                Connection::Open(wire) => wire,
                Connection::Closed | Connection::Failed { .. } => Wire::connect(address).await?,
            };
            let replies = wire.exchange(request).await?;
            anyhow::Ok((wire, replies))
        };
        match timeout(DEADLINE, work).await.context("no answer in time").flatten() {
            Ok((wire, replies)) => {
                *slot = Connection::Open(wire);
                Ok(replies)
            }
            Err(err) => {
                *slot = Connection::Failed { at: Instant::now() };
                Err(err.context(format!("ask memcached {address}")))
            }
        }
    }
}

impl Wire {
    async fn connect(address: &str) -> Result<Wire> {
        let stream = TcpStream::connect(address).await.context("connect")?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        Ok(Wire { stream, received: BytesMut::new() })
    }

    async fn exchange(&mut self, request: Request<'_>) -> Result<Vec<Reply>> {
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes);
        self.stream.write_all(&bytes).await.context("send")?;
        let mut replies = Vec::new();
        loop {
            let reply = self.receive().await?;
            let more = matches!(reply, Reply::Value { .. });
            replies.push(reply);
            if !more {
                return Ok(replies);
            }
        }
    }

    async fn receive(&mut self) -> Result<Reply> {
        loop {
            if let Some(reply) =
                reply::decode(&mut self.received).context("understand the reply")?
            {
                return Ok(reply);
            }
            let read = self.stream.read_buf(&mut self.received).await.context("receive")?;
            ensure!(read > 0, "the connection was closed");
        }
    }
}

fn checked(key: &str) -> Result<Key> {
    Key::new(key.as_bytes().to_vec()).with_context(|| format!("key {key:?}"))
}

fn text(bytes: &[u8]) -> Result<String> {
    Ok(std::str::from_utf8(bytes).context("what is cached is not text")?.to_owned())
}
