//! The tools of an incident, on a busy shop: `check`, `invalidate`, `replay`, `explain --diff`.

use std::{fs, path::PathBuf, process::Output, time::Duration};

use e2e::{
    busy::Busy,
    lab::{enter, needs_on_kafka, output, until},
    servers::{Kind, NodeKind, mcsqueal_binary},
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Command,
    time::{Instant, sleep},
};

const GUARD: Duration = Duration::from_secs(30);

/// One memcached, asked plainly.
pub(crate) struct Cache(String);

impl Cache {
    pub(crate) fn of(address: &str) -> Cache {
        Cache(address.to_owned())
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = BufReader::new(TcpStream::connect(&self.0).await.expect("connected"));
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("an answer");
        line.trim_end().to_owned()
    }

    pub(crate) async fn set(&self, key: &str) {
        assert_eq!(self.ask(&format!("set {key} 0 0 1\r\nx\r\n")).await, "STORED");
    }

    pub(crate) async fn has(&self, key: &str) -> bool {
        self.ask(&format!("get {key}\r\n")).await.starts_with("VALUE")
    }
}

/// Runs our tools on the shop's region file.
struct Tools {
    config: PathBuf,
    folder: PathBuf,
    env: Vec<(String, String)>,
}

impl Tools {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(mcsqueal_binary().expect("it was there"));
        command.args(arguments).arg("--config").arg(&self.config);
        command.envs(self.env.iter().cloned()).current_dir(&self.folder);
        command
    }

    async fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } =
            output(&mut self.command(arguments)).await.expect("the tool runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (status.code(), text(stdout), text(stderr))
    }

    /// Must succeed.
    async fn ok(&self, arguments: &[&str]) -> String {
        let (status, said, err) = self.run(arguments).await;
        assert_eq!(status, Some(0), "{arguments:?}: {said}{err}");
        said
    }

    /// Must be refused, and say why.
    async fn refused(&self, arguments: &[&str], why: &str) {
        let (status, said, err) = self.run(arguments).await;
        assert_eq!(status, Some(64), "{arguments:?}: {said}{err}");
        assert!(err.contains(why), "{arguments:?}: {err}");
    }
}

