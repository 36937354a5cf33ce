//! rsyslog: what it takes, what it refuses, and what is read back of it.

use std::net::UdpSocket;

use anyhow::{Result, ensure};
use katonic_logging_e2e::{
    eventually::eventually,
    receiver::{Authority, Received, Rsyslog, Tally, rsyslog::Settings},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::client::{LIMIT, handshake};

fn message(number: usize) -> String {
    format!(
        "<134>1 2026-11-24T04:00:00.123456Z pod app 0 stdout [k8s@32473 stream=\"stdout\" \
         record_id=\"x-{number}\" quoted=\"a\\\"\\\\\\]ä\"] line {number:06} of 000003 ende\t\u{1b}[0m"
    )
}

async fn send_counted(stream: &mut (impl AsyncWrite + Unpin), message: &str) -> Result<()> {
    let counted = format!("{} {message}", message.len());
    stream.write_all(counted.as_bytes()).await?;
    Ok(stream.flush().await?)
}

fn came(records: usize, malformed: usize) -> impl FnMut(&Received) -> bool {
    move |received| received.records.len() >= records && received.malformed.len() >= malformed
}

async fn start() -> Result<Option<(Authority, Rsyslog)>> {
    let authority = Authority::new()?;
    let rsyslog = Rsyslog::start_or_skip(Settings::with_clients_of(&authority)?).await?;
    Ok(rsyslog.map(|rsyslog| (authority, rsyslog)))
}

#[tokio::test]
async fn messages_are_read_back_from_each_transport_as_they_were_sent() -> Result<()> {
    let Some((authority, rsyslog)) = start().await? else {
        return Ok(());
    };
    let client = authority.client("agent")?;
    let mut tls = handshake(rsyslog.tls(), &authority, Some(&client)).await?;
    send_counted(&mut tls, &message(1)).await?;
    rsyslog.until("a message by TLS", LIMIT, came(1, 0)).await?;
    let mut tcp = TcpStream::connect(rsyslog.tcp()).await?;
    send_counted(&mut tcp, &message(2)).await?;
    rsyslog.until("a message by TCP", LIMIT, came(2, 0)).await?;
    let udp = UdpSocket::bind("127.0.0.1:0")?;
    udp.send_to(message(3).as_bytes(), rsyslog.udp())?;
    udp.send_to(message(3).as_bytes(), rsyslog.udp())?;
    rsyslog
        .until("two messages by UDP", LIMIT, came(4, 0))
        .await?;
    // Not before: while rsyslog closes a session it may miss that another has begun.
    tls.shutdown().await?;
    let received = rsyslog.received()?;
    assert_eq!(received.malformed, Vec::<String>::new());
    let inputs: Vec<_> = received
        .records
        .iter()
        .map(|record| record.about("input"))
        .collect();
    assert_eq!(inputs, ["tls", "tcp", "udp", "udp"]);
    let first = &received.records[0];
    assert_eq!(first.line, "line 000001 of 000003 ende\t\u{1b}[0m");
    assert_eq!((first.id(), first.field("quoted")), ("x-1", "a\"\\]ä"));
    assert_eq!(
        ["time", "host", "app", "process", "id"].map(|name| first.about(name)),
        ["2026-11-24T04:00:00.123456Z", "pod", "app", "0", "stdout"]
    );
    let tally = Tally::of(&received.records);
    assert!(
        tally.is_complete(3) && tally.duplicates_are_told_by_id(),
        "{tally}"
    );
    assert_eq!(tally.duplicates, 1);
    Ok(())
}

#[tokio::test]
async fn what_rsyslog_takes_and_the_standard_does_not_know_is_malformed() -> Result<()> {
    let Some((_authority, rsyslog)) = start().await? else {
        return Ok(());
    };
    let mut tcp = TcpStream::connect(rsyslog.tcp()).await?;
    let bad = [
        "<14>Nov 24 04:00:00 host app: the old form",
        "<14>1 - host app - no structured data",
        "<14>1 2026-11-24T04:00:00.123456789Z - - - - - nine digits",
        "<14>1 - - - - - [a@1 b=\"]\"] a bracket",
        "no header at all",
    ];
    for message in bad {
        send_counted(&mut tcp, message).await?;
    }
    rsyslog
        .until("all of them", LIMIT, came(0, bad.len()))
        .await?;
    // A message above the limit becomes two, of which the second is none.
    let long = format!("<14>1 - - - - - - {}", "x".repeat(8_192));
    send_counted(&mut tcp, &long).await?;
    rsyslog
        .until("a long one", LIMIT, came(1, bad.len() + 1))
        .await?;
    // It speaks of itself by another queue than that of the messages.
    eventually("rsyslog says so", LIMIT, async || {
        let said = rsyslog.said()?;
        ensure!(said.contains("oversize"), "it said: {said}");
        Ok(Some(()))
    })
    .await?;
    let received = rsyslog.received()?;
    assert_eq!(received.records.len(), 1);
    assert!(received.records[0].line.len() < 8_192);
    // Bytes that are not UTF-8 reach a reader, and JSON of them does not.
    let udp = UdpSocket::bind("127.0.0.1:0")?;
    udp.send_to(b"<14>1 - - - - - - \xff", rsyslog.udp())?;
    rsyslog
        .until("a broken one", LIMIT, came(1, bad.len() + 2))
        .await?;
    Ok(())
}

#[tokio::test]
async fn only_clients_of_the_authority_are_taken() -> Result<()> {
    let Some((authority, mut rsyslog)) = start().await? else {
        return Ok(());
    };
    let stranger = Authority::new()?.client("agent")?;
    for client in [None, Some(&stranger)] {
        // With TLS 1.3 the client learns of the refusal only when it listens.
        if let Ok(mut stream) = handshake(rsyslog.tls(), &authority, client).await {
            let _ = send_counted(&mut stream, &message(1)).await;
            let end = timeout(LIMIT, stream.read(&mut [0])).await?;
            ensure!(!matches!(end, Ok(1..)), "an answer of a syslog server");
        }
    }
    rsyslog.stop().await?;
    assert_eq!(rsyslog.received()?.records, []);
    rsyslog.settings().clients = None;
    rsyslog.start_again().await?;
    let mut stream = handshake(rsyslog.tls(), &authority, None).await?;
    send_counted(&mut stream, &message(1)).await?;
    rsyslog.until("any client", LIMIT, came(1, 0)).await?;
    Ok(())
}

#[tokio::test]
async fn it_can_be_killed_paused_and_started_again_on_the_same_ports() -> Result<()> {
    let Some((authority, mut rsyslog)) = start().await? else {
        return Ok(());
    };
    let mut tcp = TcpStream::connect(rsyslog.tcp()).await?;
    send_counted(&mut tcp, &message(1)).await?;
    rsyslog.until("the first", LIMIT, came(1, 0)).await?;
    let before = rsyslog.tcp();
    rsyslog.kill()?;
    let end = timeout(LIMIT, tcp.read(&mut [0])).await?;
    assert!(!matches!(end, Ok(1..)), "{end:?}");
    assert!(TcpStream::connect(before).await.is_err());
    rsyslog.settings().identity = authority.expired_server(before.ip())?;
    rsyslog.start_again().await?;
    assert_eq!(rsyslog.tcp(), before);
    let client = authority.client("agent")?;
    let expired = handshake(rsyslog.tls(), &authority, Some(&client)).await;
    assert!(format!("{:#}", expired.unwrap_err()).contains("expired"));

    rsyslog.pause()?;
    let mut tcp = TcpStream::connect(rsyslog.tcp()).await?;
    send_counted(&mut tcp, &message(2)).await?;
    rsyslog.resume()?;
    rsyslog.until("the second", LIMIT, came(2, 0)).await?;
    rsyslog.stop().await?;
    assert_eq!(rsyslog.received()?.records.len(), 2);
    Ok(())
}
