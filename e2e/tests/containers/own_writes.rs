//! Users in region B write, which means to the primary in A, and read at once, near by: with marks, or with the token of the write. Half of the
//! time the replica that they read stands still.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use client::{
    Client, Cluster, Database, Fetched, Isolation, Marked, Patience, Read, Reading, Settings, mysql,
};
use e2e::{lab::is_long, servers::root_at};
use mysql_async::{Conn, Opts, prelude::Queryable};
use schemas::{
    gtid::Dialect,
    key::Key,
    ring::{Hashing, RingNode},
};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    crowd::Crowd,
    table,
    world::{DEADLINE, Place, Plan, play},
};

/// One row for each user.
pub(crate) const TABLE: [&str; 1] =
    ["CREATE TABLE shop.notes (id INT PRIMARY KEY, value BIGINT UNSIGNED NOT NULL)"];
pub(crate) const RULE: &str = "\n[[rule]]\ntable = \"shop.notes\"\nkeys = [\"note:{id}\"]\n";
/// A write and the read behind it take some four times 80 ms; together they come to a thousand a second.
const USERS: u32 = 320;
/// In a short run: what a slow machine bears.
const WRITING: Duration = Duration::from_secs(4);
const WRITING_LONG: Duration = Duration::from_secs(30);
const PLAIN: Reading = Reading::Autocommit(Isolation::RepeatableRead);

#[derive(Debug, Default)]
struct Counts {
    writes: AtomicU64,
    /// Marks that did not stand all the time: their users had the token.
    unmarked: AtomicU64,
    stop: AtomicBool,
}

#[tokio::test(flavor = "multi_thread")]
async fn own_writes() {
    play("own_writes", Plan::Markers, async |mut world| {
        let rows: Vec<String> = (0..USERS).map(|user| format!("({user}, 0)")).collect();
        let rows = format!("INSERT INTO shop.notes VALUES {}", rows.join(", "));
        world.a.database.run(&[&rows]).await.expect("rows");
        world.b.database.caught_up(&world.a.database).await.expect("the replica is there");
        let crowd = Crowd::comes(&world).await;

        let client = client_of(&world.b);
        let (counts, mut users) = (Arc::new(Counts::default()), JoinSet::new());
        let (primary, near) = (root_at(world.b.primary.port()), world.b.database.root());
        for number in 0..USERS {
            let user = User::new(number, client.clone(), [primary.clone(), near.clone()], &counts);
            users.spawn(async move { user.await?.write_and_read().await });
        }
        let some = async |counts: &Counts| {
            e2e::lab::until("users write", DEADLINE, async || {
                counts.writes.load(Ordering::Relaxed) > u64::from(USERS)
            })
            .await;
        };
        some(&counts).await;
        let half = if is_long() { WRITING_LONG } else { WRITING };
        let (begin, before) = (Instant::now(), counts.writes.load(Ordering::Relaxed));
        sleep(half).await;
        world.b.database.stop_applying().await.expect("the replica stands still");
        sleep(half).await;
        let writes = counts.writes.load(Ordering::Relaxed) - before;
        let per_s = f64::from(u32::try_from(writes).expect("few")) / begin.elapsed().as_secs_f64();
        world.b.database.start_applying().await.expect("it goes on");
        counts.stop.store(true, Ordering::Relaxed);
        while let Some(user) = users.join_next().await {
            user.expect("a user's task").expect("every user sees what he has written");
        }
        table::figure("e2e_own_writes_per_s", per_s, "writes/s");
        let unmarked = counts.unmarked.load(Ordering::Relaxed);
        table::figure(
            "e2e_own_writes_unmarked",
            f64::from(u32::try_from(unmarked).expect("few")),
            "writes",
        );
        crowd.is_served().await;
        crowd.ends_well(&mut world, "own_writes").await;
    })
    .await;
}

/// Who owns one row.
struct User {
    number: u32,
    key: Key,
    client: Client,
    writer: Conn,
    primary: Mutex<Conn>,
    near: Mutex<Conn>,
    counts: Arc<Counts>,
}

impl User {
    fn new(
        number: u32,
        client: Client,
        [primary, near]: [Opts; 2],
        counts: &Arc<Counts>,
    ) -> impl Future<Output = Result<User>> + Send + 'static {
        let counts = Arc::clone(counts);
        async move {
            Ok(User {
                number,
                key: Key::new(format!("note:{number}")).context("a key")?,
                client,
                writer: Conn::new(primary.clone()).await.context("connect to write")?,
                primary: Mutex::new(Conn::new(primary).await.context("connect to the primary")?),
                near: Mutex::new(Conn::new(near).await.context("connect to the replica")?),
                counts,
            })
        }
    }

    async fn write_and_read(mut self) -> Result<()> {
        let mut value = 0_u64;
        while !self.counts.stop.load(Ordering::Relaxed) {
            value += 1;
            // Some go by their marks, and others by their tokens.
            let keys = if value.is_multiple_of(2) { vec![self.key.clone()] } else { Vec::new() };
            let mark = self.client.mark(&keys).await?;
            let update = "UPDATE shop.notes SET value = ? WHERE id = ?";
            self.writer.exec_drop(update, (value, self.number)).await.context("write")?;
            let commit = mysql::commit_of(&mut self.writer, Dialect::Mysql).await?;
            let written = self.client.committed(mark, &commit).await;
            let mut token = None;
            if keys.is_empty() {
                token = Some(written.token);
            } else if written.marked != Marked::All {
                self.counts.unmarked.fetch_add(1, Ordering::Relaxed);
                token = Some(written.token);
            }
            let seen = self.read(token).await?;
            ensure!(seen == value, "user {} wrote {value}, and reads {seen}", self.number);
            self.counts.writes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn read(&self, token: Option<client::Token>) -> Result<u64> {
        let read = Read::new(PLAIN).with_token(token);
        let got = self.client.get(&self.key, read, |place| async move {
            let conn = match place.database {
                Database::Primary => &self.primary,
                Database::Any => &self.near,
            };
            let select = "SELECT value FROM shop.notes WHERE id = ?";
            let found: Option<u64> = conn.lock().await.exec_first(select, (self.number,)).await?;
            anyhow::Ok(found.map_or_else(Fetched::absent, |it| Fetched::found(it.to_string())))
        });
        let value = got.await?.value.context("the row is there")?;
        std::str::from_utf8(&value)?.parse().context("a number")
    }
}

/// A client in B, whose home is the first cluster.
fn client_of(place: &Place) -> Client {
    let clusters = place.clusters.iter().map(|cluster| {
        let node = |name| RingNode { name, weight: 1 };
        let nodes = cluster.addresses().into_iter().map(node).collect();
        Cluster { hashing: Hashing::Ketama, nodes }
    });
    let patience = Patience {
        first: Duration::from_millis(5),
        longest: Duration::from_millis(50),
        whole: DEADLINE,
    };
    let settings = Settings {
        epochs: place.mcsqueal.http().into_iter().map(str::to_owned).collect(),
        request_timeout: Duration::from_secs(10),
        epoch_wait: DEADLINE,
        patience,
        ..Settings::new(clusters.collect())
    };
    Client::new(settings).expect("settings")
}
