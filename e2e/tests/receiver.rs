//! The contract of the receivers: each documented refusal, word for word, and each fault.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use katonic_logging_e2e::receiver::{
    Authority, Fault, Protocol, Receiver, Tally, Times, json_lines,
    splunk::{Reply, Rules, Token},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

const TOKEN: &str = "3f1b5f0a-8a57-4c5e-9d0b-6f5a8f3b1c2d";
const EVENT: &str = r#"{"event":"line 000001 of 000002","fields":{"stream":"stdout"}}"#;
const LIMIT: Duration = Duration::from_secs(10);

fn anywhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn gzip(text: &str) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes())?;
    Ok(encoder.finish()?)
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<(u16, Option<String>, String)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let retry_after = response.headers().get(header::RETRY_AFTER);
    let retry_after = retry_after
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let body = response.into_body().collect().await?.to_bytes();
    drop(sender);
    connection.abort();
    Ok((status, retry_after, String::from_utf8(body.to_vec())?))
}

fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Request<Full<Bytes>>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "receiver");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Ok(request.body(Full::from(body.to_vec()))?)
}

async fn send(receiver: &Receiver, request: Request<Full<Bytes>>) -> Result<(u16, String)> {
    let stream = TcpStream::connect(receiver.address()).await?;
    let (status, _, body) = exchange(stream, request).await?;
    Ok((status, body))
}

