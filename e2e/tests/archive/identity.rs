//! Archives that the identity of the pod opens: each cloud's way to it, and what is told where there is none.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Result;
use katonic_log_config::{ArchiveLayout, Sink};
use katonic_logging_e2e::{
    receiver::{
        Minio, Protocol, Receiver,
        azure::{self, Federated},
        gcs::{self, Account},
        objects::Bucket,
        openid, pod_identity,
    },
    simulated::{
        Load, Pod,
        policy::{self, CA_FILE},
    },
};
use serde_json::json;

use crate::{
    BUCKET, CONTAINER, assert_whole, bundle, cloud::load, counts, end, execution, least_privilege,
    said, says, start_with,
};

const LINES: usize = 2_000;
const EMAIL: &str = "logs@katonic.iam.gserviceaccount.com";
const ACCOUNT: &str = "platformlogs";
const AUDIENCE: &str = "sts.amazonaws.com";

/// The policy of this user is what the pods have.
const POLICY: &str = "agent";

fn by_identity(pod: &mut Pod, sink: Sink, files: &[(&str, &str)]) -> Result<()> {
    pod.mount(&bundle(policy::by_identity(sink)), files)
}

/// A token as the kubelet writes it.
fn write_token(pod: &Pod, token: &str) -> Result<PathBuf> {
    let path = pod.state_dir().with_file_name("token");
    fs::write(&path, token)?;
    Ok(path)
}

fn variables<const N: usize>(variables: [(&str, String); N]) -> Vec<(String, String)> {
    let owned = variables.map(|(name, value)| (name.to_owned(), value));
    owned.into()
}

async fn http(protocol: Protocol) -> Result<Receiver> {
    Receiver::start("127.0.0.1:0".parse()?, protocol).await
}

/// The issuer of a cluster, and a store that gives keys for its tokens.
struct Amazon {
    issuer: Receiver,
    minio: Minio,
}

impl Amazon {
    async fn start_or_skip() -> Result<Option<Self>> {
        let issuer = http(Protocol::OpenId(openid::Rules::default())).await?;
        let url = issuer.url();
        issuer.change_rules(|protocol| {
            *protocol = Protocol::OpenId(openid::Rules { issuer: url });
        });
        let minio = Minio::start_for_tokens_or_skip(&issuer.url(), AUDIENCE).await?;
        let Some(minio) = minio else {
            return Ok(None);
        };
        minio.make_bucket(BUCKET).await?;
        let rights = least_privilege()?;
        minio.user(POLICY, "of-the-agents", &rights).await?;
        Ok(Some(Self { issuer, minio }))
    }

    fn token(&self, life: Duration) -> Result<String> {
        let url = self.issuer.url();
        openid::token(&url, AUDIENCE, life, &json!({"policy": POLICY}))
    }

    fn pod(&self) -> Result<Pod> {
        let url = self.minio.url();
        let layout = ArchiveLayout::Executions;
        let sink = policy::archive(&url, BUCKET, layout, 1_000_000, 50)?;
        let mut pod = execution()?;
        by_identity(&mut pod, sink, &[])?;
        Ok(pod)
    }

    /// What AWS's webhook adds to a pod whose service account has a role.
    fn role(&self, token_file: &std::path::Path) -> Vec<(String, String)> {
        variables([
            (
                "AWS_ROLE_ARN",
                "arn:aws:iam::123456789012:role/logs".to_owned(),
            ),
            (
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                token_file.display().to_string(),
            ),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL_STS", self.minio.url()),
        ])
    }

    async fn assert_whole(&self, pod: &Pod, lines: usize) -> Result<()> {
        assert_whole(&self.minio.archived(BUCKET, "logs/").await?, lines)?;
        let said = said(pod)?;
        assert!(!said.contains("eyJ"), "a token is told: {said}");
        Ok(())
    }
}

/// A real store, with a real service that gives keys for tokens.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_of_the_service_account_opens_a_bucket() -> Result<()> {
    let Some(amazon) = Amazon::start_or_skip().await? else {
        return Ok(());
    };
    let pod = amazon.pod()?;
    let token_file = write_token(&pod, &amazon.token(Duration::from_hours(1))?)?;
    let agent = start_with(&pod, &amazon.role(&token_file)).await?;
    load(&pod, LINES).await?;
    let message = end(agent, &pod).await?;
    assert_eq!(
        counts(&message),
        json!({"delivered": LINES, "lost": 0, "dropped": 0})
    );
    amazon.assert_whole(&pod, LINES).await
}

