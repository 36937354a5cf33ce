//! Any server that takes JSON lines.

use std::path::Path;

use http::{HeaderMap, HeaderValue};
use katonic_log_config::{HeaderValue as Value, Http};

use super::{Answer, Verdict, common_headers, judge_by_status, secret_header};
use crate::credential::{self, CredentialError};

/// Headers of each request.
///
/// # Errors
/// When a credential is missing or cannot be used.
pub fn headers(sink: &Http, credentials: &Path) -> Result<HeaderMap, CredentialError> {
    let mut headers = common_headers("application/x-ndjson");
    for header in &sink.headers {
        let name = header.name.name();
        match &header.value {
            Value::Literal(text) => {
                let value = HeaderValue::from_str(text).map_err(|_| CredentialError::Address)?;
                headers.insert(name.clone(), value);
            }
            Value::Credential(key) => {
                let secret = credential::read(credentials, key)?;
                secret_header(&mut headers, name, secret.reveal(), key)?;
            }
        }
    }
    Ok(headers)
}

/// What an answer means: its body says nothing that all servers agree on.
pub fn judge(answer: &Answer<'_>) -> Verdict {
    let reason = format!("HTTP {}", answer.status);
    match answer.status {
        400 | 422 => Verdict::Refused {
            record: None,
            reason,
        },
        _ => judge_by_status(answer, reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_2xx_is_success_and_a_wrong_address_drops_nothing() {
        let answer = |status| {
            judge(&Answer {
                status,
                retry_after: None,
                body: b"",
            })
        };
        assert_eq!(answer(204), Verdict::Delivered);
        assert!(matches!(answer(400), Verdict::Refused { record: None, .. }));
        for status in [301, 401, 403, 404, 405, 415] {
            assert!(matches!(answer(status), Verdict::Hold { .. }), "{status}");
        }
        assert!(matches!(answer(502), Verdict::Retry { .. }));
        assert_eq!(answer(413), Verdict::Split);
    }
}
