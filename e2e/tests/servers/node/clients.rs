//! Clients that nobody here wrote, unchanged: their own test suites where they have one, else their ordinary operations.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
};

use e2e::servers::{CacheNode, mcsqueal_binary};
use tokio::process::Command;

use crate::support::{Lab, enter, output, repository};

/// The suite of libmemcached's tools.
const MEMCCAPABLE_CHECKS: usize = 27;
/// Tests of pymemcache that its package does not skip: the three others want certificates that it does not bring.
const PYMEMCACHE_TESTS: usize = 100;
const GOMEMCACHE: &str = "github.com/bradfitz/gomemcache";
const GOMEMCACHE_VERSION: &str = "v0.0.0-20260422231931-4d751bb6e37c";

async fn node(lab: &Lab) -> CacheNode {
    lab.servers.cache_node(&[]).await.expect("the node starts")
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}", text(&output.stdout), text(&output.stderr))
}

/// A program of the manifest.
fn program(lab: &Lab, name: &str) -> Command {
    let program = lab.servers.manifest().program(name).expect("it was there a moment ago");
    let mut command = Command::new(&program.argv[0]);
    command.args(&program.argv[1..]);
    command
}

#[tokio::test]
async fn memccapable_finds_nothing() {
    let needs = ["memccapable", "mcsqueal"];
    let Some(lab) = enter("memccapable_finds_nothing", &needs).await else { return };
    let node = node(&lab).await;
    let address = node.address();
    let (host, port) = address.rsplit_once(':').expect("an address");
    let mut command = program(&lab, "memccapable");
    let output = output(command.args(["-h", host, "-p", port, "-a"])).await.expect("it runs");
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("[pass]").count(), MEMCCAPABLE_CHECKS, "{said}");
}

#[tokio::test]
async fn pymemcaches_own_suite_passes() {
    let needs = ["python", "mcsqueal"];
    let Some(lab) = enter("pymemcaches_own_suite_passes", &needs).await else { return };
    let node = node(&lab).await;
    let address = node.address();
    let (host, port) = address.rsplit_once(':').expect("an address");
    let find = "import pymemcache.test, os; print(os.path.dirname(pymemcache.test.__file__))";
    let found = output(program(&lab, "python").args(["-c", find])).await.expect("Python runs");
    let folder = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    let mut command = program(&lab, "python");
    command.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]);
    command.arg(folder.join("test_integration.py"));
    command.args(["--server", host, "--port", port]).current_dir(lab.servers.directory());
    let output = output(&mut command).await.expect("pytest runs");
    let said = said(&output);
    let passed = said.split_whitespace().zip(said.split_whitespace().skip(1));
    let passed = passed.filter(|(_, word)| word.trim_end_matches(',') == "passed");
    let passed: usize = passed.filter_map(|(count, _)| count.parse::<usize>().ok()).sum();
    assert!(output.status.success() && passed >= PYMEMCACHE_TESTS, "{said}");
}

#[tokio::test]
async fn pylibmc_works() {
    script("pylibmc_works", "pylibmc_client.py").await;
}

#[tokio::test]
async fn meta_memcache_works() {
    script("meta_memcache_works", "meta_memcache_client.py").await;
}

async fn script(test: &str, name: &str) {
    let Some(lab) = enter(test, &["python", "mcsqueal"]).await else { return };
    let node = node(&lab).await;
    let path = repository().join("e2e/python").join(name);
    let mut command = program(&lab, "python");
    let output = output(command.arg(path).arg(node.address())).await.expect("Python runs");
    assert!(output.status.success(), "{}", said(&output));
}

#[tokio::test]
async fn memcache_async_works() {
    let Some(lab) = enter("memcache_async_works", &["mcsqueal"]).await else { return };
    let node = node(&lab).await;
    let stream = tokio::net::TcpStream::connect(node.address()).await.expect("connect");
    let mut client = memcache_async::ascii::Protocol::new(stream);
    client.flush().await.expect("flush_all");
    assert_eq!(client.version().await.expect("version").trim(), "1.6.45");
    assert!(client.get("a").await.is_err());
    client.add("a", b"1", 60).await.expect("add");
    assert!(client.add("a", b"2", 60).await.is_err());
    client.set("b", b"b", 0).await.expect("set");
    client.append("b", b"c").await.expect("append");
    assert_eq!(client.get("b").await.expect("get"), b"bc");
    assert_eq!(client.increment("a", 41).await.expect("incr"), 42);
    assert_eq!(client.decrement("a", 50).await.expect("decr"), 0);
    let both = client.get_multi(&["a", "b", "none"]).await.expect("get");
    assert_eq!(both.len(), 2);
    client.delete("b").await.expect("delete");
    assert!(client.get("b").await.is_err());
}

/// Its suite starts `memcached` itself, from the PATH: that is our node there. `TestLocalhost` skips itself: it wants a
/// server on the usual port, and does what `TestUnixSocket` does.
#[tokio::test]
async fn gomemcaches_own_suite_passes() {
    let test = "gomemcaches_own_suite_passes";
    let Some(lab) = enter(test, &["go", "mcsqueal"]).await else { return };
    let folder = lab.servers.directory().join("go");
    prepare_go(&lab, &folder).await;
    let mut command = go(&lab, &folder);
    command.args(["test", "-count=1", "-v"]).arg(format!("{GOMEMCACHE}/memcache"));
    let output = output(&mut command).await.expect("go runs");
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    for passed in ["TestUnixSocket", "TestTLS"] {
        assert!(said.contains(&format!("--- PASS: {passed}")), "{passed}: {said}");
    }
}

/// A module that needs the client, and a `memcached` that is our node.
async fn prepare_go(lab: &Lab, folder: &Path) {
    std::fs::create_dir_all(folder.join("bin")).expect("make a folder");
    std::fs::write(folder.join("go.mod"), "module clients\n\ngo 1.22\n").expect("write a file");
    let binary = mcsqueal_binary().expect("it was there a moment ago");
    let memcached = folder.join("bin/memcached");
    let wrapper = format!("#!/bin/sh\nexec {} node \"$@\"\n", binary.display());
    std::fs::write(&memcached, wrapper).expect("write a file");
    std::fs::set_permissions(&memcached, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut get = go(lab, folder);
    get.arg("get").arg(format!("{GOMEMCACHE}@{GOMEMCACHE_VERSION}"));
    let got = output(&mut get).await.expect("go runs");
    assert!(got.status.success(), "the client cannot be fetched: {}", said(&got));
}

fn go(lab: &Lab, folder: &Path) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = program(lab, "go");
    command.current_dir(folder).env("PATH", format!("{}/bin:{path}", folder.display()));
    command.env("GOFLAGS", "-mod=mod");
    command
}
