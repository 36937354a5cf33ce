//! The question about a pod, and its answer.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use futures::StreamExt as _;
use katonic_logging_core::webhook::{configuration::PATH, review};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Webhook;

/// What a question may weigh, in bytes. The API server itself takes requests of up to 3 MiB, which grow a little on the way, and
/// beside a pod that is created there is no former one.
const LIMIT: usize = 4 << 20;

/// What may be read of every question at the same time, in bytes: nearly every pod is smaller.
const SMALL: usize = 32 << 10;

/// Larger questions at a time; others wait. Anybody in the cluster can ask, and memory is bounded.
const LARGE: usize = 4;

struct Asked {
    webhook: Arc<Webhook>,
    large: Semaphore,
}

pub(super) fn router(webhook: Arc<Webhook>) -> Router {
    let large = Semaphore::new(LARGE);
    Router::new()
        .route(PATH, post(inject))
        .with_state(Arc::new(Asked { webhook, large }))
}

async fn inject(State(asked): State<Arc<Asked>>, body: Body) -> Response {
    let (question, _room) = match read(body, &asked.large).await {
        Ok(read) => read,
        Err(refusal) => return refusal.into_response(),
    };
    let begun = Instant::now();
    let webhook = &asked.webhook;
    let answer = review::answer(&question, webhook.sidecar().as_deref());
    let body = answer.and_then(|answer| Ok((serde_json::to_vec(&answer.review)?, answer.outcome)));
    webhook.metrics.answered(
        body.as_ref().ok().map(|(_, outcome)| outcome),
        begun.elapsed(),
    );
    match body {
        Ok((body, _)) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(unreadable) => (StatusCode::BAD_REQUEST, format!("{unreadable}\n")).into_response(),
    }
}

/// The question, and the room that it takes where it is a large one.
async fn read(
    body: Body,
    large: &Semaphore,
) -> Result<(Vec<u8>, Option<SemaphorePermit<'_>>), (StatusCode, &'static str)> {
    let (mut question, mut room) = (Vec::new(), None);
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| (StatusCode::BAD_REQUEST, "the question broke off\n"))?;
        let length = question.len() + part.len();
        if length > LIMIT {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "no pod is this large\n"));
        }
        if length > SMALL && room.is_none() {
            let closed = |_| (StatusCode::SERVICE_UNAVAILABLE, "the webhook ends\n");
            room = Some(large.acquire().await.map_err(closed)?);
            // At once, so that it is never copied to a place twice as large.
            question.reserve_exact(LIMIT);
        }
        question.extend_from_slice(&part);
    }
    Ok((question, room))
}
