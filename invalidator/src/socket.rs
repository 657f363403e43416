//! [`Socket`]: bytes to a node, and bytes from it.

use std::io;

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{connection::ConnectionError, settings::CONNECT_DEADLINE, tls::Tls};

/// Read at once; answers are short.
const READ_BYTES: usize = 16 << 10;

/// A connection, what was read from it, and what is to be written.
pub(crate) struct Socket {
    read: Box<dyn AsyncRead + Send + Unpin>,
    write: Box<dyn AsyncWrite + Send + Unpin>,
    /// Whether the transport may hold back something that was written: TLS does.
    unflushed: bool,
    pub(crate) input: BytesMut,
    pub(crate) output: BytesMut,
}

impl Socket {
    /// Connects to `host:port`, whose name is looked up anew each time.
    pub(crate) async fn open(address: &str, tls: Option<&Tls>) -> Result<Socket, ConnectionError> {
        timeout(CONNECT_DEADLINE, Socket::connect(address, tls))
            .await
            .unwrap_or(Err(io::ErrorKind::TimedOut.into()))
            .map_err(ConnectionError::Connect)
    }

    async fn connect(address: &str, tls: Option<&Tls>) -> io::Result<Socket> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (input, output) = (BytesMut::new(), BytesMut::new());
        let Some(tls) = tls else {
            let (read, write) = stream.into_split();
            let (read, write) = (Box::new(read), Box::new(write));
            return Ok(Socket { read, write, unflushed: false, input, output });
        };
        let (read, write) = tokio::io::split(tls.encrypt(stream, address).await?);
        let (read, write) = (Box::new(read), Box::new(write));
        Ok(Socket { read, write, unflushed: false, input, output })
    }

    /// Reads and writes whatever is possible, until one of the two has moved. Cancelled, nothing is lost.
    pub(crate) async fn turn(&mut self) -> Result<(), ConnectionError> {
        self.input.reserve(READ_BYTES);
        let (input, output) = (&mut self.input, &mut self.output);
        let read = self.read.read_buf(input);
        let moved = if !output.is_empty() {
            tokio::select! {
                read = read => read?,
                written = self.write.write_buf(output) => {
                    self.unflushed = true;
                    written?
                }
            }
        } else if self.unflushed {
            tokio::select! {
                read = read => read?,
                flushed = self.write.flush() => {
                    flushed?;
                    self.unflushed = false;
                    return Ok(());
                }
            }
        } else {
            read.await?
        };
        if moved == 0 { Err(ConnectionError::Closed) } else { Ok(()) }
    }
}
