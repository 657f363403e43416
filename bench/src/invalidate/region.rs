//! A whole region for figures that ask for one: a database, and a replica where that matters, the stream, `mcsqueal run` and a node.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    cache::Nodes,
    servers::{
        CacheNode, Database, Kafka, Kind, Link, Mcsqueal, McsquealOptions, Region, Servers,
        StreamPlace, options_of,
    },
};

const RULES: &str = "[[rule]]\ntable = \"bench.things\"\nkeys = [\"thing:{id}\"]\n";
const FILL_AGE_MAX: Duration = Duration::from_secs(2);
const TOPIC: &str = "mcsqueal.bench";
pub(super) const THINGS: u32 = 10_000;

/// Where the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    Embedded,
    Kafka,
}

impl Backend {
    pub(super) fn name(self) -> &'static str {
        match self {
            Backend::Embedded => "embedded",
            Backend::Kafka => "kafka",
        }
    }
}

/// Fields are dropped in this order.
pub(super) struct Whole {
    _mcsqueal: Mcsqueal,
    _node: CacheNode,
    _kafka: Option<Kafka>,
    /// The primary, and its replicas.
    pub(super) databases: Vec<Database>,
    pub(super) nodes: Nodes,
    _servers: Servers,
}

impl Whole {
    /// Everything is connected.
    pub(super) async fn start(backend: Backend, replicas: u16) -> Result<Whole> {
        let servers = Servers::from_env()?;
        let mut databases: Vec<Database> = Vec::new();
        for number in 1..=replicas + 1 {
            let options = options_of(Kind::Mysql, number, Link::Plain);
            let database = servers.database(Kind::Mysql, &options).await?;
            if let Some(primary) = databases.first() {
                database.replicate(primary).await?;
            }
            databases.push(database);
        }
        let (primary, read) = databases.split_first().context("a primary")?;
        primary.run(&tables()).await?;
        for replica in read {
            replica.caught_up(primary).await?;
        }
        let (kafka, stream) = match backend {
            Backend::Embedded => (None, StreamPlace::Embedded),
            Backend::Kafka => {
                let kafka = servers.kafka().await?;
                let (brokers, topic) = (kafka.address(), TOPIC.to_owned());
                (Some(kafka), StreamPlace::Kafka { brokers, topic })
            }
        };
        let node = servers.versioned_node("fill_age_ms_max = 2000").await?;
        let region = Region::shop(primary, vec![node.address()], FILL_AGE_MAX).await?;
        let region = Region {
            replicas: read.iter().map(Database::address).collect(),
            controls: node.control().into_iter().collect(),
            rules: RULES.to_owned(),
            stream,
            ..region
        };
        let mcsqueal = servers.mcsqueal(&region, &McsquealOptions::default()).await?;
        let nodes = Nodes::new(vec![node.address()])?;
        ensure!(nodes.addresses().len() == 1, "one node");
        Ok(Whole {
            _mcsqueal: mcsqueal,
            _node: node,
            _kafka: kafka,
            databases,
            nodes,
            _servers: servers,
        })
    }
}

fn tables() -> [&'static str; 3] {
    [
        "CREATE DATABASE bench",
        "CREATE TABLE bench.things (id INT PRIMARY KEY, value VARCHAR(100) NOT NULL)",
        "INSERT INTO bench.things (id, value) WITH RECURSIVE n (id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM n WHERE id < 999) \
         SELECT a.id * 1000 + b.id, 'v0' FROM n a JOIN n b WHERE a.id < 10",
    ]
}
