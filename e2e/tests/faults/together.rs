//! Everything at once: three sinks of which one is healthy, and does not notice.

use std::{os::unix::fs::symlink, time::Duration};

use anyhow::{Context as _, Result};
use katonic_log_config::Sink;
use katonic_logging_e2e::{
    receiver::{
        Authority, Fault, Protocol, Received, Receiver, Times, Wire, json,
        splunk::{Rules, Token},
    },
    simulated::{
        Load, Pod,
        load::percentile,
        policy::{self, CA_FILE, TOKEN_FILE},
    },
};

use super::{
    CONTAINER, LIMIT, ROTATE_AT, TOKEN, assert_accounted, assert_nothing_missing, collector,
    loopback, mounted, said, some, start,
};

const LINES: usize = 24_000;
const LINES_PER_SECOND: u32 = 2_000;
const NEW_TOKEN: &str = "a1f0c2d4-7a53-4d0b-9f3c-0e6d5c4b3a29";

/// Far from what a dead sink takes: ten seconds for a connection, a minute for an answer.
const UNDISTURBED: Duration = Duration::from_secs(3);

/// One sink is healthy; one gets every fault that there is, one after the other; one is away from early on, and back
/// when all is over. Meanwhile files are rotated, tokens and certificates replaced, and the disk for cursors is full at
/// times.
#[tokio::test]
async fn with_three_sinks_of_which_one_is_healthy_no_line_is_missing_at_any() -> Result<()> {
    let authority = Authority::new()?;
    let here = loopback().ip();
    let healthy = collector().await?;
    let rules = Protocol::Splunk(Rules::with_token(TOKEN));
    let mut ill = Receiver::start_tls(loopback(), rules, &authority.server(here)?).await?;
    let wire = Wire::to(ill.address()).await?;
    let mut away = Receiver::start(loopback(), Protocol::Json(json::Rules::at("/in"))).await?;
    let sinks = || -> Result<Vec<Sink>> {
        Ok(vec![
            policy::json_lines("away", &format!("{}/in", away.url()))?,
            policy::splunk("ill", &format!("https://{}", wire.address()))?,
            policy::splunk("healthy", &healthy.url())?,
        ])
    };
    let (sinks, ca) = (sinks()?, authority.certificate_pem());
    let bundle = policy::bundle(sinks.clone());
    let mut pod = mounted(sinks, &[(TOKEN_FILE, TOKEN), (CA_FILE, &ca)])?;
    let agent = start(&pod)?;
    let log = pod.container(CONTAINER, ROTATE_AT)?;
    let load = Load::start(log, LINES, LINES_PER_SECOND.try_into()?);
    for receiver in [&healthy, &ill, &away] {
        receiver.until("the first lines", LIMIT, some(500)).await?;
    }
    away.close_port().await;
    let new_token = |protocol: &mut Protocol| {
        if let Protocol::Splunk(rules) = protocol {
            rules.tokens.insert(NEW_TOKEN.to_owned(), Token::default());
        }
    };
    // The healthy one takes both tokens, so that only its own latency is measured.
    healthy.change_rules(new_token);
    let faults = [
        Fault::status(503),
        Fault::status(429),
        Fault::Reset,
        Fault::ResetDuring(300),
        Fault::ResetAfter,
        Fault::TakeThenReset,
        Fault::Late(Duration::from_millis(500)),
        Fault::Slow(Duration::from_millis(2)),
        Fault::status(500),
        Fault::status(408),
    ];
    for fault in faults {
        full_disk(&pod)?;
        let requests = ill.inspect(|received| received.requests);
        ill.misbehave(fault, Times::Exactly(1));
        another_request(&ill, requests).await?;
    }
    wire.cut();
    ill.change_rules(|protocol| {
        if let Protocol::Splunk(rules) = protocol {
            rules.tokens = [(NEW_TOKEN.to_owned(), Token::default())].into();
        }
    });
    let refused = |received: &Received| received.answers(403) >= 2;
    ill.until("the old token is refused", LIMIT, refused)
        .await?;
    pod.mount(&bundle, &[(TOKEN_FILE, NEW_TOKEN), (CA_FILE, &ca)])?;
    let requests = ill.inspect(|received| received.requests);
    another_request(&ill, requests).await?;
    ill.show(&authority.expired_server(here)?);
    wire.cut();
    super::says(&pod, "certificate expired", 1).await?;
    ill.show(&authority.server(here)?);
    wire.block();
    let printed = load.finish().await?;
    wire.restore();
    ill.close_port().await;
    ill.open_port().await?;
    away.open_port().await?;
    for (receiver, name) in [(&healthy, "healthy"), (&ill, "ill"), (&away, "away")] {
        receiver
            .until(name, LIMIT, some(LINES))
            .await
            .with_context(|| said(&pod).unwrap_or_default())?;
    }
    assert!(agent.terminate(LIMIT).await?.success(), "{}", said(&pod)?);
    let all = 3 * LINES;
    assert_eq!(assert_accounted(&pod, all)?, u64::try_from(all)?);
    for receiver in [&ill, &away] {
        assert_nothing_missing(receiver, LINES);
    }
    assert_eq!(assert_nothing_missing(&healthy, LINES).duplicates, 0);
    let latencies = printed.latencies(&healthy.received());
    let p99 = percentile(&latencies, 99);
    // How much exactly it notices is measured by the benchmark.
    assert!(p99 < UNDISTURBED, "{p99:?}");
    Ok(())
}

async fn another_request(receiver: &Receiver, before: usize) -> Result<()> {
    let more = move |received: &Received| received.requests > before + 1;
    receiver.until("another request", LIMIT, more).await
}

/// The next save of the cursors finds no room.
fn full_disk(pod: &Pod) -> Result<()> {
    match symlink("/dev/full", pod.state_dir().join("cursors.new")) {
        // It is being saved at this moment, or no save has come since.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.context("failed to fill the disk"),
    }
}
