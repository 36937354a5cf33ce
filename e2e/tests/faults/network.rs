//! Networks and certificates that fail while lines are on their way.

use std::time::Duration;

use anyhow::Result;
use katonic_logging_e2e::{
    receiver::{Authority, Fault, Protocol, Received, Receiver, Times, Wire, splunk::Rules},
    simulated::{
        Load,
        load::percentile,
        policy::{self, CA_FILE, TOKEN_FILE},
    },
};

use super::{
    CONTAINER, ENDLESS, LIMIT, ROTATE_AT, Scene, TOKEN, UNDISTURBED, assert_accounted,
    assert_all_came, collector, impatient, loopback, mounted, said, says, some, start,
};

#[tokio::test]
async fn answers_that_are_lost_after_the_sink_has_taken_everything_cost_duplicates_that_are_told_by_id()
-> Result<()> {
    const LOST: usize = 5;
    let receiver = collector().await?;
    let scene = Scene::with_collector(&receiver, 20_000, 5_000)?;
    for _ in 0..LOST {
        let (requests, answered) =
            receiver.inspect(|received| (received.requests, received.answered.len()));
        receiver.misbehave(Fault::TakeThenReset, Times::Exactly(1));
        let next = move |received: &Received| {
            received.requests > requests && received.answered.len() > answered
        };
        receiver.until("the next answer", LIMIT, next).await?;
    }
    let tally = scene.end(&receiver).await?;
    assert!(tally.duplicates >= LOST, "{tally}");
    Ok(())
}

/// Before, during and after the body, by the server and by something on the way.
#[tokio::test]
async fn connections_that_are_reset_at_every_moment_of_a_request_cost_nothing_but_time()
-> Result<()> {
    let receiver = collector().await?;
    let wire = Wire::to(receiver.address()).await?;
    let sink = policy::splunk("splunk", &format!("http://{}", wire.address()))?;
    let scene = Scene::begin(sink, &[(TOKEN_FILE, TOKEN)], 20_000, 4_000)?;
    for round in 0..6 {
        let requests = receiver.inspect(|received| received.requests);
        match round {
            0 => receiver.misbehave(Fault::Reset, Times::Exactly(2)),
            1 => receiver.misbehave(Fault::ResetDuring(1), Times::Exactly(1)),
            2 => receiver.misbehave(Fault::ResetDuring(700), Times::Exactly(1)),
            3 => receiver.misbehave(Fault::ResetAfter, Times::Exactly(1)),
            // In the middle of the header, and of the body.
            4 => wire.cut_after(40),
            _ => wire.cut_after(900),
        }
        let next = move |received: &Received| received.requests > requests + 1;
        receiver.until("the next requests", LIMIT, next).await?;
    }
    let connections = wire.connections();
    let tally = scene.end(&receiver).await?;
    assert_eq!(tally.duplicates, 0, "what was reset was not taken: {tally}");
    assert!(connections >= 6, "{connections} connections");
    Ok(())
}

/// Nothing is answered, then everything one byte at a time, then all is well.
#[tokio::test]
async fn a_sink_that_answers_late_and_byte_by_byte_is_waited_for() -> Result<()> {
    let receiver = collector().await?;
    let scene = Scene::with_collector(&receiver, 10_000, 4_000)?;
    receiver.until("some lines", LIMIT, some(500)).await?;
    receiver.misbehave(Fault::Late(Duration::from_secs(1)), Times::Exactly(2));
    receiver.misbehave(Fault::Slow(Duration::from_millis(10)), Times::Exactly(2));
    let tally = scene.end(&receiver).await?;
    assert_eq!(tally.duplicates, 0, "{tally}");
    Ok(())
}

