//! Listening sockets, and what is accepted from them.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use super::{Options, ServerError, Sockets, Transport, UnixSocket, permit};

/// Certificate and key of a server, in PEM files.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    pub certificate_chain: PathBuf,
    pub key: PathBuf,
    /// Clients must show a certificate that one of these has signed.
    pub client_authorities: Option<PathBuf>,
}

/// One bound socket.
#[derive(Debug)]
pub enum Listener {
    Tcp { listener: TcpListener, address: SocketAddr, tls: Option<Tls> },
    Unix { listener: UnixListener, path: PathBuf },
}

/// Makes a TLS session of an accepted socket. Clones have the same certificate.
#[derive(Clone)]
pub struct Tls(Arc<Shown>);

struct Shown {
    files: TlsSettings,
    acceptor: RwLock<TlsAcceptor>,
}

/// There is nothing to show.
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Shakes hands with clients.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.0.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files.
    pub fn load(settings: &TlsSettings) -> Result<Tls, ServerError> {
        let acceptor = RwLock::new(acceptor(settings)?);
        Ok(Tls(Arc::new(Shown { files: settings.clone(), acceptor })))
    }

    /// Reads the files again, and shows what they have to whoever connects from now on. An error changes nothing.
    pub fn renew(&self) -> Result<(), ServerError> {
        let newer = acceptor(&self.0.files)?;
        *self.0.acceptor.write().unwrap_or_else(PoisonError::into_inner) = newer;
        Ok(())
    }
}

fn acceptor(settings: &TlsSettings) -> Result<TlsAcceptor, ServerError> {
    let wrong = |path: &Path, err: &dyn std::fmt::Display| ServerError::Tls {
        what: format!("{}: {err}", path.display()),
    };
    let certificates = |path: &PathBuf| -> Result<Vec<CertificateDer<'static>>, ServerError> {
        let read = CertificateDer::pem_file_iter(path).map_err(|err| wrong(path, &err))?;
        read.collect::<Result<_, _>>().map_err(|err| wrong(path, &err))
    };
    let chain = certificates(&settings.certificate_chain)?;
    let labelled =
        PrivateKeyDer::from_pem_file(&settings.key).map_err(|err| wrong(&settings.key, &err))?;
    // What the bytes are counts, and not what the label says: there are files in use where the two differ.
    let key = PrivateKeyDer::try_from(labelled.secret_der().to_vec())
        .map_err(|err| wrong(&settings.key, &err))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|err| ServerError::Tls { what: err.to_string() })?;
    let builder = match &settings.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|err| wrong(path, &err))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|err| wrong(path, &err))?)
        }
    };
    let config = builder
        .with_single_cert(chain, key)
        .map_err(|err| wrong(&settings.certificate_chain, &err))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// An accepted socket, not yet with a runtime.
#[derive(Debug)]
pub struct Accepted {
    pub socket: Socket,
    pub peer: String,
    pub listener: String,
}

/// What was accepted; with TLS, its session is still to be made.
#[derive(Debug)]
pub enum Socket {
    Tcp(std::net::TcpStream, Option<Tls>),
    Unix(std::os::unix::net::UnixStream),
}

/// Binds everything that the options name and that is not open yet.
pub async fn bind(options: &Options, open: &mut Sockets) -> Result<Vec<Listener>, ServerError> {
    let tls = options.tls.as_ref().map(Tls::load).transpose()?;
    let mut out = Vec::new();
    for address in &options.tcp {
        let tls = match (address.transport, &tls) {
            (Transport::Plain, _) => None,
            (Transport::Tls, Some(tls)) => Some(tls.clone()),
            (Transport::Tls, None) => {
                return Err(ServerError::Tls { what: "there is no certificate".to_owned() });
            }
        };
        let listen = |source| ServerError::Listen { address: address.socket.to_string(), source };
        let listener = match open.take(address.socket) {
            Some(open) => TcpListener::from_std(open),
            None => tcp(address.socket, options.backlog),
        };
        let listener = listener.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        out.push(Listener::Tcp { listener, address, tls });
    }
    if let Some(socket) = &options.unix {
        out.push(match open.take_unix(&socket.path) {
            Some(open) => {
                let listen = |source| ServerError::Listen {
                    address: socket.path.display().to_string(),
                    source,
                };
                let listener = UnixListener::from_std(open).map_err(listen)?;
                Listener::Unix { listener, path: socket.path.clone() }
            }
            None => unix(socket).await?,
        });
    }
    Ok(out)
}

fn tcp(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A port that another server has is refused nonetheless.
    socket.set_reuseaddr(true)?;
    socket.set_keepalive(true)?;
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

async fn unix(socket: &UnixSocket) -> Result<Listener, ServerError> {
    let path = &socket.path;
    if UnixStream::connect(path).await.is_ok() {
        return Err(ServerError::Taken { path: path.clone() });
    }
    let listen = |source| ServerError::Listen { address: path.display().to_string(), source };
    if is_socket(path) {
        // Its server is gone.
        std::fs::remove_file(path).map_err(listen)?;
    }
    let listener = UnixListener::bind(path).map_err(listen)?;
    permit(path, socket.mode).map_err(listen)?;
    Ok(Listener::Unix { listener, path: path.clone() })
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket())
}

impl Listener {
    /// What is shown there, if it speaks TLS.
    pub fn tls(&self) -> Option<&Tls> {
        match self {
            Listener::Tcp { tls, .. } => tls.as_ref(),
            Listener::Unix { .. } => None,
        }
    }

    /// Its TCP address.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp { address, .. } => Some(*address),
            Listener::Unix { .. } => None,
        }
    }

    /// Adds another handle.
    pub fn keep(&self, kept: &mut Sockets) -> io::Result<()> {
        match self {
            Listener::Tcp { listener, .. } => kept.keep(listener),
            Listener::Unix { listener, path } => kept.keep_unix(path, listener),
        }
    }

    /// As `stats conns` writes it.
    pub fn name(&self) -> String {
        match self {
            Listener::Tcp { address, .. } => format!("tcp:{address}"),
            Listener::Unix { path, .. } => format!("unix:{}", path.display()),
        }
    }

    pub async fn accept(&self) -> io::Result<Accepted> {
        let (socket, peer) = match self {
            Listener::Tcp { listener, tls, .. } => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                (Socket::Tcp(stream.into_std()?, tls.clone()), format!("tcp:{peer}"))
            }
            Listener::Unix { listener, path } => {
                let (stream, _) = listener.accept().await?;
                (Socket::Unix(stream.into_std()?), format!("unix:{}", path.display()))
            }
        };
        Ok(Accepted { socket, peer, listener: self.name() })
    }
}

impl Accepted {
    /// Says why, as far as the socket takes it, and closes.
    pub fn refuse(self, why: &[u8]) {
        use std::io::Write;
        let said = match self.socket {
            // A TLS client would not understand.
            Socket::Tcp(_, Some(_)) => Ok(0),
            Socket::Tcp(mut stream, None) => stream.write(why),
            Socket::Unix(mut stream) => stream.write(why),
        };
        if let Err(err) = said {
            tracing::debug!(error = %err, "a refused client is gone already");
        }
    }
}
