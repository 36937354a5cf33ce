//! New Relic's Log API.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use http::Method;
use katonic_logging_e2e::receiver::{
    Protocol, Receiver, RetryAfter, Times,
    new_relic::{Reply, Rules, Warning},
};
use serde_json::{Value, json};

use crate::client::{anywhere, gzip, request, send, zstd};

const KEY: &str = "0123456789abcdef0123456789abcdef01234567";
const NOW: u64 = 1_795_500_000;

/// An answer, and the method, path, headers and body that are to get it.
type Refused<'a> = (Reply, Method, &'a str, &'a [(&'a str, &'a str)], &'a [u8]);

async fn account() -> Result<Receiver> {
    let mut rules = Rules::with_license_key(KEY);
    rules.now = Some(UNIX_EPOCH + Duration::from_secs(NOW));
    Receiver::start(anywhere(), Protocol::NewRelic(rules)).await
}

async fn post(receiver: &Receiver, body: &Value) -> Result<u16> {
    let headers = [("api-key", KEY), ("content-type", "application/json")];
    let body = body.to_string();
    let request = request(Method::POST, "/log/v1", &headers, body.as_bytes())?;
    Ok(send(receiver, request).await?.0)
}

#[tokio::test]
async fn both_forms_of_a_body_are_taken_and_attributes_flattened() -> Result<()> {
    let receiver = account().await?;
    let detailed = json!([{
        "common": {"timestamp": NOW, "attributes": {"pod": "p", "stream": "stdout"}},
        "logs": [
            {"message": "line 000001 of 000003", "attributes": {"labels": {"app": "a"}, "record_id": "x-1"}},
            {"message": "line 000002 of 000003", "timestamp": NOW * 1_000 + 1, "attributes": {"stream": "stderr"}},
        ],
    }]);
    let headers = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let packed = gzip(&detailed.to_string())?;
    let by_query = format!("/log/v1?Api-Key={KEY}");
    let (status, body) = send(
        &receiver,
        request(Method::POST, &by_query, &headers, &packed)?,
    )
    .await?;
    assert_eq!(status, 202);
    let answer: Value = serde_json::from_str(&body)?;
    assert!(answer["requestId"].is_string(), "{body}");
    let simple = json!({"message": "line 000003 of 000003", "timestamp": NOW, "a": 1});
    assert_eq!(post(&receiver, &simple).await?, 202);
    let came = receiver.received();
    let [first, second, third] = &came.records[..] else {
        anyhow::bail!("{:?}", came.records)
    };
    assert_eq!(
        (first.field("pod"), first.field("labels.app"), first.id()),
        ("p", "a", "x-1")
    );
    assert_eq!(
        (second.field("stream"), second.line.as_str()),
        ("stderr", "line 000002 of 000003")
    );
    assert_eq!(first.envelope["timestamp"], NOW * 1_000);
    assert_eq!(second.envelope["timestamp"], NOW * 1_000 + 1);
    assert_eq!(third.fields["a"], 1);
    assert_eq!(came.warnings, []);
    Ok(())
}

#[tokio::test]
async fn requests_are_refused_with_the_documented_statuses() -> Result<()> {
    let receiver = account().await?;
    let event = br#"{"message":"x"}"#;
    let (key, json) = (("api-key", KEY), ("content-type", "application/json"));
    let zipped = zstd("{}");
    let large = vec![b' '; 1_000_001];
    let refused: [Refused; 12] = [
        (
            Reply::NotFound,
            Method::POST,
            "/log/v2",
            &[key, json],
            event,
        ),
        (
            Reply::MethodNotAllowed,
            Method::PUT,
            "/log/v1",
            &[key, json],
            event,
        ),
        (Reply::Forbidden, Method::POST, "/log/v1", &[json], event),
        (
            Reply::Forbidden,
            Method::POST,
            "/log/v1",
            &[("api-key", "x"), json],
            event,
        ),
        (
            Reply::UnsupportedMediaType,
            Method::POST,
            "/log/v1",
            &[key],
            event,
        ),
        (
            Reply::UnsupportedMediaType,
            Method::POST,
            "/log/v1",
            &[key, ("content-type", "text/plain")],
            event,
        ),
        (
            Reply::UnsupportedMediaType,
            Method::POST,
            "/log/v1",
            &[key, json, ("content-encoding", "zstd")],
            &zipped,
        ),
        (
            Reply::TooLarge,
            Method::POST,
            "/log/v1",
            &[key, json],
            &large,
        ),
        (
            Reply::InvalidStructure,
            Method::POST,
            "/log/v1",
            &[key, json, ("content-encoding", "gzip")],
            event,
        ),
        (
            Reply::InvalidStructure,
            Method::POST,
            "/log/v1",
            &[key, json],
            b"[]",
        ),
        (
            Reply::InvalidStructure,
            Method::POST,
            "/log/v1",
            &[key, json],
            br#"[{"logs":[{"attributes":{}}]}]"#,
        ),
        (
            Reply::InvalidStructure,
            Method::POST,
            "/log/v1",
            &[key, json],
            b"{\"message\":\"\xff\"}",
        ),
    ];
    for (reply, method, path, headers, body) in refused {
        let answer = send(&receiver, request(method, path, headers, body)?).await?;
        assert_eq!(answer.0, reply.status(), "{reply:?}: {answer:?}");
    }
    let patience = Some(RetryAfter::Seconds(60));
    receiver.misbehave(Reply::TooManyRequests.fault(patience), Times::Exactly(1));
    receiver.misbehave(Reply::Timeout.fault(None), Times::Exactly(1));
    let event = json!({"message": "x"});
    assert_eq!(post(&receiver, &event).await?, 429);
    assert_eq!(post(&receiver, &event).await?, 408);
    assert_eq!(receiver.received().records, []);
    Ok(())
}

#[tokio::test]
async fn what_new_relic_says_only_afterwards_is_kept_as_warnings() -> Result<()> {
    let receiver = account().await?;
    let not_stored = [
        json!({"message": "a", "list": []}),
        json!({"message": "b", "x".repeat(256): 1}),
        json!({"message": "c", "timestamp": "2026-11-24T12:00:00Z"}),
        json!({"message": "d", "white space": 1}),
        Value::Object((0..255).map(|n| (format!("a{n}"), 1.into())).collect()),
    ];
    for event in &not_stored {
        assert_eq!(post(&receiver, event).await?, 202, "{event}");
    }
    let came = receiver.received();
    assert_eq!(came.records, []);
    assert_eq!(came.warnings.len(), not_stored.len());
    assert!(
        came.warnings
            .iter()
            .all(|warning| matches!(warning, Warning::NotStored { .. })),
        "{:?}",
        came.warnings
    );
    let stored = [
        json!({"message": "old", "timestamp": NOW - 48 * 3_600 - 1}),
        json!({"message": "ä".repeat(4_095)}),
        json!({"message": "kept for themselves", "entity.name": "x"}),
        json!({"message": "ä".repeat(4_094), "timestamp": NOW - 48 * 3_600}),
    ];
    for event in &stored {
        assert_eq!(post(&receiver, event).await?, 202, "{event}");
    }
    let came = receiver.received();
    assert_eq!(came.records.len(), stored.len());
    let expected = [
        Warning::Old {
            line: "old".to_owned(),
        },
        Warning::Blob {
            attribute: "message".to_owned(),
        },
        Warning::Reserved {
            attribute: "entity.name".to_owned(),
        },
    ];
    assert_eq!(came.warnings[not_stored.len()..], expected);
    Ok(())
}
