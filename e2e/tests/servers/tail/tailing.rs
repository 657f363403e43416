//! [`Tailing`]: a tailer in front of a real server, whose outcomes can be asked for.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use e2e::servers::{Database, DatabaseOptions, Durability, Kind};
use mysql_async::{Conn, prelude::Queryable};
use prometheus_client::{encoding::text::encode, registry::Registry};
use schemas::{config::Address, rules::Rules};
use tailer::{Limits, Metrics, Settings, StatementKeys, Status, TailerError};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::book::{Book, Written, shown};
use crate::support::{Lab, enter};

/// Everything that is waited for comes within this, on a busy machine too.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// A connection that says nothing for three times as long is dead.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(300);
/// Short, so that it is easily exceeded.
pub(super) const TRANSACTION_KEYS_MAX: usize = 2000;

/// No marker is written twice: a server does not log what changes nothing.
static MARKERS: AtomicU32 = AtomicU32::new(1);
/// More keys are only counted.
const KEYS_SHOWN_MAX: usize = 20;

/// The tables, and what they feed.
const TABLES: &[&str] = &[
    "CREATE DATABASE shop",
    "CREATE TABLE shop.marker (id INT PRIMARY KEY)",
    "CREATE TABLE shop.users (id INT PRIMARY KEY, email VARCHAR(60), name VARCHAR(60), bio TEXT)",
    "CREATE TABLE shop.orders (id INT PRIMARY KEY, user_id INT, state INT, KEY (user_id))",
    "CREATE TABLE shop.docs (id INT PRIMARY KEY, j JSON, k JSON, n INT)",
    "CREATE TABLE shop.blobs (id INT PRIMARY KEY, body LONGBLOB)",
    "CREATE TABLE shop.parents (id INT PRIMARY KEY, code INT UNIQUE)",
    "CREATE TABLE shop.children (id INT PRIMARY KEY, parent INT, \
     FOREIGN KEY (parent) REFERENCES shop.parents (code) ON DELETE CASCADE ON UPDATE CASCADE)",
    "CREATE TABLE shop.grandchildren (id INT PRIMARY KEY, child INT, \
     FOREIGN KEY (child) REFERENCES shop.children (id) ON DELETE SET NULL)",
    "CREATE TABLE shop.other (id INT PRIMARY KEY, a INT)",
];
pub(super) const RULES: &str = r#"
[[rule]]
table = "shop.marker"
keys = ["marker:{id}"]

[[rule]]
table = "shop.users"
keys = ["user:{id}", "email:{email}"]

[[rule]]
table = "shop.orders"
keys = ["order:{id}", "orders-of:{user_id}"]

[[rule]]
table = "shop.docs"
keys = ["doc:{id}"]

[[rule]]
table = "shop.blobs"
keys = ["blob:{id}"]

[[rule]]
table = "shop.children"
keys = ["child:{id}"]

[[rule]]
table = "shop.grandchildren"
keys = ["grandchild:{id}"]

[[rule]]
table = '/shop\.new.*/'
keys = ["new:{id}"]
"#;

/// A server of `kind` with the tables, and its place in the lab; `None` where there is none.
pub(super) async fn server(test: &str, kind: Kind) -> Option<(Lab, Database)> {
    let lab = enter(test, &[kind.name()]).await?;
    let database = database(&lab, kind, &[]).await;
    tables(&database).await;
    Some((lab, database))
}

/// Makes the tables.
pub(super) async fn tables(database: &Database) {
    database.run(TABLES).await.expect("tables");
}

/// One without tables, with more options.
pub(super) async fn database(lab: &Lab, kind: Kind, more: &[&str]) -> Database {
    let mut options = DatabaseOptions { durability: Durability::Memory, more: Vec::new() };
    if kind == Kind::Mysql {
        options.more.push("--binlog-rows-query-log-events=ON".to_owned());
    }
    options.more.extend(more.iter().map(|&option| option.to_owned()));
    lab.servers.database(kind, &options).await.expect("a database server")
}

/// For the server at `address`.
pub(super) fn settings(address: &str, server_id: u32) -> Settings {
    let address: Address = address.parse().expect("an address");
    Settings {
        heartbeat: HEARTBEAT,
        statement_keys: StatementKeys::Taken,
        limits: Limits { transaction_keys_max: TRANSACTION_KEYS_MAX, ..Limits::DEFAULT },
        ..Settings::new("shop", address, server_id)
    }
}

/// A tailer that runs. Dropping it stops it.
pub(super) struct Tailing {
    pub(super) book: Book,
    registry: Registry,
    floors: BTreeMap<String, u64>,
    pub(super) status: watch::Receiver<Status>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), TailerError>>,
    marker: u32,
}

impl Drop for Tailing {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.task.abort();
    }
}

impl Tailing {
    /// Goes on where `book` ends, and returns once it reads.
    pub(super) async fn start(address: &str, book: &Book) -> Tailing {
        let mut tailing = Tailing::launch(address, book, 4001);
        tailing.connected().await;
        tailing
    }

