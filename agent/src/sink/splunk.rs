//! Splunk HTTP Event Collector (Splunk: "HTTP Event Collector", "Troubleshoot HTTP Event Collector").

use std::{collections::BTreeSet, path::Path, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use katonic_log_config::{Compression, Splunk, bundle::hex_digest};
use serde_json::{Value, json};

use super::{Answer, Cause, Request, Verdict, header as headers, judge_by_status, millis};
use crate::{credential::CredentialError, cursor::RouteKey};

/// Names the channel of a request (Splunk: "About HTTP Event Collector Indexer Acknowledgment").
pub const CHANNEL: HeaderName = HeaderName::from_static("x-splunk-request-channel");

/// How a collector is asked what it has indexed.
#[derive(Clone, Debug, PartialEq)]
pub struct Acknowledging {
    /// Where it is asked, by `POST`.
    pub uri: Uri,
    /// Headers of the question: the channel among them, and no content coding.
    pub headers: HeaderMap,
    /// How often it is asked.
    pub poll: Duration,
    /// After so long without acknowledgement events are sent again.
    pub timeout: Duration,
}

/// The channel of a route of a pod: a UUID (version 8, RFC 9562) made of who it belongs to and of what the caller
/// adds to tell one start of the agent from another.
pub fn channel(pod_uid: &str, route: &RouteKey) -> HeaderValue {
    let name = format!("{pod_uid}/{}/{}", route.policy_uid, route.sink);
    let hex = hex_digest(name.as_bytes());
    let uuid = format!(
        "{}-{}-8{}-a{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..32]
    );
    // Digits and dashes always are a header's value.
    HeaderValue::from_str(&uuid).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// What a request needs.
pub(super) fn request(
    sink: &Splunk,
    compression: Compression,
    credentials: &Path,
    channel: &HeaderValue,
) -> Result<Request, CredentialError> {
    let mut headers = headers::common("application/json", compression);
    let authorization = headers::of_credential("Splunk ", &sink.token, credentials)?;
    headers.insert(header::AUTHORIZATION, authorization);
    if sink.acknowledgement.is_some() {
        headers.insert(CHANNEL, channel.clone());
    }
    let uri = sink.endpoint.join("/services/collector/event");
    Ok(Request {
        uri: uri.map_err(|_| CredentialError::Address)?,
        address: None,
        headers,
        elsewhere: Vec::new(),
    })
}

/// How to ask what is indexed, where the policy wants it; `headers` are those of the events.
pub(super) fn acknowledging(
    sink: &Splunk,
    headers: &HeaderMap,
) -> Result<Option<Acknowledging>, CredentialError> {
    let Some(acknowledgement) = sink.acknowledgement else {
        return Ok(None);
    };
    let mut headers = headers.clone();
    headers.remove(header::CONTENT_ENCODING);
    Ok(Some(Acknowledging {
        uri: ack_uri(sink)?,
        headers,
        poll: millis(acknowledgement.poll_ms),
        timeout: millis(acknowledgement.timeout_ms),
    }))
}

/// Where it is asked what is indexed.
///
/// # Errors
/// When the path of the sink's address does not allow it.
pub fn ack_uri(sink: &Splunk) -> Result<Uri, CredentialError> {
    let uri = sink.endpoint.join("/services/collector/ack");
    uri.map_err(|_| CredentialError::Address)
}

/// The number under which the events of an answered request will be acknowledged; none: the token has no
/// acknowledgement.
pub fn ack_id(body: &[u8]) -> Option<u64> {
    let reply: Value = serde_json::from_slice(body).ok()?;
    reply["ackId"].as_u64()
}

/// The question which of these are indexed.
pub fn ack_request(ids: &[u64]) -> Vec<u8> {
    json!({"acks": ids}).to_string().into_bytes()
}

/// Which are indexed; none: not an answer of HEC to this question.
///
/// An id is told once: HEC forgets it with the answer that says `true`. `false` is said of what is not yet indexed and
/// of ids that it does not know.
pub fn acknowledged(body: &[u8]) -> Option<BTreeSet<u64>> {
    let reply: Value = serde_json::from_slice(body).ok()?;
    let acks = reply["acks"].as_object()?;
    let indexed = acks.iter().filter(|(_, done)| **done == Value::Bool(true));
    Some(indexed.filter_map(|(id, _)| id.parse().ok()).collect())
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
        Some(code) => format!(
            "HTTP {status}, HEC code {code}: {}",
            answer.quote(&reply.text)
        ),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(status: u16, body: &str) -> Verdict {
        judge(&Answer::of(status, body.as_bytes()))
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
        let hold = |cause, status, body: &str| match answer(status, body) {
            Verdict::Hold { cause: found, .. } => assert_eq!(found, cause, "{status} {body}"),
            other => panic!("{status} {body}: {other:?}"),
        };
        hold(
            Cause::Misconfigured,
            400,
            r#"{"text":"Incorrect index","code":7,"invalid-event-number":1}"#,
        );
        for (code, text) in [
            (10, "Data channel is missing"),
            (11, "Invalid data channel"),
            (14, "ACK is disabled"),
            (16, "Query string authorization is not enabled"),
        ] {
            let body = format!(r#"{{"text":"{text}","code":{code}}}"#);
            hold(Cause::Misconfigured, 400, &body);
        }
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
            retry_after: Some(Duration::from_secs(7)),
            ..Answer::of(503, br#"{"text":"Server is busy","code":9}"#)
        });
        assert!(
            matches!(verdict, Verdict::Retry { after: Some(after), .. } if after.as_secs() == 7)
        );
        for (status, code) in [(500, 8), (503, 18), (503, 19), (503, 20), (503, 23)] {
            let verdict = answer(status, &format!(r#"{{"text":"","code":{code}}}"#));
            assert!(matches!(verdict, Verdict::Retry { .. }), "{status} {code}");
        }
        assert!(matches!(answer(500, ""), Verdict::Retry { .. }));
        assert!(matches!(answer(429, ""), Verdict::Retry { .. }));
        assert_eq!(answer(413, ""), Verdict::Split);
    }

    #[test]
    fn acknowledgements_are_asked_for_by_number() {
        let taken = br#"{"text":"Success","code":0,"ackId":7}"#;
        assert_eq!(ack_id(taken), Some(7));
        for other in [
            &br#"{"text":"Success","code":0}"#[..],
            br#"{"ackId":-1}"#,
            b"<html>",
            b"",
        ] {
            assert_eq!(ack_id(other), None);
        }
        assert_eq!(ack_request(&[0, 7]), br#"{"acks":[0,7]}"#);
        assert_eq!(
            acknowledged(br#"{"acks":{"0":true,"7":false,"9":true}}"#),
            Some(BTreeSet::from([0, 9]))
        );
        let nothing = acknowledged(br#"{"acks":{}}"#);
        assert_eq!(nothing, Some(BTreeSet::new()));
        assert_eq!(acknowledged(br#"{"acks":{"x":true,"1":"true"}}"#), nothing);
        for other in [
            &br#"{"text":"ACK is disabled","code":14}"#[..],
            b"[]",
            b"<html>",
            b"",
        ] {
            assert_eq!(acknowledged(other), None);
        }
    }

    #[test]
    fn a_channel_is_a_uuid_of_its_own_for_each_route() {
        let key = |sink: &str| RouteKey {
            policy_uid: "u".into(),
            sink: sink.into(),
        };
        let one = channel("pod", &key("one"));
        let text = one.to_str().unwrap();
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{text}");
        assert_eq!(&text[14..15], "8");
        assert_eq!(&text[19..20], "a", "the variant of RFC 9562");
        assert_eq!(one, channel("pod", &key("one")));
        assert_ne!(one, channel("pod", &key("two")));
        assert_ne!(one, channel("other", &key("one")));
    }
}
