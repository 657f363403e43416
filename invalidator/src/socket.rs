//! [`Socket`]: bytes to a node, and bytes from it.

use std::io;

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use crate::{connection::ConnectionError, settings::CONNECT_DEADLINE};

/// Read at once; answers are short.
const READ_BYTES: usize = 16 << 10;

/// A connection, what was read from it, and what is to be written.
pub(crate) struct Socket {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    pub(crate) input: BytesMut,
    pub(crate) output: BytesMut,
}

impl Socket {
    /// Connects to `host:port`, whose name is looked up anew each time.
    pub(crate) async fn open(address: &str) -> Result<Socket, ConnectionError> {
        let stream = timeout(CONNECT_DEADLINE, TcpStream::connect(address))
            .await
            .map_err(|_| ConnectionError::Connect(io::ErrorKind::TimedOut.into()))?
            .map_err(ConnectionError::Connect)?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        Ok(Socket { read, write, input: BytesMut::new(), output: BytesMut::new() })
    }

    /// Reads and writes whatever is possible, until one of the two has moved. Cancelled, nothing is lost.
    pub(crate) async fn turn(&mut self) -> Result<(), ConnectionError> {
        self.input.reserve(READ_BYTES);
        let moved = if self.output.is_empty() {
            self.read.read_buf(&mut self.input).await?
        } else {
            tokio::select! {
                read = self.read.read_buf(&mut self.input) => read?,
                written = self.write.write_buf(&mut self.output) => written?,
            }
        };
        if moved == 0 { Err(ConnectionError::Closed) } else { Ok(()) }
    }
}
