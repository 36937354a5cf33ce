//! Loggly (Loggly: "HTTP/S Bulk Endpoint").

use std::path::Path;

use katonic_log_config::{Compression, Loggly, LogglyTag};
use serde_json::Value;

use super::{Answer, Cause, Request, Verdict, header, judge_by_status, origin};
use crate::credential::{self, CredentialError};

/// What a request needs. The token stands in the address, so the address for people has `…` there.
pub(super) fn request(
    sink: &Loggly,
    compression: Compression,
    credentials: &Path,
) -> Result<Request, CredentialError> {
    let secret = credential::read(credentials, &sink.token)?;
    let token = str::from_utf8(secret.reveal()).unwrap_or_default();
    // Nothing else can be a token, and nothing else may become part of an address.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if token.is_empty() || !token.bytes().all(is_token) {
        return Err(CredentialError::NotInAddress(sink.token.clone()));
    }
    let tags: Vec<&str> = sink.tags.iter().map(LogglyTag::as_str).collect();
    let tags = if tags.is_empty() {
        String::new()
    } else {
        format!("tag/{}/", tags.join(","))
    };
    let uri = sink.endpoint.join(&format!("/bulk/{token}/{tags}"));
    let base = sink.endpoint.uri();
    let path = base.path().trim_end_matches('/');
    Ok(Request {
        uri: uri.map_err(|_| CredentialError::Address)?,
        address: Some(format!("{}{path}/bulk/…/{tags}", origin(base))),
        elsewhere: vec![secret],
        headers: header::common("text/plain", compression),
    })
}

/// What an answer means. Loggly documents its success and nothing else, so only that is taken for one.
pub fn judge(answer: &Answer<'_>) -> Verdict {
    let status = answer.status;
    let reply: Value = serde_json::from_slice(answer.body).unwrap_or_default();
    let said = reply["response"].as_str();
    let reason = match said {
        Some(text) => format!("HTTP {status}: {}", answer.quote(text)),
        None => format!("HTTP {status}"),
    };
    match (status, said) {
        (200, Some("ok")) => Verdict::Delivered,
        (200..=299, _) => Verdict::Hold {
            cause: Cause::Misconfigured,
            reason: format!("{reason}, which is not Loggly's answer"),
        },
        (400 | 422, _) => Verdict::Refused {
            record: None,
            reason,
        },
        _ => judge_by_status(answer, reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Verdict {
        judge(&Answer::of(status, body.as_bytes()))
    }

    #[test]
    fn only_logglys_own_ok_is_success() {
        assert_eq!(answer(200, r#"{"response" : "ok"}"#), Verdict::Delivered);
        for body in ["", "ok", r#"{"response":"error"}"#, "<html>", "[]", "1"] {
            let verdict = answer(200, body);
            assert!(matches!(verdict, Verdict::Hold { .. }), "{body}");
        }
        assert!(matches!(
            answer(201, r#"{"response":"ok"}"#),
            Verdict::Hold { .. }
        ));
    }

    #[test]
    fn what_loggly_does_not_document_drops_nothing_that_is_good() {
        assert!(matches!(
            answer(403, "Invalid API key"),
            Verdict::Hold {
                cause: Cause::AuthenticationFailed,
                ..
            }
        ));
        for status in [404, 405, 415] {
            assert!(matches!(answer(status, ""), Verdict::Hold { .. }));
        }
        for status in [408, 429, 500, 503] {
            assert!(matches!(answer(status, ""), Verdict::Retry { .. }));
        }
        assert_eq!(answer(413, ""), Verdict::Split);
        assert!(matches!(
            answer(400, ""),
            Verdict::Refused { record: None, .. }
        ));
    }
}
