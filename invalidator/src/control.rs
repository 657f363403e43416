//! The connection to the control port of a cache node of ours: lines out, lines in. What they say is
//! `protocol::control::wire`; what is to be said is `NodeLane`'s business.

use protocol::control::{
    Secret,
    wire::{Hello, Nonce, Peer, ToLane, ToNode, decode_answer, encode},
};
use schemas::cursor::StreamId;
use tokio::time::timeout;

use crate::{connection::ConnectionError, settings::ANSWER_DEADLINE, socket::Socket, tls::Tls};

/// A node that takes nothing while so much waits is given up.
pub(crate) const OUTPUT_BYTES_MAX: usize = 8 << 20;

/// Where a node listens for us, and what it must be shown.
#[derive(Clone, Debug)]
pub struct ControlPort {
    /// `host:port`.
    pub address: String,
    pub secret: Option<Secret>,
    pub tls: Option<Tls>,
    /// A higher one at each change of the nodes, their weights or the hashing. A node that has heard of a higher one takes nothing from a
    /// lane with a lower one.
    pub ring_version: u64,
}

/// A connection whose node has said what it must say first.
pub(crate) struct ControlConnection {
    socket: Socket,
    nonce: Nonce,
    secret: Option<Secret>,
}

impl ControlConnection {
    pub(crate) async fn open(port: &ControlPort) -> Result<ControlConnection, ConnectionError> {
        let socket = Socket::open(&port.address, port.tls.as_ref()).await?;
        let (nonce, secret) = (Nonce::default(), port.secret.clone());
        let mut connection = ControlConnection { socket, nonce, secret };
        let challenged = async {
            loop {
                connection.turn().await?;
                match connection.hear()? {
                    Some(ToLane::Challenge(nonce)) => return Ok(nonce),
                    Some(other) => return Err(out_of_step(&other)),
                    None => {}
                }
            }
        };
        let challenged = timeout(ANSWER_DEADLINE, challenged).await;
        connection.nonce = challenged.unwrap_or(Err(ConnectionError::Deadline(ANSWER_DEADLINE)))?;
        Ok(connection)
    }

    /// Says who we are.
    pub(crate) fn hello(&mut self, stream: StreamId, partitions: u16, ring: u64) {
        let proof = self.secret.as_ref().map(|secret| secret.prove(&self.nonce));
        self.say(&ToNode::Hello(Hello { stream, partitions, ring, proof }));
    }

    /// Says that we want copies.
    pub(crate) fn peer(&mut self, stream: StreamId, partitions: u16) {
        let proof = self.secret.as_ref().map(|secret| secret.prove(&self.nonce));
        self.say(&ToNode::Peer(Peer { stream, partitions, proof }));
    }

    /// Adds to what is to be written.
    pub(crate) fn say(&mut self, message: &ToNode) {
        encode(message, &mut self.socket.output);
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.socket.output.len()
    }

    /// See [`Socket::turn`].
    pub(crate) async fn turn(&mut self) -> Result<(), ConnectionError> {
        self.socket.turn().await
    }

    /// The next whole message of the node.
    pub(crate) fn hear(&mut self) -> Result<Option<ToLane>, ConnectionError> {
        match decode_answer(&mut self.socket.input)? {
            Some(ToLane::Refused(why)) => Err(ConnectionError::Refused(why)),
            message => Ok(message),
        }
    }
}

pub(crate) fn out_of_step(answer: &ToLane) -> ConnectionError {
    let mut answer = format!("{answer:?}");
    if let Some((end, _)) = answer.char_indices().nth(100) {
        answer.truncate(end);
    }
    ConnectionError::OutOfStep { request: "nothing", answer }
}
