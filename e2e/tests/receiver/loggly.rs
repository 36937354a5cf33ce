//! Loggly's bulk endpoint.

use anyhow::Result;
use http::Method;
use katonic_logging_e2e::receiver::{Coding, Protocol, Receiver, loggly::Rules};

use crate::client::{anywhere, gzip, request, send};

const TOKEN: &str = "8f0d6c1c-5b1b-4a4c-9a0e-1b7f0e2c3d4e";

async fn account(rules: Rules) -> Result<Receiver> {
    Receiver::start(anywhere(), Protocol::Loggly(rules)).await
}

async fn post(receiver: &Receiver, path: &str, body: &str) -> Result<(u16, String)> {
    let headers = [("content-type", "application/json")];
    send(
        receiver,
        request(Method::POST, path, &headers, body.as_bytes())?,
    )
    .await
}

fn path() -> String {
    format!("/bulk/{TOKEN}/tag/platform,dev/")
}

#[tokio::test]
async fn events_are_lines_of_json_or_text() -> Result<()> {
    let receiver = account(Rules::with_token(TOKEN)).await?;
    let body =
        "{\"message\":\"line 000001 of 000002\",\"stream\":\"stdout\"}\nline 000002 of 000002";
    let answer = post(&receiver, &path(), body).await?;
    assert_eq!(answer, (200, r#"{"response":"ok"}"#.to_owned()));
    let untagged = format!("/bulk/{TOKEN}/");
    assert_eq!(post(&receiver, &untagged, "{\"a\":1}\n").await?.0, 200);
    let records = receiver.received().records;
    let lines: Vec<_> = records.iter().map(|record| record.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "line 000001 of 000002",
            "line 000002 of 000002",
            "{\"a\":1}"
        ]
    );
    assert_eq!(records[0].field("stream"), "stdout");
    assert_eq!(
        records[0].envelope["tags"],
        serde_json::json!(["platform", "dev"])
    );
    assert_eq!(records[2].envelope["tags"], serde_json::json!([]));
    Ok(())
}

#[tokio::test]
async fn what_loggly_would_not_keep_is_refused_as_a_whole() -> Result<()> {
    let mut rules = Rules::with_token(TOKEN);
    rules.max_batch = 100;
    rules.max_event = 50;
    let receiver = account(rules).await?;
    let long = "x".repeat(51);
    let refused = [
        (404, "/inputs/token/tag/a/".to_owned(), "x"),
        (404, format!("/bulk/{TOKEN}"), "x"),
        (403, "/bulk/another/tag/a/".to_owned(), "x"),
        (400, format!("/bulk/{TOKEN}/tag/a,/"), "x"),
        (400, format!("/bulk/{TOKEN}/tag/%20/"), "x"),
        (400, path(), ""),
        (400, path(), "x\n\ny"),
        (413, path(), &long),
        (413, path(), &"short\n".repeat(20)),
    ];
    for (status, path, body) in refused {
        assert_eq!(
            post(&receiver, &path, body).await?.0,
            status,
            "{path} {body}"
        );
    }
    let json = ("content-type", "application/json");
    let others: [(u16, &[(&str, &str)]); 3] = [
        (415, &[]),
        (
            415,
            &[("content-type", "application/x-www-form-urlencoded")],
        ),
        (415, &[json, ("content-encoding", "gzip")]),
    ];
    for (status, headers) in others {
        let request = request(Method::POST, &path(), headers, &gzip("x")?)?;
        assert_eq!(send(&receiver, request).await?.0, status, "{headers:?}");
    }
    let read = request(Method::GET, &path(), &[json], b"")?;
    assert_eq!(send(&receiver, read).await?.0, 405);
    assert_eq!(receiver.received().records, []);
    // Not documented, so a test has to say that it is taken.
    receiver.change_rules(|rules| {
        if let Protocol::Loggly(rules) = rules {
            rules.codings.push(Coding::Gzip);
        }
    });
    let headers = [json, ("content-encoding", "gzip")];
    let packed = request(Method::POST, &path(), &headers, &gzip("x")?)?;
    assert_eq!(send(&receiver, packed).await?.0, 200);
    Ok(())
}