/// A machine that was switched off: its connections stay open, what is sent is not read, and new ones are left alone.
#[tokio::test]
async fn a_sink_that_reads_nothing_any_more_is_given_up_after_the_timeout_and_loses_nothing()
-> Result<()> {
    let receiver = collector().await?;
    let sink = impatient(policy::splunk("splunk", &receiver.url())?)?;
    let scene = Scene::begin(sink, &[(TOKEN_FILE, TOKEN)], 10_000, 4_000)?;
    receiver.until("some lines", LIMIT, some(500)).await?;
    let connections = receiver.inspect(|received| received.connections);
    // The one that is there, and two that are made instead.
    receiver.misbehave(Fault::HalfOpen, Times::Exactly(3));
    let made = move |received: &Received| received.connections >= connections + 3;
    receiver
        .until("the third new connection", LIMIT, made)
        .await?;
    says(&scene.pod, "no answer within 3 s", 1).await?;
    let tally = scene.end(&receiver).await?;
    assert_eq!(
        tally.duplicates, 0,
        "what is not read is not taken: {tally}"
    );
    Ok(())
}

/// One byte a second: no answer is whole when its time is over, though the sink has taken what it was sent. Whoever is beside
/// it does not notice, and memory is bounded.
#[tokio::test]
async fn answers_of_one_byte_a_second_cost_duplicates_that_are_told_by_id_and_nobody_else()
-> Result<()> {
    const ATTEMPTS: usize = 3;
    /// What the kernel gives the sidecar.
    const MOST_MEMORY: u64 = 32 << 20;
    let (slow, healthy) = (collector().await?, collector().await?);
    let sinks = vec![
        impatient(policy::splunk("slow", &slow.url())?)?,
        policy::splunk("healthy", &healthy.url())?,
    ];
    let pod = mounted(sinks, &[(TOKEN_FILE, TOKEN)])?;
    let agent = start(&pod)?;
    let log = pod.container(CONTAINER, ROTATE_AT)?;
    let load = Load::start(log, ENDLESS, 1_000.try_into()?);
    slow.until("some lines", LIMIT, some(500)).await?;
    let requests = slow.inspect(|received| received.requests);
    slow.misbehave(Fault::Slow(Duration::from_secs(1)), Times::UntilTold);
    let tried = move |received: &Received| received.requests > requests + ATTEMPTS;
    slow.until("several attempts", LIMIT, tried).await?;
    says(&pod, "no answer within 3 s", 1).await?;
    slow.behave();
    let printed = load.stop().await?;
    let lines = printed.at.len();
    for receiver in [&slow, &healthy] {
        receiver.until("every line", LIMIT, some(lines)).await?;
    }
    let memory = agent.peak_memory()?;
    assert!(memory < MOST_MEMORY, "{} KiB", memory >> 10);
    assert!(agent.terminate(LIMIT).await?.success(), "{}", said(&pod)?);
    assert_eq!(
        assert_accounted(&pod, 2 * lines)?,
        u64::try_from(2 * lines)?
    );
    let tally = slow.inspect(|received| assert_all_came(&received.records, lines));
    assert!(tally.duplicates >= ATTEMPTS, "{tally}");
    let tally = healthy.inspect(|received| assert_all_came(&received.records, lines));
    assert_eq!(tally.duplicates, 0, "{tally}");
    let p99 = percentile(&printed.latencies(&healthy.received()), 99);
    assert!(p99 < UNDISTURBED, "{p99:?}");
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_expires_and_is_renewed_costs_nothing() -> Result<()> {
    let authority = Authority::new()?;
    let here = loopback().ip();
    let rules = Protocol::Splunk(Rules::with_token(TOKEN));
    let mut receiver = Receiver::start_tls(loopback(), rules, &authority.server(here)?).await?;
    let ca = authority.certificate_pem();
    let sink = policy::splunk("splunk", &receiver.url())?;
    let credentials = [(TOKEN_FILE, TOKEN), (CA_FILE, ca.as_str())];
    let scene = Scene::begin(sink, &credentials, 10_000, 4_000)?;
    receiver.until("some lines", LIMIT, some(1_000)).await?;
    // Only a new connection sees another certificate.
    receiver.show(&authority.expired_server(here)?);
    receiver.close_port().await;
    receiver.open_port().await?;
    says(&scene.pod, "certificate expired", 1).await?;
    receiver.show(&authority.server(here)?);
    let tally = scene.end(&receiver).await?;
    assert!(tally.duplicates_are_told_by_id(), "{tally}");
    Ok(())
}
