//! Sinks behind TLS.

use std::{
    io::{Error, Result},
    net::TcpListener,
    sync::{Arc, mpsc},
    thread,
};

use katonic_log_config::{Compression, HostName, Target, Tls};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::{ServerConfig, ServerConnection};
use serde_json::Value;

use crate::{
    pod::{Pod, http, key, policy, splunk},
    server::{Reply, Server, certified},
    witness::{PATIENCE, Tally, Witness},
};

fn secured(server: &Server, tls: Tls) -> Result<Target> {
    let mut target = splunk(&server.url())?;
    if let Target::Splunk(splunk) = &mut target {
        splunk.connection.tls = tls;
    }
    Ok(target)
}

#[test]
fn a_certificate_is_checked_against_the_authorities_of_the_sink() -> Result<()> {
    let witness = Witness::default();
    let (server, certificate) = Server::start_tls(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set("token", Some(b"secret"))?;
    pod.set_policies(vec![policy("p", secured(&server, Tls::default())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let _agent = pod.start(&witness)?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    assert_eq!(
        witness.seen().records.len(),
        0,
        "the public authorities do not know it"
    );
    pod.set("ca", Some(b"no certificate"))?;
    let tls = Tls {
        ca: Some(key("ca")?),
        ..Tls::default()
    };
    pod.set_policies(vec![policy("p", secured(&server, tls)?)])?;
    witness.wait_said("sink", &[("state", "Misconfigured")]);
    pod.set("ca", Some(certificate.as_bytes()))?;
    assert_eq!(witness.wait_lines(100), Tally::perfect(100));
    Ok(())
}

#[test]
fn a_server_is_checked_by_the_name_that_the_policy_says_instead_of_its_address() -> Result<()> {
    let witness = Witness::default();
    let (server, certificate) =
        Server::start_tls_as("collector.example", &witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set("token", Some(b"secret"))?;
    pod.set("ca", Some(certificate.as_bytes()))?;
    let mut tls = Tls {
        ca: Some(key("ca")?),
        ..Tls::default()
    };
    pod.set_policies(vec![policy("p", secured(&server, tls.clone())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let _agent = pod.start(&witness)?;
    let refused = |seen: &Value| {
        let reason = seen["reason"].to_string();
        reason.contains("not valid for name") || reason.contains("NotValidForName")
    };
    witness.wait("a name that is not the server's", |seen| {
        seen.said.iter().any(refused)
    });
    assert_eq!(witness.seen().records.len(), 0);
    let name = HostName::try_from("collector.example".to_owned()).map_err(Error::other)?;
    tls.server_name = Some(name);
    pod.set_policies(vec![policy("p", secured(&server, tls)?)])?;
    assert_eq!(witness.wait_lines(100), Tally::perfect(100));
    Ok(())
}

#[test]
fn any_certificate_is_accepted_where_the_policy_says_so() -> Result<()> {
    let witness = Witness::default();
    let (server, _) = Server::start_tls(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set("token", Some(b"secret"))?;
    let tls = Tls {
        insecure_skip_verify: true,
        ..Tls::default()
    };
    pod.set_policies(vec![policy("p", secured(&server, tls)?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(100), Tally::perfect(100));
    let (_, message) = agent.terminate().map_err(Error::other)?;
    assert_eq!(message["delivered"], 100);
    Ok(())
}

/// Agrees on TLS, reads nothing after it and keeps the connection; each one is told.
fn stall(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    told: mpsc::Sender<()>,
) -> thread::JoinHandle<Result<()>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream?;
            let mut tls = ServerConnection::new(Arc::clone(&config)).map_err(Error::other)?;
            while tls.is_handshaking() {
                tls.complete_io(&mut stream)?;
            }
            kept.push(stream);
            if told.send(()).is_err() {
                break;
            }
        }
        Ok(())
    })
}

/// A farewell behind TLS would wait for the body in front of it, which nobody reads.
#[test]
fn connections_on_which_a_sink_reads_nothing_do_not_pile_up() -> Result<()> {
    const ATTEMPTS: usize = 6;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // More is written than both kernels keep.
    setsockopt(&listener, sockopt::RcvBuf, &4096)?;
    let mut target = http(&format!("https://{}", listener.local_addr()?))?;
    if let Target::Http(http) = &mut target {
        http.connection.timeout_ms = 100.try_into().ok();
        http.connection.compression = Compression::None;
        http.connection.tls.insecure_skip_verify = true;
    }
    let mut policy = policy("p", target);
    policy.sinks[0].batch.max_bytes = 10_000_000.try_into().ok();
    let (told, connections) = mpsc::channel();
    let _stalling = stall(listener, certified("127.0.0.1")?.0, told);
    let witness = Witness::default();
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy])?;
    pod.write("web", "0.log", 1..=120_000)?;
    let agent = pod.start(&witness)?;
    let next = || connections.recv_timeout(PATIENCE).map_err(Error::other);
    next()?;
    let at_first = agent.sockets()?;
    for _ in 1..ATTEMPTS {
        next()?;
    }
    // The first look, too, may have been between two of them.
    let open = agent.sockets()?;
    assert!(open <= at_first + 1, "{open} sockets, {at_first} at first");
    Ok(())
}
