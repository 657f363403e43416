//! `mcsqueal run --nodes mcsqueal`: the region's nodes are in the same process.

use std::time::Duration;

use e2e::servers::{
    Database, DatabaseOptions, Durability, Kind, McsquealOptions, Region, free_port,
};

use super::wire::Wire;
use crate::support::{enter, skip, until};

const DEADLINE: Duration = Duration::from_secs(20);
const FILL_AGE_MAX: Duration = Duration::from_millis(200);
const NODES: usize = 2;
const RULES: &str = r#"
[[rule]]
table = "shop.users"
keys = ["user:{id}", "user-by-email:{email|lower}"]
"#;

/// Two of the row that changes, and one of another.
const KEYS: [&str; 3] = ["user:1", "user-by-email:ann@example.com", "user:2"];

#[tokio::test(flavor = "multi_thread")]
async fn run_serves_the_regions_nodes_itself() {
    let test = "run_serves_the_regions_nodes_itself";
    let Some(lab) = enter(test, &["mcsqueal"]).await else { return };
    let Some(kind) = lab.servers.manifest().some_database() else {
        return skip(test, Kind::Mysql.name(), "there is no database server on this machine");
    };
    let options = DatabaseOptions { durability: Durability::Memory, ..DatabaseOptions::default() };
    let database: Database = lab.servers.database(kind, &options).await.expect("a database");
    let create = "CREATE TABLE shop.users (id INT PRIMARY KEY, email VARCHAR(120) NOT NULL)";
    let rows = "INSERT INTO shop.users VALUES (1, 'Ann@Example.com'), (2, 'bob@example.com')";
    database.run(&["CREATE DATABASE shop", create, rows]).await.expect("a table");
    let address = |_| format!("127.0.0.1:{}", free_port().expect("a port"));
    let nodes: Vec<String> = (0..NODES).map(address).collect();
    let mut region = Region::shop(&database, nodes.clone(), FILL_AGE_MAX).await.expect("a region");
    region.rules = RULES.to_owned();
    let options = McsquealOptions {
        flags: ["--nodes", "mcsqueal"].map(str::to_owned).to_vec(),
        ..McsquealOptions::default()
    };
    let mut mcsqueal = lab.servers.mcsqueal(&region, &options).await.expect("mcsqueal starts");
    // Nobody here hashes: every node is offered every key, and keeps its own.
    let mut wires = Vec::new();
    for node in &nodes {
        wires.push(Wire::connect(node).await.expect("the nodes are there"));
    }
    until("each key has one node", DEADLINE, async || {
        for wire in &mut wires {
            for key in KEYS {
                let set = format!("set {key} 0 0 3\r\nold\r\n");
                wire.ask(set.as_bytes()).await.expect("an answer");
            }
        }
        holders(&mut wires).await == [1, 1, 1]
    })
    .await;
    let change = "UPDATE shop.users SET email = 'ann@example.org' WHERE id = 1";
    database.run(&[change]).await.expect("a change");
    until("the keys of the row are gone from their nodes", DEADLINE, async || {
        let holders = holders(&mut wires).await;
        assert_eq!(holders[2], 1, "a row that did not change");
        holders == [0, 0, 1]
    })
    .await;
    mcsqueal.stop().await.expect("it stops, and its nodes with it");
    for node in &nodes {
        assert!(Wire::connect(node).await.is_err(), "{node} is still there");
    }
}

/// How many nodes have each key.
async fn holders(wires: &mut [Wire]) -> [usize; KEYS.len()] {
    let mut holders = [0; KEYS.len()];
    for wire in wires {
        for (at, key) in KEYS.iter().enumerate() {
            let answer = wire.ask(format!("get {key}\r\n").as_bytes()).await.expect("an answer");
            holders[at] += usize::from(answer != b"END\r\n");
        }
    }
    holders
}
