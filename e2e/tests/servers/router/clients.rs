//! Clients that nobody here wrote, through the router.

use tokio::process::Command;

use super::file;
use crate::support::{enter, output};

const SCRIPT: &str = r#"
import sys, pymemcache, pylibmc
host, port = sys.argv[1].rsplit(":", 1)
client = pymemcache.Client((host, int(port)))
keys = {"key%d" % at: b"value%d" % at for at in range(100)}
client.set_many(keys)
assert client.get_many(list(keys)) == keys
client.set("n", b"5", noreply=False)
assert client.incr("n", 2) == 7 and client.decr("n", 3) == 4
value, token = client.gets("n")
assert client.cas("n", b"9", token, noreply=False) is True
assert client.cas("n", b"10", token, noreply=False) is False
assert client.touch("n", 100, noreply=False) and client.append("n", b"0", noreply=False)
assert client.get("n") == b"90"
assert client.delete("n", noreply=False) is True and client.delete("n", noreply=False) is False
assert client.add("n", b"1", noreply=False) and not client.add("n", b"1", noreply=False)
assert client.version() == b"1.6.45"
other = pylibmc.Client([sys.argv[1]])
assert other.set("o", "x" * 100000) and other.get("o") == "x" * 100000
assert other.get_multi(["o", "none"]) == {"o": "x" * 100000}
assert other.set_multi({"p%d" % at: at for at in range(50)}) == []
assert other.get_multi(["p%d" % at for at in range(50)]) == {"p%d" % at: at for at in range(50)}
assert other.incr("p1", 4) == 5 and other.delete("p1") and not other.delete("p1")
print("fine")
"#;

#[tokio::test]
async fn pymemcache_and_pylibmc_see_one_memcached() {
    let needs = ["mcsqueal", "memcached", "python"];
    let name = "pymemcache_and_pylibmc_see_one_memcached";
    let Some(lab) = enter(name, &needs).await else { return };
    let nodes = lab.servers.memcached_nodes(3).await.expect("nodes");
    let addresses: Vec<String> = nodes.iter().map(e2e::servers::Memcached::address).collect();
    let router = lab.servers.router(&file(&addresses, None)).await.expect("a router");
    let python = lab.servers.manifest().program("python").expect("it was there a moment ago");
    let mut command = Command::new(&python.argv[0]);
    command.args(&python.argv[1..]).args(["-c", SCRIPT, &router.address()]);
    let ran = output(&mut command).await.expect("Python runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
