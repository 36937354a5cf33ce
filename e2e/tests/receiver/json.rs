//! The plain server of JSON.

use anyhow::{Context as _, Result};
use http::Method;
use katonic_logging_e2e::receiver::{
    Protocol, Receiver, Tally,
    json::{Authorization, Format, Rules},
};

use crate::client::{anywhere, gzip, request, send, zstd};

#[tokio::test]
async fn a_server_of_json_lines_takes_one_object_a_line_and_checks_the_credential() -> Result<()> {
    let mut rules = Rules::at("/in");
    rules
        .headers
        .push(("x-api-key".to_owned(), "secret".to_owned()));
    rules.refuses = Some("unwanted".to_owned());
    rules.max_body = 200;
    let server = Receiver::start(anywhere(), Protocol::Json(rules)).await?;
    let key = [("x-api-key", "secret")];
    let post = async |headers: &[(&str, &str)], body: &str| {
        let request = request(Method::POST, "/in", headers, body.as_bytes())?;
        send(&server, request).await
    };
    let line = r#"{"message":"line 000001 of 000001","stream":"stdout"}"#;
    assert_eq!(
        post(&key, &format!("{line}\n{line}\n")).await?,
        (204, String::new())
    );
    let refused = [
        (401, "{}\n".to_owned(), &[][..]),
        (401, "{}\n".to_owned(), &[("x-api-key", "other")][..]),
        (400, line.to_owned(), &key),
        (400, format!("{line}\n\n"), &key),
        (400, format!("{line}\n[]\n"), &key),
        (400, "{\"stream\":\"stdout\"}\n".to_owned(), &key),
        (400, "{\"message\":\"unwanted\"}\n".to_owned(), &key),
        (413, format!("{line}\n").repeat(4), &key),
        (
            415,
            format!("{line}\n"),
            &[key[0], ("content-encoding", "br")],
        ),
    ];
    for (status, body, headers) in refused {
        let answer = post(headers, &body).await.with_context(|| body.clone())?;
        assert_eq!(answer.0, status, "{body}");
    }
    let elsewhere = request(Method::POST, "/out", &key, b"")?;
    assert_eq!(send(&server, elsewhere).await?.0, 404);
    let received = server.received();
    assert_eq!(received.records.len(), 2);
    assert_eq!(received.records[0].field("stream"), "stdout");
    Ok(())
}

#[tokio::test]
async fn an_array_is_put_and_the_sender_proves_who_it_is() -> Result<()> {
    let mut rules = Rules::at("/in");
    rules.method = Method::PUT;
    rules.format = Format::Array;
    rules.success = 200;
    rules.authorization = Some(Authorization::Basic {
        username: "logs".to_owned(),
        password: "a:b".to_owned(),
    });
    let server = Receiver::start(anywhere(), Protocol::Json(rules)).await?;
    let array = r#"[{"message":"line 000001 of 000002"},{"message":"line 000002 of 000002"}]"#;
    let put = async |authorization: &str, body: &str| {
        let headers = [
            ("authorization", authorization),
            ("content-type", "application/json; charset=utf-8"),
        ];
        let request = request(Method::PUT, "/in", &headers, body.as_bytes())?;
        anyhow::Ok(send(&server, request).await?.0)
    };
    // RFC 7617: base64 of `logs:a:b`.
    let basic = "Basic bG9nczphOmI=";
    assert_eq!(put(basic, array).await?, 200);
    for wrong in [
        "",
        "Basic bG9nczph",
        "Basic logs:a:b",
        "Bearer bG9nczphOmI=",
    ] {
        assert_eq!(put(wrong, array).await?, 401, "{wrong}");
    }
    for wrong in ["", "[]", "{}", "[1]", "[{}]", r#"[{"message":"x"},]"#] {
        assert_eq!(put(basic, wrong).await?, 400, "{wrong}");
    }
    let posted = request(
        Method::POST,
        "/in",
        &[("authorization", basic)],
        array.as_bytes(),
    )?;
    assert_eq!(send(&server, posted).await?.0, 405);
    server.change_rules(|rules| {
        if let Protocol::Json(rules) = rules {
            rules.authorization = Some(Authorization::Bearer("token".to_owned()));
        }
    });
    assert_eq!(put(basic, array).await?, 401);
    assert_eq!(put("Bearer token", array).await?, 200);
    let tally = Tally::of(&server.received().records);
    assert!(tally.is_complete(2) && tally.duplicates == 2, "{tally}");
    Ok(())
}

#[tokio::test]
async fn codings_are_undone_and_other_content_types_refused() -> Result<()> {
    let server = Receiver::start(anywhere(), Protocol::Json(Rules::at("/in"))).await?;
    let line = "{\"message\":\"line 000001 of 000001\"}\n";
    let lines = ("content-type", "application/x-ndjson");
    let bodies = [("gzip", gzip(line)?), ("zstd", zstd(line))];
    for (coding, body) in bodies {
        let headers = [lines, ("content-encoding", coding)];
        let whole = request(Method::POST, "/in", &headers, &body)?;
        assert_eq!(send(&server, whole).await?.0, 204, "{coding}");
        let cut = request(Method::POST, "/in", &headers, &body[..body.len() / 2])?;
        assert_eq!(send(&server, cut).await?.0, 400, "{coding}");
    }
    let headers = [("content-type", "application/json")];
    let another = request(Method::POST, "/in", &headers, line.as_bytes())?;
    assert_eq!(send(&server, another).await?.0, 415);
    assert_eq!(server.inspect(|received| received.records.len()), 2);
    Ok(())
}
