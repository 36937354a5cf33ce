//! `/healthz`, `/readyz` and `/metrics`: plain HTTP for the kubelet and for Prometheus.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// How long one pass may take before the process is called stuck.
const STUCK_AFTER: Duration = Duration::from_mins(5);

/// What the endpoints say.
#[derive(Debug, Default)]
pub struct Health {
    /// The metrics.
    pub metrics: Metrics,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    ready: bool,
    refused: Option<String>,
    working_since: Option<Instant>,
}

impl Health {
    /// The instance has joined the election: it works, or is ready to take over.
    pub fn set_ready(&self) {
        self.progress().ready = true;
    }

    /// This installation has to leave the cluster to another one, and why; or it need not.
    pub fn set_refused(&self, why: Option<String>) {
        self.progress().refused = why;
    }

    /// A pass begins.
    pub fn begins(&self) {
        self.progress().working_since = Some(Instant::now());
    }

    /// A pass has ended.
    pub fn ended(&self) {
        self.progress().working_since = None;
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stuck(&self) -> bool {
        self.progress()
            .working_since
            .is_some_and(|since| since.elapsed() > STUCK_AFTER)
    }
}

/// Serves until the process ends.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(address: SocketAddr, health: Arc<Health>) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    axum::serve(listener, router(health)).await
}

fn router(health: Arc<Health>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn healthz(State(health): State<Arc<Health>>) -> Response {
    if health.is_stuck() {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "a reconcile has not ended for five minutes\n",
        )
            .into_response()
    } else {
        "ok\n".into_response()
    }
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    let progress = health.progress();
    let unready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    match &progress.refused {
        Some(why) => unready(format!("{why}\n")),
        None if progress.ready => "ok\n".into_response(),
        None => unready("the election has not been joined yet\n".to_owned()),
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    open_metrics(health.metrics.encode())
}

/// Metrics as Prometheus reads them.
pub(crate) fn open_metrics(encoded: Result<String, std::fmt::Error>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match encoded {
        Ok(text) => ([(header::CONTENT_TYPE, TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_is_said_only_when_it_is_so() {
        let health = Arc::new(Health::default());
        assert_eq!(
            readyz(State(health.clone())).await.status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        health.set_ready();
        assert_eq!(readyz(State(health.clone())).await.status(), StatusCode::OK);
        health.set_refused(Some("another one works".to_owned()));
        assert_eq!(
            readyz(State(health)).await.status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
    }

    #[tokio::test]
    async fn a_pass_that_does_not_end_is_unhealthy() {
        let health = Arc::new(Health::default());
        health.begins();
        assert_eq!(
            healthz(State(health.clone())).await.status(),
            StatusCode::OK
        );
        let long_ago = Instant::now()
            .checked_sub(STUCK_AFTER + Duration::from_secs(1))
            .unwrap();
        health.progress().working_since = Some(long_ago);
        assert_eq!(
            healthz(State(health.clone())).await.status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        health.ended();
        assert_eq!(healthz(State(health)).await.status(), StatusCode::OK);
    }
}
