//! [`Plain`]: a connection to the data port of a node, which deletes without versions.

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use protocol::{
    reply::{self, Reply},
    request::Request,
};
use schemas::key::Key;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// After an error it is of no use; whatever was sent may have been done.
pub(super) struct Plain(TcpStream);

/// What became of keys.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Removed {
    /// Values that were there.
    pub(super) removed: u64,
    pub(super) absent: u64,
}

impl Plain {
    pub(super) async fn connect(address: &str) -> Result<Plain> {
        TcpStream::connect(address).await.context("connect").map(Plain)
    }

    /// Sends deletes, and counts the answers.
    pub(super) async fn delete(&mut self, keys: &[&Key]) -> Result<Removed> {
        let mut bytes = BytesMut::new();
        for key in keys {
            Request::Delete { key }.encode(&mut bytes);
        }
        let (mut read, mut write) = self.0.split();
        let hear = async {
            let (mut input, mut found) = (BytesMut::new(), Removed::default());
            let mut answers = 0;
            while answers < keys.len() {
                while let Some(reply) = reply::decode(&mut input)? {
                    match reply {
                        Reply::Deleted => found.removed += 1,
                        Reply::NotFound => found.absent += 1,
                        other => bail!("it answered {other:?}"),
                    }
                    answers += 1;
                }
                if answers < keys.len() && read.read_buf(&mut input).await? == 0 {
                    bail!("it closed the connection");
                }
            }
            Ok(found)
        };
        let (said, heard) =
            tokio::join!(async { write.write_all(&bytes).await.context("write") }, hear);
        said.and(heard)
    }
}
