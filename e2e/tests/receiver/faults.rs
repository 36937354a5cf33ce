//! Faults and TLS, which are the same for every protocol.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant, UNIX_EPOCH},
};

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use katonic_logging_e2e::receiver::{
    Authority, ClientIdentity, Fault, Protocol, Receiver, RetryAfter, Times, json,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
use tokio_rustls::client::TlsStream;

use crate::client::{LIMIT, anywhere, exchange, handshake, request, send};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LINE: &[u8] = b"{\"message\":\"line 000001 of 000001\"}\n";
/// Long enough that an answer which is not held back would have come.
const SOON: Duration = Duration::from_millis(200);

fn protocol() -> Protocol {
    Protocol::Json(json::Rules::at("/in"))
}

fn line() -> Result<Request<Full<Bytes>>> {
    request(Method::POST, "/in", &[], LINE)
}

async fn post(receiver: &Receiver) -> Result<(u16, String)> {
    send(receiver, line()?).await
}

fn taken(receiver: &Receiver) -> usize {
    receiver.inspect(|received| received.records.len())
}

/// A handshake with a receiver, as a client that trusts this authority.
async fn connect(
    receiver: &Receiver,
    authority: &Authority,
    client: Option<&ClientIdentity>,
) -> Result<TlsStream<TcpStream>> {
    handshake(receiver.address(), authority, client).await
}

#[tokio::test]
async fn https_is_answered_with_a_certificate_that_can_expire_and_be_renewed() -> Result<()> {
    let authority = Authority::new()?;
    let expired = authority.expired_server(HERE)?;
    let receiver = Receiver::start_tls(anywhere(), protocol(), &expired).await?;
    assert!(receiver.url().starts_with("https://127.0.0.1:"));
    let refused = connect(&receiver, &authority, None).await.unwrap_err();
    assert!(format!("{refused:#}").contains("expired"), "{refused:#}");
    receiver.show(&authority.server(HERE)?);
    let stream = connect(&receiver, &authority, None).await?;
    assert_eq!(exchange(stream, line()?).await?.0, 204);
    let stranger = Authority::new()?;
    assert!(connect(&receiver, &stranger, None).await.is_err());
    receiver.show(&authority.server_named(&["logs.example.com"])?);
    assert!(connect(&receiver, &authority, None).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_receiver_of_certain_clients_takes_only_their_certificates() -> Result<()> {
    let (authority, stranger) = (Authority::new()?, Authority::new()?);
    let identity = authority.server(HERE)?.for_clients_of(&authority)?;
    let receiver = Receiver::start_tls(anywhere(), protocol(), &identity).await?;
    let ours = authority.client("agent")?;
    let stream = connect(&receiver, &authority, Some(&ours)).await?;
    assert_eq!(exchange(stream, line()?).await?.0, 204);
    let theirs = stranger.client("agent")?;
    for client in [None, Some(&theirs)] {
        // With TLS 1.3 the client learns of the refusal only when it talks.
        let answer = match connect(&receiver, &authority, client).await {
            Ok(stream) => exchange(stream, line()?).await.map(drop),
            Err(error) => Err(error),
        };
        assert!(answer.is_err(), "{client:?}");
    }
    assert_eq!(taken(&receiver), 1);
    Ok(())
}

#[tokio::test]
async fn answers_are_given_as_scripted_and_end_when_told() -> Result<()> {
    let mut receiver = Receiver::start(anywhere(), protocol()).await?;
    let in_seconds = Fault::Answer {
        status: 503,
        retry_after: Some(RetryAfter::Seconds(7)),
        body: "busy".to_owned(),
    };
    let noon = UNIX_EPOCH + Duration::from_hours(498_756);
    receiver.misbehave(in_seconds, Times::Exactly(1));
    receiver.misbehave(
        Fault::retry_after(429, RetryAfter::At(noon)),
        Times::Exactly(1),
    );
    receiver.misbehave(Fault::status(500), Times::Exactly(1));
    receiver.misbehave_at("/elsewhere", Fault::status(501), Times::UntilTold);
    let connect = async || TcpStream::connect(receiver.address()).await;
    let busy = exchange(connect().await?, line()?).await?;
    assert_eq!(busy, (503, Some("7".to_owned()), "busy".to_owned()));
    let limited = exchange(connect().await?, line()?).await?;
    let date = "Tue, 24 Nov 2026 12:00:00 GMT".to_owned();
    assert_eq!(limited, (429, Some(date), String::new()));
    assert_eq!(post(&receiver).await?, (500, String::new()));
    assert_eq!(post(&receiver).await?.0, 204);
    let elsewhere = request(Method::POST, "/elsewhere", &[], LINE)?;
    assert_eq!(send(&receiver, elsewhere).await?.0, 501);

    receiver.close_port().await;
    let refused = TcpStream::connect(receiver.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    receiver.open_port().await?;
    assert_eq!(post(&receiver).await?.0, 204);
    let two = |received: &katonic_logging_e2e::receiver::Received| received.records.len() == 2;
    receiver.until("two records", LIMIT, two).await?;
    let never = receiver
        .until("a third", Duration::from_millis(10), |received| {
            received.records.len() == 3
        })
        .await;
    let message = never.unwrap_err().to_string();
    assert!(
        message.contains("a third") && message.contains("2 records"),
        "{message}"
    );
    let came = receiver.received();
    assert_eq!((came.requests, came.connections), (6, 6));
    Ok(())
}

#[tokio::test]
async fn a_reset_takes_nothing_unless_it_is_one_of_the_answer() -> Result<()> {
    let receiver = Receiver::start(anywhere(), protocol()).await?;
    let before_the_answer = [Fault::Reset, Fault::ResetDuring(10), Fault::ResetAfter];
    for fault in before_the_answer {
        receiver.misbehave(fault.clone(), Times::Exactly(1));
        assert!(is_reset(&post(&receiver).await), "{fault:?}");
        assert_eq!(taken(&receiver), 0, "{fault:?}");
    }
    receiver.misbehave(Fault::TakeThenReset, Times::Exactly(1));
    assert!(is_reset(&post(&receiver).await));
    assert_eq!(taken(&receiver), 1);
    assert_eq!(receiver.received().answered, []);
    Ok(())
}

#[tokio::test]
async fn a_reset_during_the_body_comes_before_the_body_has_ended() -> Result<()> {
    let receiver = Receiver::start(anywhere(), protocol()).await?;
    receiver.misbehave(Fault::ResetDuring(10), Times::Exactly(1));
    let mut stream = TcpStream::connect(receiver.address()).await?;
    // Ten of a hundred bytes: a receiver that waited for the rest would wait for ever.
    let head = "POST /in HTTP/1.1\r\nhost: receiver\r\ncontent-length: 100\r\n\r\n0123456789";
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await?;
    let read = timeout(LIMIT, stream.read(&mut [0])).await?;
    assert_eq!(
        read.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    Ok(())
}

#[tokio::test]
async fn answers_come_late_slowly_or_never() -> Result<()> {
    let receiver = Receiver::start(anywhere(), protocol()).await?;
    receiver.misbehave(Fault::Late(SOON), Times::Exactly(1));
    let asked = Instant::now();
    assert_eq!(post(&receiver).await?.0, 204);
    assert!(asked.elapsed() >= SOON);

    let pause = Duration::from_millis(5);
    receiver.misbehave(Fault::Slow(pause), Times::Exactly(1));
    let asked = Instant::now();
    assert_eq!(post(&receiver).await?.0, 204);
    // The shortest answer has a status line and the end of its head.
    assert!(asked.elapsed() >= pause * 20, "{:?}", asked.elapsed());
    assert_eq!(taken(&receiver), 2);

    receiver.misbehave(Fault::Stall, Times::Exactly(1));
    receiver.misbehave(Fault::HalfOpen, Times::Exactly(1));
    for fault in ["stalled", "half-open"] {
        let answer = timeout(SOON, post(&receiver)).await;
        assert!(answer.is_err(), "{fault}: {answer:?}");
    }
    assert_eq!(taken(&receiver), 2);
    // Of the half-open connection not even the head was read.
    assert_eq!(receiver.inspect(|received| received.requests), 3);
    assert_eq!(post(&receiver).await?.0, 204);
    Ok(())
}

fn is_reset(outcome: &Result<(u16, String)>) -> bool {
    let Err(error) = outcome else { return false };
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}
