//! Lines reach syslog servers, complete, also when these break.

use std::{
    io::{Error, Result},
    sync::Arc,
    time::{Duration, Instant},
};

use katonic_log_config::{
    ClientCertificate, Facility, HostName, Syslog, SyslogTransport, Target, Tls,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::{
    pod::{Pod, http, key, policy},
    server::{Reply, Server, closed_port},
    syslog_server::{Manner, SyslogServer},
    witness::{Tally, Witness, numbered},
};

fn syslog(port: u16, transport: SyslogTransport) -> Result<Target> {
    Ok(Target::Syslog(Syslog {
        host: HostName::try_from("127.0.0.1".to_owned()).map_err(Error::other)?,
        port: port.try_into().map_err(Error::other)?,
        transport,
        facility: Facility::Local0,
        app_name: None,
        enterprise_id: 32473.try_into().map_err(Error::other)?,
        max_message_bytes: 2048.try_into().map_err(Error::other)?,
    }))
}

/// What arrived twice is the same record, and no two records have the same id.
fn assert_ids(witness: &Witness, records: usize) {
    let seen = witness.seen();
    let id = |record: &Value| {
        (
            record["record_id"].to_string(),
            record["message"].to_string(),
        )
    };
    let mut pairs: Vec<_> = seen.records.iter().map(id).collect();
    pairs.sort();
    pairs.dedup();
    assert_eq!(pairs.len(), records);
    pairs.dedup_by(|one, other| one.0 == other.0);
    assert_eq!(pairs.len(), records);
}

#[test]
fn every_line_reaches_a_syslog_server_in_one_connection() -> Result<()> {
    let witness = Witness::default();
    let server = SyslogServer::tcp("127.0.0.1:0", &witness, |_| Manner::Read)?;
    let mut pod = Pod::new()?;
    let target = syslog(server.port(), SyslogTransport::Tcp)?;
    pod.set_policies(vec![policy("p", target)])?;
    pod.write("web", "0.log", 1..=3000)?;
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(3000), Tally::perfect(3000));
    // Long before anything is confirmed.
    pod.write("web", "0.log", 3001..=5000)?;
    assert_eq!(witness.wait_lines(5000), Tally::perfect(5000));
    let first = witness.seen().records[0].clone();
    let mut expected = json!({"priority": 134, "time": "2026-11-23T10:15:07.123456Z", "host": "web-1", "app": "web",
        "namespace": "plane", "pod": "web-1", "pod_uid": "uid-1", "container": "web", "stream": "stdout",
        "node": "node-1", "record_id": null, "message": numbered(1)});
    expected["record_id"] = first["record_id"].clone();
    assert_eq!(first, expected);
    let begun = Instant::now();
    let (code, message) = agent.terminate()?;
    assert_eq!(code, Some(0));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(message["delivered"], 5000);
    assert_eq!(server.connections(), 1);
    assert_ids(&witness, 5000);
    Ok(())
}

#[test]
fn a_line_that_is_too_long_for_a_message_arrives_in_parts() -> Result<()> {
    let witness = Witness::default();
    let server = SyslogServer::udp("127.0.0.1:0", &witness)?;
    let mut pod = Pod::new()?;
    let target = syslog(server.port(), SyslogTransport::Udp)?;
    pod.set_policies(vec![policy("p", target)])?;
    let long = "ä".repeat(5000);
    let line = format!("2026-11-23T10:15:07Z stdout F {long}\n");
    pod.append("web", "0.log", line.as_bytes())?;
    pod.write("web", "0.log", 1..=10)?;
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(10), Tally::perfect(10));
    let (_, message) = agent.terminate()?;
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&json!(11), &json!(0))
    );
    let seen = witness.seen();
    let parts: Vec<&Value> = seen
        .records
        .iter()
        .filter(|record| record["part"].is_string())
        .collect();
    let text: String = parts
        .iter()
        .filter_map(|part| part["message"].as_str())
        .collect();
    assert!(text == long, "{} bytes", text.len());
    assert!(
        parts
            .iter()
            .all(|part| part["record_id"] == parts[0]["record_id"])
    );
    Ok(())
}

