//! A source that is one of ours: two connections to its control port, one for those who wait and one for the walk.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use protocol::control::wire::{
    Copied, Copy, Malformed, Peer, ToLane, ToNode, decode_answer, encode,
};
use schemas::key::Key;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::{
    Ask, Outcome, Socket, SourceKind, Warm,
    plan::{Answer, Next, Reads},
};
use crate::copies::add;

/// A source that says nothing for so long is given up.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Before a source that broke is tried again, for those who wait.
const RECONNECT: Duration = Duration::from_millis(500);
/// The connection is used at least so often, or the source closes it.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 64 << 10;

/// Why a source is left.
#[derive(Debug, thiserror::Error)]
enum PeerError {
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

/// Walks through everything that a source has, as the plan allows.
pub(super) async fn walk(warm: Arc<Warm>, number: usize) {
    let (mut connection, mut walk, mut failing) = (None, None, false);
    loop {
        let looks = match warm.plan_next(number) {
            Next::Over => return,
            Next::Wait(wait) => {
                sleep(wait).await;
                continue;
            }
            Next::Walk(looks) => looks,
        };
        let answered = walk_on(&warm, number, &mut connection, (walk, looks)).await;
        let now = warm.clock.read().0.moment;
        match answered {
            Ok((copied, refused)) => {
                if looks > 0 {
                    walk = copied.walk;
                }
                let reads = Reads { gets: copied.gets, hits: copied.hits };
                let Copied { state, looked, entries, .. } = copied;
                let over = looks > 0 && copied.walk.is_none();
                let answer = Answer { state, looked, refused, entries, reads, over };
                warm.plan().answered(now, number, &answer);
                failing = false;
            }
            Err(err) => {
                connection = None;
                warm.plan().failed(now, number);
                if !failing {
                    warm.say_failed(number, &err);
                }
                failing = true;
            }
        }
    }
}

async fn walk_on(
    warm: &Warm,
    number: usize,
    connection: &mut Option<Connection>,
    (walk, looks): (Option<u64>, u32),
) -> Result<(Copied, u64), PeerError> {
    if connection.is_none() {
        *connection = Some(Connection::open(warm, number).await?);
    }
    let Some(open) = connection else { return Err(PeerError::OutOfStep) };
    let (copies, copied) = open.ask(&ToNode::Walk { walk, looks }).await?;
    let ours: Vec<Copy> = copies.into_iter().filter(|copy| warm.is_ours(&copy.key)).collect();
    let Outcome { kept, refused } = warm.keep(&ours, SourceKind::Mcsqueal);
    add(&warm.node.copies().kept_by_walk, kept);
    Ok((copied, refused))
}

/// Asks for what reads miss, a batch at a time.
pub(super) async fn answer_misses(warm: Arc<Warm>, number: usize) {
    let Some(mut waiting) = warm.waiting(number) else { return };
    loop {
        match Connection::open(&warm, number).await {
            Ok(mut connection) => {
                warm.is_up(number, true);
                let broke = serve(&warm, &mut connection, &mut waiting).await;
                warm.is_up(number, false);
                let Err(err) = broke else { return };
                tracing::debug!(error = %err, "a source for misses broke");
            }
            Err(err) => tracing::debug!(error = %err, "a source for misses is not there"),
        }
        // Whoever waits goes on without.
        while waiting.try_recv().is_ok() {}
        sleep(RECONNECT).await;
    }
}

async fn serve(
    warm: &Warm,
    connection: &mut Connection,
    waiting: &mut tokio::sync::mpsc::Receiver<Ask>,
) -> Result<(), PeerError> {
    loop {
        let first = match timeout(SILENCE_MAX, waiting.recv()).await {
            Ok(Some(first)) => first,
            Ok(None) => return Ok(()),
            Err(_) => {
                connection.ask(&ToNode::Walk { walk: None, looks: 0 }).await?;
                continue;
            }
        };
        let asks = warm.gather(first, waiting);
        let keys: Vec<Key> = asks.keys().cloned().collect();
        if !keys.is_empty() {
            let (copies, _) = connection.ask(&ToNode::Copies(keys)).await?;
            add(&warm.node.copies().kept_by_miss, warm.keep(&copies, SourceKind::Mcsqueal).kept);
        }
        drop(asks);
    }
}

/// A connection whose node has said how it is.
struct Connection {
    socket: Box<dyn Socket>,
    input: BytesMut,
}

impl Connection {
    async fn open(warm: &Warm, number: usize) -> Result<Connection, PeerError> {
        let source = warm.settings.sources.get(number).ok_or(PeerError::OutOfStep)?;
        let (stream, partitions) = warm.control.stream().ok_or(PeerError::NoStream)?;
        let connecting = timeout(ANSWER_DEADLINE, (warm.connect)(source));
        let socket = connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let mut connection = Connection { socket, input: BytesMut::new() };
        let ToLane::Challenge(nonce) = connection.hear().await? else {
            return Err(PeerError::OutOfStep);
        };
        let proof = source.secret.as_ref().map(|secret| secret.prove(&nonce));
        connection.ask(&ToNode::Peer(Peer { stream, partitions, proof })).await?;
        Ok(connection)
    }

    /// Says something, and hears the copies that come, and what comes behind them.
    async fn ask(&mut self, message: &ToNode) -> Result<(Vec<Copy>, Copied), PeerError> {
        let mut said = BytesMut::new();
        encode(message, &mut said);
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        timeout(ANSWER_DEADLINE, self.socket.write_all(&said)).await.map_err(late)??;
        timeout(ANSWER_DEADLINE, self.socket.flush()).await.map_err(late)??;
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
            if let Some(message) = decode_answer(&mut self.input)? {
                return Ok(message);
            }
            self.input.reserve(READ_BYTES);
            let read = timeout(ANSWER_DEADLINE, self.socket.read_buf(&mut self.input)).await;
            if read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

impl Warm {
    pub(super) fn plan_next(&self, number: usize) -> Next {
        let now = self.clock.read().0.moment;
        self.plan().next(now, number)
    }

    pub(super) fn say_failed(&self, number: usize, err: &dyn std::error::Error) {
        let source = self.settings.sources.get(number).map(|source| &*source.address);
        let cause = err.source().map(ToString::to_string);
        tracing::warn!(source, error = %err, cause, "nothing comes from a node of the warm cluster");
    }
}
