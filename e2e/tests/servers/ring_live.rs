//! Our ring against real clients: they put keys on live nodes, and we say where those must be.

use std::collections::HashMap;

use e2e::servers::Memcached;
use schemas::{
    key::Key,
    ring::{Hashing, Ring, RingNode},
};
use tokio::process::Command;

use crate::support::{enter, output, repository, skip};

const NODES: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn ring_live() {
    let Some(lab) = enter("ring_live", &["memcached", "python"]).await else { return };
    let memcached = lab.servers.memcached_nodes(NODES).await.expect("memcached nodes");
    let addresses: Vec<String> = memcached.iter().map(Memcached::address).collect();
    for (hashing, name, module) in [
        (Hashing::Ketama, "ketama", "pylibmc"),
        (Hashing::KetamaJenkins, "ketama-jenkins", "pylibmc"),
        (Hashing::Rendezvous, "rendezvous", "pymemcache"),
    ] {
        let program = lab.servers.manifest().program("python").expect("it was there a moment ago");
        let python = || {
            let (first, rest) = program.argv.split_first().expect("a program");
            let mut command = Command::new(first);
            command.args(rest);
            command
        };
        let import = format!("import {module}");
        let found = output(python().args(["-c", &import])).await.expect("Python runs");
        if !found.status.success() {
            let reason = format!("Python has no {module} ({name})");
            skip("ring_live", module, &reason);
            continue;
        }
        let script = repository().join("e2e/python/ring_vectors.py");
        let asked = output(python().arg(script).args(["--hashing", name]).args(&addresses)).await;
        let asked = asked.expect("the script ends");
        let errors = String::from_utf8_lossy(&asked.stderr);
        assert!(asked.status.success(), "{name}: {}\n{errors}", asked.status);
        let theirs = serde_json::from_slice(&asked.stdout).expect("the script prints an object");
        agrees(hashing, &addresses, &theirs);
    }
}

fn agrees(hashing: Hashing, addresses: &[String], theirs: &HashMap<String, usize>) {
    let node = |name: &String| RingNode { name: name.clone(), weight: 1 };
    let ring = Ring::new(hashing, &addresses.iter().map(node).collect::<Vec<_>>());
    let ring = ring.expect("a ring");
    assert!(theirs.len() > 1000, "only {} keys", theirs.len());
    for (key, &owner) in theirs {
        let ours = ring.owner(&Key::new(key.clone().into_bytes()).expect("a key"));
        assert_eq!(ours, owner, "{hashing:?} over {addresses:?}: {key}");
    }
}
