//! Command lines of existing unit files, word for word but for `memcached` itself: the node starts, serves and stops as they say.

use std::{
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use e2e::servers::{free_port, mcsqueal_binary};
use tempfile::TempDir;
use tokio::process::Command;

use super::wire::Wire;
use crate::support::{enter, output, until};

const NEEDS: [&str; 1] = ["mcsqueal"];
const DEADLINE: Duration = Duration::from_secs(10);
/// A user with no rights that every system has.
const NOBODY: &str = "nobody";
const NOBODY_ID: u32 = 65534;

fn command(line: &str) -> Command {
    let mut command = Command::new(mcsqueal_binary().expect("it was there a moment ago"));
    command.arg("node").args(line.split_whitespace());
    command
}

/// A folder that `nobody` may write to, as a unit's `RuntimeDirectory` is its user's.
fn runtime_directory() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    if is_root() {
        chown(folder.path(), Some(NOBODY_ID), Some(NOBODY_ID)).expect("chown");
    }
    folder
}

fn is_root() -> bool {
    status(std::process::id(), "Uid:").is_some_and(|ids| ids.starts_with("0\t"))
}

/// What `/proc/PID/status` says behind a name.
fn status(pid: u32, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
}

fn pid_in(file: &Path) -> u32 {
    let text = std::fs::read_to_string(file).expect("the pidfile");
    text.trim().parse().expect("a process id")
}

/// Ends a process that is nobody's child, whatever the test does.
struct Daemon(u32);

impl Daemon {
    async fn terminate(&self) {
        self.signal("TERM");
        until("it has ended", DEADLINE, async || self.is_gone()).await;
    }

    fn is_gone(&self) -> bool {
        status(self.0, "State:").is_none_or(|state| state.starts_with('Z'))
    }

    fn signal(&self, name: &str) {
        let mut kill = std::process::Command::new("sh");
        kill.args(["-c", &format!("kill -s {name} {}", self.0)]);
        assert!(kill.status().is_ok(), "sh does not run");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.is_gone() {
            self.signal("KILL");
        }
    }
}

/// The configuration that Debian ships, and the daemon's flags of older init scripts.
#[tokio::test]
async fn starts_in_the_background_as_another_user() {
    let test = "starts_in_the_background_as_another_user";
    let Some(_lab) = enter(test, &NEEDS).await else { return };
    let (run, port) = (runtime_directory(), free_port().expect("a port"));
    let pidfile: PathBuf = run.path().join("memcached.pid");
    let line = format!("-d -m 64 -p {port} -u {NOBODY} -l 127.0.0.1 -P {}", pidfile.display());
    let started = output(&mut command(&line)).await.expect("whoever starts it is let go");
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert!(started.status.success(), "{said}");
    let daemon = Daemon(pid_in(&pidfile));
    // It serves already, belongs to nobody, and has a session of its own.
    let mut wire = Wire::connect(&format!("127.0.0.1:{port}")).await.expect("connect at once");
    assert_eq!(wire.ask(b"version\r\n").await.expect("an answer"), b"VERSION 1.6.45\r\n");
    if is_root() {
        let ids = format!("{NOBODY_ID}\t{NOBODY_ID}\t{NOBODY_ID}\t{NOBODY_ID}");
        assert_eq!(status(daemon.0, "Uid:"), Some(ids.clone()));
        assert_eq!(status(daemon.0, "Gid:"), Some(ids));
    }
    assert_eq!(status(daemon.0, "NSsid:"), Some(daemon.0.to_string()));
    // A second one fails in the foreground, says why, and leaves the first one's pidfile alone.
    let second = output(&mut command(&line)).await.expect("it ends");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("Address already in use"), "{said}");
    assert_eq!(pid_in(&pidfile), daemon.0);
    daemon.terminate().await;
    assert!(!pidfile.exists(), "the pidfile is left behind");
}

/// Bad flags in the background end as they do in the foreground.
#[tokio::test]
async fn what_is_wrong_is_said_before_the_background() {
    let test = "what_is_wrong_is_said_before_the_background";
    let Some(_lab) = enter(test, &NEEDS).await else { return };
    for (line, expected) in [
        ("-d -U 11211", "-U: UDP is not served"),
        ("-d -B binary", "-B: \"binary\" is not spoken"),
        ("-d -S", "unexpected argument '-S'"),
        ("-d -p 0 -l 127.0.0.1 -Z -o ssl_chain_cert=/none,ssl_key=/none", "/none"),
    ] {
        let failed = output(&mut command(line)).await.expect("it ends");
        let said = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert_eq!(failed.status.code(), Some(64), "{line}: {said}");
        assert!(said.contains(expected), "{line}: {said}");
    }
}

