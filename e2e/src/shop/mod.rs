//! A small shop on a real database with real caches in front: what the demo shows and the tests break.
//!
//! Readers look aside: `get`, on a miss SELECT and `set`. Writers change rows in transactions; whether
//! they also delete keys is what [`Invalidation`] says. One fill in a hundred sleeps up to a second
//! between its SELECT and its `set`, so that the classic race (an old value planted after the delete)
//! really happens. When everybody has stopped, [`compare`] holds every cached value against the database.
//!
//! A fill that is older than [`Settings::fill_age_max`] is given up, as a client's timeout would do: a
//! plain `set` relies on that.

mod compare;
mod drain;
mod prober;
mod queries;
mod reader;
mod rows;
mod schema;
mod staleness;
mod stats;
mod traffic;
mod writer;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use mysql_async::{Conn, Opts, prelude::Queryable};
use tokio::time::{Instant, timeout};

pub use compare::{Comparison, Stale};
pub use schema::Sizes;
pub use stats::{Ages, Counter, Quantiles, Stats};
pub use traffic::Traffic;

use crate::{cache::Nodes, random::Zipf};
use staleness::Staleness;

/// The first product that only the prober changes, and that no reader asks for.
const CANARY_FIRST: u32 = 1_000_001;
/// So many that none is used again before its second delete has come and gone.
const CANARIES: u32 = 1024;
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Who deletes the keys of changed rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidation {
    /// mcsqueal; writers do not touch the cache.
    Mcsqueal,
    /// The writer itself, each key once, right after COMMIT: what most applications do.
    Naive,
}

/// How readers store what they have read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fills {
    /// `set`; a reader who is slow gives up.
    Plain,
    /// With a lease, however late.
    Leased,
}

/// What kind of shop it is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The database's schema.
    pub schema: String,
    /// Comes before every key; empty where rules are to match.
    pub prefix: String,
    /// Who deletes keys.
    pub invalidation: Invalidation,
    /// How readers fill; leases need nodes of ours.
    pub fills: Fills,
    /// Where readers read; the database itself if empty.
    pub replicas: Vec<Opts>,
    /// Of the stream that invalidations come through.
    pub partitions: u16,
    /// How many rows there are.
    pub sizes: Sizes,
    /// Concurrent readers.
    pub readers: u32,
    /// Concurrent writers.
    pub writers: u32,
    /// How long a reader rests between two reads.
    pub reader_rest: Duration,
    /// How long a writer rests between two transactions.
    pub writer_rest: Duration,
    /// A fill whose SELECT began longer ago than this is given up.
    pub fill_age_max: Duration,
    /// Canaries per second; 0 for none.
    pub probes_per_s: u32,
    /// Decides what everybody does.
    pub seed: u64,
}

impl Settings {
    /// A shop whose keys mcsqueal deletes, with the bound that its region file gives readers.
    pub fn new(fill_age_max: Duration, seed: u64) -> Settings {
        Settings {
            schema: "shop".to_owned(),
            prefix: String::new(),
            invalidation: Invalidation::Mcsqueal,
            fills: Fills::Plain,
            replicas: Vec::new(),
            partitions: 1,
            sizes: Sizes { users: 1000, products: 1000 },
            readers: 16,
            writers: 6,
            reader_rest: Duration::from_millis(1),
            writer_rest: Duration::from_millis(8),
            fill_age_max,
            probes_per_s: 20,
            seed,
        }
    }

    /// The same shop in a schema and under keys that no rule is about, whose writers delete for
    /// themselves.
    #[must_use]
    pub fn naive(mut self) -> Settings {
        "shop_naive".clone_into(&mut self.schema);
        "naive:".clone_into(&mut self.prefix);
        self.invalidation = Invalidation::Naive;
        self.fills = Fills::Plain;
        self.probes_per_s = 0;
        self
    }
}

/// A shop; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub struct Shop(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    database: Opts,
    nodes: Nodes,
    stats: Stats,
    town: Arc<Town>,
    stopping: AtomicBool,
    /// Every key that was ever put into a cache, and when it was the last time. Never held across an await.
    filled: Mutex<HashMap<rows::Key, Put>>,
}

