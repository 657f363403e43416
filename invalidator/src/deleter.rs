//! [`Deleter`]: a connection to the control port of a cache node of ours, for tools that delete again what was deleted
//! before. Deletes keep their versions, so what was filled since stays; no cursor moves.

use protocol::control::{
    Batch, Item,
    wire::{ToLane, ToNode},
};
use schemas::cursor::{Partition, Place, StreamId};

use crate::{
    connection::ConnectionError,
    control::{ControlConnection, ControlPort, out_of_step},
};

/// Anything goes: nothing depends on the partition of a batch that covers no records.
const PARTITION: Partition = Partition(0);

/// See the module. After an error it is of no use; whatever was sent may have been done.
pub struct Deleter(ControlConnection);

impl Deleter {
    /// Connects to a node that holds cursors of this stream; one that holds another's would forget everything.
    pub async fn connect(
        port: &ControlPort,
        stream: StreamId,
        partitions: u16,
    ) -> Result<Deleter, ConnectionError> {
        let mut connection = ControlConnection::open(port).await?;
        connection.hello(stream, partitions, port.ring_version);
        match answer(&mut connection).await? {
            ToLane::Greeting(_) => Ok(Deleter(connection)),
            other => Err(out_of_step(&other)),
        }
    }

    /// Applies deletes and floors; returns once the node has. The caller bounds their number, and the time.
    pub async fn apply(&mut self, items: Vec<Item>) -> Result<(), ConnectionError> {
        // It covers no records, so the cursor stays where it is, whether or not there is one.
        let batch = Batch { partition: PARTITION, from: Place::START, to: Place::START, items };
        self.0.say(&ToNode::Apply(batch));
        match answer(&mut self.0).await? {
            ToLane::Answer { .. } => Ok(()),
            other => Err(out_of_step(&other)),
        }
    }
}

async fn answer(connection: &mut ControlConnection) -> Result<ToLane, ConnectionError> {
    loop {
        if let Some(message) = connection.hear()? {
            return Ok(message);
        }
        connection.turn().await?;
    }
}
