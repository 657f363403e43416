//! Other ways in than plain TCP: TLS and Unix sockets.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use crate::support::{enter, output, repository, until};

const NEEDS: [&str; 1] = ["mcsqueal"];
const DEADLINE: Duration = Duration::from_secs(10);
const REQUEST: &[u8] = b"set a 0 0 5\r\nhello\r\nget a\r\nquit\r\n";
pub(crate) const ANSWER: &[u8] = b"STORED\r\nVALUE a 0 5\r\nhello\r\nEND\r\n";

pub(crate) async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<Vec<u8>> {
    ask(stream, REQUEST).await
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> Result<Vec<u8>> {
    stream.write_all(request).await.context("write")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.context("read")?;
    Ok(answer)
}

/// What a client shows of itself.
#[derive(Clone, Copy)]
pub(crate) enum Shows {
    Nothing,
    /// The server's own certificate, which signs itself.
    Certificate,
}

/// The certificate signs itself; it is valid for a hundred years.
pub(crate) fn connector(fixtures: &Path, shows: Shows) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(fixtures.join("node.crt"));
    let certificate = certificate.expect("a certificate");
    roots.add(certificate.clone()).expect("it can be trusted");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("there are versions")
        .with_root_certificates(roots);
    let config = match shows {
        Shows::Nothing => builder.with_no_client_auth(),
        Shows::Certificate => {
            let key = PrivateKeyDer::from_pem_file(fixtures.join("node.key")).expect("a key");
            builder.with_client_auth_cert(vec![certificate], key).expect("they fit")
        }
    };
    TlsConnector::from(Arc::new(config))
}

/// Shakes hands and converses.
pub(crate) async fn over_tls(address: &str, connector: TlsConnector) -> Result<Vec<u8>> {
    ask_over_tls(address, connector, REQUEST).await
}

async fn ask_over_tls(address: &str, connector: TlsConnector, request: &[u8]) -> Result<Vec<u8>> {
    let tcp = TcpStream::connect(address).await.context("connect")?;
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    ask(connector.connect(name, tcp).await.context("shake hands")?, request).await
}

/// A certificate is exchanged without a restart; a file that is none changes nothing.
#[tokio::test]
async fn certificates_are_renewed() {
    let Some(lab) = enter("certificates_are_renewed", &NEEDS).await else { return };
    let fixtures = repository().join("e2e/fixtures");
    let folder = lab.servers.directory();
    let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
    let copy = |from: &str, to: &Path| std::fs::copy(fixtures.join(from), to).expect("copy");
    copy("node.crt", &chain);
    copy("node.key", &key);
    let options = format!("ssl_chain_cert={},ssl_key={}", chain.display(), key.display());
    let node = lab.servers.cache_node(&["-Z", "-o", &options]).await.expect("it starts");
    let trusting = || connector(&fixtures, Shows::Nothing);
    let renew = b"refresh_certs\r\nquit\r\n";
    let said = ask_over_tls(&node.address(), trusting(), renew).await;
    assert_eq!(said.expect("an answer"), b"OK\r\n");
    std::fs::write(&chain, "no certificate").expect("write a file");
    node.hang_up().expect("SIGHUP");
    let refused = async || node.log().is_ok_and(|log| log.contains("the file is refused"));
    until("the file is refused", DEADLINE, refused).await;
    let said = ask_over_tls(&node.address(), trusting(), renew).await.expect("an answer");
    assert!(said.starts_with(b"Error "), "{}", said.escape_ascii());
    assert_eq!(over_tls(&node.address(), trusting()).await.expect("an answer"), ANSWER);
    // Whoever trusts the former one alone does not trust the next.
    copy("database.pem", &chain);
    copy("database.key", &key);
    node.hang_up().expect("SIGHUP");
    let changed = async || over_tls(&node.address(), trusting()).await.is_err();
    until("the other certificate is shown", DEADLINE, changed).await;
}

#[tokio::test]
async fn asks_clients_for_certificates() {
    let Some(lab) = enter("asks_clients_for_certificates", &NEEDS).await else { return };
    let fixtures = repository().join("e2e/fixtures");
    let file = |name: &str| fixtures.join(name).display().to_string();
    let (chain, key) = (file("node.crt"), file("node.key"));
    let options = format!("ssl_chain_cert={chain},ssl_key={key},ssl_ca_cert={chain}");
    let node = lab.servers.cache_node(&["-Z", "-o", &options]).await.expect("the node starts");
    let shown = over_tls(&node.address(), connector(&fixtures, Shows::Certificate)).await;
    assert_eq!(shown.expect("an answer"), ANSWER);
    let nothing = over_tls(&node.address(), connector(&fixtures, Shows::Nothing)).await;
    assert_ne!(nothing.unwrap_or_default(), ANSWER);
}

#[tokio::test]
async fn speaks_tls() {
    let Some(lab) = enter("speaks_tls", &NEEDS).await else { return };
    let fixtures = repository().join("e2e/fixtures");
    let file = |name: &str| fixtures.join(name).display().to_string();
    let options = format!("ssl_chain_cert={},ssl_key={}", file("node.crt"), file("node.key"));
    let flags = ["-Z", "-o", &options, "-l", "notls:127.0.0.1:0"];
    let node = lab.servers.cache_node(&flags).await.expect("the node starts");
    let answer = over_tls(&node.address(), connector(&fixtures, Shows::Nothing)).await;
    assert_eq!(answer.expect("an answer"), ANSWER);
    // Somebody who speaks plainly is not answered.
    let tcp = TcpStream::connect(node.address()).await.expect("connect");
    assert_ne!(converse(tcp).await.unwrap_or_default(), ANSWER);
}

#[tokio::test]
async fn listens_on_a_unix_socket() {
    let Some(lab) = enter("listens_on_a_unix_socket", &NEEDS).await else { return };
    let path = lab.servers.directory().join("node.sock");
    let text = path.display().to_string();
    let mut node = lab.servers.cache_node(&["-s", &text, "-a", "0700"]).await.expect("it starts");
    let stream = UnixStream::connect(&path).await.expect("connect");
    assert_eq!(converse(stream).await.expect("an answer"), ANSWER);
    let binary = e2e::servers::mcsqueal_binary().expect("it was there a moment ago");
    let mut second = tokio::process::Command::new(binary);
    let refused = output(second.args(["node", "-s", &text])).await.expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("another server is listening on"), "{said}");
    // A socket that a killed node left behind is in nobody's way.
    node.kill9().expect("it is killed");
    assert!(path.exists());
    node.restart().await.expect("it starts again");
    let stream = UnixStream::connect(&path).await.expect("connect");
    assert_eq!(converse(stream).await.expect("an answer"), ANSWER);
    node.terminate().expect("a signal");
    assert!(node.ended().await.expect("it ends") && !path.exists());
}
