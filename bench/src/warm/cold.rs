//! A cold node beside a warm one, in a region with a database, both read and written all the time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use e2e::{
    cache::{Cache, Nodes},
    http,
    random::Zipf,
    servers::{
        CacheNode, Database, Group, Kind, Link, Mcsqueal, McsquealOptions, Region, Servers,
        options_of,
    },
};
use mysql_async::{Conn, prelude::Queryable};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};

use super::load::Load;

const RULES: &str = "[[rule]]\ntable = \"bench.things\"\nkeys = [\"thing:{id}\"]\n";
const VERSIONS: &str = "[versions]\nfill_age_ms_max = 2000\n";
const FILL_AGE_MAX: Duration = Duration::from_secs(2);
const MEMORY_MEGABYTES: &str = "1024";
/// The warm node is measured for so long.
const STEADY: Duration = Duration::from_secs(10);
/// The cold node's hit rate is looked at so often, and has to hold for so many looks.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS: usize = 4;
const DEADLINE: Duration = Duration::from_secs(300);
/// Everything that is on its way has come by then.
const DRAIN: Duration = Duration::from_secs(3);
/// Values that are stored, or compared, at once.
const AT_ONCE: u32 = 1000;

/// What came of it.
pub(super) struct Warmed {
    /// Until the cold node finds nine tenths of what the warm one does, without asking it.
    pub(super) to_90pct_s: f64,
    /// Of one processor, for copies.
    pub(super) peer_cpu_pct: f64,
    pub(super) copied: f64,
    pub(super) stale: f64,
    /// Reads of the database for each read of the cold node, over the same of the warm one before.
    pub(super) db_reads_ratio: f64,
}

/// Fields are dropped in this order.
struct Stage {
    _mcsqueal: Mcsqueal,
    cold: CacheNode,
    warm: CacheNode,
    primary: Database,
    _folder: TempDir,
    _servers: Servers,
}

pub(super) async fn measure(items: u32) -> Result<Warmed> {
    let mut stage = Stage::start(items).await?;
    stage.fill(items).await?;
    let (database, zipf) = (stage.primary.root(), Arc::new(Zipf::new(items)));
    let nodes = |node: &CacheNode| Nodes::new(vec![node.address()]);
    let writer = Load::writer(&database, &zipf);
    let beside = Load::readers(&nodes(&stage.warm)?, &database, &zipf);
    sleep(STEADY / 2).await;
    let (before, from) = (beside.counts(), Counts::of(&stage.warm).await?);
    sleep(STEADY).await;
    let (after, to) = (beside.counts(), Counts::of(&stage.warm).await?);
    let steady = share(after.1 - before.1, after.0 - before.0);
    let warm_rate = to.rate_since(&from);

    // The cold node starts; clients come once it says that it is warming up.
    stage.cold.kill9()?;
    stage.cold.restart().await?;
    let late = Instant::now() + DEADLINE;
    while Counts::of(&stage.cold).await?.state < 2.0 {
        ensure!(Instant::now() < late, "the cold node does not become live");
        sleep(Duration::from_millis(20)).await;
    }
    let (begun, spent) = (Instant::now(), Counts::of(&stage.warm).await?.given_micros);
    let load = Load::readers(&nodes(&stage.cold)?, &database, &zipf);
    let mut looks = vec![Counts::of(&stage.cold).await?];
    let mut reached = None;
    while reached.is_none() {
        ensure!(Instant::now() < late, "the cold node does not become warm: {:?}", looks.last());
        sleep(LOOK).await;
        looks.push(Counts::of(&stage.cold).await?);
        let last = looks.windows(2).rev().take(LOOKS);
        let good = last.filter(|pair| pair[1].rate_since(&pair[0]) >= 0.9 * warm_rate).count();
        if good == LOOKS {
            reached = Some(begun.elapsed().saturating_sub(LOOK * u32::try_from(LOOKS)?));
        }
    }
    // And on to the end of the warm-up, so that its whole cost is seen.
    while Counts::of(&stage.cold).await?.state < 3.0 && Instant::now() < late {
        sleep(LOOK).await;
    }
    let took = begun.elapsed();
    let (reads, database_reads) = load.counts();
    let spent = Counts::of(&stage.warm).await?.given_micros - spent;
    let copied = Counts::of(&stage.cold).await?.copied();
    for load in [load, beside, writer] {
        load.end().await?;
    }
    sleep(DRAIN).await;
    let stale = stage.stale(items).await?;
    Ok(Warmed {
        to_90pct_s: reached.unwrap_or(took).as_secs_f64(),
        peer_cpu_pct: spent / 10_000.0 / took.as_secs_f64(),
        copied,
        stale: f64::from(stale),
        db_reads_ratio: share(database_reads, reads) / steady,
    })
}

fn share(part: u64, of: u64) -> f64 {
    part as f64 / (of as f64).max(1.0)
}

