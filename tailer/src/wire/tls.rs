//! TLS with a verified certificate, for the dump's connection.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Duplex;
use crate::source::SourceError;

/// Encrypts `socket`; the server's certificate must be for `host`, and signed by an authority of `ca_file`, or a
/// public one.
pub(super) async fn encrypt(
    socket: Box<dyn Duplex>,
    host: &str,
    ca_file: Option<&Path>,
) -> Result<TlsStream<Box<dyn Duplex>>, SourceError> {
    let wrong = |what: String| SourceError::Answer(format!("TLS: {what}"));
    let name = ServerName::try_from(host.to_owned()).map_err(|err| wrong(err.to_string()))?;
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(file) => {
            let unreadable = |err| wrong(format!("{}: {err}", file.display()));
            for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
                roots
                    .add(certificate.map_err(unreadable)?)
                    .map_err(|err| wrong(err.to_string()))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|err| wrong(err.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, socket);
    connecting.await.map_err(super::lost)
}
