//! The control port inside TLS, with certificates on both sides.

use e2e::{
    cache::Cache,
    servers::{Kind, Link, options_of},
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Duration, timeout},
};
use tokio_rustls::rustls::pki_types::ServerName;

use super::{DEADLINE, Stage, ask};
use crate::{
    node::sockets::{Shows, connector},
    support::{enter, repository, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn deletes_come_over_tls() {
    let Some(lab) = enter("deletes_come_over_tls", &["mariadb", "mcsqueal"]).await else { return };
    let fixtures = repository().join("e2e/fixtures");
    let file = |name: &str| fixtures.join(name).display().to_string();
    let (chain, key) = (file("node.crt"), file("node.key"));
    let control = format!(
        "tls = {{ certificate_chain = {chain:?}, key = {key:?}, client_authorities = {chain:?} }}"
    );
    let node = lab.servers.controlled_node(&control, "fill_age_ms_max = 1000").await;
    let node = node.expect("a node");
    let port = node.control().expect("a control port");
    // Whoever shows nothing is told nothing.
    assert!(challenge(&port, connector(&fixtures, Shows::Certificate)).await.is_some());
    assert_eq!(challenge(&port, connector(&fixtures, Shows::Nothing)).await, None);

    let options = options_of(Kind::Mariadb, 1, Link::Plain);
    let database = lab.servers.database(Kind::Mariadb, &options).await.expect("a database");
    let cluster = format!(
        "control_tls = {{ ca_file = {chain:?}, certificate_chain = {chain:?}, key = {key:?} }}"
    );
    let mut stage = Stage::around(lab, node, vec![database], &[], &cluster).await;
    let mut cache = Cache::new(&stage.nodes);
    assert_eq!(stage.fill(&mut cache, 0, 3).await, "v0");
    let change = "UPDATE shop.things SET value = 'v1' WHERE id = 3";
    stage.chain[0].run(&[change]).await.expect("a change");
    until("the delete has come", DEADLINE, async || {
        ask(&mut cache, "mg thing:3 v\r\n").await.0 == "EN"
    })
    .await;
    assert_eq!(stage.fill(&mut cache, 0, 3).await, "v1");
    stage.mcsqueal.stop().await.expect("a clean stop");
}

/// What a control port says first; `None` if it closes.
async fn challenge(address: &str, connector: tokio_rustls::TlsConnector) -> Option<String> {
    let tcp = TcpStream::connect(address).await.expect("connect");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let mut said = [0; 10];
    let heard = async {
        let mut stream = connector.connect(name, tcp).await.ok()?;
        stream.read_exact(&mut said).await.ok()
    };
    timeout(Duration::from_secs(10), heard).await.expect("an answer or an end")?;
    let said = String::from_utf8_lossy(&said).into_owned();
    said.starts_with("mcsqueal 1").then_some(said)
}
