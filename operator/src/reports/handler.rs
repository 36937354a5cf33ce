//! A report, and what is said to it.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use futures::StreamExt as _;
use k8s_openapi::jiff::Timestamp;
use katonic_log_config::{
    Report,
    report::{MAX_POLICIES, MAX_SINKS, MAX_SIZE, PATH, Reply, shortened},
};
use katonic_logging_core::{
    coverage,
    delivery::{Fleet, Pod, fit},
    reporting::interval,
};

use super::{
    Outcome,
    roster::{Roster, Sighting},
    token::Foreign,
    tokens::{Stranger, Tokens},
};
use crate::{
    cache::{Change, Signal},
    health::Health,
};

/// After how many seconds somebody comes again who could not be listened to. The next report replaces this one anyway.
const RETRY_AFTER: &str = "10";

/// What receives reports.
pub(super) struct Desk {
    pub(super) tokens: Arc<Tokens>,
    pub(super) roster: Arc<Roster>,
    pub(super) fleet: Arc<Mutex<Fleet>>,
    pub(super) signal: Arc<Signal>,
    pub(super) health: Arc<Health>,
}

pub(super) fn router(desk: Desk) -> Router {
    Router::new()
        .route(PATH, post(report))
        .with_state(Arc::new(desk))
}

async fn report(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Body) -> Response {
    let received = desk.receive(&headers, body).await;
    let outcome = match &received {
        Ok(_) => Outcome::Accepted,
        Err(refusal) => refusal.outcome(),
    };
    desk.health.metrics.reported(outcome);
    match received {
        Ok(reply) => said(reply),
        Err(refusal) => refusal.into_response(),
    }
}

fn said(reply: Reply) -> Response {
    match serde_json::to_vec(&reply) {
        Ok(reply) => ([(header::CONTENT_TYPE, "application/json")], reply).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

impl Desk {
    async fn receive(&self, headers: &HeaderMap, body: Body) -> Result<Reply, Refusal> {
        let token = bearer(headers).ok_or(Stranger::Foreign(Foreign::Absent))?;
        // Before anything is read of the body: a stranger's costs nothing.
        let pod = self.tokens.pod(token).await?;
        match self.roster.look_up(&pod) {
            Sighting::Unknown => return Err(Refusal::Unready),
            Sighting::Elsewhere => return Err(Refusal::Elsewhere),
            Sighting::Unseen | Sighting::Seen(_) => {}
        }
        let body = read(headers, body).await?;
        let report = parse(&body)?;
        // Anew, because its body may have taken a while.
        let facts = match self.roster.look_up(&pod) {
            Sighting::Seen(facts) => Some(facts),
            Sighting::Unknown | Sighting::Elsewhere | Sighting::Unseen => None,
        };
        Ok(self.take(pod, facts, report))
    }

    fn take(&self, pod: Pod, facts: Option<Arc<coverage::Pod>>, report: Report) -> Reply {
        // A poisoned lock still guards whole reports.
        let mut fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = fleet.take(pod, facts, report, Timestamp::now());
        let pods = fleet.len();
        drop(fleet);
        if is_news {
            self.signal.raise(Change::Status);
        }
        self.health.metrics.count_reporting_pods(pods);
        Reply {
            interval: interval(pods),
        }
    }
}

/// A report is an object: a list would be taken for its fields in their order. What of it a person may read is fit to be read.
fn parse(body: &[u8]) -> Result<Report, Refusal> {
    if body
        .trim_ascii_start()
        .first()
        .is_some_and(|first| *first != b'{')
    {
        return Err(Refusal::Malformed("it is no JSON object".to_owned()));
    }
    let report: Report = serde_json::from_slice(body)
        .map_err(|error| Refusal::Malformed(shortened(&error.to_string())))?;
    if report.is_bounded() {
        Ok(fit(report))
    } else {
        Err(Refusal::Malformed(format!(
            "it has more than {MAX_POLICIES} policies or {MAX_SINKS} sinks"
        )))
    }
}

/// The token of a request (RFC 6750).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let credentials = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = credentials.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The body, unless it is larger than any report; then what follows is not read.
async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Refusal> {
    let declared = headers.get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > MAX_SIZE) {
        return Err(Refusal::TooLarge);
    }
    let mut read = Vec::with_capacity(declared.unwrap_or_default());
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Refusal::Malformed("it broke off".to_owned()))?;
        if read.len() + part.len() > MAX_SIZE {
            return Err(Refusal::TooLarge);
        }
        read.extend_from_slice(&part);
    }
    Ok(read)
}

/// Why a report is not taken.
#[derive(Debug)]
enum Refusal {
    Stranger(Stranger),
    Elsewhere,
    Unready,
    TooLarge,
    Malformed(String),
}

impl From<Stranger> for Refusal {
    fn from(stranger: Stranger) -> Self {
        Self::Stranger(stranger)
    }
}

