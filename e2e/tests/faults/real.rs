//! The real servers, restarted and away under load: rsyslog behind TLS, and the OpenTelemetry Collector.

use std::time::Duration;

use anyhow::{Context as _, Result};
use katonic_log_config::{OtlpEncoding, Sink, SyslogTransport, Target};
use katonic_logging_e2e::{
    receiver::{Authority, OtelCollector, Received, Rsyslog, Tally, otel_collector, rsyslog},
    simulated::{
        Agent, Load, Pod,
        policy::{self, CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE},
    },
};

use super::{
    CONTAINER, ENDLESS, LIMIT, ROTATE_AT, assert_accounted, assert_all_came, mounted, said, says,
    start,
};

const LINES_PER_SECOND: u32 = 1_000;

/// What is printed while a server is away.
const AWAY: usize = 1_500;

/// A syslog server is believed to have what its TCP has acknowledged when the connection has lived on for so long.
const BELIEVED: Duration = Duration::from_secs(5);

/// A container that prints to a server that wants a client certificate.
struct Scene {
    pod: Pod,
    agent: Agent,
    load: Load,
}

impl Scene {
    fn begin(sink: Sink, authority: &Authority) -> Result<Self> {
        let (ca, client) = (authority.certificate_pem(), authority.client("agent")?);
        let credentials = [
            (CA_FILE, ca.as_str()),
            (CLIENT_CERTIFICATE_FILE, &client.certificate_pem),
            (CLIENT_KEY_FILE, &client.key_pem),
        ];
        let pod = mounted(vec![sink], &credentials)?;
        Ok(Self {
            agent: start(&pod)?,
            load: Load::start(
                pod.container(CONTAINER, ROTATE_AT)?,
                ENDLESS,
                LINES_PER_SECOND.try_into()?,
            ),
            pod,
        })
    }

    /// The server is away for the `time`th time: the agent says so, and the container prints on.
    async fn is_away(&self, time: usize) -> Result<()> {
        says(&self.pod, "Unreachable", time).await?;
        self.load.until(self.load.printed() + AWAY, LIMIT).await
    }
}

/// So many lines more than came before.
fn more(than: usize) -> impl FnMut(&Received) -> bool {
    move |received| received.records.len() > than
}

/// How many different lines came.
fn every(lines: usize) -> impl FnMut(&Received) -> bool {
    move |received| received.records.len() >= lines && Tally::of(&received.records).unique >= lines
}

/// Ended in an orderly way, and killed with what it had in its queue.
#[tokio::test]
async fn rsyslog_that_is_restarted_and_killed_under_load_misses_nothing() -> Result<()> {
    let authority = Authority::new()?;
    let settings = rsyslog::Settings::with_clients_of(&authority)?;
    let Some(mut rsyslog) = Rsyslog::start_or_skip(settings).await? else {
        return Ok(());
    };
    let transport = SyslogTransport::Tls(policy::tls_with_client_certificate()?);
    let sink = policy::syslog("syslog", rsyslog.tls(), transport)?;
    let scene = Scene::begin(sink, &authority)?;
    for time in 1..=2 {
        let came = rsyslog.inspect(|received| received.records.len())?;
        rsyslog.until("lines", LIMIT, more(came)).await?;
        if time == 1 {
            rsyslog.stop().await?;
        } else {
            rsyslog.kill()?;
        }
        scene.is_away(time).await?;
        rsyslog.start_again().await?;
    }
    let Scene { pod, agent, load } = scene;
    let printed = load.stop().await?.at.len();
    let whole = rsyslog.until("every line", LIMIT, every(printed)).await;
    whole.with_context(|| said(&pod).unwrap_or_default())?;
    assert!(agent.terminate(LIMIT).await?.success(), "{}", said(&pod)?);
    assert_eq!(assert_accounted(&pod, printed)?, u64::try_from(printed)?);
    let received = rsyslog.received()?;
    let tally = assert_all_came(&received.records, printed);
    // What was not yet believed to be there was sent again.
    let most = BELIEVED.as_secs() * u64::from(LINES_PER_SECOND) * 4;
    assert!(tally.duplicates > 0, "{tally}");
    assert!(tally.duplicates < usize::try_from(most)?, "{tally}");
    // The line that it was writing when it was killed.
    assert!(received.malformed.len() <= 1, "{:?}", received.malformed);
    Ok(())
}

/// Ended in an orderly way: what it has answered when it is killed may still be in the buffer of its own exporter.
#[tokio::test]
async fn the_collector_that_is_restarted_under_load_misses_nothing() -> Result<()> {
    let authority = Authority::new()?;
    let settings = otel_collector::Settings::with_clients_of(&authority)?;
    let mut collector = OtelCollector::start(settings).await?;
    let mut sink = policy::otlp("otlp", &collector.url(), OtlpEncoding::Protobuf)?;
    if let Target::Otlp(otlp) = &mut sink.target {
        otlp.connection.tls = policy::tls_with_client_certificate()?;
    }
    let scene = Scene::begin(sink, &authority)?;
    for time in 1..=2 {
        let came = collector.inspect(|received| received.records.len())?;
        collector.until("lines", LIMIT, more(came)).await?;
        collector.stop().await?;
        scene.is_away(time).await?;
        collector.start_again().await?;
    }
    let Scene { pod, agent, load } = scene;
    let printed = load.stop().await?.at.len();
    let whole = collector.until("every line", LIMIT, every(printed)).await;
    whole.with_context(|| said(&pod).unwrap_or_default())?;
    assert!(agent.terminate(LIMIT).await?.success(), "{}", said(&pod)?);
    assert_eq!(assert_accounted(&pod, printed)?, u64::try_from(printed)?);
    let received = collector.received()?;
    assert_all_came(&received.records, printed);
    assert_eq!(received.malformed, Vec::<String>::new());
    Ok(())
}
