//! Ten thousand reports as fast as they come, of one token and of none: few questions for the API server, and pods that are heard.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::task::JoinSet;

use super::{World, agents_token, pod, reporter::Reporter, token};

const REPORTS: usize = 10_000;
const CONNECTIONS: usize = 16;

/// Sends so many reports, each with the token of its number: how many were answered with which status.
async fn flood(
    reporter: &Reporter,
    token: impl Fn(usize) -> String + Clone + Send + 'static,
) -> Result<BTreeMap<u16, usize>> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut senders = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (reporter, next, token) = (reporter.clone(), next.clone(), token.clone());
        senders.spawn(async move {
            let mut answers = BTreeMap::<u16, usize>::new();
            let mut session = None;
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= REPORTS {
                    return anyhow::Ok(answers);
                }
                // A connection in which nothing is accepted ends; the report goes by the next one.
                let status = loop {
                    let open = match &mut session {
                        Some(open) => open,
                        None => session.insert(reporter.session().await?),
                    };
                    match open.report(&token(number)).await {
                        Ok(status) => break status,
                        Err(_) => session = None,
                    }
                };
                *answers.entry(status).or_default() += 1;
            }
        });
    }
    let mut answers = BTreeMap::<u16, usize>::new();
    while let Some(sent) = senders.join_next().await {
        for (status, count) in sent?? {
            *answers.entry(status).or_default() += count;
        }
    }
    Ok(answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_reports_of_one_pod_are_one_question_and_keep_no_other_pod_from_being_heard() {
    let world = World::start().await;
    let reporter = world.reporter().await;
    let (loud, quiet) = (
        pod(&world.installed, "loud").await,
        pod(&world.installed, "quiet").await,
    );
    let loud = agents_token(&world.installed, &loud).await;
    let quiet = agents_token(&world.installed, &quiet).await;
    let begun = Instant::now();
    let answers = flood(&reporter, move |_| loud.clone()).await.unwrap();
    let took = begun.elapsed();
    println!("{answers:?} in {took:?}");
    assert_eq!(answers.values().sum::<usize>(), REPORTS);
    assert!(answers.keys().all(|status| [200, 429].contains(status)));
    // Thirty at once, and one a second.
    let most = 30 + usize::try_from(took.as_secs()).unwrap() + 1;
    assert!((30..=most).contains(&answers[&200]), "{answers:?}");
    assert_eq!(world.reviews().await, 1);
    reporter.report(&quiet).await.unwrap().interval();
    assert_eq!(world.metric("katonic_logging_reporting_pods").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_forged_tokens_cost_the_api_server_no_more_than_a_fleet_that_reports() {
    let world = World::start().await;
    let reporter = world.reporter().await;
    let known = pod(&world.installed, "known").await;
    let good = agents_token(&world.installed, &known).await;
    let others = token(&world.installed, Some("vault.example.com"), Some(&known)).await;
    reporter.report(&good).await.unwrap().interval();
    // What is no token of ours at all.
    let answers = flood(&reporter, move |number| match number % 3 {
        0 => format!("garbage-{number}"),
        1 => format!("{}.e30.{}", "a".repeat(100), "b".repeat(100)),
        _ => others.clone(),
    });
    assert_eq!(answers.await.unwrap(), [(401, REPORTS)].into());
    assert_eq!(world.reviews().await, 1);
    // What looks like one in all but the signature.
    let claims = good.rsplit_once('.').unwrap().0.to_owned();
    let forged =
        move |number: usize| format!("{claims}.{}", URL_SAFE_NO_PAD.encode(number.to_string()));
    let begun = Instant::now();
    let flooding = tokio::spawn({
        let reporter = reporter.clone();
        async move { flood(&reporter, forged).await }
    });
    // Who is known is heard meanwhile.
    for _ in 0..5 {
        reporter.report(&good).await.unwrap().interval();
    }
    let answers = flooding.await.unwrap().unwrap();
    let took = begun.elapsed();
    let reviews = world.reviews().await;
    println!("{answers:?} in {took:?}, {reviews} reviews");
    assert_eq!(answers.values().sum::<usize>(), REPORTS);
    assert!(answers.keys().all(|status| [401, 429].contains(status)));
    let most = 200 + 50 * (took.as_secs() + 1) + 1;
    assert!((200..=most).contains(&reviews), "{reviews}");
    // Afterwards a new pod is heard too.
    let new = pod(&world.installed, "new").await;
    let new = agents_token(&world.installed, &new).await;
    let heard = katonic_logging_e2e::eventually::eventually(
        "a new pod is heard",
        katonic_logging_e2e::operator::SOON,
        async || Ok((reporter.report(&new).await?.status == 200).then_some(())),
    );
    heard.await.unwrap();
}
