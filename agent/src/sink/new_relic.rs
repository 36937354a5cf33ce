//! New Relic's Log API (New Relic: "Introduction to the Log API").

use std::path::Path;

use http::{HeaderName, Uri};
use katonic_log_config::{Compression, NewRelic, NewRelicRegion};

use super::{Answer, Cause, Request, Verdict, header, judge_by_status};
use crate::credential::CredentialError;

/// Names the account.
const API_KEY: HeaderName = HeaderName::from_static("api-key");

const PATH: &str = "/log/v1";

/// What a request needs.
pub(super) fn request(
    sink: &NewRelic,
    compression: Compression,
    credentials: &Path,
) -> Result<Request, CredentialError> {
    let mut headers = header::common("application/json", compression);
    let key = header::of_credential("", &sink.license_key, credentials)?;
    headers.insert(API_KEY, key);
    let uri = match &sink.endpoint {
        // The whole address of the Log API is taken as it is, a base address is completed.
        Some(endpoint) if endpoint.uri().path().ends_with(PATH) => endpoint.uri().clone(),
        Some(endpoint) => endpoint.join(PATH).map_err(|_| CredentialError::Address)?,
        None => region(sink.region),
    };
    Ok(Request {
        uri,
        address: None,
        headers,
        elsewhere: Vec::new(),
    })
}

fn region(region: NewRelicRegion) -> Uri {
    Uri::from_static(match region {
        NewRelicRegion::Us => "https://log-api.newrelic.com/log/v1",
        NewRelicRegion::Eu => "https://log-api.eu.newrelic.com/log/v1",
        NewRelicRegion::FedRamp => "https://gov-log-api.newrelic.com/log/v1",
    })
}

/// What an answer means. 202 says that it is accepted: what is wrong with its content shows up later in the account,
/// as `NrIntegrationError`.
pub fn judge(answer: &Answer<'_>) -> Verdict {
    let reason = format!("HTTP {}", answer.status);
    match answer.status {
        202 => Verdict::Delivered,
        200..=299 => Verdict::Hold {
            cause: Cause::Misconfigured,
            reason: format!("{reason}, which is not New Relic's answer"),
        },
        400 => Verdict::Refused {
            record: None,
            reason,
        },
        _ => judge_by_status(answer, reason),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(status: u16) -> Verdict {
        judge(&Answer {
            retry_after: Some(Duration::from_secs(9)),
            ..Answer::of(status, br#"{"requestId":"0a1b"}"#)
        })
    }

    #[test]
    fn every_documented_answer_has_its_class() {
        assert_eq!(answer(202), Verdict::Delivered);
        assert!(matches!(
            answer(403),
            Verdict::Hold {
                cause: Cause::AuthenticationFailed,
                ..
            }
        ));
        for status in [200, 404, 405, 411, 415] {
            let verdict = answer(status);
            let misconfigured = matches!(
                verdict,
                Verdict::Hold {
                    cause: Cause::Misconfigured,
                    ..
                }
            );
            assert!(misconfigured, "{status}: {verdict:?}");
        }
        for status in [408, 429, 500, 503] {
            let verdict = answer(status);
            let later = matches!(verdict, Verdict::Retry { after: Some(after), .. } if after.as_secs() == 9);
            assert!(later, "{status}: {verdict:?}");
        }
        assert_eq!(answer(413), Verdict::Split);
        assert!(matches!(answer(400), Verdict::Refused { .. }));
    }
}
