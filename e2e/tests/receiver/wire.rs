//! Faults in front of receivers that know none.

use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;
use katonic_logging_e2e::receiver::{Fault, Protocol, Receiver, Times, Wire, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::client::{LIMIT, anywhere, request, send};

/// Long enough that what is not held back would have come.
const SOON: Duration = Duration::from_millis(200);

/// A connection through a wire, both ends.
async fn connect(wire: &Wire, receiver: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let near = TcpStream::connect(wire.address()).await?;
    let (far, _) = timeout(LIMIT, receiver.accept()).await??;
    Ok((near, far))
}

async fn read(stream: &mut TcpStream, bytes: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    timeout(LIMIT, stream.read_exact(&mut buffer)).await??;
    Ok(buffer)
}

async fn is_reset(stream: &mut TcpStream) -> Result<bool> {
    let read = timeout(LIMIT, stream.read(&mut [0]))
        .await
        .context("no end")?;
    Ok(read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset))
}

#[tokio::test]
async fn a_wire_carries_both_ways_and_ends_as_its_ends_do() -> Result<()> {
    let receiver = TcpListener::bind(anywhere()).await?;
    let wire = Wire::to(receiver.local_addr()?).await?;
    let (mut near, mut far) = connect(&wire, &receiver).await?;
    near.write_all(b"there").await?;
    assert_eq!(read(&mut far, 5).await?, b"there");
    far.write_all(b"back").await?;
    assert_eq!(read(&mut near, 4).await?, b"back");
    near.shutdown().await?;
    assert_eq!(timeout(LIMIT, far.read(&mut [0])).await??, 0);
    far.write_all(b"still").await?;
    drop(far);
    assert_eq!(read(&mut near, 5).await?, b"still");
    assert_eq!(timeout(LIMIT, near.read(&mut [0])).await??, 0);
    assert_eq!(wire.connections(), 1);
    let (mut near, mut far) = connect(&wire, &receiver).await?;
    far.write_all(b"a").await?;
    assert_eq!(read(&mut near, 1).await?, b"a");
    far.set_zero_linger()?;
    drop(far);
    assert!(is_reset(&mut near).await?);
    Ok(())
}

#[tokio::test]
async fn a_wire_is_cut_at_once_or_after_some_bytes_and_works_again() -> Result<()> {
    let receiver = TcpListener::bind(anywhere()).await?;
    let wire = Wire::to(receiver.local_addr()?).await?;
    let (mut near, mut far) = connect(&wire, &receiver).await?;
    near.write_all(b"a").await?;
    assert_eq!(read(&mut far, 1).await?, b"a");
    wire.cut();
    assert!(is_reset(&mut near).await? && is_reset(&mut far).await?);
    let (mut near, mut far) = connect(&wire, &receiver).await?;
    wire.cut_after(3);
    near.write_all(b"12345").await?;
    assert_eq!(read(&mut far, 3).await?, b"123");
    assert!(is_reset(&mut near).await? && is_reset(&mut far).await?);
    let (mut near, mut far) = connect(&wire, &receiver).await?;
    near.write_all(b"12345").await?;
    assert_eq!(read(&mut far, 5).await?, b"12345");
    Ok(())
}

#[tokio::test]
async fn a_blocked_wire_holds_back_and_loses_nothing() -> Result<()> {
    let receiver = TcpListener::bind(anywhere()).await?;
    let wire = Wire::to(receiver.local_addr()?).await?;
    let (mut near, mut far) = connect(&wire, &receiver).await?;
    near.write_all(b"a").await?;
    assert_eq!(read(&mut far, 1).await?, b"a");
    wire.block();
    near.write_all(b"b").await?;
    assert!(timeout(SOON, far.read(&mut [0])).await.is_err());
    wire.restore();
    assert_eq!(read(&mut far, 1).await?, b"b");
    Ok(())
}

#[tokio::test]
async fn a_receiver_in_front_of_another_answers_for_it_or_fails() -> Result<()> {
    let mut behind = Receiver::start(anywhere(), Protocol::Json(json::Rules::at("/in"))).await?;
    let front = Receiver::start(anywhere(), Protocol::Behind(behind.address())).await?;
    let line = b"{\"message\":\"line 000001 of 000001\"}\n";
    let post = async || send(&front, request(Method::POST, "/in", &[], line)?).await;
    assert_eq!(post().await?, (204, String::new()));
    front.misbehave(Fault::status(503), Times::Exactly(1));
    assert_eq!(post().await?.0, 503);
    front.misbehave(Fault::TakeThenReset, Times::Exactly(1));
    assert!(post().await.is_err());
    let refused = send(&front, request(Method::POST, "/in", &[], b"{}")?).await?;
    assert_eq!((refused.0, refused.1.contains("does not end")), (400, true));
    assert_eq!(behind.inspect(|received| received.records.len()), 2);
    behind.close_port().await;
    assert_eq!(post().await?.0, 502);
    Ok(())
}