/// When somebody put a value into a cache.
#[derive(Clone, Copy, Debug)]
struct Put {
    /// Right before its SELECT.
    selected: Instant,
    /// When the cache had answered, or was waited for no longer; `None` while it is asked.
    ended: Option<Instant>,
}

/// What all branches of a shop have in common: the rows of one database.
#[derive(Debug)]
struct Town {
    staleness: Staleness,
    user_ranks: Zipf,
    product_ranks: Zipf,
    /// How many addresses each user has had, less one.
    emails: Vec<AtomicU32>,
    /// How many units each product has had, less one.
    skus: Vec<AtomicU32>,
    /// The highest id that an order is known to have.
    order_last: AtomicU64,
}

impl Shop {
    /// Makes the tables anew and opens; nothing moves before [`Traffic::start`].
    pub async fn open(settings: Settings, database: Opts, nodes: Nodes) -> Result<Shop> {
        let mut conn = connect(&database).await?;
        schema::create(&mut conn, &settings.schema, settings.sizes).await?;
        conn.disconnect().await.context("disconnect")?;
        let town = Arc::new(Town::new(settings.sizes));
        Ok(Shop::on(town, settings, database, nodes))
    }

    /// Another shop on the same tables, with caches and customers of its own, which reaches the database its own way.
    /// What one of them writes, the readers of all of them know.
    #[must_use]
    pub fn branch(&self, settings: Settings, database: Opts, nodes: Nodes) -> Shop {
        Shop::on(Arc::clone(&self.0.town), settings, database, nodes)
    }

    fn on(town: Arc<Town>, settings: Settings, database: Opts, nodes: Nodes) -> Shop {
        Shop(Arc::new(Shared {
            settings,
            database,
            nodes,
            stats: Stats::default(),
            town,
            stopping: AtomicBool::new(false),
            filled: Mutex::default(),
        }))
    }

    /// Forgets who has committed what: after a promotion that lost transactions, versions count again from where the new primary stands.
    /// Nobody may be writing.
    pub fn forget_versions(&self) {
        self.0.town.staleness.forget();
    }

    /// What it counts.
    pub fn stats(&self) -> &Stats {
        &self.0.stats
    }

    /// What kind of shop it is.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The text of `key`, as it is sent.
    fn key_text(&self, key: &rows::Key) -> String {
        format!("{}{key}", self.0.settings.prefix)
    }

    fn remember_filled(&self, key: &rows::Key, put: Put) {
        let mut filled = self.0.filled.lock().unwrap_or_else(PoisonError::into_inner);
        filled.insert(key.clone(), put);
    }

    fn filled(&self) -> Vec<(rows::Key, Put)> {
        let filled = self.0.filled.lock().unwrap_or_else(PoisonError::into_inner);
        filled.iter().map(|(key, put)| (key.clone(), *put)).collect()
    }

    fn stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    /// A connection to the shop's schema, where it is written.
    async fn connect(&self) -> Result<Conn> {
        self.connect_to(&self.0.database).await
    }

    async fn connect_to(&self, database: &Opts) -> Result<Conn> {
        let mut conn = connect(database).await?;
        conn.query_drop(format!("USE {}", self.0.settings.schema))
            .await
            .context("use the schema")?;
        Ok(conn)
    }
}

impl Town {
    fn new(Sizes { users, products }: Sizes) -> Town {
        Town {
            staleness: Staleness::default(),
            user_ranks: Zipf::new(users),
            product_ranks: Zipf::new(products),
            emails: (0..users).map(|_| AtomicU32::new(0)).collect(),
            skus: (0..products).map(|_| AtomicU32::new(0)).collect(),
            order_last: AtomicU64::new(0),
        }
    }
}

async fn connect(database: &Opts) -> Result<Conn> {
    let connected = timeout(CONNECT_DEADLINE, Conn::new(database.clone())).await;
    connected.context("connect to the database in time")?.context("connect to the database")
}
