//! A memcached client, as the shop has one: ketama, look-aside; for nodes of ours with leases.
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

/// What a node says to a reader who knows leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// The value.
    Value(String),
    /// A value that is said to be old, or of an age that the node does not know: better than nothing, and not to be stored.
    Old(String),
    /// Nothing: read, and fill with this.
    Lease { cas: u64, from: From },
    /// Nothing: somebody else reads it just now.
    Wait,
    /// Nothing: read, and do not fill.
    Miss { from: From },
}

/// Which database to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Anywhere,
    Primary,
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

    /// The value, or the right to fill it. Says that this reader can read the primary, too.
    pub async fn look(&mut self, key: &str) -> Result<Looked> {
        let owner = self.nodes.owner(key)?;
        let (line, data) = self.meta(owner, format!("mg {key} v c V N30 G\r\n").as_bytes()).await?;
        let words: Vec<&str> = line.split(' ').collect();
        let has = |flag: &str| words.iter().skip(1).any(|word| *word == flag);
        let from = if has("G") { From::Primary } else { From::Anywhere };
        let cas = words.iter().skip(1).find_map(|word| word.strip_prefix('c')?.parse().ok());
        Ok(match (words.first().copied(), data) {
            (Some("EN"), None) => Looked::Miss { from },
            (Some("VA"), Some(_)) if has("W") => {
                Looked::Lease { cas: cas.context("a lease without a CAS")?, from }
            }
            (Some("VA"), Some(data)) if has("X") => Looked::Old(data),
            (Some("VA"), Some(_)) if has("Z") => Looked::Wait,
            (Some("VA"), Some(data)) if has("D") => Looked::Old(data),
            (Some("VA"), Some(data)) => Looked::Value(data),
            _ => bail!("mg {key}: {line}"),
        })
    }

    /// Stores what was read with a lease; false if the node does not take it, because it is old.
    pub async fn fill(&mut self, key: &str, cas: u64, ttl_s: u32, value: &str) -> Result<bool> {
        let owner = self.nodes.owner(key)?;
        let request = format!("ms {key} {} C{cas} T{ttl_s}\r\n{value}\r\n", value.len());
        let (line, _) = self.meta(owner, request.as_bytes()).await?;
        match line.as_str() {
            "HD" => Ok(true),
            "NS" | "EX" | "NF" => Ok(false),
            _ => bail!("ms {key}: {line}"),
        }
    }

    /// What a node answers to a request of one meta command: the line, and the value.
    pub async fn meta(&mut self, node: usize, request: &[u8]) -> Result<(String, Option<String>)> {
        self.talk(node, async |wire| wire.meta(request).await).await
    }

    /// All replies to one request.
    async fn exchange(&mut self, node: usize, request: Request<'_>) -> Result<Vec<Reply>> {
        self.talk(node, async |wire| wire.exchange(request).await).await
    }

    async fn talk<T>(
        &mut self,
        node: usize,
        then: impl AsyncFnOnce(&mut Wire) -> Result<T>,
    ) -> Result<T> {
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
            let answer = then(&mut wire).await?;
            anyhow::Ok((wire, answer))
        };
        match timeout(DEADLINE, work).await.context("no answer in time").flatten() {
            Ok((wire, answer)) => {
                *slot = Connection::Open(wire);
                Ok(answer)
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

    async fn meta(&mut self, request: &[u8]) -> Result<(String, Option<String>)> {
        self.stream.write_all(request).await.context("send")?;
        let line = loop {
            if let Some(end) = self.received.windows(2).position(|it| it == b"\r\n") {
                let line = text(&self.received.split_to(end + 2)[..end])?;
                break line;
            }
            self.read_more().await?;
        };
        let Some(rest) = line.strip_prefix("VA ") else { return Ok((line, None)) };
        let length = rest.split(' ').next().and_then(|length| length.parse::<usize>().ok());
        let length = length.context("a value without a length")?;
        while self.received.len() < length + 2 {
            self.read_more().await?;
        }
        let data = text(&self.received.split_to(length + 2)[..length])?;
        Ok((line, Some(data)))
    }

    async fn read_more(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.received).await.context("receive")?;
        ensure!(read > 0, "the connection was closed");
        Ok(())
    }

    async fn receive(&mut self) -> Result<Reply> {
        loop {
            if let Some(reply) =
                reply::decode(&mut self.received).context("understand the reply")?
            {
                return Ok(reply);
            }
            self.read_more().await?;
        }
    }
}

fn checked(key: &str) -> Result<Key> {
    Key::new(key.as_bytes().to_vec()).with_context(|| format!("key {key:?}"))
}

fn text(bytes: &[u8]) -> Result<String> {
    Ok(std::str::from_utf8(bytes).context("what is cached is not text")?.to_owned())
}
