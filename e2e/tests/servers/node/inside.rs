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
    // Nobody here hashes: every node gets every key, and must lose its own.
    let mut wires = Vec::new();
    for node in &nodes {
        let mut wire = Wire::connect(node).await.expect("the nodes are there");
        for key in ["user:1", "user-by-email:ann@example.com", "user:2"] {
            let set = format!("set {key} 0 0 3\r\nold\r\n");
            assert_eq!(wire.ask(set.as_bytes()).await.expect("an answer"), b"STORED\r\n");
        }
        wires.push(wire);
    }
    let change = "UPDATE shop.users SET email = 'ann@example.org' WHERE id = 1";
    database.run(&[change]).await.expect("a change");
    until("the keys of the row are gone from their nodes", DEADLINE, async || {
        let mut gone = [0, 0, 0];
        for wire in &mut wires {
            for (at, key) in
                ["user:1", "user-by-email:ann@example.com", "user:2"].iter().enumerate()
            {
                let get = format!("get {key}\r\n");
                let answer = wire.ask(get.as_bytes()).await.expect("an answer");
                gone[at] += usize::from(answer == b"END\r\n");
            }
        }
        // Each key has one node.
        assert_eq!(gone[2], 0, "a row that did not change");
        gone == [1, 1, 0]
    })
    .await;
    mcsqueal.stop().await.expect("it stops, and its nodes with it");
    for node in &nodes {
        assert!(Wire::connect(node).await.is_err(), "{node} is still there");
    }
}
