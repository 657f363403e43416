//! The auditor stays green beside an invalidator that works, and turns red, with the right verdict, beside one that is broken
//! on purpose: stopped for a while, with deletes that get lost, with a rule that forgets a column, and with a reader who
//! stores what he has read long ago.

use std::time::Duration;

use e2e::{
    cache::{Cache, Nodes},
    servers::{Auditor, Database, Kind, Link, Mcsqueal, McsquealOptions, Region, options_of},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

use crate::support::{enter, needs_of, until};

const DEADLINE: Duration = Duration::from_secs(60);
const FILL_AGE_MAX: Duration = Duration::from_millis(300);
/// Long enough for a row of the canary in between, which tells what was stored before a change.
const APART: Duration = Duration::from_millis(400);
const TTL_S: u32 = 600;
const ROWS: u32 = 50;

const RULES: &str = r#"
[[rule]]
name = "things"
table = "shop.things"
columns = ["value"]
keys = ["thing:{id}"]

[[rule]]
name = "canary"
table = "shop.canary"
keys = ["mcsqueal-canary:{id}"]
"#;

/// Long enough for a machine that does much else.
const PATIENT: &str = r#"
sample = 1
in_flight_ms = 1000
late_ms = 6000
lost_ms = 7000
canary_table = "shop.canary"
"#;

const HASTY: &str = r#"
sample = 1
in_flight_ms = 300
late_ms = 1500
lost_ms = 4000
canary_table = "shop.canary"
[[auditor.value]]
table = "shop.things"
key = "thing:{id}"
sql = "SELECT CONCAT(value, '/', note) FROM shop.things WHERE id = ?"
part = '^is (.*)$'
"#;

#[tokio::test(flavor = "multi_thread")]
async fn stays_green_beside_memcached() {
    let test = "stays_green_beside_memcached";
    let Some(lab) = enter(test, &needs_of(Kind::Mariadb)).await else { return };
    let database = shop(&lab.servers, Kind::Mariadb).await;
    let memcached = lab.servers.memcached_nodes(2).await.expect("memcached nodes");
    let nodes = memcached.iter().map(e2e::servers::Memcached::address).collect();
    let region = region(&database, nodes).await;
    stays_green(&lab.servers, &database, &region).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stays_green_beside_nodes_of_ours() {
    let test = "stays_green_beside_nodes_of_ours";
    let Some(lab) = enter(test, &["mysql", "mcsqueal"]).await else { return };
    let database = shop(&lab.servers, Kind::Mysql).await;
    let node = lab.servers.versioned_node("fill_age_ms_max = 300").await.expect("a node");
    let mut region = region(&database, vec![node.address()]).await;
    region.controls = vec![node.control().expect("a control port")];
    stays_green(&lab.servers, &database, &region).await;
}

async fn stays_green(servers: &e2e::servers::Servers, database: &Database, region: &Region) {
    let mut mcsqueal =
        servers.mcsqueal(region, &McsquealOptions::default()).await.expect("mcsqueal is ready");
    let auditor = servers.auditor(region, PATIENT, &["--for", "3s"]).await.expect("an auditor");
    let mut cache = Cache::new(&Nodes::new(region.nodes.clone()).expect("a ring"));
    for round in 0..3 {
        for id in 1..=ROWS {
            // Nodes of ours refuse what may be old; what is stored now is not.
            drop(cache.set(&format!("thing:{id}"), TTL_S, &format!("is v{round}/n")).await);
        }
        sleep(APART).await;
        let change = format!("UPDATE shop.things SET value = 'v{}'", round + 1);
        database.run(&[&change]).await.expect("a change");
    }
    let audit = auditor.finish(DEADLINE).await.expect("an audit");
    assert!(audit.success, "{}", audit.text);
    assert!(audit.verdict.starts_with("auditor: green"), "{}", audit.text);
    assert!(audit.sample >= u64::from(ROWS), "{}", audit.text);
    assert!(audit.text.contains("\ncanary: "), "{}", audit.text);
    mcsqueal.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_red_with_the_right_verdict() {
    let test = "turns_red_with_the_right_verdict";
    let Some(lab) = enter(test, &needs_of(Kind::Mariadb)).await else { return };
    let database = shop(&lab.servers, Kind::Mariadb).await;
    let memcached = lab.servers.memcached().await.expect("a memcached");
    let thief = Thief::start(memcached.address()).await;
    // Deletes go through the thief; the auditor looks at the node itself.
    let robbed = region(&database, vec![thief.address.clone()]).await;
    let looked_at = Region { nodes: vec![memcached.address()], ..robbed.clone() };
    let mcsqueal = lab.servers.mcsqueal(&robbed, &McsquealOptions::default()).await;
    let mcsqueal = mcsqueal.expect("mcsqueal is ready");
    let auditor = lab.servers.auditor(&looked_at, HASTY, &[]).await.expect("an auditor");
    let nodes = Nodes::new(vec![memcached.address()]).expect("a ring");
    let mut stage = Stage { cache: Cache::new(&nodes), database, auditor, mcsqueal };
    stage.begins().await;

    for id in [1, 2, STOLEN] {
        stage.plant(id).await;
    }
    sleep(APART).await;
    // A delete is answered, and never made.
    stage.change(&format!("UPDATE shop.things SET value = 'new' WHERE id = {STOLEN}")).await;
    // The value has a note, and the rule says that only `value` counts.
    stage.change("UPDATE shop.things SET note = 'new' WHERE id = 2").await;
    // A reader stores what he has read before the change, after the last delete.
    stage.change("UPDATE shop.things SET value = 'new' WHERE id = 1").await;
    stage.gone(1).await;
    until("a value that came back is found", DEADLINE, async || {
        if stage.cache.get(&key(1)).await.is_ok_and(|value| value.is_none()) {
            stage.plant(1).await;
        }
        stage.found("resurrected").await
    })
    .await;
    until("a wrong rule is found", DEADLINE, async || stage.found("wrong_rule").await).await;
    until("a lost delete is found", DEADLINE, async || stage.found("lost").await).await;

    // The invalidator sleeps.
    stage.plant(3).await;
    sleep(APART).await;
    stage.mcsqueal.freeze().expect("freeze mcsqueal");
    stage.change("UPDATE shop.things SET value = 'new' WHERE id = 3").await;
    until("a late delete is found", DEADLINE, async || stage.late(3)).await;
    stage.mcsqueal.thaw().expect("thaw mcsqueal");
    stage.gone(3).await;

    let audit = stage.auditor.stop().await.expect("an audit");
    assert!(!audit.success, "{}", audit.text);
    assert!(audit.verdict.starts_with("auditor: RED"), "{}", audit.text);
    for (verdict, id) in [("resurrected", 1), ("wrong_rule", 2), ("late", 3), ("lost", STOLEN)] {
        assert!(
            says(&audit.text, verdict, id),
            "no log of {verdict} thing:{id} in\n{}",
            audit.text
        );
    }
    for verdict in ["resurrected", "wrong_rule"] {
        let wrong = |line: &&str| line.contains(&format!("\"verdict\":\"{verdict}\""));
        assert_eq!(audit.text.lines().filter(wrong).count(), 1, "{}", audit.text);
    }
}

/// Whether a log has a line of this verdict on this thing.
fn says(log: &str, verdict: &str, id: u32) -> bool {
    let (verdict, key) = (format!("\"verdict\":\"{verdict}\""), format!("\"key\":\"{}\"", key(id)));
    log.lines().any(|line| line.contains(&verdict) && line.contains(&key))
}

fn key(id: u32) -> String {
    format!("thing:{id}")
}

const VERDICTS: &str = "mcsqueal_auditor_verdicts_total";

struct Stage {
    cache: Cache,
    database: Database,
    auditor: Auditor,
    mcsqueal: Mcsqueal,
}

impl Stage {
    /// The auditor reads the binlog, and has looked at the node: the canary has come and gone.
    async fn begins(&mut self) {
        let canaries = "mcsqueal_auditor_canary_staleness_seconds_count";
        let begun = || async { self.auditor.metric(canaries, "").await };
        until("the canary flies", DEADLINE, async || begun().await >= 5.0).await;
        let heard = || async { self.auditor.metric("mcsqueal_auditor_connected", "").await };
        until("the binlog is read", DEADLINE, async || heard().await >= 1.0).await;
    }

    /// What the database had at first.
    async fn plant(&mut self, id: u32) {
        self.cache.set(&key(id), TTL_S, "is old/note").await.expect("a value is stored");
    }

    async fn change(&mut self, statement: &str) {
        self.database.run(&[statement]).await.expect("a change");
    }

    async fn gone(&mut self, id: u32) {
        let (cache, key) = (&mut self.cache, key(id));
        until("the key is deleted", DEADLINE, async || {
            cache.get(&key).await.is_ok_and(|value| value.is_none())
        })
        .await;
    }

    async fn found(&self, verdict: &str) -> bool {
        self.auditor.metric(VERDICTS, &format!("verdict=\"{verdict}\"")).await >= 1.0
    }

    fn late(&self, id: u32) -> bool {
        std::fs::read_to_string(self.auditor.log()).is_ok_and(|log| says(&log, "late", id))
    }
}

async fn shop(servers: &e2e::servers::Servers, kind: Kind) -> Database {
    let options = options_of(kind, 1, Link::Plain);
    let database = servers.database(kind, &options).await.expect("a database");
    let rows: Vec<String> = (1..=ROWS).map(|id| format!("({id}, 'old', 'note')")).collect();
    let insert = format!("INSERT INTO shop.things VALUES {}", rows.join(", "));
    let things =
        "CREATE TABLE shop.things (id INT PRIMARY KEY, value VARCHAR(20), note VARCHAR(20))";
    let canary = "CREATE TABLE shop.canary (id BIGINT UNSIGNED PRIMARY KEY, n BIGINT UNSIGNED)";
    let made = database.run(&["CREATE DATABASE shop", things, canary, &insert]).await;
    made.expect("tables");
    database
}

async fn region(database: &Database, nodes: Vec<String>) -> Region {
    let mut region = Region::shop(database, nodes, FILL_AGE_MAX).await.expect("a region");
    RULES.clone_into(&mut region.rules);
    let grant = format!("GRANT INSERT, UPDATE ON shop.canary TO '{}'@'%'", region.account.user);
    database.run(&[&grant]).await.expect("a grant");
    region
}

/// The thing whose deletes are stolen.
const STOLEN: u32 = 4;

/// A proxy in front of a memcached that answers one key's deletes itself.
struct Thief {
    address: String,
    task: JoinHandle<()>,
}

impl Drop for Thief {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Thief {
    async fn start(target: String) -> Thief {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = target.clone();
                // A connection that breaks is made anew by the other side.
                tokio::spawn(async move { steal(client, &target).await.ok() });
            }
        });
        Thief { address, task }
    }
}

/// Requests of one line, each with an answer of one line: all that an invalidator sends.
async fn steal(client: TcpStream, target: &str) -> std::io::Result<()> {
    let (read, mut write) = client.into_split();
    let (answers, mut node) = TcpStream::connect(target).await?.into_split();
    let (mut requests, mut answers) = (BufReader::new(read), BufReader::new(answers));
    let stolen = format!("delete thing:{STOLEN}\r\n");
    loop {
        let (mut request, mut answer) = (String::new(), String::new());
        if requests.read_line(&mut request).await? == 0 {
            return Ok(());
        }
        if request == stolen {
            answer.push_str("DELETED\r\n");
        } else {
            node.write_all(request.as_bytes()).await?;
            answers.read_line(&mut answer).await?;
        }
        write.write_all(answer.as_bytes()).await?;
    }
}
