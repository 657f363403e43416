//! A version is published while customers shop: both processes of the region take it up, or refuse it and say so; who starts later
//! begins with it.

use std::{fs, path::Path, time::Duration};

use e2e::{
    busy::Busy,
    lab::{enter, needs_on_kafka, output, until},
    servers::{Kind, Mcsqueal, NodeKind, mcsqueal_binary},
};
use serde_json::Value;
use tokio::process::Command;

const GUARD: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn all_processes_take_up_what_is_published() {
    let test = "all_processes_take_up_what_is_published";
    let needs = needs_on_kafka(Kind::Mariadb);
    let Some(lab) = enter(test, &needs).await else { return };
    let mut busy = Busy::start_on_kafka_with(lab, Kind::Mariadb, NodeKind::Mcsqueal).await;
    let mut one = busy.invalidator("one").await;
    let folder = busy.lab.servers.directory().join("operator");
    fs::create_dir_all(&folder).expect("a folder");
    let file = busy.region.write(&folder).expect("a region file");
    let own = fs::read_to_string(&file).expect("a region file");

    // What each process runs is known before anything is published.
    until("both processes say what they run", GUARD, async || {
        let (status, said) = config("status", &file).await;
        status && said.starts_with("nothing is published") && said.lines().count() == 3
    })
    .await;

    // One more rule, and another limit.
    let rules = format!(
        "{}\n{}",
        busy.region.rules,
        "[[rule]]\nname = \"more\"\ntable = \"shop.users\"\nkeys = [\"more:{id}\"]\n"
    );
    fs::write(folder.join("shop.rules.toml"), rules).expect("a rules file");
    fs::write(&file, own.replace("fill_age_ms_max = 2000", "fill_age_ms_max = 1500"))
        .expect("a file");
    let (pushed, said) = config("push", &file).await;
    assert!(pushed && said.starts_with("published: version 1, "), "{said}");
    let hash = said.trim().rsplit(' ').next().expect("a hash").to_owned();
    for process in [&busy.mcsqueal, &one] {
        runs(process, Some(1), &hash).await;
    }
    until("all is said to be the same", GUARD, async || {
        let (same, said) = config("status", &file).await;
        same && said.matches(&hash).count() == 3 && said.contains("one\tinvalidator\tversion 1")
    })
    .await;

    let text = fs::read_to_string(&file).expect("a region file");
    refused(&[&busy.mcsqueal, &one], &file, &text, &hash).await;

    // The one of before once more, under a new number; who starts begins with it.
    fs::write(&file, text).expect("a file");
    assert!(config("push", &file).await.0);
    for process in [&busy.mcsqueal, &one] {
        until("it is no longer refused", GUARD, async || {
            health(process).await["config"]["refused"].is_null()
        })
        .await;
    }
    one.stop().await.expect("a clean stop");
    one.restart().await.expect("it is ready again");
    let config_of = health(&one).await["config"].clone();
    assert_eq!((&config_of["number"], &config_of["hash"]), (&Value::from(1), &Value::from(hash)));

    // Taken back: each runs its own files.
    assert!(config("withdraw", &file).await.0);
    for process in [&busy.mcsqueal, &one] {
        until("it runs its own files", GUARD, async || {
            health(process).await["config"]["published"].is_null()
        })
        .await;
    }
    one.stop().await.expect("a clean stop");
    busy.everybody_leaves().await;
    busy.nothing_is_stale().await;
}

/// A ring that loses a node without a word about the clients that use it.
async fn refused(processes: &[&Mcsqueal], file: &Path, text: &str, hash: &str) {
    let entry = text.lines().find(|line| line.contains("control = ")).expect("a node").to_owned();
    fs::write(file, text.replacen(&format!("{entry}\n"), "", 1)).expect("a file");
    let (pushed, said) = config("push", file).await;
    assert!(pushed && said.starts_with("published: version 2, "), "{said}");
    for process in processes {
        until("it is refused", GUARD, async || {
            let config = health(process).await["config"].clone();
            assert_eq!(
                (&config["published"], &config["hash"]),
                (&Value::from(1), &Value::from(hash))
            );
            config["refused"]
                .as_str()
                .is_some_and(|why| why.contains("ring_version must be at least 1"))
        })
        .await;
    }
    until("status says so", GUARD, async || {
        let (same, said) = config("status", file).await;
        !same && said.matches("refused: ").count() == 2
    })
    .await;
}

/// Whether it is content, and what it says.
async fn config(command: &str, file: &Path) -> (bool, String) {
    let binary = mcsqueal_binary().expect("it was there");
    let mut process = Command::new(binary);
    process.args(["config", command, "--config"]).arg(file);
    let ended = output(&mut process).await.expect("it ends");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
    (ended.status.success(), said)
}

async fn health(process: &Mcsqueal) -> Value {
    process.health().await.expect("it answers")
}

async fn runs(process: &Mcsqueal, published: Option<u64>, hash: &str) {
    until("it runs what is published", GUARD, async || {
        let config = health(process).await["config"].clone();
        config["published"] == Value::from(published)
            && config["hash"] == hash
            && config["refused"].is_null()
    })
    .await;
}
