//! OTLP over HTTP (OpenTelemetry: "OTLP Specification", OTLP/HTTP).

mod reply;

use std::path::Path;

use katonic_log_config::{Compression, Otlp, OtlpEncoding};

use super::{Answer, Cause, Request, Verdict, header, judge_by_status};
use crate::credential::CredentialError;

/// What a request needs.
pub(super) fn request(
    sink: &Otlp,
    compression: Compression,
    credentials: &Path,
) -> Result<Request, CredentialError> {
    let content_type = match sink.encoding {
        OtlpEncoding::Protobuf => "application/x-protobuf",
        OtlpEncoding::Json => "application/json",
    };
    let mut headers = header::common(content_type, compression);
    header::add_configured(&mut headers, &sink.headers, credentials)?;
    let uri = sink.endpoint.join("/v1/logs");
    Ok(Request {
        uri: uri.map_err(|_| CredentialError::Address)?,
        address: None,
        headers,
        elsewhere: Vec::new(),
    })
}

/// What an answer means.
///
/// The specification has four statuses retried and everything else dropped. Here nothing is dropped for a credential,
/// an address or a server that is in trouble: 401, 403 and 404 hold, 408 and 500 are retried.
pub fn judge(answer: &Answer<'_>) -> Verdict {
    let status = answer.status;
    if (200..=299).contains(&status) {
        return taken(answer);
    }
    let message = reply::status_message(answer.body);
    let reason = if message.is_empty() {
        format!("HTTP {status}")
    } else {
        format!("HTTP {status}: {}", answer.quote(&message))
    };
    match status {
        400 | 422 => Verdict::Refused {
            record: None,
            reason,
        },
        // Not said to pass: 501, 505 and those after it.
        501 | 505..=599 => Verdict::Hold {
            cause: Cause::Misconfigured,
            reason,
        },
        _ => judge_by_status(answer, reason),
    }
}

fn taken(answer: &Answer<'_>) -> Verdict {
    // A sign-in page, most likely: no server that speaks OTLP answers so.
    if answer.body.trim_ascii_start().starts_with(b"<") {
        return Verdict::Hold {
            cause: Cause::Misconfigured,
            reason: format!("HTTP {}, which is not OTLP's answer", answer.status),
        };
    }
    match reply::partial_success(answer.body) {
        None => Verdict::Delivered,
        Some(partial) => Verdict::Partial {
            rejected: partial.rejected,
            reason: answer.quote(&partial.message),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &[u8]) -> Verdict {
        judge(&Answer::of(status, body))
    }

    #[test]
    fn what_was_taken_in_part_is_not_sent_again() {
        assert_eq!(answer(200, b""), Verdict::Delivered);
        assert_eq!(answer(204, b""), Verdict::Delivered);
        assert_eq!(answer(200, br#"{"partialSuccess":{}}"#), Verdict::Delivered);
        assert_eq!(
            answer(200, b"\x0a\x08\x08\x02\x12\x04old\n"),
            Verdict::Partial {
                rejected: 2,
                reason: "old".into()
            }
        );
        assert_eq!(
            answer(200, br#"{"partialSuccess":{"errorMessage":"slow down"}}"#),
            Verdict::Partial {
                rejected: 0,
                reason: "slow down".into()
            }
        );
    }

    #[test]
    fn every_documented_refusal_has_its_class() {
        for status in [408, 429, 500, 502, 503, 504] {
            let verdict = answer(status, b"");
            assert!(matches!(verdict, Verdict::Retry { .. }), "{status}");
        }
        for status in [401, 403, 404, 405, 415, 501, 505] {
            let verdict = answer(status, b"");
            assert!(matches!(verdict, Verdict::Hold { .. }), "{status}");
        }
        assert!(matches!(answer(200, b"\n <html>"), Verdict::Hold { .. }));
        assert_eq!(answer(413, b""), Verdict::Split);
        assert_eq!(
            answer(400, b"\x08\x03\x12\x03bad"),
            Verdict::Refused {
                record: None,
                reason: "HTTP 400: bad".into()
            }
        );
    }
}