#[test]
fn every_line_reaches_a_server_by_udp_once() -> Result<()> {
    let witness = Witness::default();
    let server = SyslogServer::udp("127.0.0.1:0", &witness)?;
    let mut pod = Pod::new()?;
    let target = syslog(server.port(), SyslogTransport::Udp)?;
    pod.set_policies(vec![policy("p", target)])?;
    pod.write("web", "0.log", 1..=5000)?;
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(5000), Tally::perfect(5000));
    assert_eq!(agent.terminate()?.1["delivered"], 5000);
    Ok(())
}

#[test]
fn what_nobody_listens_for_by_udp_is_sent_again() -> Result<()> {
    let witness = Witness::default();
    let closed = closed_port()?;
    let mut pod = Pod::new()?;
    let target = syslog(closed.port(), SyslogTransport::Udp)?;
    pod.set_policies(vec![policy("p", target)])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start(&witness)?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    let _server = SyslogServer::udp(&closed.to_string(), &witness)?;
    let Tally {
        unique, missing, ..
    } = witness.wait_lines(1000);
    assert_eq!((unique, missing), (1000, 0));
    assert_eq!(agent.terminate()?.1["delivered"], 1000);
    assert_ids(&witness, 1000);
    Ok(())
}

/// The server reads a part, then breaks the connection off with more in its buffers; three times.
#[test]
fn what_a_reset_destroys_is_sent_again() -> Result<()> {
    let witness = Witness::default();
    let server = SyslogServer::tcp("127.0.0.1:0", &witness, |number| match number {
        0..3 => Manner::Reset(1700),
        _ => Manner::Read,
    })?;
    let mut pod = Pod::new()?;
    let target = syslog(server.port(), SyslogTransport::Tcp)?;
    pod.set_policies(vec![policy("p", target)])?;
    pod.write("web", "0.log", 1..=20_000)?;
    let agent = pod.start(&witness)?;
    let Tally {
        unique, missing, ..
    } = witness.wait_lines(20_000);
    assert_eq!((unique, missing), (20_000, 0));
    assert_eq!(server.connections(), 4);
    let (_, message) = agent.terminate()?;
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&json!(20_000), &json!(0))
    );
    assert_ids(&witness, 20_000);
    Ok(())
}

#[test]
fn a_server_that_is_started_again_misses_nothing() -> Result<()> {
    let witness = Witness::default();
    let server = SyslogServer::tcp("127.0.0.1:0", &witness, |_| Manner::Read)?;
    let address = server.address();
    let mut pod = Pod::new()?;
    let target = syslog(server.port(), SyslogTransport::Tcp)?;
    pod.set_policies(vec![policy("p", target)])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(1000);
    drop(server);
    witness.wait_said("sink", &[("state", "Unreachable")]);
    pod.write("web", "0.log", 1001..=3000)?;
    let _server = SyslogServer::tcp(&address, &witness, |_| Manner::Read)?;
    let Tally {
        unique, missing, ..
    } = witness.wait_lines(3000);
    assert_eq!((unique, missing), (3000, 0));
    assert_eq!(agent.terminate()?.1["delivered"], 3000);
    assert_ids(&witness, 3000);
    Ok(())
}

/// Seen from the reading side at once, not by the loss of the next lines.
#[test]
fn a_connection_that_is_closed_while_idle_is_made_anew() -> Result<()> {
    let witness = Witness::default();
    let server = SyslogServer::tcp("127.0.0.1:0", &witness, |_| Manner::Read)?;
    let mut pod = Pod::new()?;
    let target = syslog(server.port(), SyslogTransport::Tcp)?;
    pod.set_policies(vec![policy("p", target)])?;
    pod.write("web", "0.log", 1..=10)?;
    let agent = pod.start(&witness)?;
    // Everything is confirmed by then.
    witness.wait_said("sink", &[("state", "Delivering")]);
    server.hang_up();
    pod.write("web", "0.log", 11..=20)?;
    assert_eq!(witness.wait_lines(20), Tally::perfect(20));
    assert_eq!(server.connections(), 2);
    assert_eq!(agent.terminate()?.1["delivered"], 20);
    Ok(())
}

