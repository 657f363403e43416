//! Tools that read the binlog again: past rows become the keys that they became in the tailer, also where the binlog shows a
//! column as something else than it is.

use std::{fs, time::Duration};

use e2e::servers::{DatabaseOptions, Kind, McsquealOptions, Region};

use crate::support::{enter, mcsqueal, needs_of, until};

const GUARD: Duration = Duration::from_secs(30);
const VISIT: &str = "visit:123e4567-e89b-12d3-a456-426614174000";
const ADDRESS: &str = "from:10.1.2.3";
const RULES: &str =
    "[[rule]]\ntable = \"shop.visits\"\nkeys = [\"visit:{id}\", \"from:{address}\"]\n";

#[tokio::test(flavor = "multi_thread")]
async fn past_rows_become_the_same_keys() {
    let Some(lab) = enter("past_rows_become_the_same_keys", &needs_of(Kind::Mariadb)).await else {
        return;
    };
    let options = DatabaseOptions::default();
    let database = lab.servers.database(Kind::Mariadb, &options).await.expect("a database");
    let table = "CREATE TABLE shop.visits (id UUID PRIMARY KEY, address INET4)";
    database.run(&["CREATE DATABASE shop", table]).await.expect("a table");
    let node = lab.servers.memcached().await.expect("a memcached");
    let region = Region::shop(&database, vec![node.address()], Duration::from_secs(1)).await;
    let region = Region { rules: RULES.to_owned(), ..region.expect("a region") };
    let running = lab.servers.mcsqueal(&region, &McsquealOptions::default()).await;
    let mut running = running.expect("mcsqueal is ready");
    let folder = running.directory().to_owned();
    let tool = async |arguments: &[&str]| {
        let asked = mcsqueal(&region, &folder, arguments).await.expect("the tool ends");
        String::from_utf8_lossy(&[asked.stdout, asked.stderr].concat()).into_owned()
    };
    let id = VISIT.strip_prefix("visit:").expect("a prefix");
    let insert = format!("INSERT INTO shop.visits VALUES ('{id}', '10.1.2.3')");
    database.run(&[&insert]).await.expect("a row");
    for key in [VISIT, ADDRESS] {
        until("it is in the stream", GUARD, async || {
            tool(&["stream", "tail", "--key", key]).await.contains(key)
        })
        .await;
        // Until the stream says how far the source was, the transaction is in no range.
        let remap = ["replay", "--from", "start", "--remap", "--key", key, "--dry-run"];
        until("it is made again", GUARD, async || {
            tool(&remap).await.starts_with("1 keys (1 different)")
        })
        .await;
    }
    fs::write(folder.join("old.toml"), RULES).expect("written");
    let new = RULES.replace("\"visit:{id}\"", "\"visit:{id}\", \"seen:{id}\"");
    fs::write(folder.join("new.toml"), new).expect("written");
    let diff = ["explain", "--diff", "old.toml", "new.toml", "--from", "start"];
    let said = tool(&diff).await;
    assert!(said.contains(&format!("+   seen:{id}\n")), "{said}");
    running.stop().await.expect("a clean stop");
}
