//! Any server that takes JSON.

use std::path::Path;

use http::{Method, header};
use katonic_log_config::{Authorization, Compression, Http, HttpMethod, JsonFormat};

use super::{Answer, Request, Verdict, header as headers, judge_by_status};
use crate::credential::CredentialError;

/// What a request needs.
pub(super) fn request(
    sink: &Http,
    compression: Compression,
    credentials: &Path,
) -> Result<Request, CredentialError> {
    let content_type = match sink.format {
        JsonFormat::Lines => "application/x-ndjson",
        JsonFormat::Array => "application/json",
    };
    let mut headers = headers::common(content_type, compression);
    headers::add_configured(&mut headers, &sink.headers, credentials)?;
    let authorization = match &sink.authorization {
        Some(Authorization::Basic(basic)) => Some(headers::basic(basic, credentials)?),
        Some(Authorization::Bearer(token)) => {
            Some(headers::of_credential("Bearer ", token, credentials)?)
        }
        None => None,
    };
    if let Some(authorization) = authorization {
        headers.insert(header::AUTHORIZATION, authorization);
    }
    Ok(Request {
        uri: sink.url.uri().clone(),
        address: None,
        headers,
        elsewhere: Vec::new(),
    })
}

/// The method of each request.
pub(super) fn method(method: HttpMethod) -> Method {
    match method {
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
    }
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
        let answer = |status| judge(&Answer::of(status, b""));
        assert_eq!(answer(204), Verdict::Delivered);
        assert!(matches!(answer(400), Verdict::Refused { record: None, .. }));
        for status in [301, 401, 403, 404, 405, 415] {
            assert!(matches!(answer(status), Verdict::Hold { .. }), "{status}");
        }
        assert!(matches!(answer(502), Verdict::Retry { .. }));
        assert_eq!(answer(413), Verdict::Split);
    }
}
