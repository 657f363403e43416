//! Another region file while everything runs, under load: a node comes, a cluster comes, a node goes, rules change; and files that
//! are refused. Some clients still have the ring of before. Nothing stale stays, nothing is read that is long over.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use client::{Client, Cluster, Fetched, Isolation, Read, Reading, Settings};
use e2e::{
    cache::{Cache, Nodes},
    servers::{CacheNode, Database, Kind, Link, options_of},
};
use mysql_async::{Conn, prelude::Queryable};
use schemas::ring::{Hashing, Ring, RingNode};
use serde_json::Value;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{DEADLINE, POLL, RULES, Stage, ask};
use crate::{
    look_aside::key_of,
    support::{enter, until},
};

const THINGS: u32 = 20;
/// Far above the default of `staleness_ms_max`, for slow machines.
const LATE: Duration = Duration::from_secs(20);
const VERSIONS: &str = "fill_age_ms_max = 1000";
/// The cluster `main`, whose nodes follow.
const MAIN: &str = "[[cluster]]\nname = \"main\"\nhashing = \"ketama\"\nfill_age_ms_max = 1000\n";

#[tokio::test(flavor = "multi_thread")]
async fn nodes_clusters_and_rules_come_and_go_under_load() {
    let test = "nodes_clusters_and_rules_come_and_go_under_load";
    let Some(lab) = enter(test, &["mariadb", "mcsqueal"]).await else { return };
    let options = options_of(Kind::Mariadb, 1, Link::Plain);
    let database = lab.servers.database(Kind::Mariadb, &options).await.expect("a database");
    let a = lab.servers.versioned_node(VERSIONS).await.expect("a node");
    let b = lab.servers.versioned_node(VERSIONS).await.expect("a node");
    let c = lab.servers.versioned_node(VERSIONS).await.expect("a node");
    let mut stage = Stage::around(lab, a, vec![database], &[], "ring_version = 1").await;
    stage.until("it runs", |health| health["ok"] == true).await;
    let a_says = entry(&stage.node);
    let mut load = Load::start(&stage.chain[0]).await;
    let quiet = stage.keeps_quiet_things().await;
    load.read(&stage.chain[0], &[&stage.node]).await;

    // A node comes: the file is looked at.
    let main = format!("{MAIN}ring_version = 2\nnodes = [{a_says}, {}]\n", entry(&b));
    stage.clusters(&format!("{main}former = {{ nodes = [{a_says}] }}"));
    stage.runs(2, 2).await;
    load.read(&stage.chain[0], &[&stage.node, &b]).await;
    load.goes_on().await;

    // A cluster comes, by SIGHUP.
    let second = format!(
        "[[cluster]]\nname = \"second\"\nhashing = \"rendezvous\"\nnodes = [{}]",
        entry(&c)
    );
    stage.clusters(&format!("{main}former = {{ nodes = [{a_says}] }}\n{second}"));
    stage.mcsqueal.hangup().expect("SIGHUP");
    stage.runs(3, 3).await;
    load.read(&stage.chain[0], &[&c]).await;
    load.goes_on().await;

    stage.refuses_what_it_cannot_take().await;
    // All that nobody has changed is still where it was.
    assert_eq!(stage.held(&quiet).await, quiet);

    // The clients of the first ring have changed. A node goes: while some clients ask it still, it has its deletes.
    load.first_leaves();
    stage.clusters(&format!("{main}{second}"));
    stage.runs(4, 3).await;
    let ring = [&stage.node, &b].map(|node| RingNode { name: node.address(), weight: 1 });
    let ring = Ring::new(Hashing::Ketama, &ring).expect("a ring");
    let is_own = |thing: &&u32| ring.owner(&key_of(**thing)) == 0;
    let own: Vec<u32> = quiet.iter().filter(is_own).copied().collect();
    assert!(!own.is_empty() && own.len() < quiet.len(), "{own:?}");
    until("what has left is dropped", DEADLINE, async || stage.held(&quiet).await == own).await;
    let main = format!("{MAIN}ring_version = 3\nnodes = [{}]\n", entry(&b));
    let both = format!("former = {{ nodes = [{a_says}, {}] }}", entry(&b));
    stage.clusters(&format!("{main}{both}\n{second}"));
    stage.runs(5, 3).await;
    load.read(&stage.chain[0], &[&b]).await;
    load.goes_on().await;
    load.ends(&stage.chain[0]).await;

    // When none does, it goes for good, and answers nothing to whoever has not heard.
    stage.clusters(&format!("{main}{second}"));
    stage.runs(6, 2).await;
    let mut cache = Cache::new(&stage.nodes);
    until("the node serves nothing any more", DEADLINE, async || {
        let mut all_gone = true;
        for thing in 0..THINGS {
            let request = format!("mg thing:{thing} v\r\n");
            all_gone &= cache.meta(0, request.as_bytes()).await.expect("an answer").0 == "EN";
        }
        all_gone
    })
    .await;

    stage.maps_by_other_rules(&b).await;
    stage.never_says_its_password().await;
    stage.mcsqueal.stop().await.expect("a clean stop");
}

