//! Splunk HTTP Event Collector (Splunk: "HTTP Event Collector", "Troubleshoot HTTP Event Collector").

use std::path::Path;

use http::{HeaderMap, Uri, header};
use katonic_log_config::{Splunk, endpoint::InvalidEndpoint};
use serde_json::Value;

use super::{Answer, Cause, Verdict, common_headers, judge_by_status, secret_header};
use crate::credential::{self, CredentialError};

/// Where events go.
///
/// # Errors
/// When the path of the sink's address does not allow it.
pub fn uri(sink: &Splunk) -> Result<Uri, InvalidEndpoint> {
    sink.endpoint.join("/services/collector/event")
}

/// Headers of each request.
///
/// # Errors
/// When the token is missing or cannot be used.
pub fn headers(sink: &Splunk, credentials: &Path) -> Result<HeaderMap, CredentialError> {
    let mut headers = common_headers("application/json");
    let token = credential::read(credentials, &sink.token)?;
    let value = [b"Splunk ", token.reveal()].concat();
    secret_header(&mut headers, &header::AUTHORIZATION, &value, &sink.token)?;
    Ok(headers)
}

#[derive(Default)]
struct Reply {
    text: String,
    code: Option<u64>,
    invalid_event_number: Option<usize>,
}

impl Reply {
    /// Each member on its own: a strange number must not hide the code, or what was taken would be sent again for ever.
    fn read(body: &[u8]) -> Self {
        let reply: Value = serde_json::from_slice(body).unwrap_or_default();
        Self {
            text: reply["text"].as_str().unwrap_or_default().to_owned(),
            code: reply["code"].as_u64(),
            invalid_event_number: reply["invalid-event-number"]
                .as_u64()
                .and_then(|number| usize::try_from(number).ok()),
        }
    }
}

/// What an answer of HEC means: by its `code` where it has one, else by its status.
pub fn judge(answer: &Answer<'_>) -> Verdict {
    let reply = Reply::read(answer.body);
    let status = answer.status;
    let reason = match reply.code {
        Some(code) => format!("HTTP {status}, HEC code {code}: {}", excerpt(&reply.text)),
        None => format!("HTTP {status}"),
    };
    match (status, reply.code) {
        // 200 without HEC's own word for it comes from something else, such as a proxy's sign-in page.
        // 24 and 25 say that the queue or the acknowledgement channel is nearly full; the events are taken.
        (200, Some(0 | 24 | 25)) => Verdict::Delivered,
        (400, Some(5 | 6 | 12 | 13 | 15)) => Verdict::Refused {
            record: reply.invalid_event_number,
            reason,
        },
        (400, Some(2 | 3)) => Verdict::Hold {
            cause: Cause::AuthenticationFailed,
            reason,
        },
        (200..=299, _) => Verdict::Hold {
            cause: Cause::Misconfigured,
            reason: format!("{reason}, which is not HEC's answer"),
        },
        _ => judge_by_status(answer, reason),
    }
}

/// Enough of a server's text for people; it could be of any length.
fn excerpt(text: &str) -> String {
    text.chars()
        .filter(|one| !one.is_control())
        .take(120)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(status: u16, body: &str) -> Verdict {
        judge(&Answer {
            status,
            retry_after: None,
            body: body.as_bytes(),
        })
    }

    #[test]
    fn only_hecs_own_success_is_success() {
        assert_eq!(
            answer(200, r#"{"text":"Success","code":0}"#),
            Verdict::Delivered
        );
        let strange = r#"{"text":null,"code":0,"invalid-event-number":-1}"#;
        assert_eq!(answer(200, strange), Verdict::Delivered);
        for code in [24, 25] {
            let warned = format!(r#"{{"text":"approaching capacity","code":{code}}}"#);
            assert_eq!(answer(200, &warned), Verdict::Delivered);
        }
        assert!(matches!(
            answer(200, "<html>sign in</html>"),
            Verdict::Hold { .. }
        ));
    }

    #[test]
    fn a_refused_event_is_named() {
        let verdict = answer(
            400,
            r#"{"text":"Event field cannot be blank","code":13,"invalid-event-number":7}"#,
        );
        let Verdict::Refused { record, reason } = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(record, Some(7));
        assert_eq!(reason, "HTTP 400, HEC code 13: Event field cannot be blank");
    }

    #[test]
    fn a_wrong_index_or_token_holds_and_drops_nothing() {
        let hold = |cause, status, body| match answer(status, body) {
            Verdict::Hold { cause: found, .. } => assert_eq!(found, cause, "{status} {body}"),
            other => panic!("{status} {body}: {other:?}"),
        };
        hold(
            Cause::Misconfigured,
            400,
            r#"{"text":"Incorrect index","code":7,"invalid-event-number":1}"#,
        );
        hold(
            Cause::Misconfigured,
            400,
            r#"{"text":"Data channel is missing","code":10}"#,
        );
        hold(Cause::Misconfigured, 400, "");
        hold(Cause::Misconfigured, 404, "");
        hold(
            Cause::AuthenticationFailed,
            401,
            r#"{"text":"Token is required","code":2}"#,
        );
        hold(
            Cause::AuthenticationFailed,
            403,
            r#"{"text":"Invalid token","code":4}"#,
        );
    }

    #[test]
    fn a_busy_server_is_asked_again_when_it_says() {
        let verdict = judge(&Answer {
            status: 503,
            retry_after: Some(Duration::from_secs(7)),
            body: br#"{"text":"Server is busy","code":9}"#,
        });
        assert!(
            matches!(verdict, Verdict::Retry { after: Some(after), .. } if after.as_secs() == 7)
        );
        assert!(matches!(answer(500, ""), Verdict::Retry { .. }));
        assert!(matches!(answer(429, ""), Verdict::Retry { .. }));
        assert_eq!(answer(413, ""), Verdict::Split);
    }
}