    /// Does not wait for anything.
    pub(super) fn launch(address: &str, book: &Book, server_id: u32) -> Tailing {
        Tailing::launch_with(settings(address, server_id), book)
    }

    /// Likewise, with other settings.
    pub(super) fn launch_with(settings: Settings, book: &Book) -> Tailing {
        Tailing::launch_with_rules(
            settings,
            book,
            Rules::parse("rules.toml", RULES).expect("rules"),
        )
    }

    /// Likewise, with other rules.
    pub(super) fn launch_with_rules(settings: Settings, book: &Book, rules: Rules) -> Tailing {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let (tell, status) = watch::channel(Status::default());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(tailer::run(
            settings,
            watch::channel(Arc::new(rules)).1,
            book.clone(),
            metrics,
            tell,
            shutdown.clone(),
        ));
        let (book, floors) = (book.clone(), BTreeMap::new());
        Tailing { book, registry, floors, status, shutdown, task, marker: 0 }
    }

    /// Waits until it reads the binlog.
    pub(super) async fn connected(&mut self) {
        let connected = self.status.wait_for(|status| status.connected);
        let waited = timeout(PATIENCE, connected).await;
        assert!(waited.is_ok_and(|status| status.is_ok()), "{:?}", self.status.borrow().last_error);
    }

    /// Waits until it says that something went wrong, in words that contain `what`; all of them.
    pub(super) async fn failed(&mut self, what: &str) -> String {
        let says =
            |status: &Status| status.last_error.as_ref().is_some_and(|error| error.contains(what));
        let told = timeout(PATIENCE, self.status.wait_for(says)).await;
        let told = told.map(|status| status.ok().and_then(|status| status.last_error.clone()));
        let Ok(Some(error)) = told else {
            panic!("no {what:?}, but {:?}", self.status.borrow().last_error)
        };
        error
    }

    /// Runs statements in a session of their own, and says what came of them.
    pub(super) async fn outcome(&mut self, database: &Database, statements: &[&str]) -> String {
        let mut conn = database.connect().await.expect("a connection");
        conn.query_drop("USE shop").await.expect("a database");
        for statement in statements {
            let ran = conn.query_drop(*statement).await;
            ran.unwrap_or_else(|err| panic!("{statement}: {err}"));
        }
        conn.disconnect().await.expect("the end of a session");
        self.shown_since(database).await
    }

    /// What came of everything since the last look.
    pub(super) async fn shown_since(&mut self, database: &Database) -> String {
        let written = self.mark(database).await;
        self.shown(&written)
    }

    /// Everything up to now.
    pub(super) async fn mark(&mut self, database: &Database) -> Written {
        self.marker = MARKERS.fetch_add(1, Ordering::Relaxed);
        let mut conn = database.connect().await.expect("a connection");
        insert_marker(&mut conn, self.marker).await;
        conn.disconnect().await.expect("the end of a session");
        self.marked().await
    }

    /// Everything up to the newest marker.
    async fn marked(&self) -> Written {
        let key = format!("marker:{}", self.marker);
        let there = self.book.take_when(|written| written.keys.contains(&key));
        let Ok(mut written) = timeout(PATIENCE, there).await else {
            panic!("{key} did not come: {:?}", self.status.borrow());
        };
        written.keys.retain(|known| !known.starts_with("marker:"));
        written
    }

    /// The keys, each once, and below them the floors, with what the metric says of them.
    pub(super) fn shown(&mut self, written: &Written) -> String {
        let mut keys = written.keys.clone();
        keys.sort();
        keys.dedup();
        let mut lines = match &keys[..] {
            [first, .., last] if keys.len() > KEYS_SHOWN_MAX => {
                vec![format!("{} keys from {first} to {last}", keys.len())]
            }
            _ => vec![keys.join(" ")],
        };
        for floor in &written.floors {
            lines.push(format!("floor {}: {}", shown(&floor.scope), floor.reason));
        }
        let floors = self.floor_counts();
        for (reason, count) in &floors {
            let before = self.floors.get(reason).copied().unwrap_or(0);
            if *count > before {
                lines.push(format!("counted as {reason}: {}", count - before));
            }
        }
        self.floors = floors;
        lines.retain(|line| !line.is_empty());
        lines.join("\n")
    }

    /// `mcsqueal_tailer_floors_total` by reason.
    fn floor_counts(&self) -> BTreeMap<String, u64> {
        let text = self.metrics();
        let counts = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("mcsqueal_tailer_floors_total{reason=\"")?;
            let (reason, count) = rest.split_once("\"} ")?;
            Some((reason.to_owned(), count.parse().ok()?))
        });
        counts.collect()
    }

    /// The value of a metric without labels.
    pub(super) fn metric(&self, name: &str) -> u64 {
        let text = self.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{text}"))
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("metrics have a text");
        text
    }
}

async fn insert_marker(conn: &mut Conn, number: u32) {
    let sql = format!("INSERT INTO shop.marker (id) VALUES ({number})");
    conn.query_drop(sql).await.expect("a marker");
}