/// As the region file has it.
fn entry(node: &CacheNode) -> String {
    let control = node.control().expect("a control port");
    format!("{{ address = \"{}\", control = \"{control}\" }}", node.address())
}

impl Stage {
    /// Writes other clusters into the region file.
    fn clusters(&self, clusters: &str) {
        let file = self.mcsqueal.directory().join("region.toml");
        let text = std::fs::read_to_string(&file).expect("a region file");
        let (head, rest) = text.split_once("[[cluster]]").expect("a cluster");
        let (_, tail) = rest.split_once("[http]").expect("a side port");
        replace(&file, &format!("{head}{clusters}\n\n[http]{tail}"));
    }

    /// Waits until the process runs so many configurations, and has so many lanes, all of them connected.
    async fn runs(&self, number: u64, lanes: usize) {
        self.until(&format!("configuration {number} runs"), |health| {
            let all = health["lanes"].as_array().map_or(&[][..], Vec::as_slice);
            health["config"]["number"] == number
                && health["config"]["refused"].is_null()
                && all.len() == lanes
                && all.iter().all(|lane| lane["connected"] == true)
        })
        .await;
    }

    /// Fills things that nobody changes; and says which.
    async fn keeps_quiet_things(&self) -> Vec<u32> {
        let quiet: Vec<u32> = (50..80).collect();
        let mut cache = Cache::new(&self.nodes);
        // What is stored before every partition has said where it is goes again.
        until("the node is up to date", DEADLINE, async || {
            self.fill(&mut cache, 0, 50).await;
            let (line, _) = ask(&mut cache, "mg thing:50 v V\r\n").await;
            line.starts_with("VA") && !line.ends_with(" D")
        })
        .await;
        for thing in &quiet {
            self.fill(&mut cache, 0, *thing).await;
        }
        quiet
    }

    /// Which of these the first node has.
    async fn held(&self, things: &[u32]) -> Vec<u32> {
        let mut cache = Cache::new(&self.nodes);
        let mut held = Vec::new();
        for thing in things {
            if ask(&mut cache, &format!("mg thing:{thing} v\r\n")).await.0 != "EN" {
                held.push(*thing);
            }
        }
        held
    }

