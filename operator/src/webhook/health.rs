//! `/healthz`, `/readyz` and `/metrics` of the webhook.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::Webhook;
use crate::health::open_metrics;

/// Serves until the process ends.
///
/// # Errors
/// When the listener breaks.
pub(super) async fn serve(listener: TcpListener, webhook: Arc<Webhook>) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(webhook);
    axum::serve(listener, router).await
}

async fn readyz(State(webhook): State<Arc<Webhook>>) -> Response {
    match webhook.unready() {
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
        None => "ok\n".into_response(),
    }
}

async fn metrics(State(webhook): State<Arc<Webhook>>) -> Response {
    open_metrics(webhook.metrics.encode())
}
