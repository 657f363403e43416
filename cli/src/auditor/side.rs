//! The auditor's side port: `/metrics` and `/health`.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context;
use auditor::{Colour, Report};
use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use schemas::config::Region;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{failure::Failure, http};

struct Shared {
    report: Report,
    registry: Registry,
}

/// What is shown at `/health`.
#[derive(Serialize)]
struct Health {
    /// The binlog is read, and nothing was found wrong.
    ok: bool,
    verdict: &'static str,
    connected: bool,
    trouble: Option<String>,
    judged: u64,
    unjudged: u64,
    verdicts: BTreeMap<&'static str, u64>,
    watching: u64,
}

/// Answers until `shutdown`, if the region file says where. Returns the address.
pub(super) async fn serve(
    region: &Region,
    report: Report,
    registry: Registry,
    shutdown: &CancellationToken,
) -> Result<String, Failure> {
    let Some(address) = region.auditor.listen else { return Ok("off".to_owned()) };
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("listen on {address} (auditor.listen)"))?;
    let address = listener.local_addr().context("auditor.listen")?;
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .with_state(Arc::new(Shared { report, registry }));
    let stop = shutdown.clone().cancelled_owned();
    tokio::spawn(async move { axum::serve(listener, app).with_graceful_shutdown(stop).await });
    Ok(address.to_string())
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    shared.report.refresh();
    http::page(&shared.registry)
}

/// 200 while the binlog is read and nothing was found wrong, else 503.
async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let state = shared.report.state();
    let ok = state.connected && state.colour != Colour::Red;
    let health = Health {
        ok,
        verdict: state.colour.name(),
        connected: state.connected,
        trouble: state.trouble,
        judged: state.judged,
        unjudged: state.unjudged,
        verdicts: state.verdicts,
        watching: state.watching,
    };
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(health)).into_response()
}