impl Refusal {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Stranger(Stranger::Foreign(_)) => Outcome::Unauthorized,
            Self::Stranger(Stranger::Throttled) => Outcome::Throttled,
            Self::Stranger(Stranger::Unavailable) | Self::Unready => Outcome::Unavailable,
            Self::Elsewhere => Outcome::Forbidden,
            Self::TooLarge => Outcome::TooLarge,
            Self::Malformed(_) => Outcome::Malformed,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let again = [(header::RETRY_AFTER, RETRY_AFTER)];
        match self {
            Self::Stranger(Stranger::Foreign(foreign)) => (
                StatusCode::UNAUTHORIZED,
                [(header::WWW_AUTHENTICATE, "Bearer")],
                format!("{foreign}\n"),
            )
                .into_response(),
            Self::Stranger(Stranger::Throttled) => (
                StatusCode::TOO_MANY_REQUESTS,
                again,
                "too many reports come at once\n",
            )
                .into_response(),
            Self::Stranger(Stranger::Unavailable) => (
                StatusCode::SERVICE_UNAVAILABLE,
                again,
                "the API server cannot be asked whose token this is\n",
            )
                .into_response(),
            Self::Unready => (
                StatusCode::SERVICE_UNAVAILABLE,
                again,
                "which namespaces may report is not known yet\n",
            )
                .into_response(),
            Self::Elsewhere => (
                StatusCode::FORBIDDEN,
                "the pod's namespace is none of those that the installation names\n",
            )
                .into_response(),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a report has at most {MAX_SIZE} bytes\n"),
            )
                .into_response(),
            Self::Malformed(why) => (
                StatusCode::BAD_REQUEST,
                format!("this is no report: {why}\n"),
            )
                .into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_token_is_that_of_a_bearer_and_of_nobody_else() {
        let token = |credentials: &str| {
            let mut headers = HeaderMap::new();
            let credentials = HeaderValue::from_bytes(credentials.as_bytes()).unwrap();
            headers.insert(header::AUTHORIZATION, credentials);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(token("Bearer a.b.c").as_deref(), Some("a.b.c"));
        assert_eq!(token("bearer  a.b.c ").as_deref(), Some("a.b.c"));
        for credentials in [
            "",
            "Bearer",
            "Bearer ",
            "Basic a.b.c",
            "a.b.c",
            "Bearer \u{e4}",
        ] {
            assert_eq!(token(credentials), None, "{credentials:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn a_report_that_would_be_large_in_memory_is_none() {
        for of in ["{},", r#"{"sinks":[{}]},"#] {
            let policies = of.repeat(MAX_POLICIES + 1);
            let body = format!(r#"{{"policies":[{}]}}"#, policies.trim_end_matches(','));
            assert!(body.len() <= MAX_SIZE);
            let refused = parse(body.as_bytes()).unwrap_err();
            assert_eq!(refused.outcome(), Outcome::Malformed);
        }
        let sinks = "{},".repeat(MAX_SINKS + 1);
        let body = format!(
            r#"{{"policies":[{{"sinks":[{}]}}]}}"#,
            sinks.trim_end_matches(',')
        );
        let Err(Refusal::Malformed(words)) = parse(body.as_bytes()) else {
            panic!("it was taken");
        };
        assert_eq!(words, "it has more than 1000 policies or 2200 sinks");
    }

    #[test]
    fn what_a_report_tells_people_is_short_and_moves_no_cursor() {
        let parsed = |message: &str| {
            let sink = serde_json::json!({"name": "splunk", "message": message});
            let policy = serde_json::json!({"uid": "u", "sinks": [sink]});
            let body = serde_json::json!({"policies": [policy]}).to_string();
            let report = parse(body.as_bytes()).unwrap();
            report.policies[0].sinks[0].message.clone().unwrap()
        };
        assert_eq!(
            parsed("ok\n\u{1b}[2Jall\u{202e} well"),
            "ok \u{fffd}[2Jall\u{fffd} well"
        );
        let long = parsed(&"\u{1b}[31m".repeat(6000));
        assert_eq!(
            long.chars().count(),
            katonic_log_config::report::MAX_SENTENCE
        );
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_the_size_of_a_report_whether_it_says_so_or_not() {
        let none = HeaderMap::new();
        let fits = vec![b' '; MAX_SIZE];
        let body = read(&none, Body::from(fits.clone())).await.unwrap();
        assert_eq!(body.len(), MAX_SIZE);
        let larger = [&fits[..], b" "].concat();
        let refused = read(&none, Body::from(larger)).await.unwrap_err();
        assert_eq!(refused.outcome(), Outcome::TooLarge);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(MAX_SIZE + 1));
        // Refused by what it says, before any of it comes.
        let never = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
        let refused = read(&headers, Body::from_stream(never)).await.unwrap_err();
        assert_eq!(refused.outcome(), Outcome::TooLarge);
    }
}
