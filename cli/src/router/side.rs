//! The router's side port: `/metrics` and `/health`.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use router::Handle;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::METRICS_TYPE;

/// What runs, and what was refused since.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown(Arc<Mutex<Option<String>>>);

impl Shown {
    /// The file is not as it runs, for this reason; or it is.
    pub(super) fn refused(&self, why: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone)]
struct Side {
    handle: Handle,
    shown: Shown,
}

/// What is shown at `/health`. A router whose nodes are down is in order itself, so it says 200.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    /// Why the file that is there now does not run; the one before does.
    refused_configuration: Option<String>,
    nodes: Vec<NodeHealth>,
}

#[derive(Serialize)]
struct NodeHealth {
    address: String,
    down: bool,
    /// Changes that it has missed and that are kept for it.
    owed: u64,
}

/// Answers until `stop`.
pub(super) async fn serve(
    listener: TcpListener,
    handle: Handle,
    shown: Shown,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .with_state(Side { handle, shown });
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn metrics(State(side): State<Side>) -> Response {
    match side.handle.metrics.page() {
        Ok(page) => ([(header::CONTENT_TYPE, METRICS_TYPE)], page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn health(State(side): State<Side>) -> Json<Health> {
    let nodes = side.handle.metrics.nodes();
    let degraded = nodes.iter().any(|node| node.down || node.owed > 0);
    let refused_configuration = side.shown.get();
    let ok = !degraded && refused_configuration.is_none();
    Json(Health {
        status: if ok { "ok" } else { "degraded" },
        refused_configuration,
        nodes: nodes
            .into_iter()
            .map(|it| NodeHealth { address: it.address.to_string(), down: it.down, owed: it.owed })
            .collect(),
    })
}
