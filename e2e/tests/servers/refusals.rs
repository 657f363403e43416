//! What bad input gets: a clear message with the cure, exit status 64, and nothing half-started. What is
//! only down or locked out for now is retried, and says so.

use std::{path::Path, process::Output, time::Duration};

use e2e::{
    http,
    servers::{
        Account, Database, DatabaseOptions, Durability, Kind, McsquealOptions, Region, Servers,
    },
};
use tokio::time::{Instant, sleep};

use crate::support::{enter, mcsqueal};

/// Wrong configuration, rules or server settings.
const EXIT_CONFIG: i32 = 64;
const TABLES: &[&str] = &[
    "CREATE DATABASE shop",
    "CREATE TABLE shop.users (id INT UNSIGNED PRIMARY KEY, email VARCHAR(120), name VARCHAR(80))",
    "CREATE TABLE shop.products (id INT UNSIGNED PRIMARY KEY, sku VARCHAR(60), price_cents INT)",
    "CREATE TABLE shop.orders (id BIGINT UNSIGNED PRIMARY KEY, user_id INT, status VARCHAR(20))",
];

/// Nobody listens there, and nobody needs to: what is refused never gets so far.
const NODE: &str = "127.0.0.1:1";

async fn database(servers: &Servers, kind: Kind, more: &[&str]) -> Database {
    let more = more.iter().map(|&option| option.to_owned()).collect();
    let options = DatabaseOptions { durability: Durability::Memory, more };
    let database = servers.database(kind, &options).await.expect("a database server");
    database.run(TABLES).await.expect("tables");
    database
}

async fn region(database: &Database) -> Region {
    let nodes = vec![NODE.to_owned()];
    Region::shop(database, nodes, Duration::from_secs(1)).await.expect("a region")
}

fn said(output: &Output) -> String {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{err}")
}

/// Both subcommands refuse, and say each of `parts`.
async fn refused(region: &Region, directory: &Path, parts: &[&str]) {
    for command in ["check", "run"] {
        let output = mcsqueal(region, directory, &[command]).await.expect("mcsqueal ends");
        let said = said(&output);
        assert_eq!(output.status.code(), Some(EXIT_CONFIG), "mcsqueal {command}:\n{said}");
        for part in parts {
            assert!(said.contains(part), "mcsqueal {command} does not say {part:?}:\n{said}");
        }
    }
    assert!(!directory.join("stream.db").exists(), "a refused start has made a stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_server_settings() {
    let test = "refusals_of_server_settings";
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let Some(lab) = enter(test, &[kind.name(), "mcsqueal"]).await else { continue };
        for (option, parts) in [
            ("--binlog-format=STATEMENT", ["binlog_format", "ROW"]),
            ("--binlog-row-metadata=MINIMAL", ["binlog_row_metadata", "FULL"]),
            ("--binlog-row-image=MINIMAL", ["binlog_row_image", "FULL"]),
        ] {
            let database = database(&lab.servers, kind, &[option]).await;
            let region = region(&database).await;
            refused(&region, lab.servers.directory(), &parts).await;
            accepted_by_name(&region, lab.servers.directory(), parts[0]).await;
        }
        let database = database(&lab.servers, kind, &["--skip-log-bin"]).await;
        refused(&region(&database).await, lab.servers.directory(), &["log_bin"]).await;
    }
}

