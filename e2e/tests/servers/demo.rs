//! The demo itself, in short.

use std::{collections::HashMap, path::Path, time::Duration};

use e2e::servers::{
    RUN_DIR_ENV,
    child::{Child, Launch, Signal},
};
use tokio::process::Command;

use crate::support::{enter_alone, output, until};

/// How long the demo may take to open its shop, and its processes to end.
const DEADLINE: Duration = Duration::from_secs(60);
const NEEDS: [&str; 2] = ["memcached", "mcsqueal"];

#[tokio::test(flavor = "multi_thread")]
async fn demo_finds_stale_values_only_without_mcsqueal() {
    let test = "demo_finds_stale_values_only_without_mcsqueal";
    let Some(lab) = enter_alone(test, &NEEDS).await else { return };
    let Some(kind) = lab.servers.manifest().some_database() else {
        crate::support::skip(test, "mysql", "there is no database server on this machine");
        return;
    };
    let json = lab.servers.directory().join("figures.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(["--seconds", "5", "--database", kind.name(), "--json"]).arg(&json);
    command.env(RUN_DIR_ENV, lab.servers.directory());
    let output = output(&mut command).await.expect("the demo ends");
    let shown = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{shown}\n{errors}", output.status);

    let figures = figures(&shown);
    for name in ["demo_commits", "demo_reads", "demo_stale", "demo_stale_naive"] {
        assert!(figures.contains_key(name), "no figure {name} in\n{shown}");
    }
    let value = |name: &str| figures.get(name).copied().unwrap_or(f64::NAN);
    assert!(value("demo_commits") > 100.0, "{shown}");
    assert!(value("demo_reads") > 1000.0, "{shown}");
    assert!(value("demo_stale") == 0.0, "{shown}");
    assert!(value("demo_stale_naive") > 0.0, "{shown}");
    let (p50, p99) = (value("demo_commit_to_delete_p50_ms"), value("demo_commit_to_delete_p99_ms"));
    assert!(0.0 < p50 && p50 <= p99 && p99 < 5000.0, "{shown}");
    same_in_json(&json, &figures);
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_with_our_own_nodes() {
    let test = "demo_with_our_own_nodes";
    let Some(lab) = enter_alone(test, &["mcsqueal"]).await else { return };
    let Some(kind) = lab.servers.manifest().some_database() else {
        crate::support::skip(test, "mysql", "there is no database server on this machine");
        return;
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(["--seconds", "3", "--database", kind.name(), "--nodes", "mcsqueal"]);
    command.env(RUN_DIR_ENV, lab.servers.directory());
    let output = output(&mut command).await.expect("the demo ends");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{shown}", output.status);
    assert_eq!(figures(&shown).get("demo_stale"), Some(&0.0), "{shown}");
}

/// `figure NAME VALUE UNIT`.
fn figures(shown: &str) -> HashMap<String, f64> {
    let figure = |line: &str| match line.split(' ').collect::<Vec<_>>().as_slice() {
        ["figure", name, value, _unit] => Some(((*name).to_owned(), value.parse().ok()?)),
        _ => None,
    };
    shown.lines().filter_map(figure).collect()
}

fn same_in_json(json: &Path, figures: &HashMap<String, f64>) {
    let text = std::fs::read_to_string(json).expect("the demo has written its figures");
    let root: serde_json::Value = serde_json::from_str(&text).expect("they are JSON");
    let listed = root["figures"].as_array().expect("they are a list");
    let listed: HashMap<String, f64> = listed
        .iter()
        .map(|figure| {
            let name = figure["name"].as_str().expect("a name").to_owned();
            (name, figure["value"].as_f64().expect("a number"))
        })
        .collect();
    assert_eq!(&listed, figures);
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_that_is_ended_leaves_nothing() {
    let test = "demo_that_is_ended_leaves_nothing";
    let Some(lab) = enter_alone(test, &["memcached"]).await else { return };
    if lab.servers.manifest().some_database().is_none() {
        crate::support::skip(test, "mysql", "there is no database server on this machine");
        return;
    }
    for signal in [Some(Signal::Interrupt), Some(Signal::Terminate), None] {
        let directory = lab.servers.directory().join(format!("ended-{signal:?}"));
        std::fs::create_dir_all(&directory).expect("a directory");
        let mut demo = Child::start(&Launch {
            name: "demo".to_owned(),
            argv: vec![env!("CARGO_BIN_EXE_demo").into(), "--naive".into()],
            env: vec![(RUN_DIR_ENV.to_owned(), directory.display().to_string())],
            directory: directory.clone(),
            log: directory.join("log"),
            input: None,
            pids: None,
        })
        .expect("the demo starts");
        let log = directory.join("log");
        until("the shop is open", DEADLINE, async || {
            std::fs::read_to_string(&log).unwrap_or_default().contains("commits/s")
        })
        .await;
        let started = started(&directory);
        assert!(started.len() >= 4, "a database and three nodes: {started:?}");
        match signal {
            Some(signal) => {
                demo.signal(signal).expect("send a signal");
                let status = demo.wait(Duration::from_secs(20)).await.expect("the demo ends");
                let wanted = if signal == Signal::Interrupt { 130 } else { 143 };
                assert_eq!(status.code(), Some(wanted));
            }
            None => demo.kill9().expect("kill the demo"),
        }
        until("nothing of it runs", DEADLINE, async || !started.iter().any(|line| runs(line)))
            .await;
    }
}

/// The lines of the run directory's list.
fn started(directory: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(directory.join("pids")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Whether the process of a `pid starttime` line still runs.
fn runs(line: &str) -> bool {
    let (pid, started) = line.split_once(' ').expect("a pid and a start time");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, after_name)) = stat.rsplit_once(')') else { return false };
    let mut fields = after_name.split_whitespace();
    // What is dead and waits to be collected does not run.
    fields.next() != Some("Z") && fields.nth(18) == Some(started)
}
