//! The side port: a REST API over the same entries, `/metrics`, `/health`, `/stats`. The API's description is `/openapi.json`.
//!
//! It obeys the rules as every client does. Where there are users, it asks for theirs (HTTP basic authentication).

mod api;
mod listen;
mod metrics;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::header::CONTENT_TYPE,
    response::IntoResponse,
    routing::{get, post, put},
};
use prometheus_client::registry::Registry;
use serde::Serialize;

pub use self::{api::not_admin, listen::Bounded};
use crate::{access::Users, commands::Turn, node::Node, server::Clock};

/// The API, for people and generators.
const OPENAPI: &str = include_str!("openapi.json");
/// Largest body of a batch, in bytes, unless one entry may be larger.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Most connections to the side port at once.
pub const CONNECTIONS_MAX: usize = 256;
/// A connection on which no answer began for so long is closed: its client is slow, or has nothing to say.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// What every handler needs.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    node: Arc<Node>,
    clock: Clock,
    users: Users,
    registry: Arc<Registry>,
}

impl Side {
    /// Does something with the node, at this moment.
    fn turn<T>(&self, act: impl FnOnce(&mut Turn<'_>) -> T) -> T {
        let (now, seed) = self.clock.read();
        act(&mut Turn::new(&self.node, 0, now, seed))
    }
}

/// Everything that the side port serves. `clock` is the one by which the node serves.
pub fn router(node: Arc<Node>, users: Users, clock: Clock) -> Router {
    let mut registry = Registry::default();
    metrics::register(&mut registry, Arc::clone(&node), clock.clone());
    let item_bytes_max = node.settings().item_bytes_max;
    let side = Side { clock, node, users, registry: Arc::new(registry) };
    let entry = put(api::put).get(api::get).delete(api::delete);
    Router::new()
        .route("/cache/batch", post(api::batch))
        .layer(DefaultBodyLimit::max(BATCH_BYTES_MAX.max(item_bytes_max)))
        .route("/cache/{key}", entry.layer(DefaultBodyLimit::max(item_bytes_max)))
        .route("/metrics", get(metrics::show))
        .route("/health", get(health))
        .route("/stats", get(stats))
        .route("/openapi.json", get(openapi))
        .with_state(side)
}

/// How the node is.
#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    /// Whether a source's changes reach it.
    source: &'static str,
    /// How far it is with warming up from another cluster.
    warm: &'static str,
}

async fn health(State(side): State<Side>) -> Json<Health> {
    let (now, _) = side.clock.read();
    let source = match side.node.rules() {
        None => "none",
        Some(rules) if rules.is_quarantined() => "catching up",
        Some(rules) if rules.is_fresh(now.moment) => "fresh",
        Some(_) => "behind",
    };
    let status = if matches!(source, "none" | "fresh") { "ok" } else { "degraded" };
    Json(Health { status, source, warm: side.node.copies().state().name() })
}

async fn stats(State(side): State<Side>) -> impl IntoResponse {
    let number = |value: String| {
        let number = value.parse::<u64>().map(serde_json::Value::from);
        number.unwrap_or(serde_json::Value::String(value))
    };
    side.turn(|turn| {
        let all = turn.statistics().into_iter().map(|(name, value)| (name, number(value)));
        Json(all.collect::<serde_json::Map<_, _>>())
    })
}

async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}

#[cfg(test)]
mod tests;