impl Stage {
    async fn start(items: u32) -> Result<Stage> {
        let servers = Servers::from_env()?;
        let options = options_of(Kind::Mysql, 1, Link::Plain);
        let primary = servers.database(Kind::Mysql, &options).await?;
        let thousands = items / 1000;
        let insert = format!(
            "INSERT INTO bench.things (id, value) WITH RECURSIVE n (id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM n WHERE id < 999) \
             SELECT a.id * 1000 + b.id, RPAD('v0', 90, 'x') FROM n a JOIN n b WHERE a.id < {thousands}"
        );
        let table = "CREATE TABLE bench.things (id INT PRIMARY KEY, value VARCHAR(100) NOT NULL)";
        primary.run(&["CREATE DATABASE bench", table, &insert]).await?;
        let folder = tempfile::tempdir().context("make a folder")?;
        let file = |name: &str, text: &str| -> Result<String> {
            let path = folder.path().join(name);
            std::fs::write(&path, text).context("write a node file")?;
            Ok(path.display().to_string())
        };
        let of_node = file("warm.toml", VERSIONS)?;
        let flags = ["--control", "127.0.0.1:0", "-m", MEMORY_MEGABYTES, "--config"];
        let warm = servers.cache_node(&[&flags[..], &[&of_node]].concat()).await?;
        let region = Region::shop(&primary, vec![warm.address()], FILL_AGE_MAX).await?;
        let controls = warm.control().into_iter().collect();
        let region = Region { controls, rules: RULES.to_owned(), ..region };
        let region_file = region.write(folder.path())?.display().to_string();
        let section = format!("{VERSIONS}[warm]\nregion_file = {region_file:?}\nfrom = \"main\"\n");
        let of_node = file("cold.toml", &section)?;
        let cold = servers.cache_node(&[&flags[..], &[&of_node]].concat()).await?;
        let group = |name: &str, node: &CacheNode| Group {
            name: name.to_owned(),
            nodes: vec![(node.address(), node.control())],
            ..Group::default()
        };
        let groups = vec![group("main", &warm), group("new", &cold)];
        let region = Region { groups, ..region };
        let mcsqueal = servers.mcsqueal(&region, &McsquealOptions::default()).await?;
        Ok(Stage { _mcsqueal: mcsqueal, cold, warm, primary, _folder: folder, _servers: servers })
    }

    /// Puts every thing into the warm node.
    async fn fill(&self, items: u32) -> Result<()> {
        let value = format!("{:x<90}", "v0");
        // Plain sets are taken once the node knows where the region was a while ago.
        let late = Instant::now() + DEADLINE;
        let mut probe = Cache::new(&Nodes::new(vec![self.warm.address()])?);
        while probe.set("thing:0", 0, &value).await.is_err() {
            ensure!(Instant::now() < late, "the warm node takes nothing");
            sleep(Duration::from_millis(100)).await;
        }
        let mut stream = TcpStream::connect(self.warm.address()).await.context("connect")?;
        for begin in (0..items).step_by(usize::try_from(AT_ONCE)?) {
            let mut said = String::new();
            for thing in begin..items.min(begin + AT_ONCE) {
                said += &format!("set thing:{thing} 0 0 {} noreply\r\n{value}\r\n", value.len());
            }
            stream.write_all((said + "mn\r\n").as_bytes()).await.context("fill the warm node")?;
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await.context("fill the warm node")?;
            ensure!(&answer == b"MN\r\n", "the warm node answers {answer:?}");
        }
        let entries = Counts::of(&self.warm).await?.entries;
        ensure!(entries >= 0.99 * f64::from(items), "the warm node has {entries} of {items}");
        Ok(())
    }

    /// Values of the cold node that differ from the database.
    async fn stale(&self, items: u32) -> Result<u32> {
        let mut conn = Conn::new(self.primary.root()).await.context("connect")?;
        let mut cache = Cache::new(&Nodes::new(vec![self.cold.address()])?);
        let (mut stale, mut compared) = (0, 0_usize);
        for begin in (0..items).step_by(usize::try_from(AT_ONCE)?) {
            let asked = format!(
                "SELECT id, value FROM bench.things WHERE id >= {begin} AND id < {}",
                begin + AT_ONCE
            );
            let rows: Vec<(u32, String)> = conn.query(asked).await.context("read the database")?;
            let truth: HashMap<String, String> =
                rows.into_iter().map(|(id, value)| (format!("thing:{id}"), value)).collect();
            for keys in truth.keys().map(String::as_str).collect::<Vec<_>>().chunks(100) {
                let found = cache.get_from(0, keys).await?;
                compared += found.len();
                stale += u32::try_from(
                    found.iter().filter(|(key, value)| truth.get(*key) != Some(value)).count(),
                )?;
            }
        }
        if compared == 0 {
            bail!("the cold node has nothing that could be stale");
        }
        Ok(stale)
    }
}

/// A node's numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    gets: f64,
    hits: f64,
    entries: f64,
    by_miss: f64,
    by_walk: f64,
    given_micros: f64,
    state: f64,
}

impl Counts {
    async fn of(node: &CacheNode) -> Result<Counts> {
        let (_, page) = http::get(node.http().context("a side port")?, "/metrics").await?;
        let mut counts = Counts::default();
        for sample in http::samples(&page) {
            let to = match sample.name.strip_prefix("mcsqueal_node_") {
                Some("cmd_get_total") => &mut counts.gets,
                Some("get_hits_total") => &mut counts.hits,
                Some("entries") => &mut counts.entries,
                Some("warm_kept_by_miss_total") => &mut counts.by_miss,
                Some("warm_kept_by_walk_total") => &mut counts.by_walk,
                Some("copies_given_micros_total") => &mut counts.given_micros,
                Some("warm_state") => &mut counts.state,
                _ => continue,
            };
            *to = sample.value;
        }
        Ok(counts)
    }

    /// The share of reads that found a value without asking the warm node for it.
    fn rate_since(&self, before: &Counts) -> f64 {
        let helped = self.by_miss - before.by_miss;
        (self.hits - before.hits - helped) / (self.gets - before.gets).max(1.0)
    }

    fn copied(&self) -> f64 {
        self.by_miss + self.by_walk
    }
}