/// The command lines of Red Hat's and upstream's units, and of the container image; the process stays in the foreground.
#[tokio::test]
async fn starts_from_unit_files() {
    let Some(lab) = enter("starts_from_unit_files", &NEEDS).await else { return };
    let socket = lab.servers.directory().join("memcached.sock");
    let socket = socket.display().to_string();
    // (flags, what `stats settings` must say)
    let table: [(&[&str], &[&str]); 5] = [
        (
            &["-u", "root", "-m", "128", "-c", "2048", "-U", "0"],
            &["maxbytes 134217728", "maxconns 2048"],
        ),
        (
            &["--user=root", "--memory-limit=32", "--conn-limit=64", "--threads=2"],
            &["maxbytes 33554432", "maxconns 64", "num_threads 2"],
        ),
        (
            &["-I", "2m", "-t", "1", "-R", "20", "-C", "-b", "512", "-o", "modern", "-v"],
            &["item_size_max 2097152", "num_threads 1", "tcp_backlog 512"],
        ),
        (
            &["-M", "-F", "-A", "-f", "1.25", "-n", "48", "-L", "-k", "-r", "-vv"],
            &["evictions off", "flush_enabled no", "shutdown_command yes"],
        ),
        (
            &["-s", &socket, "-a", "0770", "-o", "no_lru_crawler,hashpower=20,idle_timeout=90"],
            &["idle_timeout 90"],
        ),
    ];
    for (flags, settings) in table {
        let node = lab.servers.cache_node(flags).await.expect("the node starts");
        let mut wire = Wire::connect(&node.address()).await.expect("connect");
        let answer = wire.ask(b"stats settings\r\n").await.expect("an answer");
        let said = String::from_utf8(answer).expect("text");
        for setting in settings {
            let line = format!("STAT {setting}");
            assert!(said.lines().any(|it| it == line), "{flags:?}: no {line} in {said}");
        }
    }
}

#[tokio::test]
async fn stops_by_command_if_that_is_allowed() {
    let Some(lab) = enter("stops_by_command_if_that_is_allowed", &NEEDS).await else { return };
    let node = lab.servers.cache_node(&[]).await.expect("the node starts");
    let mut wire = Wire::connect(&node.address()).await.expect("connect");
    let refused = wire.ask(b"shutdown\r\n").await.expect("an answer");
    assert_eq!(refused, b"SERVER_ERROR: shutdown not enabled\r\n");
    let mut node = lab.servers.cache_node(&["-A"]).await.expect("the node starts");
    let mut wire = Wire::connect(&node.address()).await.expect("connect");
    wire.send(b"shutdown graceful\r\n").await.expect("it is sent");
    assert!(node.ended().await.expect("it ends"), "it failed");
}

/// The clock of a test: entries end without anybody waiting.
#[tokio::test]
async fn time_moves_for_tests_alone() {
    let Some(lab) = enter("time_moves_for_tests_alone", &NEEDS).await else { return };
    let node = lab.servers.cache_node(&[]).await.expect("the node starts");
    let mut wire = Wire::connect(&node.address()).await.expect("connect");
    assert_eq!(wire.ask(b"debugtime 10\r\n").await.expect("an answer"), b"ERROR\r\n");
    let node = lab.servers.cache_node(&["--debug-time"]).await.expect("the node starts");
    let mut wire = Wire::connect(&node.address()).await.expect("connect");
    let requests = "debugtime p\r\nset a 0 100 1\r\n1\r\nset b 0 0 1\r\n1\r\nflush_all 200\r\ndebugtime 99\r\n\
                    mg a t\r\ndebugtime 1\r\nmg a t\r\nget b\r\ndebugtime 100\r\nget b\r\ndebugtime r\r\n";
    let answer = wire.ask(requests.as_bytes()).await.expect("an answer");
    let expected = "OK\r\nSTORED\r\nSTORED\r\nOK\r\nOK\r\nHD t1\r\nOK\r\nEN\r\nVALUE b 0 1\r\n1\r\nEND\r\nOK\r\nEND\r\nOK\r\n";
    assert_eq!(String::from_utf8_lossy(&answer), expected);
}
