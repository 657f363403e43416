//! The relay: a log, pushed to readers that are far away.
//!
//! A process beside the log serves it ([`serve()`]), whichever backend keeps it; whoever is in another region reads from there
//! ([`RelayReader`]). What is new in a partition is pushed as it appears: it is there after one way, and nobody asks for it. What is
//! further back is asked for, and answered by the log's own reader.
//!
//! Places are those of the log, so that a cursor means the same whoever was read from. A reader takes what is pushed only where it
//! joins what it has; what does not is read anew by everybody who needs it, and becomes a gap there, if it is one.
//!
//! Both sides say something twice a second; whoever hears nothing for [`SILENCE_MAX`] gives the connection up.

mod away;
mod link;
mod metrics;
mod pipe;
mod reader;
mod serve;

use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};

use protocol::control::Secret;
use schemas::{cursor::StreamId, record::UnixMicros};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

pub use away::RelayedReader;
pub use metrics::RelayMetrics;
pub use reader::RelayReader;
pub use serve::serve;

/// After this much silence a connection is dead.
pub const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How often something is said.
const ALIVE_INTERVAL: Duration = Duration::from_millis(500);
/// Questions without an answer, of one connection.
const QUESTIONS_MAX: usize = 64;

const _: () = assert!(ALIVE_INTERVAL.as_millis() * 3 < SILENCE_MAX.as_millis());

/// What frames are said over.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A connection that is being made.
pub type Wrapping = Pin<Box<dyn Future<Output = io::Result<Box<dyn Socket>>> + Send>>;

/// Encrypts a connection; beside it, the address of the other side as it was named.
pub type Wrap = Arc<dyn Fn(TcpStream, String) -> Wrapping + Send + Sync>;

/// How each side knows the other.
#[derive(Clone, Default)]
pub struct Trust {
    /// What both know.
    pub secret: Option<Secret>,
    /// Encryption; `None`: none.
    pub wrap: Option<Wrap>,
}

/// There is nothing to show.
impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    async fn wrap(&self, socket: TcpStream, peer: &str) -> io::Result<Box<dyn Socket>> {
        socket.set_nodelay(true)?;
        match &self.wrap {
            None => Ok(Box::new(socket)),
            Some(wrap) => wrap(socket, peer.to_owned()).await,
        }
    }
}

/// How a [`RelayReader`] reads.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Relays, `host:port`: the first that answers is read from.
    pub addresses: Vec<String>,
    pub trust: Trust,
    /// The log and the number of its partitions, if they are known already.
    pub log: Option<(StreamId, u16)>,
    /// The clock.
    pub now: fn() -> UnixMicros,
    pub metrics: RelayMetrics,
}
