//! Azure Blob Storage, played strictly by its documents. It was not run against the real one.

use anyhow::Result;
use katonic_log_config::Store;
use katonic_logging_e2e::{
    receiver::{Protocol, azure::Rules, objects::Bucket},
    simulated::policy::{self, SAS_TOKEN_FILE, STORAGE_KEY_FILE},
};

use crate::{cloud, cloud::Cloud};

const ACCOUNT: &str = "platformlogs";
const CONTAINER: &str = "logs-1";

/// 64 bytes, which nobody's account has.
const KEY: &str =
    "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjJodW50ZXIyMQ==";
const OTHER_KEY: &str =
    "aHVudGVyM2h1bnRlcjNodW50ZXIzaHVudGVyM2h1bnRlcjNodW50ZXIzaHVudGVyM2h1bnRlcjNodW50ZXIzMQ==";

/// One for the container that allows to create blobs.
const SIGNATURE: &str = "sv=2021-12-02&st=2026-01-01T00%3A00%3A00Z&se=2036-01-01T00%3A00%3A00Z&sr=c&sp=c&sig=aHVudGVyMg%2Bx%2Fy%3D";

fn rules(protocol: &mut Protocol) -> Option<&mut Rules> {
    match protocol {
        Protocol::Azure(rules) => Some(rules),
        _ => None,
    }
}

fn container(protocol: &mut Protocol) -> Option<&mut Bucket> {
    rules(protocol)?.containers.get_mut(CONTAINER)
}

fn change(cloud: &Cloud, change: impl FnOnce(&mut Rules)) {
    cloud
        .receiver
        .change_rules(|protocol| rules(protocol).map(change));
}

/// Lets the shared access signature allow this.
fn allow(cloud: &Cloud, permissions: &str) {
    change(cloud, |rules| {
        rules.signatures = [(SIGNATURE.to_owned(), permissions.to_owned())].into();
    });
}

/// An account with a key.
async fn with_key() -> Result<Cloud> {
    let rules = Rules::new(ACCOUNT, KEY, &[CONTAINER]);
    let store: fn(&str) -> Result<Store> = |url| policy::azure(url, ACCOUNT, CONTAINER, false);
    let cloud = Cloud::start(Protocol::Azure(rules), container, store).await?;
    Ok(cloud.with(STORAGE_KEY_FILE, KEY.to_owned(), KEY))
}

/// An account that has given a shared access signature, in which the account stands in the path as an emulator has it.
async fn with_signature() -> Result<Cloud> {
    let mut rules = Rules::new(ACCOUNT, KEY, &[CONTAINER]);
    rules.signatures = [(SIGNATURE.to_owned(), "c".to_owned())].into();
    rules.in_path = true;
    let store: fn(&str) -> Result<Store> = |url| {
        let url = format!("{url}/{ACCOUNT}");
        policy::azure(&url, ACCOUNT, CONTAINER, true)
    };
    let cloud = Cloud::start(Protocol::Azure(rules), container, store).await?;
    Ok(cloud.with(SAS_TOKEN_FILE, format!("?{SIGNATURE}\n"), "aHVudGVyMg"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_archives_each_line_once() -> Result<()> {
    cloud::is_killed_and_archives_each_line_once(with_key().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_a_signature_that_is_killed_archives_each_line_once() -> Result<()> {
    cloud::is_killed_and_archives_each_line_once(with_signature().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_busy_gets_each_line_once() -> Result<()> {
    cloud::is_refused_for_a_while_and_archives_each_line_once(with_key().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completeness_record_replaces_itself_where_it_may() -> Result<()> {
    cloud::is_sent_everything_again(with_key().await?, true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completeness_record_that_may_not_be_replaced_is_left() -> Result<()> {
    cloud::is_sent_everything_again(with_signature().await?, false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_does_not_exist_yet_is_waited_for() -> Result<()> {
    cloud::waits_until_it_is_mended(
        with_key().await?,
        |cloud| change(cloud, |rules| rules.containers.clear()),
        "HTTP 404 ContainerNotFound: there is no container `logs-1` in the storage account `platformlogs`: create it",
        |cloud| {
            change(cloud, |rules| {
                let name = CONTAINER.to_owned();
                rules.containers.insert(name, Bucket::default());
            });
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_rotated_is_told_and_its_successor_used() -> Result<()> {
    cloud::waits_until_it_is_mended(
        with_key().await?,
        |cloud| change(cloud, |rules| rules.keys = vec![OTHER_KEY.to_owned()]),
        "HTTP 403 AuthenticationFailed: what the request shows is not of the storage account `platformlogs`, or over",
        |cloud| cloud.credentials = vec![(STORAGE_KEY_FILE, OTHER_KEY.to_owned())],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_allows_too_little_is_told_and_waited_for() -> Result<()> {
    cloud::waits_until_it_is_mended(
        with_signature().await?,
        |cloud| allow(cloud, "r"),
        "HTTP 403 AuthorizationPermissionMismatch: allow these credentials to create blobs in the container `logs-1`",
        |cloud| allow(cloud, "c"),
    )
    .await
}
