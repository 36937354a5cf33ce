//! Networks and certificates that fail while lines are on their way.

use std::time::Duration;

use anyhow::Result;
use katonic_logging_e2e::{
    receiver::{Authority, Fault, Protocol, Received, Receiver, Times, Wire, splunk::Rules},
    simulated::policy::{self, CA_FILE, TOKEN_FILE},
};

use super::{LIMIT, Scene, TOKEN, collector, loopback, says, some};

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
