//! [`Link`]: how nodes are connected to: addresses, TLS, user and password.

use std::{io, sync::Arc};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;

/// Where memcached listens.
const PORT: u16 = 11211;
/// The reply to a login.
const LOGIN_REPLY_BYTES_MAX: usize = 256;

/// How nodes are connected to.
#[derive(Clone)]
pub struct Link {
    /// Encrypts them, if they want that.
    pub tls: Option<TlsConnector>,
    /// `name password`, as memcached's `-Y` wants it.
    pub login: Option<Arc<[u8]>>,
    /// Connections of each worker to each node.
    pub lanes: usize,
    /// Most requests of one connection that wait for their replies.
    pub outstanding_max: usize,
}

/// Without the password.
impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it has no address")]
    NoAddress,
    #[error("the node refuses the login: {0}")]
    Login(String),
    #[error("set up TLS: {0}")]
    Tls(String),
}

/// A connection to a node.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl Link {
    /// Connects to the first address that answers. Names are looked up each time.
    pub(crate) async fn connect(&self, address: &str) -> Result<Stream, LinkError> {
        let (host, port) = host_and_port(address);
        let mut why = LinkError::NoAddress;
        for address in lookup_host((host, port)).await? {
            match self.connect_to(address, host).await {
                Ok(stream) => return Ok(stream),
                Err(err) => why = err,
            }
        }
        Err(why)
    }

    async fn connect_to(
        &self,
        address: std::net::SocketAddr,
        host: &str,
    ) -> Result<Stream, LinkError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut stream = match &self.tls {
            None => Stream::Plain(stream),
            Some(connector) => {
                let name = ServerName::try_from(host.to_owned());
                let name = name.map_err(|err| LinkError::Tls(err.to_string()))?;
                Stream::Tls(Box::new(connector.connect(name, stream).await?))
            }
        };
        if let Some(login) = &self.login {
            log_in(&mut stream, login).await?;
        }
        Ok(stream)
    }
}

/// Memcached's login: a `set` of any key, with name and password as its value.
async fn log_in(stream: &mut Stream, login: &[u8]) -> Result<(), LinkError> {
    let mut said = format!("set login 0 0 {}\r\n", login.len()).into_bytes();
    said.extend_from_slice(login);
    said.extend_from_slice(b"\r\n");
    stream.write_all(&said).await?;
    stream.flush().await?;
    let mut reply = Vec::new();
    while !reply.ends_with(b"\n") && reply.len() < LOGIN_REPLY_BYTES_MAX {
        if stream.read_buf(&mut reply).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    if reply == b"STORED\r\n" {
        Ok(())
    } else {
        Err(LinkError::Login(reply.trim_ascii_end().escape_ascii().to_string()))
    }
}

/// `host`, `host:port` or `[ipv6]:port`.
pub(crate) fn host_and_port(address: &str) -> (&str, u16) {
    let (host, port) = match address.rsplit_once(':') {
        // An IPv6 address without brackets has no port.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, port),
            Err(_) => (address, PORT),
        },
        _ => (address, PORT),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

impl AsyncRead for Stream {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => std::pin::Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => std::pin::Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => std::pin::Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => std::pin::Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => std::pin::Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => std::pin::Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => std::pin::Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => std::pin::Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(host_and_port("cache-1"), ("cache-1", 11211));
        assert_eq!(host_and_port("cache-1:7"), ("cache-1", 7));
        assert_eq!(host_and_port("[::1]:7"), ("::1", 7));
        assert_eq!(host_and_port("[::1]"), ("::1", 11211));
        assert_eq!(host_and_port("::1"), ("::1", 11211));
    }
}
