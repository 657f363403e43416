//! A source that is one of ours: two connections to its control port, one for those who wait and one for the walk.

use std::io;

use bytes::BytesMut;
use protocol::control::wire::{
    Copied, Copy, Malformed, Peer, ToLane, ToNode, decode_answer, encode,
};
use schemas::key::Key;

use super::{
    Outcome, SourceKind, Warm,
    plan::{Answer, Reads},
    source::{Giver, Line, Walk},
};
use crate::copies::add;

/// Why a source is left.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error("connection")]
    Io(#[from] io::Error),
    #[error("what it says is no message")]
    Malformed(#[from] Malformed),
    #[error("it refuses: {0}")]
    Refused(String),
    #[error("it answers what nobody asked")]
    OutOfStep,
    #[error("this node has no stream yet")]
    NoStream,
}

/// How far a walk has come; it outlives its connections.
#[derive(Default)]
pub(super) struct Walker {
    connection: Option<Connection>,
    at: Option<u64>,
}

impl Walk for Walker {
    type Error = PeerError;

    async fn go_on(&mut self, warm: &Warm, number: usize, looks: u32) -> Result<Answer, PeerError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(warm, number).await?),
        };
        let (copies, copied) = connection.ask(&ToNode::Walk { walk: self.at, looks }).await?;
        let ours: Vec<Copy> = copies.into_iter().filter(|copy| warm.is_ours(&copy.key)).collect();
        let Outcome { kept, refused } = warm.keep(&ours, SourceKind::Mcsqueal);
        add(&warm.node.copies().kept_by_walk, kept);
        let Copied { state, looked, entries, walk, gets, hits, .. } = copied;
        if looks > 0 {
            self.at = walk;
        }
        let over = looks > 0 && walk.is_none();
        Ok(Answer { state, looked, refused, entries, reads: Reads { gets, hits }, over })
    }

    fn broke(&mut self) {
        self.connection = None;
    }
}

/// A connection whose node has said how it is.
pub(super) struct Connection(Line);

impl Giver for Connection {
    type Error = PeerError;
    const KIND: SourceKind = SourceKind::Mcsqueal;

    async fn open(warm: &Warm, number: usize) -> Result<Connection, PeerError> {
        let source = warm.settings.sources.get(number).ok_or(PeerError::OutOfStep)?;
        let (stream, partitions) = warm.control.stream().ok_or(PeerError::NoStream)?;
        let mut connection = Connection(Line::open(warm, number).await?);
        let ToLane::Challenge(nonce) = connection.hear().await? else {
            return Err(PeerError::OutOfStep);
        };
        let proof = source.secret.as_ref().map(|secret| secret.prove(&nonce));
        connection.ask(&ToNode::Peer(Peer { stream, partitions, proof })).await?;
        Ok(connection)
    }

    async fn copies(&mut self, keys: Vec<Key>) -> Result<Vec<Copy>, PeerError> {
        let (copies, _) = self.ask(&ToNode::Copies(keys)).await?;
        Ok(copies)
    }

    /// The node closes what is silent.
    async fn stay(&mut self) -> Result<(), PeerError> {
        self.ask(&ToNode::Walk { walk: None, looks: 0 }).await.map(drop)
    }
}

impl Connection {
    /// Says something, and hears the copies that come, and what comes behind them.
    async fn ask(&mut self, message: &ToNode) -> Result<(Vec<Copy>, Copied), PeerError> {
        let mut said = BytesMut::new();
        encode(message, &mut said);
        self.0.say(&said).await?;
        let mut copies = Vec::new();
        loop {
            match self.hear().await? {
                ToLane::Copy(copy) => copies.push(copy),
                ToLane::Copied(copied) => return Ok((copies, copied)),
                ToLane::Refused(why) => return Err(PeerError::Refused(why)),
                _ => return Err(PeerError::OutOfStep),
            }
        }
    }

    async fn hear(&mut self) -> Result<ToLane, PeerError> {
        loop {
            if let Some(message) = decode_answer(&mut self.0.input)? {
                return Ok(message);
            }
            self.0.fill().await?;
        }
    }
}