/// Keys live as long as the token does, eight seconds; the kubelet renews it in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_given_is_renewed_before_its_end() -> Result<()> {
    const LIFE: Duration = Duration::from_secs(8);
    const LINES: usize = 12_000;
    let Some(amazon) = Amazon::start_or_skip().await? else {
        return Ok(());
    };
    let pod = amazon.pod()?;
    let token_file = write_token(&pod, &amazon.token(LIFE)?)?;
    let agent = start_with(&pod, &amazon.role(&token_file)).await?;
    let log = pod.container(CONTAINER, 400_000)?;
    let load = Load::start(log, LINES, 1_000.try_into()?);
    for part in 1..=4 {
        load.until(LINES * part / 5, crate::LIMIT).await?;
        write_token(&pod, &amazon.token(LIFE)?)?;
    }
    load.finish().await?;
    end(agent, &pod).await?;
    amazon.assert_whole(&pod, LINES).await?;
    let said = said(&pod)?;
    assert!(!said.contains("AuthenticationFailed"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_over_is_told_and_its_successor_used() -> Result<()> {
    let Some(amazon) = Amazon::start_or_skip().await? else {
        return Ok(());
    };
    let pod = amazon.pod()?;
    let token_file = write_token(&pod, &amazon.token(Duration::ZERO)?)?;
    let agent = start_with(&pod, &amazon.role(&token_file)).await?;
    load(&pod, LINES).await?;
    says(
        &pod,
        "let the role of AWS_ROLE_ARN trust the service account of the pod",
    )
    .await?;
    write_token(&pod, &amazon.token(Duration::from_hours(1))?)?;
    end(agent, &pod).await?;
    amazon.assert_whole(&pod, LINES).await
}

/// The agent of the node is played; the key that it gives, and the store, are real.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_associated_with_the_service_account_opens_a_bucket() -> Result<()> {
    let Some(amazon) = Amazon::start_or_skip().await? else {
        return Ok(());
    };
    let given = amazon.token(Duration::from_hours(1))?;
    let given = amazon.minio.given_for(&given).await?;
    let node = http(Protocol::PodIdentity(pod_identity::Rules::default())).await?;
    let pod = amazon.pod()?;
    let token_file = write_token(&pod, "token-of-the-pod\n")?;
    let environment = variables([
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            format!("{}{}", node.url(), pod_identity::PATH),
        ),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            token_file.display().to_string(),
        ),
    ]);
    let agent = start_with(&pod, &environment).await?;
    load(&pod, LINES).await?;
    says(&pod, "associate the service account of the pod with a role").await?;
    node.change_rules(|protocol| {
        let given = [("token-of-the-pod".to_owned(), given)].into();
        *protocol = Protocol::PodIdentity(pod_identity::Rules { given });
    });
    end(agent, &pod).await?;
    let secret = "token-of-the-pod";
    assert!(!said(&pod)?.contains(secret));
    amazon.assert_whole(&pod, LINES).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_account_that_pods_have_on_google_cloud_opens_a_bucket() -> Result<()> {
    let rules = gcs::Rules::new(&[BUCKET], EMAIL, Account::creator("1", "logs/"));
    let google = http(Protocol::Gcs(rules)).await?;
    let url = google.url();
    let layout = ArchiveLayout::Executions;
    let sink = policy::archive_in(policy::gcs(&url, BUCKET)?, &url, layout, 1_000_000, 50)?;
    let mut pod = execution()?;
    by_identity(&mut pod, sink, &[])?;
    let node = google.address().to_string();
    let environment = variables([
        ("GCE_METADATA_HOST", node),
        // No proxy leads to the node's own server.
        ("HTTP_PROXY", "http://127.0.0.1:9".to_owned()),
        ("NO_PROXY", String::new()),
    ]);
    let agent = start_with(&pod, &environment).await?;
    load(&pod, LINES).await?;
    says(&pod, "Workload Identity Federation for GKE").await?;
    google.change_rules(|protocol| {
        if let Protocol::Gcs(rules) = protocol {
            rules.of_pods = Some(EMAIL.to_owned());
        }
    });
    // The proxy is not there, so the store cannot be reached; its tokens can be got.
    says(&pod, "failed to connect to the proxy").await?;
    agent.kill()?;
    let environment = variables([("GCE_METADATA_HOST", google.address().to_string())]);
    let message = end(start_with(&pod, &environment).await?, &pod).await?;
    assert_eq!(
        counts(&message),
        json!({"delivered": LINES, "lost": 0, "dropped": 0})
    );
    let archived = google.change_rules(|protocol| match protocol {
        Protocol::Gcs(rules) => rules.buckets.get(BUCKET).map(Bucket::archived),
        _ => None,
    });
    assert_whole(&archived.expect("a bucket")?, LINES)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_trusts_the_service_account_opens_a_container() -> Result<()> {
    let authority = katonic_logging_e2e::receiver::Authority::new()?;
    let identity = authority.server("127.0.0.1".parse()?)?;
    let rules = azure::Rules::new(ACCOUNT, "", &["logs-1"]);
    let here = "127.0.0.1:0".parse()?;
    let azure = Receiver::start_tls(here, Protocol::Azure(rules), &identity).await?;
    let url = azure.url();
    let store = policy::azure(&url, ACCOUNT, "logs-1", false)?;
    let layout = ArchiveLayout::Executions;
    let sink = policy::archive_in(store, &url, layout, 1_000_000, 50)?;
    let mut pod = execution()?;
    let ca = authority.certificate_pem();
    by_identity(&mut pod, sink, &[(CA_FILE, ca.as_str())])?;
    let issuer = "https://oidc.example.com/";
    let life = Duration::from_hours(1);
    let token = openid::token(issuer, azure::AUDIENCE, life, &json!({}))?;
    let token_file = write_token(&pod, &token)?;
    let environment = variables([
        ("AZURE_CLIENT_ID", "client-1".to_owned()),
        ("AZURE_TENANT_ID", "tenant-1".to_owned()),
        (
            "AZURE_FEDERATED_TOKEN_FILE",
            token_file.display().to_string(),
        ),
        ("AZURE_AUTHORITY_HOST", format!("{url}/")),
    ]);
    let agent = start_with(&pod, &environment).await?;
    load(&pod, LINES).await?;
    says(&pod, "HTTP 400 unauthorized_client: AADSTS700016").await?;
    let federated = Federated {
        tenant: "tenant-1".to_owned(),
        client: "client-1".to_owned(),
        issuer: issuer.to_owned(),
    };
    azure.change_rules(|protocol| {
        if let Protocol::Azure(rules) = protocol {
            rules.federated = Some(federated);
        }
    });
    let message = end(agent, &pod).await?;
    assert_eq!(
        counts(&message),
        json!({"delivered": LINES, "lost": 0, "dropped": 0})
    );
    let archived = azure.change_rules(|protocol| match protocol {
        Protocol::Azure(rules) => rules.containers.get("logs-1").map(Bucket::archived),
        _ => None,
    });
    assert_whole(&archived.expect("a container")?, LINES)?;
    let said = said(&pod)?;
    assert!(!said.contains("eyJ"), "a token is told: {said}");
    Ok(())
}

/// Nothing is lost, and what is missing is said, for each of the clouds.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_an_identity_says_what_to_do() -> Result<()> {
    let url = "http://127.0.0.1:9";
    let layout = ArchiveLayout::Executions;
    let of = |store| policy::archive_in(store, url, layout, 1_000_000, 50);
    for (sink, says_so) in [
        (
            policy::archive(url, BUCKET, layout, 1_000_000, 50)?,
            "the pod has no identity for AWS: give its service account a role",
        ),
        (
            of(policy::azure(url, ACCOUNT, "logs-1", false)?)?,
            "the pod has no identity for Azure: give its service account the annotation",
        ),
        (
            of(policy::gcs(url, BUCKET)?)?,
            "the pod has no identity for Google Cloud: let its service account have one",
        ),
    ] {
        let mut pod = execution()?;
        by_identity(&mut pod, sink, &[])?;
        let nobody = variables([("GCE_METADATA_HOST", "127.0.0.1:9".to_owned())]);
        let agent = start_with(&pod, &nobody).await?;
        load(&pod, 10).await?;
        says(&pod, says_so).await?;
        says(&pod, "AuthenticationFailed").await?;
        agent.kill()?;
    }
    Ok(())
}
