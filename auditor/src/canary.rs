//! The canary: a row of the auditor's own, written many times a second. Its key is filled on a node, the row is written,
//! and the node is looked at until the key is gone. So every node is measured from commit to delete, also while nothing
//! else changes; and what stands behind the row in the binlog was committed after it was sent, whatever clocks say.

use std::{collections::HashMap, sync::Arc, time::Duration};

use client::{
    Node,
    wire::{Answer, AtLeast, Found, Get, Lease, Request, Turn, ValueKind},
};
use schemas::{key::Key, record::Operation, version::Version};
use tokio::{
    sync::Mutex,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use xxhash_rust::xxh64::xxh64;

use crate::{
    database::Database,
    mapping::{Cell, WholeRow},
    node,
    placement::{NodeId, Place},
    run::Shared,
    settings::{CanarySettings, Settings},
    verdict::{Agreement, Finding, Sight, Verdict},
};

/// How long a filled key lives, and its lease.
const TTL_S: u32 = 300;
/// Rows that are tried until each node has a key.
const ROWS_MAX: u64 = 100_000;
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// Between two looks at what is late already.
const LATE_INTERVAL: Duration = Duration::from_millis(100);

/// The rules make no key of the canary's table that some node owns.
#[derive(Debug, thiserror::Error)]
#[error(
    "auditor.canary_table: the rules make no key of {table}; add a rule with `table = \"{table}\"` and `keys = [\"mcsqueal-canary:{{id}}\"]`"
)]
pub struct NoCanary {
    table: String,
}

/// Which row stands for which node.
#[derive(Clone, Debug)]
pub(crate) struct Perch {
    node: NodeId,
    id: u64,
    key: Key,
}

/// A row for each node, one whose key the node owns.
pub(crate) fn perches(
    settings: &Settings,
    canary: &CanarySettings,
) -> Result<Vec<Perch>, NoCanary> {
    // Regions that share a database have rows of their own.
    let first = (xxh64(settings.region.as_bytes(), 0) >> 33).saturating_mul(1000);
    let mut found: HashMap<NodeId, Perch> = HashMap::new();
    for id in first..first.saturating_add(ROWS_MAX) {
        let text = |number: u64| Cell::Text(number.to_string().into_bytes());
        let image = [("id".to_owned(), text(id)), ("n".to_owned(), text(0))].into();
        let row = WholeRow { before: None, after: Some(image) };
        let (schema, table) = (&canary.schema, &canary.table);
        let made = settings.mapping.row(schema, table, Operation::Insert, &row);
        let Some(key) = made.into_iter().find_map(|made| made.rule.map(|_| made.key)) else {
            return Err(NoCanary { table: format!("{schema}.{table}") });
        };
        for node in settings.placement.owners(&key) {
            found.entry(node).or_insert_with(|| Perch { node, id, key: key.clone() });
        }
        if found.len() == settings.placement.nodes() {
            break;
        }
    }
    let mut perches: Vec<Perch> = found.into_values().collect();
    perches.sort_by_key(|perch| perch.node);
    Ok(perches)
}

/// Writes rows, one node after the other, until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>, canary: CanarySettings, perches: Vec<Perch>) {
    let database = Mutex::new(Database::new(shared.settings.databases.clone()));
    let flight = Arc::new(Flight { shared, canary, database });
    let mut ticks = interval(flight.canary.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut flying = tokio::task::JoinSet::new();
    let mut busy: HashMap<NodeId, tokio::task::AbortHandle> = HashMap::new();
    for perch in perches.iter().cycle() {
        ticks.tick().await;
        while flying.try_join_next().is_some() {}
        if busy.get(&perch.node).is_some_and(|flight| !flight.is_finished()) {
            continue; // It still waits for the last one.
        }
        let (flight, perch) = (Arc::clone(&flight), perch.clone());
        let node = perch.node;
        busy.insert(node, flying.spawn(async move { flight.beat(&perch).await }));
    }
}

struct Flight {
    shared: Arc<Shared>,
    canary: CanarySettings,
    database: Mutex<Database>,
}

impl Flight {
    async fn beat(&self, perch: &Perch) {
        let shared = &self.shared;
        let (Some(node), Some(place)) =
            (shared.nodes.get(perch.node.0), shared.settings.placement.get(perch.node))
        else {
            return;
        };
        if !fill(node, place, &perch.key).await {
            return;
        }
        let Sight::Entry { cas, .. } = node::look(node, place, &perch.key, None).await else {
            return;
        };
        let number = shared.now().wall.0;
        shared.canary_rows().sending(number, shared.now().moment);
        let row = (perch.id, number);
        let mut database = self.database.lock().await;
        let written = database.beat(&self.canary.schema, &self.canary.table, row).await;
        drop(database);
        if let Err(err) = written {
            tracing::debug!(error = %err, "the canary's row cannot be written");
            return;
        }
        let committed = Instant::now();
        let looks = shared.settings.looks;
        let mut late = false;
        loop {
            let sight = node::look(node, place, &perch.key, None).await;
            let elapsed = committed.elapsed();
            match sight {
                Sight::Entry { cas: still, .. } if still == cas => {}
                Sight::Unknown | Sight::Awaited if elapsed < looks.lost => {
                    sleep(LATE_INTERVAL).await;
                    continue;
                }
                Sight::Unknown | Sight::Awaited => return,
                _ => return shared.report.canary(perch.node, elapsed),
            }
            if elapsed >= looks.lost {
                return shared.found(&finding(perch, number, Verdict::Lost, elapsed, cas));
            }
            if elapsed >= looks.late && !late {
                late = true;
                shared.found(&finding(perch, number, Verdict::Late, elapsed, cas));
            }
            sleep(if late { LATE_INTERVAL } else { LOOK_INTERVAL }).await;
        }
    }
}

/// Puts something there that the next change must delete.
async fn fill(node: &Node, place: &Place, key: &Key) -> bool {
    if !place.knows_versions {
        let stored = node.ask(&Request::SetMarker { marker: key, ttl_s: TTL_S }).await;
        return stored.is_ok_and(|answer| answer == Answer::Done);
    }
    let versions = Some(AtLeast(Version::ZERO));
    let get = Get { lease_s: Some(TTL_S), renew_s: None, versions };
    match node.ask(&Request::Get { key, get }).await {
        Ok(Answer::Value(Found { turn: Turn::Ours, cas, .. })) => {
            let (lease, kind) = (Lease(cas), ValueKind::Value);
            let fill = Request::Fill { key, lease, ttl_s: TTL_S, kind, value: b"1" };
            node.ask(&fill).await.is_ok_and(|answer| answer == Answer::Done)
        }
        Ok(Answer::Value(Found { turn: Turn::Nobody, .. })) => true,
        _ => false,
    }
}

fn finding(perch: &Perch, number: u64, verdict: Verdict, age: Duration, cas: u64) -> Finding {
    Finding {
        verdict,
        key: perch.key.clone(),
        node: perch.node,
        rule: Some(Arc::from("canary")),
        transaction: format!("canary {number}").into(),
        age,
        cas: Some(cas),
        filled: None,
        database: Agreement::NotAsked,
    }
}
