//! [`Copier`]: a connection to the control port of a cache node of ours, for tools that copy entries to other nodes.

use protocol::control::wire::{Copied, Copy, ToLane, ToNode};
use schemas::{cursor::StreamId, key::Key};

use crate::{
    connection::ConnectionError,
    control::{ControlConnection, ControlPort, out_of_step},
};

/// See the module. After an error it is of no use.
pub struct Copier(ControlConnection);

impl Copier {
    /// Connects to a node that holds cursors of this stream; another one refuses.
    pub async fn connect(
        port: &ControlPort,
        stream: StreamId,
        partitions: u16,
    ) -> Result<Copier, ConnectionError> {
        let mut copier = Copier(ControlConnection::open(port).await?);
        copier.0.peer(stream, partitions);
        copier.hear().await?;
        Ok(copier)
    }

    /// Copies of those of the keys that the node has and gives, and how it is. At most [`protocol::control::wire::COPIES_MAX`]; the
    /// caller bounds the time.
    pub async fn copies(&mut self, keys: Vec<Key>) -> Result<(Vec<Copy>, Copied), ConnectionError> {
        self.0.say(&ToNode::Copies(keys));
        self.hear().await
    }

    async fn hear(&mut self) -> Result<(Vec<Copy>, Copied), ConnectionError> {
        let mut copies = Vec::new();
        loop {
            match self.0.hear()? {
                Some(ToLane::Copy(copy)) => copies.push(copy),
                Some(ToLane::Copied(copied)) => return Ok((copies, copied)),
                Some(other) => return Err(out_of_step(&other)),
                None => self.0.turn().await?,
            }
        }
    }
}
