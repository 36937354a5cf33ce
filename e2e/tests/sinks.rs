//! The agent against a receiver of every kind: each line comes once, in order, and with its id and its origin.

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

use anyhow::{Context as _, Result, bail};
use katonic_log_config::{
    Acknowledgement, JsonFormat, OtlpEncoding, Sink, SyslogTransport, Target,
};
use katonic_logging_e2e::{
    cluster::Tier,
    program,
    receiver::{
        Authority, OtelCollector, Protocol, Received, Receiver, Rsyslog, Tally, json, loggly,
        new_relic, otel_collector, rsyslog,
        splunk::{Indexing, Rules, Token},
    },
    simulated::{
        Agent, Load, Pod, Surroundings,
        policy::{
            self, CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE, LICENSE_KEY_FILE,
            LOGGLY_TOKEN_FILE, TOKEN_FILE,
        },
        surroundings::{self, StateDisk},
    },
};

const SECRET: &str = "0b6e5a1c-2f1d-4c59-9f0e-7a4d3c2b1a09";
const LIMIT: Duration = Duration::from_mins(1);
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const LINES: usize = 5_000;
const NEVER: u64 = u64::MAX;

fn pod() -> Result<Pod> {
    Pod::new("katonic-compute", "run-1", &[("app", "dataset")])
}

async fn receiver(protocol: Protocol) -> Result<Receiver> {
    Receiver::start((HERE, 0).into(), protocol).await
}

fn load(pod: &Pod, lines_per_second: u32) -> Result<Load> {
    let log = pod.container("dataset-sync", NEVER)?;
    Ok(Load::start(log, LINES, lines_per_second.try_into()?))
}

/// An agent that delivers the load of one container to this sink until the condition is fulfilled.
struct Delivery {
    pod: Pod,
    agent: Agent,
    load: Load,
}

impl Delivery {
    fn start(sink: Sink, credentials: &[(&str, &str)]) -> Result<Self> {
        Self::start_at(20_000, sink, credentials)
    }

    fn start_at(lines_per_second: u32, sink: Sink, credentials: &[(&str, &str)]) -> Result<Self> {
        let mut pod = pod()?;
        pod.mount(&policy::bundle(vec![sink]), credentials)?;
        let program = program::build("katonic-log-agent", "katonic-log-agent")?;
        let agent = Agent::start(&program, &pod, &["--flush-ms", "50"])?;
        let load = load(&pod, lines_per_second)?;
        Ok(Self { pod, agent, load })
    }

    /// The end of the pod: the agent has delivered everything and says so.
    async fn end(self) -> Result<()> {
        let Self { pod, agent, load } = self;
        load.finish().await?;
        let status = agent.terminate(LIMIT).await?;
        let said = std::fs::read_to_string(pod.agent_output())?;
        assert!(status.success(), "{status}: {said}");
        assert!(!said.contains(SECRET), "{said}");
        Ok(())
    }
}

fn complete(received: &Received) -> bool {
    received.records.len() >= LINES && Tally::of(&received.records).is_complete(LINES)
}

fn assert_exactly_once(received: &Received) {
    let tally = Tally::of(&received.records);
    let expected = Tally {
        expected: LINES,
        unique: LINES,
        ..Tally::default()
    };
    assert_eq!(tally, expected);
    let ids = received
        .records
        .iter()
        .filter(|record| !record.id().is_empty());
    assert_eq!(ids.count(), LINES);
    let sources = Tally::by_source(&received.records);
    let sources: Vec<_> = sources.keys().map(ToString::to_string).collect();
    assert_eq!(sources, ["katonic-compute/run-1 dataset-sync stdout"]);
    assert_eq!(received.malformed, Vec::<String>::new());
    assert_eq!(received.warnings, []);
    let refused = received
        .answered
        .iter()
        .find(|answered| answered.status >= 300);
    assert_eq!(refused, None);
}

/// What the contract server took from a sink at its address.
async fn deliver(
    protocol: Protocol,
    credential: (&str, &str),
    sink: impl FnOnce(&str) -> Result<Sink>,
) -> Result<Received> {
    let receiver = receiver(protocol).await?;
    let delivery = Delivery::start(sink(&receiver.url())?, &[credential])?;
    receiver.until("every line", LIMIT, complete).await?;
    delivery.end().await?;
    Ok(receiver.received())
}

#[tokio::test]
async fn splunk_with_acknowledgement_gets_every_line_once() -> Result<()> {
    let mut rules = Rules::with_token(SECRET);
    let token = Token::acknowledging(Indexing::AfterPolls(1));
    rules.tokens.insert(SECRET.to_owned(), token);
    let received = deliver(Protocol::Splunk(rules), (TOKEN_FILE, SECRET), |url| {
        let mut sink = policy::splunk("splunk", url)?;
        let Target::Splunk(splunk) = &mut sink.target else {
            bail!("another sink")
        };
        splunk.acknowledgement = Some(Acknowledgement {
            poll_ms: NonZeroU32::try_from(50)?,
            timeout_ms: NonZeroU32::try_from(60_000)?,
        });
        Ok(sink)
    })
    .await?;
    assert_exactly_once(&received);
    let polls = received
        .answered
        .iter()
        .filter(|answered| answered.path.ends_with("/ack"));
    assert!(polls.count() >= 2);
    Ok(())
}

