//! Sinks that answer, but not as one would like.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use katonic_log_config::{Authorization as Authorized, JsonFormat, Target};
use katonic_logging_e2e::{
    receiver::{
        Fault, Protocol, Received, Receiver, RetryAfter, Times,
        json::{self, Authorization},
        loggly,
        splunk::Token,
    },
    simulated::{
        Load,
        policy::{self, LOGGLY_TOKEN_FILE, TOKEN_FILE},
    },
};

use super::{
    CONTAINER, ENDLESS, LIMIT, ROTATE_AT, Scene, TOKEN, assert_accounted, assert_all_came,
    collector, loopback, mounted, said, some, start,
};

const NEW_TOKEN: &str = "c3a4d8f0-9b61-4f0e-8e0f-5d6b7a8c9d10";

/// The sink refuses the token, again and again; then the Secret has the new one.
#[tokio::test]
async fn a_token_that_is_replaced_under_load_costs_nothing() -> Result<()> {
    // 401, by a server that takes bearer tokens.
    let mut rules = json::Rules::at("/in");
    rules.authorization = Some(Authorization::Bearer(TOKEN.to_owned()));
    let receiver = Receiver::start(loopback(), Protocol::Json(rules)).await?;
    let mut sink = policy::http("http", &format!("{}/in", receiver.url()), JsonFormat::Lines)?;
    let Target::Http(http) = &mut sink.target else {
        bail!("another sink")
    };
    http.authorization = Some(Authorized::Bearer(TOKEN_FILE.to_owned().try_into()?));
    let mut scene = Scene::begin(sink, &[(TOKEN_FILE, TOKEN)], 10_000, 5_000)?;
    receiver.until("some lines", LIMIT, some(1_000)).await?;
    receiver.change_rules(|protocol| {
        if let Protocol::Json(rules) = protocol {
            rules.authorization = Some(Authorization::Bearer(NEW_TOKEN.to_owned()));
        }
    });
    let refused = |received: &Received| received.answers(401) >= 3;
    receiver.until("refusals", LIMIT, refused).await?;
    scene.replace(&[(TOKEN_FILE, NEW_TOKEN)])?;
    let tally = scene.end(&receiver).await?;
    assert_eq!(tally.duplicates, 0, "{tally}");

    // 403, by Splunk.
    let receiver = collector().await?;
    let mut scene = Scene::with_collector(&receiver, 10_000, 5_000)?;
    receiver.until("some lines", LIMIT, some(1_000)).await?;
    receiver.change_rules(|protocol| {
        if let Protocol::Splunk(rules) = protocol {
            rules.tokens = [(NEW_TOKEN.to_owned(), Token::default())].into();
        }
    });
    let refused = |received: &Received| received.answers(403) >= 3;
    receiver.until("refusals", LIMIT, refused).await?;
    let said_of_it = said(&scene.pod)?;
    assert!(said_of_it.contains("AuthenticationFailed"), "{said_of_it}");
    assert!(!said_of_it.contains(TOKEN), "{said_of_it}");
    scene.replace(&[(TOKEN_FILE, NEW_TOKEN)])?;
    let tally = scene.end(&receiver).await?;
    assert_eq!(tally.duplicates, 0, "{tally}");
    Ok(())
}

#[tokio::test]
async fn a_sink_that_is_too_busy_is_given_the_time_that_it_asks_for_and_some_where_it_asks_for_none()
-> Result<()> {
    let rules = Protocol::Loggly(loggly::Rules::with_token(TOKEN));
    let receiver = Receiver::start(loopback(), rules).await?;
    let date = SystemTime::now() + Duration::from_secs(4);
    receiver.misbehave(Fault::status(429), Times::Exactly(2));
    let seconds = RetryAfter::Seconds(2);
    receiver.misbehave(Fault::retry_after(429, seconds), Times::Exactly(1));
    receiver.misbehave(
        Fault::retry_after(429, RetryAfter::At(date)),
        Times::Exactly(1),
    );
    let sink = policy::loggly("loggly", &receiver.url(), &["platform"])?;
    let scene = Scene::begin(sink, &[(LOGGLY_TOKEN_FILE, TOKEN)], 5_000, 5_000)?;
    let tally = scene.end(&receiver).await?;
    assert_eq!(tally.duplicates, 0, "{tally}");
    let answered = receiver.received().answered;
    let statuses: Vec<_> = answered.iter().map(|answered| answered.status).collect();
    let expected = [429, 429, 429, 429, 200];
    assert_eq!(statuses.get(..5).context("too few answers")?, expected);
    let pauses: Vec<_> = answered
        .windows(2)
        .take(4)
        .map(|pair| pair[1].at - pair[0].at)
        .collect();
    // Half of each wait is left to chance: 0.1 s and 0.2 s at least.
    assert!(pauses[0] >= Duration::from_millis(100), "{pauses:?}");
    assert!(pauses[1] >= Duration::from_millis(200), "{pauses:?}");
    assert!(pauses[2] >= Duration::from_secs(2), "{pauses:?}");
    // The header has whole seconds, and the answer came some time after the date was chosen.
    assert!(pauses[3] >= Duration::from_millis(400), "{pauses:?}");
    Ok(())
}

