//! The HTTP side port: `/metrics` for Prometheus, `/health` for people and load balancers, `/epochs` for clients that
//! name the versions of their writes.

use std::{future::Future, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::text, registry::Registry};
use tokio::net::TcpListener;

use crate::health::Watch;

pub(crate) const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

struct Shared {
    registry: Registry,
    watch: Watch,
}

/// Answers on `listener` until `stop` resolves.
pub(crate) async fn serve(
    listener: TcpListener,
    registry: Registry,
    watch: Watch,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/epochs", get(epochs))
        .with_state(Arc::new(Shared { registry, watch }));
    axum::serve(listener, app).with_graceful_shutdown(stop).await
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    shared.watch.look(); // Some gauges say what health says.
    page(&shared.registry)
}

/// All metrics, as Prometheus reads them.
pub(crate) fn page(registry: &Registry) -> Response {
    let mut body = String::new();
    match text::encode(&mut body, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_TYPE)], body).into_response(),
        Err(err) => (StatusCode::INTERNAL_SERVER_ERROR, err.to_string()).into_response(),
    }
}

/// 200 while everything that was started is connected, else 503; the body says the same in detail.
async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let health = shared.watch.look();
    let status = if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(health)).into_response()
}

/// The epochs that are announced, oldest first. 503 while the stream cannot be read: what is not known is not "none".
async fn epochs(State(shared): State<Arc<Shared>>) -> Response {
    let said = |text: String| (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    match shared.watch.epochs().await {
        Some(Ok(epochs)) => axum::Json(epochs).into_response(),
        Some(Err(err)) => said(err.to_string()),
        None => said("the stream is being opened".to_owned()),
    }
}