    async fn refuses_what_it_cannot_take(&self) {
        let file = self.mcsqueal.directory().join("region.toml");
        let good = std::fs::read_to_string(&file).expect("a region file");
        let hash = self.mcsqueal.health().await.expect("an answer")["config"]["hash"].clone();
        for (from, to, why) in [
            ("[source]", "[sauce]", "unknown field `sauce`"),
            (
                "server_id = 4217",
                "server_id = 4218",
                "source.server_id: a change of it needs a restart",
            ),
            ("ring_version = 2", "ring_version = 1", "ring_version must not fall below 2"),
            ("shop.rules.toml", "no.rules.toml", "no.rules.toml"),
        ] {
            assert!(good.contains(from), "{good}");
            replace(&file, &good.replacen(from, to, 1));
            self.until(&format!("it is refused: {why}"), |health| {
                let config = &health["config"];
                let said = config["refused"].as_str().is_some_and(|said| said.contains(why));
                assert_eq!((&config["number"], &config["hash"]), (&Value::from(3), &hash));
                said
            })
            .await;
            assert!(self.mcsqueal.metric("mcsqueal_config_refused", "").await > 0.5);
        }
        replace(&file, &good);
        self.runs(3, 3).await;
    }

    /// What was in flight is mapped by both; what comes then by the new rules.
    async fn maps_by_other_rules(&self, node: &CacheNode) {
        let rules = self.mcsqueal.directory().join("shop.rules.toml");
        replace(&rules, &RULES.replace("thing:{id}", "other:{id}"));
        self.runs(7, 2).await;
        let nodes = Nodes::new(vec![node.address()]).expect("a ring");
        let mut cache = Cache::new(&nodes);
        let mut round = 0;
        until("a change deletes the new key, and the old one no longer", DEADLINE, async || {
            round += 1;
            for key in ["thing:1", "other:1"] {
                until("the node takes a value", DEADLINE, async || {
                    cache
                        .meta(0, format!("ms {key} 1 T600\r\nx\r\n").as_bytes())
                        .await
                        .expect("an answer")
                        .0
                        == "HD"
                })
                .await;
            }
            let change =
                format!("UPDATE shop.things SET value = '{}' WHERE id = 1", 1_000_000 + round);
            self.chain[0].run(&[&change]).await.expect("a change");
            until("the new key is deleted", DEADLINE, async || {
                cache.meta(0, b"mg other:1 v\r\n").await.expect("an answer").0 == "EN"
            })
            .await;
            cache.meta(0, b"mg thing:1 v\r\n").await.expect("an answer").0 != "EN"
        })
        .await;
    }
}

impl Stage {
    /// Neither in its log nor at its side port.
    async fn never_says_its_password(&self) {
        let http = self.mcsqueal.http().expect("a side port");
        let mut said = std::fs::read_to_string(self.mcsqueal.log()).expect("a log");
        for page in ["/health", "/metrics", "/epochs"] {
            said.push_str(&e2e::http::get(http, page).await.expect("an answer").1);
        }
        assert!(said.len() > 1000 && !said.contains("squeak"), "it has said its password");
    }
}

/// Written beside and renamed, as editors do.
fn replace(file: &std::path::Path, text: &str) {
    let partial = file.with_extension("partial");
    std::fs::write(&partial, text).expect("a file");
    std::fs::rename(&partial, file).expect("a file");
}

/// For each thing, when each of its values was over.
type Book = Arc<Mutex<Vec<Vec<Instant>>>>;

/// A writer, and readers with rings of their own.
struct Load {
    stop: Arc<AtomicBool>,
    book: Book,
    tasks: Vec<JoinHandle<()>>,
    clients: Vec<(Client, Arc<AtomicBool>)>,
}

impl Load {
    async fn start(database: &Database) -> Load {
        let mut conn = database.connect().await.expect("a connection");
        let begin = format!("UPDATE shop.things SET value = '0' WHERE id < {THINGS}");
        conn.query_drop(begin).await.expect("a change");
        let (stop, book) = (Arc::new(AtomicBool::new(false)), Book::default());
        book.lock().unwrap_or_else(PoisonError::into_inner).resize(THINGS as usize, Vec::new());
        let (until, told) = (Arc::clone(&stop), Arc::clone(&book));
        let writer = tokio::spawn(async move {
            let mut values = vec![0_u64; THINGS as usize];
            for thing in (0..THINGS).cycle() {
                if until.load(Ordering::Relaxed) {
                    return;
                }
                let value = &mut values[thing as usize];
                *value += 1;
                let change = format!("UPDATE shop.things SET value = '{value}' WHERE id = {thing}");
                conn.query_drop(change).await.expect("a change");
                told.lock().unwrap_or_else(PoisonError::into_inner)[thing as usize]
                    .push(Instant::now());
                sleep(POLL).await;
            }
        });
        Load { stop, book, tasks: vec![writer], clients: Vec::new() }
    }