#[test]
fn a_server_that_reads_nothing_delays_no_other_and_is_counted_as_lost() -> Result<()> {
    let witness = Witness::default();
    let elsewhere = Witness::default();
    let stalled = SyslogServer::tcp("127.0.0.1:0", &elsewhere, |_| Manner::Stall)?;
    let healthy = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    let target = syslog(stalled.port(), SyslogTransport::Tcp)?;
    pod.set_policies(vec![
        policy("stalled", target),
        policy("healthy", http(&healthy.url())?),
    ])?;
    // More than fits into the buffers of both sides.
    pod.write("web", "0.log", 1..=100_000)?;
    let agent = pod.start_with(&witness, &["--drain-seconds", "3"])?;
    assert_eq!(witness.wait_lines(100_000), Tally::perfect(100_000));
    let (_, message) = agent.terminate()?;
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&json!(100_000), &json!(100_000))
    );
    Ok(())
}

/// An authority, and two certificates of it.
struct Certificates {
    ca: String,
    server: Arc<ServerConfig>,
    client: (String, String),
}

fn certificates(server_name: &str) -> Result<Certificates> {
    let make = || -> std::result::Result<Certificates, Box<dyn std::error::Error>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let issue = |name: &str| -> std::result::Result<_, rcgen::Error> {
            let key = KeyPair::generate()?;
            let params = CertificateParams::new(vec![name.to_owned()])?;
            Ok((params.signed_by(&key, &authority)?, key))
        };
        let (certificate, key) = issue(server_name)?;
        let (own, own_key) = issue("agent")?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone())?;
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()?;
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        Ok(Certificates {
            ca: authority.pem(),
            server: Arc::new(config),
            client: (own.pem(), own_key.serialize_pem()),
        })
    };
    make().map_err(|error| Error::other(error.to_string()))
}

#[test]
fn a_server_behind_tls_is_checked_by_name_and_is_shown_who_we_are() -> Result<()> {
    let witness = Witness::default();
    let Certificates { ca, server, client } = certificates("siem.example")?;
    let server = SyslogServer::tls(server, &witness)?;
    let mut pod = Pod::new()?;
    pod.set("ca", Some(ca.as_bytes()))?;
    pod.set("cert", Some(client.0.as_bytes()))?;
    pod.set("key", Some(client.1.as_bytes()))?;
    let name = |text: &str| HostName::try_from(text.to_owned()).map_err(Error::other);
    let mut tls = Tls {
        ca: Some(key("ca")?),
        client_certificate: None,
        server_name: None,
        insecure_skip_verify: false,
    };
    let target = |tls: &Tls| syslog(server.port(), SyslogTransport::Tls(tls.clone()));
    pod.set_policies(vec![policy("p", target(&tls)?)])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start(&witness)?;
    // Its certificate is for a name, not for the address.
    witness.wait("a refused certificate", |seen| {
        let reason = |line: &Value| line["reason"].to_string().contains("certificate");
        seen.said.iter().any(reason)
    });
    tls.server_name = Some(name("siem.example")?);
    pod.set_policies(vec![policy("p", target(&tls)?)])?;
    // It wants to know who we are; TLS 1.3 tells it only after the handshake.
    witness.wait("a refused client", |seen| {
        let reason = |line: &Value| line["reason"].to_string().contains("CertificateRequired");
        seen.said.iter().any(reason)
    });
    assert_eq!(witness.seen().records.len(), 0);
    tls.client_certificate = Some(ClientCertificate {
        certificate: key("cert")?,
        private_key: key("key")?,
    });
    pod.set_policies(vec![policy("p", target(&tls)?)])?;
    assert_eq!(witness.wait_lines(1000), Tally::perfect(1000));
    let (_, message) = agent.terminate()?;
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&json!(1000), &json!(0))
    );
    assert_eq!(server.said_goodbye(), 1);
    Ok(())
}