/// What was refused is accepted where the configuration names it, and still said.
async fn accepted_by_name(region: &Region, directory: &Path, danger: &str) {
    let source = format!("{}\"\naccept = [\"{danger}\"] # \"", region.source);
    let accepting = Region { source, ..region.clone() };
    let output = mcsqueal(&accepting, directory, &["check"]).await.expect("mcsqueal ends");
    let said = said(&output);
    assert!(output.status.success(), "mcsqueal check that accepts {danger}:\n{said}");
    assert!(said.contains(&format!("warning: {danger} is ")), "{said}");
    assert!(said.contains(&format!("(accepted: {danger})")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_rules_and_configuration() {
    let test = "refusals_of_rules_and_configuration";
    let Some(lab) = enter(test, &["mariadb", "mcsqueal"]).await else { return };
    let database = database(&lab.servers, Kind::Mariadb, &[]).await;
    let good = region(&database).await;
    let directory = lab.servers.directory();

    let accepted = mcsqueal(&good, directory, &["check"]).await.expect("mcsqueal check ends");
    assert!(accepted.status.success(), "mcsqueal check of what is right:\n{}", said(&accepted));

    let rules = "[[rule]]\ntable = \"shop.customers\"\nkeys = [\"customer:{id}\"]\n";
    let no_table = Region { rules: rules.to_owned(), ..good.clone() };
    refused(&no_table, directory, &["shop.rules.toml", "shop.customers"]).await;

    let rules = "[[rule]]\ntable = \"shop.users\"\nkeys = [\"user:{uid}\"]\n";
    let no_column = Region { rules: rules.to_owned(), ..good.clone() };
    refused(&no_column, directory, &["shop.rules.toml", "uid", "email"]).await;

    let rules = "[[rule]]\ntable = \"shop.users\"\nkey = \"user:{id}\"\n";
    let unknown_rule_key = Region { rules: rules.to_owned(), ..good.clone() };
    refused(&unknown_rule_key, directory, &["shop.rules.toml:3", "key"]).await;

    tables_and_columns(&database, &good, directory).await;

    let unknown_key = Region { source: "127.0.0.1:3306\"\nsorce = \"x".to_owned(), ..good };
    refused(&unknown_key, directory, &["region.toml:7", "sorce"]).await;
}

/// What a binlog can leave out is refused; what it writes as other bytes than clients have in their keys is not.
async fn tables_and_columns(database: &Database, good: &Region, directory: &Path) {
    let table = "CREATE TABLE shop.visits (id UUID PRIMARY KEY, i4 INET4, i6 INET6, seen FLOAT, \
                 slug VARCHAR(40) AS (CAST(id AS CHAR)) STORED, id_text VARCHAR(36))";
    let trigger = "CREATE TRIGGER shop.visits_text BEFORE INSERT ON shop.visits \
                   FOR EACH ROW SET NEW.id_text = NEW.id";
    database.run(&[table, trigger]).await.expect("a table");
    let region = |column: &str| {
        let rules = format!("[[rule]]\ntable = \"shop.visits\"\nkeys = [\"visit:{{{column}}}\"]\n");
        Region { rules, ..good.clone() }
    };
    let log = "CREATE TABLE shop.log (id INT, KEY (id)) ENGINE = MyISAM";
    database.run(&[log]).await.expect("a table");
    let rules = "[[rule]]\ntable = \"shop.log\"\nkeys = [\"log:{id}\"]\n".to_owned();
    let engine = ["shop.log is of engine MyISAM", "shop.log has no primary key"];
    refused(&Region { rules, ..good.clone() }, directory, &engine).await;
    let what = "column slug of shop.visits is generated";
    refused(&region("slug"), directory, &[what, "# keep it in an ordinary column"]).await;
    for column in ["id", "i4", "i6", "seen", "id_text"] {
        let accepted = mcsqueal(&region(column), directory, &["check"]).await.expect("it ends");
        assert!(accepted.status.success(), "{column}: {}", said(&accepted));
    }
}

/// What is out of reach is not refused: mcsqueal runs, says so in `/health`, and goes on trying.
async fn unhealthy_but_alive(servers: &Servers, region: &Region) {
    let options = McsquealOptions::default();
    let mut mcsqueal = servers.mcsqueal(region, &options).await.expect("mcsqueal is ready");
    let over = Instant::now() + Duration::from_secs(3);
    while Instant::now() < over {
        mcsqueal.alive().expect("mcsqueal goes on trying");
        sleep(Duration::from_millis(100)).await;
    }
    let address = mcsqueal.http().expect("an HTTP address").to_owned();
    let (status, body) = http::get(&address, "/health").await.expect("an answer");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("source") || body.contains("tailer"), "{body}");
    mcsqueal.stop().await.expect("mcsqueal stops when asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_is_retried() {
    let test = "wrong_password_is_retried";
    let Some(lab) = enter(test, &["mariadb", "mcsqueal"]).await else { return };
    let database = database(&lab.servers, Kind::Mariadb, &[]).await;
    let good = region(&database).await;
    let account = Account { password: "wrong".to_owned(), ..good.account.clone() };
    unhealthy_but_alive(&lab.servers, &Region { account, ..good }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_down_at_start_is_waited_for() {
    let test = "server_that_is_down_at_start_is_waited_for";
    let Some(lab) = enter(test, &["mariadb", "mcsqueal"]).await else { return };
    let mut database = database(&lab.servers, Kind::Mariadb, &[]).await;
    let region = region(&database).await;
    database.stop().await.expect("the server stops");
    unhealthy_but_alive(&lab.servers, &region).await;
}
