//! Ten thousand random transactions, and for each key that `mysqlbinlog` says they made stale: was it
//! deleted? And was nothing else?
//!
//! The oracle is the server's own tool and a mapping in [`oracle`] that shares nothing with ours.

mod oracle;
mod transactions;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use e2e::{
    cache::Nodes,
    servers::{Database, DatabaseOptions, Durability, Kind, McsquealOptions, Region},
    shop::{Settings, Shop},
};
use tokio::process::Command;

use crate::{
    recorder::Recorder,
    support::{Lab, enter, output, random, until},
};

/// Never fewer, however short the run.
const TRANSACTIONS: u32 = 10_000;
const FILL_AGE_MAX: Duration = Duration::from_millis(500);
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn every_key_that_mysqlbinlog_implies_mysql() {
    let test = "every_key_that_mysqlbinlog_implies_mysql";
    let Some(lab) = enter(test, &["mysql", "mysqlbinlog", "mcsqueal"]).await else { return };
    every_key(lab, Kind::Mysql, "mysqlbinlog").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_that_mysqlbinlog_implies_mariadb() {
    let test = "every_key_that_mysqlbinlog_implies_mariadb";
    let Some(lab) = enter(test, &["mariadb", "mariadb-binlog", "mcsqueal"]).await else { return };
    every_key(lab, Kind::Mariadb, "mariadb-binlog").await;
}

async fn every_key(lab: Lab, kind: Kind, tool: &str) {
    let options = DatabaseOptions { durability: Durability::Memory, ..DatabaseOptions::default() };
    let database = lab.servers.database(kind, &options).await.expect("a database server");
    let recorder = Recorder::start().await;
    let nodes = Nodes::new(vec![recorder.address()]).expect("a ring");
    // For its tables alone; nobody enters this shop.
    let settings = Settings::new(FILL_AGE_MAX, 1);
    Shop::open(settings, database.root(), nodes).await.expect("a shop");
    database.run(&[transactions::ZOO]).await.expect("another table");
    let old = binlogs(&database);
    database.run(&["FLUSH BINARY LOGS"]).await.expect("a new binlog file");

    let region = Region::shop(&database, vec![recorder.address()], FILL_AGE_MAX).await;
    let mut region = region.expect("a region");
    region.rules.push_str(transactions::ZOO_RULES);
    let mcsqueal = lab.servers.mcsqueal(&region, &McsquealOptions::default()).await;
    let mut mcsqueal = mcsqueal.expect("mcsqueal is ready");

    let mut random = random(4);
    let mut conn = database.connect().await.expect("a connection");
    let done = transactions::run(&mut conn, &mut random, TRANSACTIONS).await;
    let done = done.expect("the transactions run");
    assert!(done.commits > TRANSACTIONS / 2 && done.rollbacks > TRANSACTIONS / 50, "{done:?}");
    // Deletes come in commit order.
    let last = transactions::last_key();
    until("the last key is deleted", ARRIVAL_DEADLINE, async || recorder.has(&last)).await;
    mcsqueal.alive().expect("mcsqueal runs");

    database.run(&["FLUSH BINARY LOGS"]).await.expect("the binlog is written out");
    let new: Vec<PathBuf> =
        binlogs(&database).into_iter().filter(|file| !old.contains(file)).collect();
    let implied = implied(&lab, tool, &new).await;
    let told = recorder.told();
    assert!(implied.len() > 5000, "hardly anything is implied: {} keys", implied.len());
    let shown = |keys: Vec<&Vec<u8>>| {
        let shown: Vec<String> =
            keys.iter().take(20).map(|key| key.escape_ascii().to_string()).collect();
        format!("{} of {}: {shown:#?}", keys.len(), implied.len())
    };
    let missing: Vec<_> = implied.difference(&told.keys).collect();
    assert!(missing.is_empty(), "never deleted: {}", shown(missing));
    let extra: Vec<_> = told.keys.difference(&implied).collect();
    assert!(extra.is_empty(), "deleted without need: {}", shown(extra));
    assert!(told.others.is_empty(), "not a delete: {:?}", told.others);
}

/// The server's binlog files, oldest first.
fn binlogs(database: &Database) -> Vec<PathBuf> {
    let files = std::fs::read_dir(database.data()).expect("the data directory");
    let files = files.map(|file| file.expect("a file").path());
    let mut logs: Vec<PathBuf> = files.filter(|path| is_binlog(path)).collect();
    logs.sort();
    logs
}

/// `binlog.000001`, and not the index or what MariaDB keeps beside it.
fn is_binlog(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("binlog.").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

async fn implied(lab: &Lab, tool: &str, files: &[PathBuf]) -> BTreeSet<Vec<u8>> {
    let program = lab.servers.manifest().program(tool).expect("it was there a moment ago");
    let argv = program.command(["--verbose", "--base64-output=decode-rows"]);
    let (first, rest) = argv.split_first().expect("a program");
    let output = output(Command::new(first).args(rest).args(files)).await.expect("the tool ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool}: {}\n{errors}", output.status);
    oracle::keys(&output.stdout)
}