#[tokio::test]
async fn loggly_gets_every_line_once() -> Result<()> {
    let rules = Protocol::Loggly(loggly::Rules::with_token(SECRET));
    let received = deliver(rules, (LOGGLY_TOKEN_FILE, SECRET), |url| {
        policy::loggly("loggly", url, &["platform", "dev"])
    })
    .await?;
    assert_exactly_once(&received);
    assert_eq!(
        received.records[0].envelope["tags"],
        serde_json::json!(["platform", "dev"])
    );
    Ok(())
}

#[tokio::test]
async fn new_relic_gets_every_line_once() -> Result<()> {
    let rules = Protocol::NewRelic(new_relic::Rules::with_license_key(SECRET));
    let received = deliver(rules, (LICENSE_KEY_FILE, SECRET), |url| {
        policy::new_relic("new-relic", url)
    })
    .await?;
    assert_exactly_once(&received);
    Ok(())
}

#[tokio::test]
async fn a_server_of_json_gets_every_line_once_in_both_forms() -> Result<()> {
    for (format, expected) in [
        (JsonFormat::Lines, json::Format::Lines),
        (JsonFormat::Array, json::Format::Array),
    ] {
        let mut rules = json::Rules::at("/in");
        rules.format = expected;
        let received = deliver(Protocol::Json(rules), ("unused", SECRET), |url| {
            policy::http("http", &format!("{url}/in"), format)
        })
        .await?;
        assert_exactly_once(&received);
    }
    Ok(())
}

#[tokio::test]
async fn the_collector_gets_every_line_once_in_both_encodings() -> Result<()> {
    let authority = Authority::new()?;
    let client = authority.client("agent")?;
    let ca = authority.certificate_pem();
    for encoding in [OtlpEncoding::Protobuf, OtlpEncoding::Json] {
        let settings = otel_collector::Settings::with_clients_of(&authority)?;
        let mut collector = OtelCollector::start(settings).await?;
        let mut sink = policy::otlp("otlp", &collector.url(), encoding)?;
        if let Target::Otlp(otlp) = &mut sink.target {
            otlp.connection.tls = policy::tls_with_client_certificate()?;
        }
        let credentials = [
            (CA_FILE, ca.as_str()),
            (CLIENT_CERTIFICATE_FILE, &client.certificate_pem),
            (CLIENT_KEY_FILE, &client.key_pem),
        ];
        let delivery = Delivery::start(sink, &credentials)?;
        collector.until("every line", LIMIT, complete).await?;
        delivery.end().await?;
        collector.stop().await?;
        assert_exactly_once(&collector.received()?);
    }
    Ok(())
}

#[tokio::test]
async fn rsyslog_gets_every_line_once_by_each_transport() -> Result<()> {
    let authority = Authority::new()?;
    let client = authority.client("agent")?;
    let ca = authority.certificate_pem();
    let credentials = [
        (CA_FILE, ca.as_str()),
        (CLIENT_CERTIFICATE_FILE, &client.certificate_pem),
        (CLIENT_KEY_FILE, &client.key_pem),
    ];
    for transport in ["udp", "tcp", "tls"] {
        let settings = rsyslog::Settings::with_clients_of(&authority)?;
        let Some(mut rsyslog) = Rsyslog::start_or_skip(settings).await? else {
            return Ok(());
        };
        let (address, how) = match transport {
            "udp" => (rsyslog.udp(), SyslogTransport::Udp),
            "tcp" => (rsyslog.tcp(), SyslogTransport::Tcp),
            _ => (
                rsyslog.tls(),
                SyslogTransport::Tls(policy::tls_with_client_certificate()?),
            ),
        };
        let sink = policy::syslog("syslog", address, how)?;
        // Datagrams that come faster than they are read are lost, and nobody is told.
        let rate = if transport == "udp" { 2_000 } else { 20_000 };
        let delivery = Delivery::start_at(rate, sink, &credentials)?;
        rsyslog
            .until(transport, LIMIT, complete)
            .await
            .with_context(|| rsyslog.said().unwrap_or_default())?;
        delivery.end().await?;
        rsyslog.stop().await?;
        let received = rsyslog.received()?;
        assert_exactly_once(&received);
        assert!(
            received
                .records
                .iter()
                .all(|record| record.about("input") == transport)
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_state_directory_without_room_or_that_cannot_be_written_loses_no_line() -> Result<()> {
    if !Tier::Node.available_or_skip()? {
        return Ok(());
    }
    for disk in [StateDisk::Of(64 << 10), StateDisk::ReadOnly] {
        let server = receiver(Protocol::Json(json::Rules::at("/in"))).await?;
        let mut surroundings = Surroundings::new()?;
        surroundings.set_state_disk(disk);
        let mut pod = pod()?;
        let sink = policy::json_lines("http", &format!("{}/in", server.url()))?;
        pod.mount(&policy::bundle(vec![sink]), &[])?;
        let program = program::build("katonic-log-agent", "katonic-log-agent")?;
        let agent = Agent::start_in(&surroundings, &program, &pod, &["--flush-ms", "50"])?;
        let load = load(&pod, 20_000)?;
        let some = |received: &Received| !received.records.is_empty();
        server.until("the first lines", LIMIT, some).await?;
        if disk != StateDisk::ReadOnly {
            surroundings::fill_state(&agent, &pod.state_dir())?;
        }
        load.finish().await?;
        server.until("every line", LIMIT, complete).await?;
        if disk != StateDisk::ReadOnly {
            surroundings::free_state(&agent, &pod.state_dir())?;
        }
        let said = || std::fs::read_to_string(pod.agent_output());
        assert!(agent.terminate(LIMIT).await?.success(), "{}", said()?);
        assert_exactly_once(&server.received());
    }
    Ok(())
}