/// Storms that pass and come again; each is longer than the one before.
#[tokio::test]
async fn storms_of_503_cost_nothing() -> Result<()> {
    const STORMS: u32 = 5;
    let receiver = collector().await?;
    let scene = Scene::with_collector(&receiver, 20_000, 4_000)?;
    for storm in 1..=STORMS {
        let before = receiver.inspect(|received| received.records.len());
        let more = move |received: &Received| received.records.len() > before;
        receiver.until("lines between storms", LIMIT, more).await?;
        receiver.misbehave(Fault::status(503), Times::Exactly(storm));
        let so_many = usize::try_from((1..=storm).sum::<u32>())?;
        let refused = move |received: &Received| received.answers(503) >= so_many;
        receiver.until("the end of a storm", LIMIT, refused).await?;
    }
    let tally = scene.end(&receiver).await?;
    assert_eq!(tally.duplicates, 0, "{tally}");
    Ok(())
}

/// Everybody says 503 for a while, first without and then with a time to come back: nothing is lost, and nobody is
/// asked more often than what the waits allow.
#[tokio::test]
async fn a_long_storm_of_503_at_several_sinks_costs_nothing_and_is_not_made_worse() -> Result<()> {
    /// As many seconds of lines.
    const STORM: u32 = 4;
    const LINES_PER_SECOND: u32 = 1_000;
    /// Refusals within that time: after 0, 0.1, 0.3, 0.7, 1.5 and 3.1 seconds at the earliest, and what was on its way.
    const MOST: usize = 7;
    let splunk = collector().await?;
    let loggly = Protocol::Loggly(loggly::Rules::with_token(TOKEN));
    let loggly = Receiver::start(loopback(), loggly).await?;
    let json = Receiver::start(loopback(), Protocol::Json(json::Rules::at("/in"))).await?;
    let sinks = vec![
        policy::splunk("splunk", &splunk.url())?,
        policy::loggly("loggly", &loggly.url(), &["platform"])?,
        policy::json_lines("json", &format!("{}/in", json.url()))?,
    ];
    let pod = mounted(sinks, &[(TOKEN_FILE, TOKEN), (LOGGLY_TOKEN_FILE, TOKEN)])?;
    let agent = start(&pod)?;
    let log = pod.container(CONTAINER, ROTATE_AT)?;
    let load = Load::start(log, ENDLESS, LINES_PER_SECOND.try_into()?);
    let receivers = [&splunk, &loggly, &json];
    let faults = [
        Fault::status(503),
        Fault::retry_after(503, RetryAfter::Seconds(1)),
    ];
    for fault in faults {
        let mut before = Vec::new();
        for receiver in receivers {
            let came = receiver.inspect(|received| received.records.len());
            let more = move |received: &Received| received.records.len() > came;
            receiver
                .until("lines before the storm", LIMIT, more)
                .await?;
            receiver.misbehave(fault.clone(), Times::UntilTold);
            before.push(receiver.inspect(|received| received.answers(503)));
        }
        let end = load.printed() + usize::try_from(STORM * LINES_PER_SECOND)?;
        load.until(end, LIMIT).await?;
        for (receiver, before) in receivers.iter().zip(before) {
            receiver.behave();
            let refused = receiver.inspect(|received| received.answers(503)) - before;
            assert!((2..=MOST).contains(&refused), "{refused} of {fault:?}");
        }
    }
    let printed = load.stop().await?.at.len();
    for receiver in receivers {
        let every = some(printed);
        receiver.until("every line", LIMIT, every).await?;
    }
    assert!(agent.terminate(LIMIT).await?.success(), "{}", said(&pod)?);
    let all = receivers.len() * printed;
    assert_eq!(assert_accounted(&pod, all)?, u64::try_from(all)?);
    for receiver in receivers {
        let tally = receiver.inspect(|received| assert_all_came(&received.records, printed));
        assert_eq!(tally.duplicates, 0, "{tally}");
    }
    Ok(())
}
