//! Anybody in the cluster can reach the webhook: what strangers do to it, and pods that get their agent meanwhile.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result};
use katonic_logging_e2e::{
    cluster::Options, eventually::eventually, operator::SOON, webhook::Webhook,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::World;

/// How many connections the webhook has at a time, and how many strangers come.
const PLACES: usize = 512;
const CROWD: usize = 600;

/// The memory limit of the shipped Deployment.
const MEMORY: u64 = 128 << 20;

/// Whoever can connect to the webhook.
#[derive(Clone)]
struct Stranger {
    connector: TlsConnector,
    address: SocketAddr,
}

impl Stranger {
    async fn new(world: &World) -> Self {
        let mut roots = RootCertStore::empty();
        let published = world.published().await.unwrap();
        for authority in CertificateDer::pem_slice_iter(published.as_bytes()) {
            roots.add(authority.unwrap()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            connector: TlsConnector::from(Arc::new(config)),
            address: world.address.socket(),
        }
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::from(self.address.ip());
        let connected = self.connector.connect(name, stream).await;
        connected.context("failed to greet the webhook")
    }

    /// Asks this, and returns the first line of the answer.
    async fn ask(&self, question: &str) -> Result<String> {
        let mut stream = self.connect().await?;
        let head = format!(
            "POST /inject HTTP/1.1\r\nhost: webhook\r\ncontent-length: {}\r\n\r\n",
            question.len()
        );
        stream.write_all(head.as_bytes()).await?;
        // An answer may come before all of it has been read.
        let _ = stream.write_all(question.as_bytes()).await;
        let mut answer = [0; 32];
        let read = stream.read(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_keep_no_pod_from_its_agent() {
    let (world, webhook) = World::in_force(Options::default()).await;
    let stranger = Stranger::new(&world).await;
    // The API server has no connection left.
    webhook.kill().await.unwrap();
    let _webhook = world.webhook().await;
    // Some say nothing; others begin a question and never end it.
    let unfinished = "POST /inject HTTP/1.1\r\nhost: webhook\r\ncontent-length: 100000\r\n\r\n{";
    for words in ["", unfinished] {
        let connected = Arc::new(AtomicUsize::new(0));
        let mut crowd = JoinSet::new();
        for _ in 0..CROWD {
            let (stranger, connected) = (stranger.clone(), connected.clone());
            crowd.spawn(async move {
                let mut stream = stranger.connect().await?;
                stream.write_all(words.as_bytes()).await?;
                connected.fetch_add(1, Ordering::SeqCst);
                let mut nothing = [0];
                let _ = stream.read(&mut nothing).await;
                anyhow::Ok(())
            });
        }
        eventually("every place is taken", SOON, async || {
            Ok((connected.load(Ordering::SeqCst) >= PLACES).then_some(()))
        })
        .await
        .unwrap();
        for _ in 0..20 {
            assert_eq!(world.agents_of_new_pod().await, 1, "{words}");
        }
    }
}

/// The most memory that a process has had, in bytes.
fn peak(webhook: &Webhook) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", webhook.pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kibibytes.parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_are_larger_than_any_pod_end_no_webhook() {
    let (world, webhook) = World::in_force(Options::default()).await;
    let stranger = Stranger::new(&world).await;
    let of = |object: &str| {
        format!(
            r#"{{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {{"uid": "a", "object": {object}}}}}"#
        )
    };
    let list = |entry: &str, bytes: usize| {
        of(&format!(
            "[{}0]",
            format!("{entry},").repeat(bytes / (entry.len() + 1))
        ))
    };
    let questions = [
        // As large as is read at all, of what takes most memory for its bytes.
        (list(r#"{"":0}"#, (4 << 20) - 1024), "400"),
        (list("[]", (4 << 20) - 1024), "400"),
        (of(&format!("\"{}\"", "a".repeat((4 << 20) - 1024))), "200"),
        (list(r#"{"":0}"#, 150 << 10), "200"),
        (list("0", 8 << 20), "413"),
    ];
    let mut asked = JoinSet::new();
    for _ in 0..8 {
        for (question, expected) in questions.clone() {
            let stranger = stranger.clone();
            asked.spawn(async move { (stranger.ask(&question).await, expected) });
        }
    }
    let mut answered = BTreeMap::<_, usize>::new();
    while let Some(asked) = asked.join_next().await {
        // Who has to wait for too long is sent away.
        if let (Ok(answer), expected) = asked.unwrap()
            && !answer.contains("408")
        {
            assert!(answer.contains(expected), "{answer}, not {expected}");
            *answered.entry(expected).or_default() += 1;
        }
    }
    println!("answers: {answered:?}");
    assert!(answered.contains_key("200") && answered.contains_key("400"));
    assert_eq!(world.agents_of_new_pod().await, 1);
    let peak = peak(&webhook);
    println!("the webhook took {} MiB at most", peak >> 20);
    assert!(peak < MEMORY, "{peak}");
    assert!(webhook.terminate().await.unwrap());
}

/// Asks on a connection, and returns the head of the answer when all of it has come.
async fn ask_again(stream: &mut TlsStream<TcpStream>) -> String {
    let question = "POST /inject HTTP/1.1\r\nhost: webhook\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(question.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    head
}

/// Waits until the other end has closed a connection, with the word that TLS has for it or without.
async fn is_closed(stream: &mut TlsStream<TcpStream>) {
    match stream.read(&mut [0]).await {
        Ok(read) => assert_eq!(read, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof),
    }
}

/// An API server that asks at that moment would create its pod without the agent.
#[tokio::test]
async fn a_webhook_that_is_told_to_stop_ends_no_connection_under_a_question() {
    let (world, webhook) = World::in_force(Options::default()).await;
    let stranger = Stranger::new(&world).await;
    let mut stream = stranger.connect().await.unwrap();
    let mut quiet = stranger.connect().await.unwrap();
    assert!(!ask_again(&mut stream).await.contains("connection: close"));
    assert!(!ask_again(&mut quiet).await.contains("connection: close"));
    let pid = Pid::from_raw(i32::try_from(webhook.pid().unwrap()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    eventually("it has been told", SOON, async || {
        Ok(webhook.log()?.contains("told to stop").then_some(()))
    })
    .await
    .unwrap();
    let last = ask_again(&mut stream).await;
    assert!(last.contains("connection: close"), "{last}");
    is_closed(&mut stream).await;
    // One that asks nothing more does not keep it.
    is_closed(&mut quiet).await;
    assert!(webhook.terminate().await.unwrap());
}
