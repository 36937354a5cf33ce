//! The OpenTelemetry Collector: what it takes, what it refuses, and what is read back of it.

use anyhow::Result;
use http::Method;
use katonic_logging_e2e::receiver::{
    Authority, OtelCollector, Received, Tally, otel_collector::Settings,
};
use serde_json::json;
use tokio::net::TcpStream;

use crate::client::{LIMIT, exchange, gzip, handshake, request, zstd};

const JSON: (&str, &str) = ("content-type", "application/json");
const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

/// A status, and the headers and the body that are to get it.
type Refused<'a> = (u16, &'a [(&'a str, &'a str)], &'a [u8]);

fn logs(number: usize) -> String {
    json!({"resourceLogs": [{
        "resource": {"attributes": [
            {"key": "k8s.namespace.name", "value": {"stringValue": "compute"}},
            {"key": "k8s.pod.name", "value": {"stringValue": "run-1"}},
            {"key": "k8s.container.name", "value": {"stringValue": "run"}},
            {"key": "k8s.container.restart_count", "value": {"intValue": "2"}},
        ]},
        "scopeLogs": [{"logRecords": [{
            "timeUnixNano": "1795500000123456789",
            "severityNumber": 9,
            "body": {"stringValue": format!("line {number:06} of 000003 ä\u{0}")},
            "attributes": [
                {"key": "log.iostream", "value": {"stringValue": "stdout"}},
                {"key": "log.record.uid", "value": {"stringValue": format!("x-{number}")}},
            ],
        }]}],
    }]})
    .to_string()
}

/// A field of protobuf with its length in front (wire type 2), for lengths below 128.
fn field(number: u8, content: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = vec![number << 3 | 2, u8::try_from(content.len())?];
    bytes.extend_from_slice(content);
    Ok(bytes)
}

/// `ExportLogsServiceRequest` with one record that has a body and nothing else.
fn protobuf(line: &str) -> Result<Vec<u8>> {
    let body = field(5, &field(1, line.as_bytes())?)?;
    field(1, &field(2, &field(2, &body)?)?)
}

fn came(records: usize) -> impl FnMut(&Received) -> bool {
    move |received| received.records.len() >= records
}

async fn post(
    collector: &OtelCollector,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<(u16, String)> {
    let request = request(Method::POST, "/v1/logs", headers, body)?;
    let stream = TcpStream::connect(collector.address()).await?;
    let (status, _, body) = exchange(stream, request).await?;
    Ok((status, body))
}

#[tokio::test]
async fn records_are_read_back_with_resource_attributes_and_body() -> Result<()> {
    let mut collector = OtelCollector::start(Settings::default()).await?;
    let success = (200, r#"{"partialSuccess":{}}"#.to_owned());
    let plain = logs(1);
    assert_eq!(post(&collector, &[JSON], plain.as_bytes()).await?, success);
    let packed = [("gzip", gzip(&logs(2))?), ("zstd", zstd(&logs(2)))];
    for (coding, body) in packed {
        let headers = [JSON, ("content-encoding", coding)];
        assert_eq!(
            post(&collector, &headers, &body).await?,
            success,
            "{coding}"
        );
    }
    let binary = protobuf("line 000003 of 000003")?;
    assert_eq!(post(&collector, &[PROTOBUF], &binary).await?.0, 200);
    collector.until("four records", LIMIT, came(4)).await?;
    let received = collector.received()?;
    assert_eq!(received.malformed, Vec::<String>::new());
    let first = &received.records[0];
    assert_eq!(first.line, "line 000001 of 000003 ä\0");
    assert_eq!((first.id(), first.field("log.iostream")), ("x-1", "stdout"));
    assert_eq!(first.resource("k8s.pod.name"), "run-1");
    assert_eq!(first.envelope["resource"]["k8s.container.restart_count"], 2);
    assert_eq!(first.about("timeUnixNano"), "1795500000123456789");
    assert_eq!(first.source().to_string(), "compute/run-1 run stdout");
    let tally = Tally::of(&received.records);
    assert!(
        tally.is_complete(3) && tally.duplicates_are_told_by_id(),
        "{tally}"
    );

    collector.stop().await?;
    assert!(TcpStream::connect(collector.address()).await.is_err());
    collector.start_again().await?;
    assert_eq!(post(&collector, &[JSON], plain.as_bytes()).await?, success);
    collector.until("a fifth", LIMIT, came(5)).await?;
    collector.kill()?;
    assert_eq!(collector.received()?.records.len(), 5);
    Ok(())
}

#[tokio::test]
async fn what_is_no_otlp_is_refused_and_not_written() -> Result<()> {
    let settings = Settings {
        max_body: Some(10_000),
        ..Settings::default()
    };
    let mut collector = OtelCollector::start(settings).await?;
    let large = format!("{}{}", logs(1), " ".repeat(10_000));
    let bomb = gzip(&large)?;
    let refused: [Refused; 8] = [
        (400, &[JSON], b"{"),
        (
            400,
            &[JSON],
            br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":"LOUD"}]}]}]}"#,
        ),
        (400, &[JSON, ("content-encoding", "gzip")], b"{}"),
        (400, &[JSON, ("content-encoding", "br")], b"{}"),
        (400, &[PROTOBUF], b"garbage"),
        // The specification has 413 for it, the Collector has not.
        (400, &[JSON], large.as_bytes()),
        (400, &[JSON, ("content-encoding", "gzip")], &bomb),
        (415, &[("content-type", "text/plain")], b"{}"),
    ];
    for (status, headers, body) in refused {
        let answer = post(&collector, headers, body).await?;
        assert_eq!(answer.0, status, "{headers:?}: {answer:?}");
    }
    for (status, method, path) in [
        (405, Method::PUT, "/v1/logs"),
        (404, Method::POST, "/v1/log"),
    ] {
        let stream = TcpStream::connect(collector.address()).await?;
        let answer = exchange(stream, request(method, path, &[JSON], b"{}")?).await?;
        assert_eq!(answer.0, status, "{path}: {answer:?}");
    }
    collector.stop().await?;
    let received = collector.received()?;
    assert_eq!((received.records, received.malformed), (vec![], vec![]));
    Ok(())
}

#[tokio::test]
async fn https_takes_only_clients_of_the_authority_and_shows_what_it_is_told() -> Result<()> {
    let authority = Authority::new()?;
    let settings = Settings::with_clients_of(&authority)?;
    let mut collector = OtelCollector::start(settings).await?;
    assert!(collector.url().starts_with("https://127.0.0.1:"));
    let post = || request(Method::POST, "/v1/logs", &[JSON], logs(1).as_bytes());
    let client = authority.client("agent")?;
    let stranger = Authority::new()?.client("agent")?;
    for refused in [None, Some(&stranger)] {
        // With TLS 1.3 the client learns of the refusal only when it talks.
        let answer = match handshake(collector.address(), &authority, refused).await {
            Ok(stream) => exchange(stream, post()?).await.map(drop),
            Err(error) => Err(error),
        };
        assert!(answer.is_err(), "{refused:?}");
    }
    let stream = handshake(collector.address(), &authority, Some(&client)).await?;
    assert_eq!(exchange(stream, post()?).await?.0, 200);
    collector.stop().await?;
    assert_eq!(collector.received()?.records.len(), 1);
    let here = collector.address().ip();
    collector.settings().identity = Some(authority.expired_server(here)?);
    collector.start_again().await?;
    let expired = handshake(collector.address(), &authority, Some(&client)).await;
    assert!(format!("{:#}", expired.unwrap_err()).contains("expired"));
    Ok(())
}