async fn post(receiver: &Receiver, body: &[u8]) -> Result<(u16, String)> {
    let authorization = format!("Splunk {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let request = request(Method::POST, "/services/collector/event", &headers, body)?;
    send(receiver, request).await
}

async fn collector(rules: Rules) -> Result<Receiver> {
    Receiver::start(anywhere(), Protocol::Splunk(rules)).await
}

fn refusal(reply: Reply, event: Option<usize>) -> (u16, String) {
    (reply.status(), reply.body(event))
}

#[tokio::test]
async fn events_are_taken_as_concatenated_objects_plain_and_gzip() -> Result<()> {
    let receiver = collector(Rules::with_token(TOKEN)).await?;
    let second = EVENT.replace("000001", "000002");
    let success = (200, r#"{"code":0,"text":"Success"}"#.to_owned());
    assert_eq!(
        post(&receiver, format!("{EVENT}\n{second}").as_bytes()).await?,
        success
    );
    let authorization = format!("Splunk {TOKEN}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-encoding", "gzip"),
    ];
    let again = request(Method::POST, "/services/collector", &headers, &gzip(EVENT)?)?;
    assert_eq!(send(&receiver, again).await?, success);
    let taken = receiver.received();
    let expected = Tally {
        expected: 2,
        unique: 2,
        duplicates: 1,
        ..Tally::default()
    };
    assert_eq!(Tally::of(&taken.records), expected);
    assert_eq!(taken.records[0].field("stream"), "stdout");
    assert_eq!(taken.answers(200), 2);
    Ok(())
}

#[tokio::test]
async fn a_sender_without_a_valid_token_is_refused_in_splunks_words() -> Result<()> {
    let mut rules = Rules::with_token(TOKEN);
    let disabled = Token {
        disabled: true,
        ..Token::default()
    };
    rules.tokens.insert("off".to_owned(), disabled);
    let receiver = collector(rules).await?;
    let cases = [
        (None, 401, r#"{"code":2,"text":"Token is required"}"#),
        (
            Some("Bearer x"),
            401,
            r#"{"code":3,"text":"Invalid authorization"}"#,
        ),
        (
            Some("Splunk x"),
            403,
            r#"{"code":4,"text":"Invalid token"}"#,
        ),
        (
            Some("Splunk off"),
            403,
            r#"{"code":1,"text":"Token disabled"}"#,
        ),
    ];
    for (authorization, status, body) in cases {
        let headers: Vec<_> = authorization
            .map(|value| ("authorization", value))
            .into_iter()
            .collect();
        let request = request(
            Method::POST,
            "/services/collector/event",
            &headers,
            EVENT.as_bytes(),
        )?;
        assert_eq!(send(&receiver, request).await?, (status, body.to_owned()));
    }
    assert_eq!(receiver.received().records, []);
    Ok(())
}

#[tokio::test]
async fn the_first_event_that_splunk_does_not_take_is_named_and_nothing_is_taken() -> Result<()> {
    let mut rules = Rules::with_token(TOKEN);
    rules.max_event_size = 200;
    let only_main = Token {
        indexes: ["main".to_owned()].into(),
        ..Token::default()
    };
    rules.tokens.insert(TOKEN.to_owned(), only_main);
    let receiver = collector(rules).await?;
    let long = format!(r#"{{"event":"{}"}}"#, "x".repeat(200));
    let cases = [
        (r"{}", Reply::EventRequired, 1),
        (r#"{"event":null}"#, Reply::EventRequired, 1),
        (r#"{"event":""}"#, Reply::EventBlank, 1),
        (
            r#"{"event":"x","fields":{"a":{"b":1}}}"#,
            Reply::IndexedFields,
            1,
        ),
        (r#"{"event":"x","fields":["a"]}"#, Reply::IndexedFields, 1),
        (r#"{"event":"x","time":1.7e9}"#, Reply::IndexedFields, 1),
        (r#"{"event":"x","index":"other"}"#, Reply::IncorrectIndex, 2),
        (r#"{"event":"x","host":1}"#, Reply::InvalidDataFormat, 1),
        (r#"{"event":"x","tags":[]}"#, Reply::InvalidDataFormat, 1),
        (r#"{"event":"x"#, Reply::InvalidDataFormat, 1),
        (r#",{"event":"x"}"#, Reply::InvalidDataFormat, 1),
        (&long, Reply::InvalidDataFormat, 1),
    ];
    for (event, reply, number) in cases {
        let body = format!(r#"{{"event":"good","index":"main"}}{event}"#);
        assert_eq!(
            post(&receiver, body.as_bytes()).await?,
            refusal(reply, Some(number)),
            "{event}"
        );
    }
    let array = format!("[{EVENT}]");
    assert_eq!(
        post(&receiver, array.as_bytes()).await?,
        refusal(Reply::InvalidDataFormat, Some(0))
    );
    assert_eq!(receiver.received().records, []);
    receiver.change_rules(|rules| {
        if let Protocol::Splunk(rules) = rules {
            rules.names_event = false;
        }
    });
    assert_eq!(
        post(&receiver, b"{}").await?,
        refusal(Reply::EventRequired, None)
    );
    Ok(())
}

#[tokio::test]
async fn bodies_that_are_empty_too_large_or_encoded_otherwise_are_refused() -> Result<()> {
    let mut rules = Rules::with_token(TOKEN);
    rules.max_content_length = 100;
    let receiver = collector(rules).await?;
    assert_eq!(post(&receiver, b"").await?, refusal(Reply::NoData, None));
    assert_eq!(
        post(&receiver, b" \n ").await?,
        refusal(Reply::NoData, None)
    );
    let large = EVENT.repeat(2);
    assert_eq!(
        post(&receiver, large.as_bytes()).await?,
        refusal(Reply::TooLarge, None)
    );
    let authorization = format!("Splunk {TOKEN}");
    for (coding, body) in [
        ("gzip", EVENT.as_bytes()),
        ("gzip", &gzip(EVENT)?[..20]),
        ("deflate", EVENT.as_bytes()),
    ] {
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-encoding", coding),
        ];
        let request = request(Method::POST, "/services/collector/event", &headers, body)?;
        let answer = send(&receiver, request).await?;
        assert_eq!(answer, refusal(Reply::InvalidDataFormat, None), "{coding}");
    }
    assert_eq!(receiver.received().records, []);
    Ok(())
}

#[tokio::test]
async fn health_needs_no_token_and_other_paths_and_methods_are_none() -> Result<()> {
    let receiver = collector(Rules::with_token(TOKEN)).await?;
    let ask = async |method, path| send(&receiver, request(method, path, &[], b"")?).await;
    let health = "/services/collector/health";
    assert_eq!(
        ask(Method::GET, health).await?,
        refusal(Reply::Healthy, None)
    );
    receiver.change_rules(|rules| {
        if let Protocol::Splunk(rules) = rules {
            rules.health = Reply::QueuesFull;
        }
    });
    assert_eq!(
        ask(Method::GET, health).await?,
        refusal(Reply::QueuesFull, None)
    );
    assert_eq!(ask(Method::GET, "/services/collector").await?.0, 405);
    assert_eq!(
        ask(Method::POST, "/").await?,
        refusal(Reply::NotFound, None)
    );
    Ok(())
}

#[tokio::test]
async fn https_is_answered_with_a_certificate_of_the_receivers_authority() -> Result<()> {
    let authority = Authority::new()?;
    let rules = Protocol::Splunk(Rules::with_token(TOKEN));
    let receiver =
        Receiver::start_tls(anywhere(), rules, &authority.server([127, 0, 0, 1].into())?).await?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(
        authority.certificate_pem().as_bytes(),
    )?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(receiver.address()).await?;
    let name = ServerName::from(receiver.address().ip());
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    let health = request(Method::GET, "/services/collector/health", &[], b"")?;
    let (status, _, body) = exchange(stream, health).await?;
    assert_eq!((status, body), refusal(Reply::Healthy, None));
    assert!(receiver.url().starts_with("https://127.0.0.1:"));
    Ok(())
}

#[tokio::test]
async fn faults_happen_as_scripted_and_end_when_told() -> Result<()> {
    let mut receiver = collector(Rules::with_token(TOKEN)).await?;
    let authorization = format!("Splunk {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let event = || {
        request(
            Method::POST,
            "/services/collector/event",
            &headers,
            EVENT.as_bytes(),
        )
    };

    receiver.misbehave(Reply::Busy.fault(Some(7)), Times::Exactly(1));
    receiver.misbehave(Fault::status(500), Times::Exactly(1));
    receiver.misbehave(Fault::Reset, Times::Exactly(1));
    receiver.misbehave(Fault::TakeThenReset, Times::Exactly(1));
    let stream = TcpStream::connect(receiver.address()).await?;
    let busy = exchange(stream, event()?).await?;
    assert_eq!(busy, (503, Some("7".to_owned()), Reply::Busy.body(None)));
    assert_eq!(send(&receiver, event()?).await?, (500, String::new()));
    assert!(is_reset(&send(&receiver, event()?).await));
    assert_eq!(receiver.inspect(|received| received.records.len()), 0);
    assert!(is_reset(&send(&receiver, event()?).await));
    assert_eq!(receiver.inspect(|received| received.records.len()), 1);

    receiver.misbehave(Fault::Stall, Times::UntilTold);
    let stalled = tokio::time::timeout(Duration::from_millis(200), send(&receiver, event()?)).await;
    assert!(stalled.is_err(), "{stalled:?}");
    receiver.behave();
    receiver.misbehave(Fault::Late(Duration::from_millis(100)), Times::Exactly(1));
    let asked = std::time::Instant::now();
    assert_eq!(send(&receiver, event()?).await?.0, 200);
    assert!(asked.elapsed() >= Duration::from_millis(100));

    receiver.close_port().await;
    let refused = TcpStream::connect(receiver.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    receiver.open_port().await?;
    assert_eq!(send(&receiver, event()?).await?.0, 200);
    receiver
        .until("three records", LIMIT, |received| {
            received.records.len() == 3
        })
        .await?;
    let soon = Duration::from_millis(10);
    let never = receiver
        .until("a fourth", soon, |received| received.records.len() == 4)
        .await;
    let message = never.unwrap_err().to_string();
    assert!(
        message.contains("a fourth") && message.contains("3 records"),
        "{message}"
    );
    Ok(())
}

fn is_reset(outcome: &Result<(u16, String)>) -> bool {
    let Err(error) = outcome else { return false };
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn a_server_of_json_lines_takes_one_object_a_line_and_checks_the_credential() -> Result<()> {
    let mut rules = json_lines::Rules::at("/in");
    rules
        .headers
        .push(("x-api-key".to_owned(), "secret".to_owned()));
    rules.refuses = Some("unwanted".to_owned());
    rules.max_body = 200;
    let server = Receiver::start(anywhere(), Protocol::JsonLines(rules)).await?;
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
