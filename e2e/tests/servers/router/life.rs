//! Other files, newer processes, and the end.

use std::{
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::sleep;

use super::{NEEDS, file};
use crate::{node::wire::Wire, support::enter};

/// Asks again and again; how often it was answered.
async fn traffic(address: String, stop: Arc<AtomicBool>) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        // A client is let go between two commands, and connects again.
        let Ok(mut wire) = Wire::connect(&address).await else { panic!("nobody listens") };
        for _ in 0..20 {
            match wire.ask(b"get a b c\r\n").await {
                Ok(said) => assert_eq!(said, b"END\r\n"),
                Err(_) => break,
            }
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_another_file_or_a_newer_process() {
    let name = "nobody_notices_another_file_or_a_newer_process";
    let Some(lab) = enter(name, &NEEDS).await else { return };
    let nodes = lab.servers.memcached_nodes(3).await.expect("nodes");
    let addresses: Vec<String> = nodes.iter().map(e2e::servers::Memcached::address).collect();
    let mut router = lab.servers.router(&file(&addresses[..2], None)).await.expect("a router");
    let stop = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn(traffic(router.address(), Arc::clone(&stop)));

    router.write("[routes]\nstart = \"nobody\"\n").expect("a bad file");
    router.hang_up().expect("a signal");
    wait_for_log(&router, "the file is refused").await;
    router.write(&file(&addresses, None)).expect("a file");
    router.hang_up().expect("a signal");
    wait_for_log(&router, "took up the file").await;
    let mut wire = Wire::connect(&router.address()).await.expect("connect");
    let said = String::from_utf8(wire.ask(b"stats\r\n").await.expect("an answer")).expect("text");
    assert!(said.contains("STAT num_servers 3\r\n"), "{said}");
    let metrics = e2e::http::get(router.http(), "/metrics").await.expect("metrics");
    assert!(metrics.1.contains("mcsqueal_router_reads_total "), "{}", metrics.1);

    router.upgrade().await.expect("a newer process");
    sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::Relaxed);
    assert!(asking.await.expect("no answer was wrong, and somebody always listened") > 0);
    assert!(!router.log().expect("a log").contains('\x1b'), "colours in a file");
    assert!(router.stop().await.expect("it ends"), "it failed");
}

async fn wait_for_log(router: &e2e::servers::RunningRouter, words: &str) {
    for _ in 0..400 {
        if router.log().expect("a log").contains(words) {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("no {words:?} in {}", router.log().expect("a log"));
}
