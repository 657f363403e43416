//! [`Tls`]: encrypted connections to control ports, whose certificates are verified.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// What we show of ourselves, in PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate_chain: PathBuf,
    pub key: PathBuf,
}

/// The files do not serve.
#[derive(Debug, thiserror::Error)]
#[error("set up TLS: {}: {what}", path.display())]
pub struct TlsError {
    path: PathBuf,
    what: String,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Tls(TlsConnector);

/// There is nothing to show.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Nodes must show a certificate that an authority of `ca_file` has signed.
    pub fn load(ca_file: &Path, identity: Option<&Identity>) -> Result<Tls, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca_file)? {
            roots.add(certificate).map_err(wrong(ca_file))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(wrong(ca_file))?
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate_chain, key }) => {
                let secret = PrivateKeyDer::from_pem_file(key).map_err(wrong(key))?;
                let chain = certificates(certificate_chain)?;
                builder.with_client_auth_cert(chain, secret).map_err(wrong(certificate_chain))?
            }
        };
        Ok(Tls(TlsConnector::from(Arc::new(config))))
    }

    /// For who connects by himself.
    pub fn connector(&self) -> TlsConnector {
        self.0.clone()
    }

    /// Shakes hands; the certificate must be for the host of `address`.
    pub async fn encrypt(
        &self,
        socket: TcpStream,
        address: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        self.0.connect(name, socket).await
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).map_err(wrong(path))?;
    read.collect::<Result<_, _>>().map_err(wrong(path))
}

fn wrong<E: fmt::Display>(path: &Path) -> impl FnOnce(E) -> TlsError {
    move |err| TlsError { path: path.to_owned(), what: err.to_string() }
}