/// The number that begins the first line that has `word`.
fn number(text: &str, word: &str) -> u64 {
    let line = text.lines().find(|line| line.contains(word)).unwrap_or_default();
    let digits: String = line.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number before {word:?} in {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_of_an_incident() {
    let needs = needs_on_kafka(Kind::Mysql);
    let Some(lab) = enter("tools_of_an_incident", &needs).await else { return };
    let mut busy = Busy::start_on_kafka(lab, Kind::Mysql).await;
    let folder = busy.mcsqueal.directory().to_owned();
    let tools = Tools { config: folder.join("region.toml"), folder, env: busy.region.env() };
    until("much was changed", GUARD, async || busy.shop.stats().commits.get() > 300).await;

    let checked = tools.ok(&["check"]).await;
    assert!(checked.contains("the stream shop is kept as it must be"), "{checked}");
    invalidates(&busy, &tools).await;
    compares_rules(&tools).await;
    busy.everybody_leaves().await;
    // What would come later would be in the second range, and not in the first.
    busy.drained().await;
    replays(&busy, &tools).await;
    busy.mcsqueal.alive().expect("it runs");
    busy.nothing_is_stale().await;
}

async fn invalidates(busy: &Busy, tools: &Tools) {
    let caches: Vec<Cache> = busy.memcached.iter().map(|node| Cache::of(&node.address())).collect();
    for cache in &caches {
        cache.set("by-hand:1").await;
    }
    let left = async || {
        let mut left = 0;
        for cache in &caches {
            left += u32::from(cache.has("by-hand:1").await);
        }
        left
    };
    let said = tools.ok(&["invalidate", "by-hand:1", "by-hand:2", "--dry-run"]).await;
    assert!(said.starts_with("2 key(s)") && said.contains("nothing was done"), "{said}");
    sleep(Duration::from_millis(500)).await;
    assert_eq!(left().await, 2, "a dry run does nothing");
    let said = tools.ok(&["invalidate", "by-hand:1", "by-hand:2"]).await;
    assert!(said.ends_with("it is in the stream\n"), "{said}");
    until("its owner has deleted it", GUARD, async || left().await == 1).await;
    let shown = tools.ok(&["stream", "tail", "--prefix", "by-hand:", "--json"]).await;
    assert_eq!(shown.lines().count(), 2, "{shown}");

    tools.refused(&["invalidate", "no key"], "a space").await;
    tools.refused(&["invalidate", "--table", "shop.nothing"], "no rule").await;
    tools.refused(&["invalidate", "--prefix", "by-hand:"], "give --yes").await;
    tools.ok(&["invalidate", "--prefix", "by-hand:", "--yes"]).await;
    until("nodes that cannot list keys are emptied", GUARD, async || left().await == 0).await;
    let said = tools.ok(&["invalidate", "--table", "shop.users", "--dry-run"]).await;
    assert!(said.contains("user:*"), "{said}");
    let verified = tools.ok(&["stream", "verify"]).await;
    assert_eq!(verified.matches(" 0 problems").count(), 4, "{verified}");
}

async fn compares_rules(tools: &Tools) {
    let old = fs::read_to_string(tools.folder.join("shop.rules.toml")).expect("the rules");
    let new = format!(
        "{old}\n[[rule]]\nname = \"added\"\ntable = \"shop.users\"\nkeys = [\"added:{{id}}\"]\n"
    );
    fs::write(tools.folder.join("new.rules.toml"), &new).expect("written");
    let diff = ["explain", "--diff", "shop.rules.toml", "new.rules.toml", "--from", "start"];
    let (status, said, err) = tools.run(&diff).await;
    assert_eq!(status, Some(1), "{said}{err}");
    assert!(
        said.contains("keys only by the new file, rule added") && said.contains("+   added:"),
        "{said}"
    );
    assert!(!said.contains("only by the old file"), "{said}");
    assert!(number(&said, "changed rows") > 10, "{said}");
    let same = ["explain", "--diff", "shop.rules.toml", "shop.rules.toml", "--from", "start"];
    tools.ok(&same).await;
}

/// Wherever a history is cut, one range ends where the next one begins; a version is in both.
async fn ranges(tools: &Tools, all: u64) {
    let told = tools.ok(&["stream", "tail", "--from", "start", "--json"]).await;
    let lines = told.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let keys: Vec<Value> = lines.filter(|line: &Value| line["kind"] == "key").collect();
    let of = |at: &Value, name: &str| at[name].as_str().expect("a text").to_owned();
    let count = async |from: &str, to: &str| {
        let said = tools.run(&["replay", "--from", from, "--to", to, "--dry-run"]).await;
        match said {
            (Some(0), said, _) => number(&said, "keys ("),
            (Some(64), _, err) if err.contains("nothing is between") => 0,
            (status, said, err) => panic!("{from} to {to}: {status:?} {said}{err}"),
        }
    };
    let middle = &keys[keys.len() / 2];
    let version = of(middle, "version");
    let twice = keys.iter().filter(|key| key["version"] == *version).count() as u64;
    let (before, after) = (count("start", &version).await, count(&version, "end").await);
    assert!(before > twice && after > twice, "{version}: {before}, {after} of {all}");
    assert_eq!(before + after, all + twice, "{version}: {before}, {after} of {all}");
    assert_eq!(count(&version, &version).await, twice, "{version}");
    // To the second.
    let time = format!("{}Z", &of(middle, "at")[..19]);
    for cut in [of(middle, "place"), time] {
        let (before, after) = (count("start", &cut).await, count(&cut, "end").await);
        assert_eq!(before + after, all, "{cut}: {before}, {after}");
        assert!(after > 0, "{cut}: {before}, {after}");
    }
}

async fn replays(busy: &Busy, tools: &Tools) {
    tools.refused(&["replay", "--from", "end"], "not before --to").await;
    tools.refused(&["replay", "--from", "1m", "--to", "2m"], "not before --to").await;
    tools.refused(&["replay", "--from", "3.9", "--to", "3.1"], "not before --to").await;
    tools.refused(&["replay", "--from", "start", "--node", "nobody:1"], "no such").await;
    let more_than_one = ["replay", "--from", "start", "--confirm-above", "1"];
    tools.refused(&more_than_one, "give --yes").await;

    let planned = tools.ok(&["replay", "--from", "start", "--dry-run"]).await;
    let all = number(&planned, "keys (");
    assert!(all > 200, "{planned}");
    assert!(planned.contains("without versions") && planned.contains("floor(s)"), "{planned}");
    let users =
        tools.ok(&["replay", "--from", "start", "--table", "shop.users", "--dry-run"]).await;
    let users = number(&users, "keys (");
    assert!(users > 5 && users < all, "{users} of {all}");
    // The same by the rules, from the binlog: what was asked for by hand is not in it.
    let remapped = ["replay", "--from", "start", "--table", "shop.users", "--remap", "--dry-run"];
    let remapped = number(&tools.ok(&remapped).await, "keys (");
    assert!(remapped >= users, "{remapped} from the binlog, {users} from the stream");

    ranges(tools, all).await;

    // Stopped by a signal, and gone on with.
    let slow = (all / 4).max(50).to_string();
    let arguments = ["replay", "--from", "start", "--yes", "--rate", &slow];
    let mut command = tools.command(&arguments);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().expect("it starts");
    let state = tools.folder.join("mcsqueal-replay.json");
    until("it has done something", GUARD, async || state.exists()).await;
    let pid = child.id().expect("it runs").to_string();
    let killed = Command::new("sh").args(["-c", &format!("kill -INT {pid}")]).status().await;
    assert!(killed.expect("sent").success());
    let ended = child.wait_with_output().await.expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("stopped by SIGINT"), "{said}");
    let other = ["replay", "--from", "start", "--table", "shop.users", "--yes"];
    tools.refused(&other, "other arguments").await;
    // The kill switch.
    let switch = tools.folder.join("mcsqueal-replay.json.stop");
    fs::write(&switch, "").expect("written");
    let fast = ["replay", "--from", "start", "--yes", "--rate", "1000000"];
    let (status, _, err) = tools.run(&fast).await;
    assert!(status == Some(1) && err.contains("stopped by"), "{err}");
    fs::remove_file(&switch).expect("removed");

    let (owner, key) = (Cache::of(&busy.memcached[0].address()), "by-hand:1");
    let neighbour = Cache::of(&busy.memcached[1].address());
    owner.set(key).await;
    neighbour.set(key).await;
    let begun = Instant::now();
    let said = tools.ok(&fast).await;
    assert!(said.contains("goes on after"), "{said}");
    assert_eq!(number(&said, " values removed"), all, "{said}");
    assert!(begun.elapsed() < GUARD && !state.exists(), "{said}");
    // No faster than it may: by its own clock, which does not count how long the program takes to start.
    let half = (all / 2).to_string();
    let said = tools.ok(&["replay", "--from", "start", "--yes", "--rate", &half]).await;
    let (_, time) = said.split_once(" keys in ").expect("a summary");
    let seconds: f64 = time.split(' ').next().and_then(|it| it.parse().ok()).expect("a time");
    assert!(seconds > 1.5, "{said}");
    // From the beginning, for that alone: one of both nodes owns it.
    let again = tools.ok(&["replay", "--from", "start", "--key", key, "--yes"]).await;
    assert!(number(&again, " values removed") > 0, "{again}");
    let left = [owner.has(key).await, neighbour.has(key).await];
    assert_eq!(left.iter().filter(|left| **left).count(), 1, "{left:?}");
}

/// Nodes of ours get each delete with its version, so what was filled since stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_spares_what_is_fresh() {
    let needs = needs_on_kafka(Kind::Mysql);
    let Some(lab) = enter("a_replay_spares_what_is_fresh", &needs).await else { return };
    let mut busy = Busy::start_on_kafka_with(lab, Kind::Mysql, NodeKind::Mcsqueal).await;
    let folder = busy.mcsqueal.directory().to_owned();
    let tools = Tools { config: folder.join("region.toml"), folder, env: busy.region.env() };
    until("much was changed", GUARD, async || busy.shop.stats().commits.get() > 300).await;
    busy.everybody_leaves().await;
    busy.drained().await;
    let before = busy.shop.compare().await.expect("a comparison").cached;
    assert!(before > 50, "hardly anything is cached: {before}");

    let planned = tools.ok(&["replay", "--from", "start", "--dry-run"]).await;
    assert!(planned.contains("2 node(s) get each delete with its version"), "{planned}");
    assert!(!planned.contains("without versions"), "{planned}");
    for remap in [&[][..], &["--remap"]] {
        let mut arguments = vec!["replay", "--from", "start", "--yes", "--rate", "1000000"];
        arguments.extend(remap);
        let said = tools.ok(&arguments).await;
        let all = number(&said, " keys in ");
        assert!(all > 200, "{said}");
        let done = format!("0 values removed, 0 were not there, {all} deletes with versions");
        assert!(said.contains(&done), "{said}");
        // Nobody fills; but a node that gets no word for a while, on a busy machine, hides what it has.
        until("everything is still there", GUARD, async || {
            busy.shop.compare().await.expect("a comparison").cached >= before
        })
        .await;
    }
    tools.ok(&["invalidate", "--prefix", "user:", "--yes"]).await;
    let said = tools.ok(&["replay", "--from", "1m", "--prefix", "user:", "--yes"]).await;
    assert!(said.contains("1 floor(s) are raised again") || said.contains("4 floor(s)"), "{said}");
    busy.nothing_is_stale().await;
}