    /// Another reader, whose ring has these nodes.
    async fn read(&mut self, database: &Database, nodes: &[&CacheNode]) {
        let nodes = nodes.iter().map(|node| RingNode { name: node.address(), weight: 1 });
        let cluster = Cluster { hashing: Hashing::Ketama, nodes: nodes.collect() };
        let client = Client::new(Settings::new(vec![cluster])).expect("settings");
        let leaves = Arc::new(AtomicBool::new(false));
        self.clients.push((client.clone(), Arc::clone(&leaves)));
        let (stop, book) = (Arc::clone(&self.stop), Arc::clone(&self.book));
        let mut conn = database.connect().await.expect("a connection");
        self.tasks.push(tokio::spawn(async move {
            for thing in (0..THINGS).cycle() {
                if stop.load(Ordering::Relaxed) || leaves.load(Ordering::Relaxed) {
                    return;
                }
                let began = Instant::now();
                let value = get(&client, &mut conn, thing).await;
                let late = late(&book, thing, value, began);
                assert!(late < LATE, "thing {thing}: {value} was over for {late:?}");
                sleep(POLL).await;
            }
        }));
    }

    /// Nobody uses the first ring any more.
    fn first_leaves(&mut self) {
        let (_, leaves) = self.clients.remove(0);
        leaves.store(true, Ordering::Relaxed);
    }

    /// For a moment: long enough for every key to be written and read.
    async fn goes_on(&self) {
        sleep(Duration::from_millis(500)).await;
        let running = self.tasks.iter().filter(|task| !task.is_finished()).count();
        assert!(running > self.clients.len(), "the load has ended");
    }

    /// Nobody writes any more: what every ring's nodes have is what the database has.
    async fn ends(&mut self, database: &Database) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await.expect("no late read");
        }
        let mut conn = database.connect().await.expect("a connection");
        let written: Vec<(u32, String)> =
            conn.query("SELECT id, value FROM shop.things ORDER BY id").await.expect("rows");
        for (at, (client, _)) in self.clients.iter().enumerate() {
            for (thing, value) in written.iter().take(THINGS as usize) {
                until("the last value is everywhere", DEADLINE, async || {
                    get(client, &mut conn, *thing).await.to_string() == *value
                })
                .await;
                let again = get(client, &mut conn, *thing).await.to_string();
                assert_eq!(again, *value, "ring {at}, thing {thing}");
            }
        }
    }
}

/// For how long a value had been over when somebody began to read it.
fn late(book: &Book, thing: u32, value: u64, began: Instant) -> Duration {
    let book = book.lock().unwrap_or_else(PoisonError::into_inner);
    let over = usize::try_from(value).ok().and_then(|at| book[thing as usize].get(at));
    over.map_or(Duration::ZERO, |over| began.saturating_duration_since(*over))
}

async fn get(client: &Client, conn: &mut Conn, thing: u32) -> u64 {
    let read = Read::new(Reading::Autocommit(Isolation::RepeatableRead));
    let key = key_of(thing);
    let got = client.get(&key, read, |_| async {
        let asked = format!("SELECT value FROM shop.things WHERE id = {thing}");
        let value: Option<String> = conn.query_first(asked).await?;
        Ok::<_, mysql_async::Error>(value.map_or_else(Fetched::absent, Fetched::found))
    });
    let value = got.await.expect("the database answers").value.expect("a value");
    String::from_utf8(value.to_vec()).expect("text").parse().expect("a number")
}
