//! Google Cloud Storage, played strictly by its documents. It was not run against the real one.

use anyhow::Result;
use katonic_log_config::Store;
use katonic_logging_e2e::{
    eventually::eventually,
    receiver::{
        Fault, Protocol, Times,
        gcs::{self, Account, Rules},
        objects::Bucket,
    },
    simulated::{
        Load,
        policy::{self, SERVICE_ACCOUNT_FILE},
    },
};

use crate::{
    BUCKET, CONTAINER, LIMIT, cloud,
    cloud::{Cloud, load},
    end, said, says, start,
};

const EMAIL: &str = "logs@katonic.iam.gserviceaccount.com";

/// What stands in every token, and in the private key.
const SECRETS: [&str; 2] = ["ya29.", "PRIVATE KEY"];

fn rules(protocol: &mut Protocol) -> Option<&mut Rules> {
    match protocol {
        Protocol::Gcs(rules) => Some(rules),
        _ => None,
    }
}

fn bucket(protocol: &mut Protocol) -> Option<&mut Bucket> {
    rules(protocol)?.buckets.get_mut(BUCKET)
}

fn change<T>(cloud: &Cloud, change: impl FnOnce(&mut Rules) -> T) -> Option<T> {
    cloud
        .receiver
        .change_rules(|protocol| rules(protocol).map(change))
}

fn change_account(cloud: &Cloud, to: Account) {
    change(cloud, |rules| rules.accounts.insert(EMAIL.to_owned(), to));
}

fn store(url: &str) -> Result<Store> {
    policy::gcs(url, BUCKET)
}

/// A bucket, and a service account that may create objects below the prefix and nothing else.
async fn google() -> Result<Cloud> {
    let rules_of = Rules::new(&[BUCKET], EMAIL, Account::creator("1", "logs/"));
    let cloud = Cloud::start(Protocol::Gcs(rules_of), bucket, store).await?;
    let url = cloud.receiver.url();
    change(&cloud, |rules| rules.audience = format!("{url}/token"));
    let file = gcs::key_file(&url, EMAIL, "1");
    Ok(cloud.with(SERVICE_ACCOUNT_FILE, file, SECRETS[0]))
}

fn given(cloud: &Cloud) -> Option<usize> {
    change(cloud, |rules| rules.given())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_archives_each_line_once() -> Result<()> {
    cloud::is_killed_and_archives_each_line_once(google().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_busy_gets_each_line_once() -> Result<()> {
    cloud::is_refused_for_a_while_and_archives_each_line_once(google().await?).await
}

/// Nobody with this role may replace an object.
#[tokio::test(flavor = "multi_thread")]
async fn a_completeness_record_that_may_not_be_replaced_is_left() -> Result<()> {
    cloud::is_sent_everything_again(google().await?, false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_exist_yet_is_waited_for() -> Result<()> {
    cloud::waits_until_it_is_mended(
        google().await?,
        |cloud| {
            change(cloud, |rules| rules.buckets.clear());
        },
        "HTTP 404 NoSuchBucket: there is no bucket `platform-logs`: create it, or correct bucket",
        |cloud| {
            let bucket = Bucket::default();
            change(cloud, |rules| {
                rules.buckets.insert(BUCKET.to_owned(), bucket)
            });
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_named_and_waited_for() -> Result<()> {
    cloud::waits_until_it_is_mended(
        google().await?,
        |cloud| change_account(cloud, Account::creator("1", "elsewhere/")),
        "HTTP 403 AccessDenied: allow this service account storage.objects.create on gs://platform-logs/logs/*",
        |cloud| change_account(cloud, Account::creator("1", "logs/")),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_deleted_is_told_and_its_successor_used() -> Result<()> {
    cloud::waits_until_it_is_mended(
        google().await?,
        |cloud| change_account(cloud, Account::creator("2", "logs/")),
        "invalid_grant: Invalid JWT Signature.: correct the Secret of credentialsSecretRef",
        |cloud| {
            let file = gcs::key_file(&cloud.receiver.url(), EMAIL, "2");
            cloud.credentials = vec![(SERVICE_ACCOUNT_FILE, file)];
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_is_none_is_told_without_showing_it() -> Result<()> {
    let mut google = google().await?;
    let good = google.credentials.clone();
    google.secret = "hunter2".to_owned();
    google.credentials = vec![(
        SERVICE_ACCOUNT_FILE,
        "{\"private_key\": \"hunter2\"}".to_owned(),
    )];
    cloud::waits_until_it_is_mended(
        google,
        |_| {},
        "is not the key file of a service account",
        move |cloud| cloud.credentials = good,
    )
    .await
}

/// A token that the store does not take any more costs one more request, and nobody has to know.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_used_until_it_is_refused_and_then_asked_for_anew() -> Result<()> {
    const LINES: usize = 6_000;
    let google = google().await?;
    let pod = google.pod(1_000_000, 50)?;
    let agent = start(&pod).await?;
    let load = Load::start(pod.container(CONTAINER, 400_000)?, LINES, 3_000.try_into()?);
    load.until(LINES / 2, LIMIT).await?;
    eventually("a token is given", LIMIT, async || {
        Ok((given(&google) == Some(1)).then_some(()))
    })
    .await?;
    change(&google, Rules::revoke);
    load.finish().await?;
    end(agent, &pod).await?;
    google.assert_whole(&pod, LINES)?;
    assert_eq!(given(&google), Some(2));
    assert_eq!(google.receiver.received().answers(401), 1);
    let said = said(&pod)?;
    assert!(!said.contains("AuthenticationFailed"), "{said}");
    assert!(
        SECRETS.iter().all(|secret| !said.contains(secret)),
        "{said}"
    );
    Ok(())
}

/// Two seconds are its life, so a new one is asked for after one.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_before_its_end() -> Result<()> {
    const LINES: usize = 4_000;
    let google = google().await?;
    change(&google, |rules| rules.lifetime = 2);
    let pod = google.pod(1_000_000, 50)?;
    let agent = start(&pod).await?;
    let load = Load::start(pod.container(CONTAINER, 400_000)?, LINES, 1_000.try_into()?);
    load.finish().await?;
    end(agent, &pod).await?;
    google.assert_whole(&pod, LINES)?;
    let given = given(&google).unwrap_or_default();
    assert!((2..=6).contains(&given), "{given}");
    assert_eq!(google.receiver.received().answers(401), 0);
    Ok(())
}

/// Who gives tokens is down for a while: nothing is lost, and it is told who does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_server_that_is_busy_is_asked_again() -> Result<()> {
    const LINES: usize = 500;
    let google = google().await?;
    google
        .receiver
        .misbehave_at("/token", Fault::status(503), Times::Exactly(2));
    let pod = google.pod(1_000_000, 50)?;
    let agent = start(&pod).await?;
    load(&pod, LINES).await?;
    says(&pod, "no credentials from 127.0.0.1: HTTP 503").await?;
    end(agent, &pod).await?;
    google.assert_whole(&pod, LINES)?;
    assert_eq!(given(&google), Some(1));
    Ok(())
}
