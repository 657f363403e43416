//! [`Node`]: the data port of a node that is filled: leases, and values with versions.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use protocol::control::wire::Copy;
use schemas::key::Key;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long a node may take to connect, and for an answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a place is kept for whoever reads the database.
const LEASE_SECONDS: u32 = 30;

/// See the module. After an error it is of no use.
pub(super) struct Node {
    stream: TcpStream,
    input: BytesMut,
}

/// What a node says to somebody who wants to fill a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It has a value.
    There,
    /// Read, and fill with this.
    Lease(u64),
    /// Somebody else reads it, or nobody may fill it now.
    NotNow,
}

impl Node {
    pub(super) async fn connect(address: &str) -> Result<Node> {
        let connecting = timeout(DEADLINE, TcpStream::connect(address)).await;
        let stream = connecting.context("no answer in time").flatten_io()?;
        stream.set_nodelay(true).context("connect")?;
        Ok(Node { stream, input: BytesMut::new() })
    }

    /// Asks for the right to fill a key.
    pub(super) async fn ask(&mut self, key: &Key) -> Result<Asked> {
        let asked =
            [b"mg ", key.as_bytes(), format!(" c s N{LEASE_SECONDS}\r\n").as_bytes()].concat();
        let line = self.exchange(&asked).await?;
        let mut words = line.split(' ').skip(1);
        if words.clone().any(|word| word == "W") {
            let cas = words.find_map(|word| word.strip_prefix('c')?.parse().ok());
            return cas.map(Asked::Lease).context("a lease without a token");
        }
        match line.split(' ').next() {
            Some("HD") if !words.any(|word| matches!(word, "Z" | "X")) => Ok(Asked::There),
            Some("HD" | "EN") => Ok(Asked::NotNow),
            _ => bail!("it answered {line:?}"),
        }
    }

    /// Stores what was read with a lease; false if the node does not take it, because it is old.
    pub(super) async fn fill(
        &mut self,
        key: &Key,
        cas: u64,
        ttl_s: u32,
        value: &[u8],
    ) -> Result<bool> {
        let flags = format!(" {} C{cas} T{ttl_s}\r\n", value.len());
        self.store(&[b"ms ", key.as_bytes(), flags.as_bytes(), value, b"\r\n"].concat()).await
    }

    /// Stores a copy where nothing is; false if something is, or the copy may be stale.
    pub(super) async fn add(&mut self, copy: &Copy) -> Result<bool> {
        let ttl = copy.ttl_s.map_or_else(String::new, |ttl| format!(" T{ttl}"));
        let version = copy.version.bits();
        let flags = format!(" {} ME V{version} F{}{ttl}\r\n", copy.value.len(), copy.flags);
        let key = copy.key.as_bytes();
        self.store(&[b"ms ", key, flags.as_bytes(), &copy.value, b"\r\n"].concat()).await
    }

    async fn store(&mut self, asked: &[u8]) -> Result<bool> {
        match self.exchange(asked).await?.as_str() {
            "HD" => Ok(true),
            "NS" | "EX" | "NF" => Ok(false),
            line => bail!("it answered {line:?}"),
        }
    }

    /// One line for one request.
    async fn exchange(&mut self, asked: &[u8]) -> Result<String> {
        timeout(DEADLINE, async {
            self.stream.write_all(asked).await.context("write")?;
            loop {
                if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                    let line = self.input.split_to(end);
                    self.input.advance(1);
                    return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
                }
                ensure!(
                    self.stream.read_buf(&mut self.input).await? > 0,
                    "it closed the connection"
                );
            }
        })
        .await
        .context("no answer in time")?
    }
}

/// A time limit around something that can fail itself.
trait FlattenIo<T> {
    fn flatten_io(self) -> Result<T>;
}

impl<T> FlattenIo<T> for Result<std::io::Result<T>> {
    fn flatten_io(self) -> Result<T> {
        self?.context("connect")
    }
}
