//! Other ways in and out than plain TCP for everybody: TLS and users on both sides, Unix sockets, names with several addresses.

use std::time::Duration;

use e2e::servers::{CacheNode, Memcached};
use tokio::net::{TcpStream, UnixStream};

use super::{NEEDS, patient};
use crate::{
    node::{
        sockets::{ANSWER, Shows, connector, converse, over_tls},
        wire::Wire,
    },
    support::{enter, repository, skip, until},
};

/// Where pools are named, other sections may come first.
fn with_nodes(nodes: &[String], before: &str, section: &str) -> String {
    format!("{before}\n{}\n[nodes]\n{section}\n", patient(nodes))
}

#[tokio::test]
async fn tls_towards_clients_and_nodes() {
    let Some(lab) = enter("tls_towards_clients_and_nodes", &["mcsqueal"]).await else { return };
    let fixtures = repository().join("e2e/fixtures");
    let file = |name: &str| fixtures.join(name).display().to_string();
    let (chain, key) = (file("node.crt"), file("node.key"));
    // The node wants to see who the router is.
    let options = format!("ssl_chain_cert={chain},ssl_key={key},ssl_ca_cert={chain}");
    let node: CacheNode = lab.servers.cache_node(&["-Z", "-o", &options]).await.expect("a node");
    let nodes = [node.address()];
    let own = format!("certificate_chain = {chain:?}, key = {key:?}");
    let before = format!("tls = {{ {own} }}");
    let shown = format!("tls = {{ ca_file = {chain:?}, {own} }}");
    let router = lab.servers.router(&with_nodes(&nodes, &before, &shown)).await.expect("a router");
    let answer = over_tls(&router.address(), connector(&fixtures, Shows::Nothing)).await;
    assert_eq!(answer.expect("an answer"), ANSWER);
    // Who speaks plainly is not answered.
    let tcp = TcpStream::connect(router.address()).await.expect("connect");
    assert_ne!(converse(tcp).await.unwrap_or_default(), ANSWER);
    // Nor is a router that shows nothing, by the node.
    let hidden = format!("tls = {{ ca_file = {chain:?} }}");
    let router = lab.servers.router(&with_nodes(&nodes, "", &hidden)).await.expect("a router");
    let mut wire = Wire::connect(&router.address()).await.expect("connect");
    let said = wire.ask_with_noop(b"get a\r\n").await.expect("an answer");
    assert!(said.starts_with(b"SERVER_ERROR"), "{}", said.escape_ascii());
}

#[tokio::test]
async fn users_log_in_to_the_router_and_it_to_nodes() {
    let name = "users_log_in_to_the_router_and_it_to_nodes";
    let Some(lab) = enter(name, &NEEDS).await else { return };
    let folder = lab.servers.directory();
    let (users, password) = (folder.join("users"), folder.join("router.password"));
    std::fs::write(&users, "router:inside\nann:secret\n").expect("write a file");
    std::fs::write(&password, "inside\n").expect("write a file");
    let users = users.display().to_string();
    let node: Memcached = lab.servers.memcached_with(&["-Y", &users]).await.expect("a node");
    let login = format!("login = {{ name = \"router\", password_file = {password:?} }}");
    let text = with_nodes(&[node.address()], "", &login);
    let router = lab.servers.router_with(&["-Y", &users], &text).await.expect("a router");
    let mut wire = Wire::connect(&router.address()).await.expect("connect");
    let asked = "get a\r\nset x 0 0 9\r\nann wrong\r\nset x 0 0 10\r\nann secret\r\n\
                 set a 0 0 1\r\n1\r\nget a\r\nquit\r\n";
    wire.send(asked.as_bytes()).await.expect("it is sent");
    assert_eq!(
        String::from_utf8_lossy(&wire.rest().await.expect("the end")),
        "CLIENT_ERROR unauthenticated\r\nCLIENT_ERROR authentication failure\r\n\
         STORED\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n"
    );
    // With a wrong password, there is no node.
    std::fs::write(&password, "outside\n").expect("write a file");
    let router = lab.servers.router(&text).await.expect("a router");
    let mut wire = Wire::connect(&router.address()).await.expect("connect");
    let said = wire.ask_with_noop(b"get a\r\n").await.expect("an answer");
    assert!(said.starts_with(b"SERVER_ERROR"), "{}", said.escape_ascii());
}

/// `localhost` is two addresses on most machines, of which a node has one.
#[tokio::test]
async fn unix_sockets_and_names() {
    let Some(lab) = enter("unix_sockets_and_names", &NEEDS).await else { return };
    let path = lab.servers.directory().join("router.sock");
    let node = lab.servers.memcached().await.expect("a node");
    let before = format!("unix_socket = {{ path = {path:?}, mode = \"0700\" }}");
    let named = node.address().replace("127.0.0.1", "localhost");
    let text = with_nodes(&[named], &before, "");
    let mut router = lab.servers.router(&text).await.expect("a router");
    let stream = UnixStream::connect(&path).await.expect("connect");
    assert_eq!(converse(stream).await.expect("an answer"), ANSWER);
    assert!(router.stop().await.expect("it ends") && !path.exists());
}

/// A node that comes back elsewhere is found by its name, without a restart.
#[tokio::test]
async fn names_are_looked_up_again() {
    let name = "names_are_looked_up_again";
    let Some(lab) = enter(name, &["mcsqueal"]).await else { return };
    let mut before = lab.servers.cache_node(&[]).await.expect("a node");
    let port = before.address().rsplit_once(':').expect("a port").1.to_owned();
    let elsewhere = format!("127.0.0.2:{port}");
    let after = lab.servers.cache_node(&["-l", &elsewhere]).await.expect("another");
    let hosts = lab.servers.directory().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 cache\n").expect("write a file");
    let text = with_nodes(&[format!("cache:{port}")], "", "");
    let router = match lab.servers.router_among(&hosts, &text).await {
        Ok(router) => router,
        Err(err) => return skip(name, "namespaces", &format!("{err:#}")),
    };
    let mut wire = Wire::connect(&router.address()).await.expect("connect");
    let mut say = async |asked: &str| {
        let said = wire.ask_with_noop(asked.as_bytes()).await.expect("an answer");
        String::from_utf8(said).expect("text")
    };
    assert_eq!(say("set a 0 0 1\r\n1\r\n").await, "STORED\r\n");
    std::fs::write(&hosts, "127.0.0.2 cache\n").expect("write a file");
    before.kill9().expect("it is killed");
    let stored = async || say("set b 0 0 1\r\n2\r\n").await == "STORED\r\n";
    until("the name is looked up again", Duration::from_secs(10), stored).await;
    let mut node = Wire::connect(&elsewhere).await.expect("connect");
    let said = node.ask_with_noop(b"get a b\r\n").await.expect("an answer");
    assert_eq!(said.escape_ascii().to_string(), r"VALUE b 0 1\r\n2\r\nEND\r\n");
    drop(after);
}
