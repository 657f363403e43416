//! One connection to a memcached node: pipelined requests, answers in order.

use std::{collections::VecDeque, io, time::Duration};

use bytes::BytesMut;
use protocol::{
    reply::{self, DecodeError, Reply},
    request::Request,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use crate::{lane, settings::ANSWER_DEADLINE};

const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("connect")]
    Connect(#[source] io::Error),
    #[error("the node does not answer within {ANSWER_DEADLINE:?}")]
    Deadline,
    #[error("the node closed the connection")]
    Closed,
    #[error("talk to the node")]
    Io(#[from] io::Error),
    #[error("understand the node")]
    Decode(#[from] DecodeError),
    #[error("the node refused: {0}")]
    Refused(String),
}

/// The answer that a request can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Delete,
    Flush,
    Version,
}

/// A connection that has shown that memcached is at its other end.
pub(crate) struct Connection {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    input: BytesMut,
    output: BytesMut,
    expected: VecDeque<Expect>,
}

impl Connection {
    /// Connects to `host:port`, whose name is looked up anew each time, and asks for the version.
    pub(crate) async fn open(address: &str) -> Result<Connection, ConnectionError> {
        let stream = timeout(CONNECT_DEADLINE, TcpStream::connect(address))
            .await
            .map_err(|_| ConnectionError::Connect(io::ErrorKind::TimedOut.into()))?
            .map_err(ConnectionError::Connect)?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        let mut connection = Connection {
            read,
            write,
            input: BytesMut::new(),
            output: BytesMut::new(),
            expected: VecDeque::new(),
        };
        connection.queue(&Request::Version);
        timeout(ANSWER_DEADLINE, async {
            connection.flush().await?;
            connection.read().await?;
            while connection.answer()?.is_none() {
                connection.read().await?;
            }
            Ok(())
        })
        .await
        .unwrap_or(Err(ConnectionError::Deadline))?;
        Ok(connection)
    }

    /// Adds requests of a lane to what is to be written.
    pub(crate) fn queue_all(&mut self, requests: &[lane::Request]) {
        for request in requests {
            match request {
                lane::Request::Delete(key) => self.queue(&Request::Delete { key }),
                lane::Request::Flush => self.queue(&Request::FlushAll),
            }
        }
    }

    fn queue(&mut self, request: &Request<'_>) {
        request.encode(&mut self.output);
        self.expected.push_back(match request {
            Request::Delete { .. } => Expect::Delete,
            Request::FlushAll => Expect::Flush,
            Request::Version | Request::Get { .. } | Request::Set { .. } | Request::Stats => {
                Expect::Version
            }
        });
    }

    /// Whether something waits to be written.
    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Writes what is queued. Cancelled, it goes on where it was.
    pub(crate) async fn flush(&mut self) -> Result<(), ConnectionError> {
        while !self.output.is_empty() {
            if self.write.write_buf(&mut self.output).await? == 0 {
                return Err(ConnectionError::Closed);
            }
        }
        Ok(())
    }

    /// Waits for bytes. Cancelled, it has read nothing.
    pub(crate) async fn read(&mut self) -> Result<(), ConnectionError> {
        if self.read.read_buf(&mut self.input).await? == 0 {
            return Err(ConnectionError::Closed);
        }
        Ok(())
    }

    /// Reads and writes whatever is possible, until at least one of the two has moved.
    pub(crate) async fn turn(&mut self) -> Result<(), ConnectionError> {
        if !self.has_output() {
            return self.read().await;
        }
        tokio::select! {
            read = self.read.read_buf(&mut self.input) => if read? == 0 { Err(ConnectionError::Closed) } else { Ok(()) },
            written = self.write.write_buf(&mut self.output) => if written? == 0 { Err(ConnectionError::Closed) } else { Ok(()) },
        }
    }

    /// The next answer among the bytes that were read. A refusal ends the connection: what was refused is not
    /// done, and is sent again.
    pub(crate) fn answer(&mut self) -> Result<Option<()>, ConnectionError> {
        let Some(reply) = reply::decode(&mut self.input)? else { return Ok(None) };
        let fits = matches!(
            (self.expected.pop_front(), &reply),
            (Some(Expect::Delete), Reply::Deleted | Reply::NotFound)
                | (Some(Expect::Flush), Reply::Ok)
                | (Some(Expect::Version), Reply::Version(_))
        );
        if fits { Ok(Some(())) } else { Err(ConnectionError::Refused(format!("{reply:?}"))) }
    }
}
