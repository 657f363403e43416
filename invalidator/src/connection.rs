//! One connection to a memcached node: pipelined requests, answers in order.

use std::{collections::VecDeque, io, time::Duration};

use bytes::BytesMut;
use protocol::{DecodeError, Decoder, Expect, Limits, Reply, ReplyWanted, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use crate::{lane, settings::ANSWER_DEADLINE};

/// The node sends nothing that is longer.
const LIMITS: Limits = Limits { value_bytes_max: 1 << 20, reply_bytes_max: 1 << 20, stats_max: 1000 };
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

/// A connection that has shown that memcached is at its other end.
pub(crate) struct Connection {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    decoder: Decoder,
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
            decoder: Decoder::new(LIMITS),
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
                lane::Request::Delete(key) => self.queue(&Request::Delete { key, reply: ReplyWanted::Yes }),
                lane::Request::Flush => self.queue(&Request::FlushAll { delay_s: None }),
            }
        }
    }

    fn queue(&mut self, request: &Request<'_>) {
        request.encode(&mut self.output);
        self.expected.extend(request.expect());
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
        let Some(&expect) = self.expected.front() else {
            return if self.input.is_empty() { Ok(None) } else { Err(ConnectionError::Refused("bytes that nobody asked for".to_owned())) };
        };
        match self.decoder.decode(expect, &mut self.input)? {
            None => Ok(None),
            Some(Reply::Refused(refusal)) => Err(ConnectionError::Refused(format!("{refusal:?}"))),
            Some(_) => {
                self.expected.pop_front();
                Ok(Some(()))
            }
        }
    }
}
