//! Versions from end to end: real databases and replicas, the stream, cache nodes of ours, and clients with leases.

mod degraded;
mod held;
mod herd;
mod hold_off;
mod instances;
mod markers;
mod promotion;
mod reload;
mod restart;
mod ring;
mod secure;
mod warm;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use e2e::{
    cache::{Cache, From, Looked, Nodes},
    servers::{CacheNode, Database, Kind, Link, Mcsqueal, McsquealOptions, Region, options_of},
    things::{RULES, make_things, value_of},
};
use tokio::time::sleep;

use crate::support::{Lab, until};

const DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);
/// Things of a stage.
pub(crate) const THINGS_MADE: u32 = 100;
const TTL_S: u32 = 600;

/// A primary, the servers behind it, `mcsqueal run`, and a node. Fields are dropped in this order.
pub(crate) struct Stage {
    pub(crate) mcsqueal: Mcsqueal,
    pub(crate) node: CacheNode,
    /// Each is a replica of the one before.
    pub(crate) chain: Vec<Database>,
    pub(crate) nodes: Nodes,
    _lab: Lab,
}

impl Stage {
    /// `links` are the servers, the primary first; those at `read` are said to be read from.
    pub(crate) async fn start(
        lab: Lab,
        kind: Kind,
        links: &[Link],
        read: &[usize],
        versions: &str,
    ) -> Stage {
        let mut chain: Vec<Database> = Vec::new();
        for (number, link) in (1..).zip(links) {
            let options = options_of(kind, number, *link);
            let server = lab.servers.database(kind, &options).await.expect("a database");
            if let Some(before) = chain.last() {
                server.replicate(before).await.expect("replication");
            }
            chain.push(server);
        }
        for (at, link) in links.iter().enumerate() {
            if *link == Link::Held {
                chain[at].is_held_by_somebody().await.expect("semi-synchronous replication");
            }
        }
        let node = lab.servers.versioned_node(versions).await.expect("a node");
        Stage::around(lab, node, chain, read, "").await
    }

    /// Around a node and replicating databases; `cluster` are lines of the region file.
    pub(crate) async fn around(
        lab: Lab,
        node: CacheNode,
        chain: Vec<Database>,
        read: &[usize],
        cluster: &str,
    ) -> Stage {
        let primary = &chain[0];
        let fill_age_max = Duration::from_secs(2);
        let region = Region::shop(primary, vec![node.address()], fill_age_max).await;
        make_things(primary, THINGS_MADE).await;
        for server in &chain[1..] {
            server.caught_up(primary).await.expect("the replica is there");
        }
        let region = Region {
            replicas: read.iter().map(|at| chain[*at].address()).collect(),
            controls: node.control().into_iter().collect(),
            rules: RULES.to_owned(),
            cluster: cluster.to_owned(),
            ..region.expect("a region")
        };
        let mcsqueal = lab.servers.mcsqueal(&region, &McsquealOptions::default()).await;
        let nodes = Nodes::new(vec![node.address()]).expect("a ring");
        let mcsqueal = mcsqueal.expect("mcsqueal");
        Stage { mcsqueal, node, chain, nodes, _lab: lab }
    }

    /// Writes something else into mcsqueal's region file; it is read at the next start.
    fn edit_region(&self, before: &str, after: &str) {
        let file = self.mcsqueal.directory().join("region.toml");
        let text = std::fs::read_to_string(&file).expect("a region file");
        assert!(text.contains(before), "{text}");
        std::fs::write(&file, text.replace(before, after)).expect("a region file");
    }

    /// The value of a thing as the server at `at` shows it.
    async fn shown(&self, at: usize, thing: u32) -> String {
        let mut conn = self.chain[at].connect().await.expect("a connection");
        value_of(&mut conn, thing).await
    }

    /// Fills a key by the rules of the node, from the server at `at`; the primary if the node says so.
    pub(crate) async fn fill(&self, cache: &mut Cache, at: usize, thing: u32) -> String {
        let key = format!("thing:{thing}");
        let mut filled = None;
        let mut conns = BTreeMap::new();
        until("the node takes a value", DEADLINE, async || {
            match cache.look(&key).await {
                Ok(Looked::Lease { cas, from }) => {
                    let at = if from == From::Primary { 0 } else { at };
                    let conn = match conns.entry(at) {
                        Entry::Occupied(open) => open.into_mut(),
                        Entry::Vacant(none) => {
                            none.insert(self.chain[at].connect().await.expect("a connection"))
                        }
                    };
                    let value = value_of(conn, thing).await;
                    if cache.fill(&key, cas, TTL_S, &value).await.expect("the node answers") {
                        filled = Some(value);
                    }
                }
                Ok(Looked::Value(value)) => filled = Some(value),
                _ => sleep(POLL).await,
            }
            filled.is_some()
        })
        .await;
        filled.expect("the loop has ended")
    }
}

/// What the node says to a reader who cannot read the primary: the line, and the value.
async fn ask(cache: &mut Cache, request: &str) -> (String, Option<String>) {
    cache.meta(0, request.as_bytes()).await.expect("the node answers")
}
