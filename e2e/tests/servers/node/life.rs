//! Starting, stopping, and limits of the node.

use std::time::Duration;

use tokio::time::sleep;

use super::wire::Wire;
use crate::support::{enter, output};

const NEEDS: [&str; 1] = ["mcsqueal"];

#[tokio::test]
async fn a_second_one_on_the_port_is_refused() {
    let Some(lab) = enter("a_second_one_on_the_port_is_refused", &NEEDS).await else { return };
    let node = lab.servers.cache_node(&[]).await.expect("the node starts");
    let binary = e2e::servers::mcsqueal_binary().expect("it was there a moment ago");
    let mut second = tokio::process::Command::new(binary);
    let refused = output(second.args(["node", "-l", &node.address()])).await.expect("it runs");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let expected = format!("listen on {}: Address already in use", node.address());
    assert!(said.contains(&expected), "{said}");
    // The first one does not mind.
    let mut wire = Wire::connect(&node.address()).await.expect("connect");
    assert_eq!(wire.ask(b"version\r\n").await.expect("an answer"), b"VERSION 1.6.45\r\n");
}

/// Whoever is between two commands is let go; whoever has sent half a command may finish it.
#[tokio::test]
async fn sigterm_drains() {
    let Some(lab) = enter("sigterm_drains", &NEEDS).await else { return };
    let mut node = lab.servers.cache_node(&[]).await.expect("the node starts");
    let mut idle = Wire::connect(&node.address()).await.expect("connect");
    idle.ask(b"version\r\n").await.expect("an answer");
    let mut busy = Wire::connect(&node.address()).await.expect("connect");
    busy.send(b"set a 0 0 5\r\nhel").await.expect("half a command is sent");
    sleep(Duration::from_millis(100)).await;
    node.terminate().expect("a signal");
    assert_eq!(idle.rest().await.expect("the end"), b"");
    busy.send(b"lo\r\n").await.expect("the other half is sent");
    assert_eq!(busy.rest().await.expect("the end"), b"STORED\r\n");
    assert!(node.ended().await.expect("it ends"), "it failed");
}

#[tokio::test]
async fn one_client_too_many_is_told() {
    let Some(lab) = enter("one_client_too_many_is_told", &NEEDS).await else { return };
    let node = lab.servers.cache_node(&["-c", "2"]).await.expect("the node starts");
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::connect(&node.address()).await.expect("connect");
        wire.ask(b"version\r\n").await.expect("an answer");
        clients.push(wire);
    }
    let mut third = Wire::connect(&node.address()).await.expect("connect");
    assert_eq!(third.rest().await.expect("the end"), b"ERROR Too many open connections\r\n");
    drop(clients.pop());
    sleep(Duration::from_millis(200)).await;
    let mut fourth = Wire::connect(&node.address()).await.expect("connect");
    fourth.ask(b"version\r\n").await.expect("there is room again");
}

#[tokio::test]
async fn idle_clients_are_dropped() {
    let Some(lab) = enter("idle_clients_are_dropped", &NEEDS).await else { return };
    let flags = ["-o", "idle_timeout=1"];
    let node = lab.servers.cache_node(&flags).await.expect("the node starts");
    let mut wire = Wire::connect(&node.address()).await.expect("connect");
    wire.ask(b"version\r\n").await.expect("an answer");
    assert_eq!(wire.rest().await.expect("the end"), b"");
}

/// Clients that announce much and send nothing: what they announce is not held for them, and a thread serves the others.
#[tokio::test]
async fn clients_that_stall_hurt_nobody() {
    let Some(lab) = enter("clients_that_stall_hurt_nobody", &NEEDS).await else { return };
    let node = lab.servers.cache_node(&["-t", "1", "-m", "64"]).await.expect("the node starts");
    let before = node.memory_kilobytes().expect("its memory");
    let mut stalled = Vec::new();
    for _ in 0..400 {
        let mut wire = Wire::connect(&node.address()).await.expect("connect");
        wire.send(b"set a 0 0 1000000\r\nhalf a").await.expect("it is sent");
        stalled.push(wire);
    }
    let mut other = Wire::connect(&node.address()).await.expect("connect");
    for _ in 0..100 {
        assert_eq!(other.ask(b"get a\r\n").await.expect("an answer"), b"END\r\n");
    }
    let grown = node.memory_kilobytes().expect("its memory") - before;
    assert!(grown < 40_000, "{grown} kB for {} clients", stalled.len());
}

/// A client that asks for much and reads nothing: the node keeps about one reply for it, and serves the others.
#[tokio::test]
async fn a_client_that_does_not_read_hurts_nobody() {
    let test = "a_client_that_does_not_read_hurts_nobody";
    let Some(lab) = enter(test, &NEEDS).await else { return };
    let node = lab.servers.cache_node(&["-t", "1", "-m", "64"]).await.expect("the node starts");
    let mut deaf = Wire::connect(&node.address()).await.expect("connect");
    let value = vec![b'v'; 1_000_000];
    let set = [b"set a 0 0 1000000\r\n".as_slice(), &value, b"\r\n"].concat();
    assert_eq!(deaf.ask(&set).await.expect("an answer"), b"STORED\r\n");
    // Four gigabytes, if it were all made at once.
    let request = format!("get{}\r\n", " a".repeat(4000));
    deaf.send(request.as_bytes()).await.expect("it is sent");
    let mut other = Wire::connect(&node.address()).await.expect("connect");
    for _ in 0..100 {
        other.ask(b"get a\r\n").await.expect("an answer");
    }
    let kilobytes = node.memory_kilobytes().expect("its memory");
    assert!(kilobytes < 200_000, "{kilobytes} kB");
}
