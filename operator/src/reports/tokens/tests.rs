//! The API server is one that counts what it is asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::jiff::SignedDuration;
use katonic_log_config::report::AUDIENCE;
use serde_json::json;
use tokio::sync::Notify;

use super::{
    super::token::tests::{claims, unsigned},
    *,
};

fn pod() -> Pod {
    Pod {
        uid: "0b5c".to_owned(),
        namespace: "katonic-compute".to_owned(),
        name: "web".to_owned(),
    }
}

fn token(number: usize) -> String {
    let mut claims = claims(Timestamp::now() + SignedDuration::from_hours(1));
    claims["number"] = json!(number);
    unsigned(&claims)
}

/// Tokens that are asked about in this way, and how often that was.
fn asked(
    answer: impl Fn() -> Result<Result<Pod, Foreign>, review::Error> + Send + Sync + 'static,
) -> (Arc<Tokens>, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let ask = move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        let answer = answer();
        async move { answer }.boxed()
    };
    let tokens = Tokens::new(Box::new(ask), Arc::default(), REMEMBERED);
    (Arc::new(tokens), count)
}

#[tokio::test]
async fn a_token_is_asked_about_once_whatever_the_answer() {
    for answer in [Ok(pod()), Err(Foreign::Unknown)] {
        let expected = answer.clone().map_err(Stranger::Foreign);
        let (tokens, count) = asked(move || Ok(answer.clone()));
        let token = token(0);
        for _ in 0..10 {
            assert_eq!(tokens.pod(&token).await, expected);
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn whoever_asks_at_the_same_time_waits_for_the_same_answer_even_if_the_first_goes_away() {
    let (count, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (counted, gone) = (count.clone(), go.clone());
    let ask = move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        let gone = gone.clone();
        async move {
            gone.notified().await;
            Ok(Ok(pod()))
        }
        .boxed()
    };
    let tokens = Arc::new(Tokens::new(Box::new(ask), Arc::default(), REMEMBERED));
    let token = token(0);
    let mut waiting: Vec<_> = (0..10)
        .map(|_| {
            let (tokens, token) = (tokens.clone(), token.clone());
            tokio::spawn(async move { tokens.pod(&token).await })
        })
        .collect();
    while count.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    waiting.remove(0).abort();
    go.notify_one();
    for one in waiting {
        assert_eq!(one.await.unwrap(), Ok(pod()));
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_cannot_be_known_is_asked_again() {
    let (tokens, count) = asked(|| Err(review::Error::Answer));
    let token = token(0);
    for _ in 0..3 {
        assert_eq!(tokens.pod(&token).await, Err(Stranger::Unavailable));
    }
    assert_eq!(count.load(Ordering::SeqCst), 3);
    let metrics = tokens.health.metrics.encode().unwrap();
    let failed = r#"katonic_logging_token_reviews_total{outcome="failed"} 3"#;
    assert!(metrics.contains(failed), "{metrics}");
}

#[tokio::test]
async fn garbage_is_never_asked_about_and_forged_tokens_only_so_often() {
    let (tokens, count) = asked(|| Ok(Err(Foreign::Unknown)));
    for _ in 0..1000 {
        let refused = tokens.pod("garbage").await.unwrap_err();
        assert_eq!(refused, Stranger::Foreign(Foreign::Malformed));
    }
    let other =
        unsigned(&json!({"aud": ["https://kubernetes.default.svc"], "exp": 4_000_000_000_i64}));
    let refused = tokens.pod(&other).await.unwrap_err();
    assert_eq!(refused, Stranger::Foreign(Foreign::Audience));
    assert!(refused_words(refused).contains(AUDIENCE));
    assert_eq!(count.load(Ordering::SeqCst), 0);
    let begun = Instant::now();
    let mut throttled = 0;
    for number in 0..1000 {
        throttled += usize::from(tokens.pod(&token(number)).await == Err(Stranger::Throttled));
    }
    let (rate, burst) = REVIEWS;
    let most = f64::from(burst) + begun.elapsed().as_secs_f64() * f64::from(rate) + 1.0;
    let asked = count.load(Ordering::SeqCst);
    assert_eq!(asked + throttled, 1000);
    assert!(f64::from(u32::try_from(asked).unwrap()) <= most, "{asked}");
    assert!(asked >= 200, "{asked}");
}

fn refused_words(stranger: Stranger) -> String {
    match stranger {
        Stranger::Foreign(foreign) => foreign.to_string(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn one_pod_is_listened_to_only_so_often_whichever_of_its_tokens_it_shows() {
    let (tokens, count) = asked(|| Ok(Ok(pod())));
    let begun = Instant::now();
    let mut accepted = 0_u32;
    for number in 0..100 {
        let token = token(number % 5);
        match tokens.pod(&token).await {
            Ok(_) => accepted += 1,
            refused => assert_eq!(refused, Err(Stranger::Throttled)),
        }
    }
    let (rate, burst) = REPORTS;
    let most = f64::from(burst) + begun.elapsed().as_secs_f64() * f64::from(rate) + 1.0;
    assert!(
        (burst..).contains(&accepted) && f64::from(accepted) <= most,
        "{accepted}"
    );
    assert_eq!(count.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn whoever_waits_for_one_answer_with_many_others_is_paced_too() {
    let (tokens, _) = asked(|| Ok(Ok(pod())));
    let token = token(0);
    let asking = (0..200).map(|_| tokens.pod(&token));
    let answers = futures::future::join_all(asking).await;
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
    let (_, burst) = REPORTS;
    // Another one for each second that it takes.
    let least = usize::try_from(burst).unwrap();
    assert!((least..answers.len()).contains(&accepted), "{accepted}");
}

#[test]
fn what_was_told_is_forgotten_when_its_time_is_over_or_its_room_is_needed() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut known = Known::new(2, start);
    let key = |number| [number; 32];
    known.tell(key(1), Ok(pod()), after(600), start);
    known.tell(key(2), Err(Foreign::Unknown), after(30), start);
    assert!(known.look_up(&key(1), after(599)).is_some());
    // What ends first makes room.
    known.tell(key(3), Ok(pod()), after(300), start);
    assert!(known.look_up(&key(2), start).is_none());
    assert!(known.look_up(&key(3), after(299)).is_some());
    assert!(known.look_up(&key(3), after(300)).is_none());
    assert!(known.look_up(&key(1), after(600)).is_none());
    assert!(known.entries.is_empty() && known.by_end.is_empty());
    // And what is over goes with the next.
    known.tell(key(4), Ok(pod()), after(10), start);
    known.tell(key(5), Ok(pod()), after(900), after(20));
    assert_eq!(known.entries.len(), 1);
}

#[tokio::test]
async fn nothing_that_is_printed_has_a_token_in_it() {
    let (tokens, _) = asked(|| Ok(Ok(pod())));
    let token = token(0);
    tokens.pod(&token).await.unwrap();
    let signature = token.rsplit('.').next().unwrap();
    assert!(!format!("{tokens:?}").contains(signature));
}
