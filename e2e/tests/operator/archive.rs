//! Archives: in the store that a policy spells out, or in the one that the installation names.

use k8s_openapi::jiff::Timestamp;
use katonic_log_config::{Store, Target};
use katonic_logging_core::names;
use katonic_logging_e2e::{
    operator::{COMPUTE, Operator, PLATFORM, condition},
    program,
    receiver::{
        Authority, Protocol, Receiver, azure,
        gcs::{self, Account},
    },
    simulated::archive::Archive,
};
use serde_json::json;
use tokio::{process::Command, task::spawn_blocking};

use crate::{apply, data, install, installation, installed, merge};

#[tokio::test]
async fn an_archive_of_the_installation_is_in_force_once_the_installation_names_its_store() {
    let installed = installed().await;
    let _operator = Operator::start(&installed.cluster, "one").await.unwrap();
    let archive = json!({"installation": true, "objects": {"maxAge": "5m"}});
    apply(
        &installed,
        &json!({
            "apiVersion": "logging.katonic.ai/v1alpha1",
            "kind": "LoggingPolicy",
            "metadata": {"name": "executions"},
            "spec": {"logs": "Execution", "sinks": [{"name": "archive", "objectStorage": archive}]},
        }),
    )
    .await;
    let told = async |status: &str, reason: &str| {
        let status = installed.ready("executions", status, reason).await.unwrap();
        let ready = condition(&status, "Ready").unwrap().message.clone();
        (status, ready)
    };
    let (_, message) = told("False", "Invalid").await;
    assert!(message.contains("set blob_storage.logs"), "{message}");
    let plain = installation(PLATFORM, COMPUTE);
    let store =
        "blob_storage: {logs: {type: s3, s3: {bucket: platform-logs, region: eu-central-1}}}";
    let ours = "logging: {logStore: {credentialsSecretRef: {name: log-store}, prefix: platform}, ";
    let named = format!("{store}\n{}", plain.replace("logging: {", ours));
    install(&installed, &named).await;
    let (_, message) = told("False", "SecretMissing").await;
    assert!(
        message.contains("log-store does not exist: create it with the key `AWS_"),
        "{message}"
    );
    installed
        .sink_secret("log-store", "AWS_ACCESS_KEY_ID", "AKIA")
        .await
        .unwrap();
    let (_, message) = told("False", "SecretKeyMissing").await;
    assert!(
        message.contains("has no key `AWS_SECRET_ACCESS_KEY`: add it"),
        "{message}"
    );
    let secrets = installed.secrets(names::OPERATOR_NAMESPACE);
    let key = json!({"stringData": {"AWS_SECRET_ACCESS_KEY": "hunter2"}});
    merge(&secrets, "log-store", key).await;
    let (status, _) = told("True", "InForce").await;
    assert_eq!(status.logs.as_deref(), Some("Execution"));
    assert_eq!(status.planes.as_deref(), Some("Compute"));
    assert_eq!(
        (status.sinks[0].kind.as_str(), status.sinks[0].in_force),
        ("objectStorage", true)
    );
    let bundle = installed.bundle(COMPUTE).await.unwrap().unwrap();
    let policy = &bundle.policies[0];
    let Target::ObjectStorage(archive) = &policy.sinks[0].target else {
        panic!("{policy:?}");
    };
    let Store::S3(s3) = &archive.store else {
        panic!("{archive:?}");
    };
    assert_eq!(
        (s3.bucket.as_str(), s3.prefix.as_str()),
        ("platform-logs", "platform")
    );
    assert_eq!(archive.max_age_ms.get(), 300_000);
    assert!(policy.takes(&[].into(), "run") && !policy.takes(&[].into(), "executor"));
    assert!(installed.bundle(PLATFORM).await.unwrap().is_none());
    // A store that is named no more leaves what was last good.
    let good = data(&installed, COMPUTE).await;
    install(&installed, &plain).await;
    told("False", "Invalid").await;
    assert_eq!(data(&installed, COMPUTE).await, good);
}

const EXECUTION: &str = "63d16b3ebe3729589c5bd9d8";
const SIGNATURE: &str = "sv=2021-12-02&se=2036-01-01T00%3A00%3A00Z&sr=c&sp=rl&sig=aHVudGVyMg%3D";
const READER: &str = "reader@katonic.iam.gserviceaccount.com";

/// Found by the installation, reached by what it says, and read with a Secret of a reader: nothing is spelled out.
#[tokio::test]
async fn the_archive_that_the_installation_names_at_google_or_azure_is_read_by_its_name_alone() {
    let installed = installed().await;
    let build = || program::build("katonic-logging-operator", "katonic-logging");
    let program = spawn_blocking(build).await.unwrap().unwrap();
    let authority = Authority::new().unwrap();
    let identity = authority.server("127.0.0.1".parse().unwrap()).unwrap();
    let here = ([127, 0, 0, 1], 0).into();
    let google = gcs::Rules::new(
        &["platform-logs"],
        READER,
        Account::reader("1", "platform/executions/"),
    );
    let mut azure = azure::Rules::new("platformlogs", "", &["platform-logs"]);
    azure.signatures = [(SIGNATURE.to_owned(), "rl".to_owned())].into();
    let google = Receiver::start_tls(here, Protocol::Gcs(google), &identity);
    let google = google.await.unwrap();
    let azure = Receiver::start_tls(here, Protocol::Azure(azure), &identity);
    let azure = azure.await.unwrap();
    let key_file = gcs::key_file(&google.url(), READER, "1");
    for (name, key, value) in [
        ("store-ca", "ca.crt", authority.certificate_pem().as_str()),
        ("google-reader", "key.json", &key_file),
        ("azure-reader", "AZURE_STORAGE_SAS_TOKEN", SIGNATURE),
        ("nobody", "token", "hunter2"),
    ] {
        installed.sink_secret(name, key, value).await.unwrap();
    }
    let plain = installation(PLATFORM, COMPUTE);
    for (store, named, reader, missing) in [
        (
            &google,
            "type: gcs, gcs: {bucket: platform-logs}",
            "google-reader",
            "Secret katonic-logging/nobody has no key key.json: it needs key.json, the key file of a reader's service account",
        ),
        (
            &azure,
            "type: azure, azure: {account_name: platformlogs, container: platform-logs}",
            "azure-reader",
            "Secret katonic-logging/nobody has no key AZURE_STORAGE_SAS_TOKEN: it needs AZURE_STORAGE_SAS_TOKEN, AZURE_STORAGE_KEY, or",
        ),
    ] {
        let mut pod = Archive::new("platform-logs", "platform/", EXECUTION, "run-1");
        for line in ["one", "two"] {
            let line = [(Timestamp::now(), line.as_bytes())];
            pod.object(store, line).await.unwrap();
        }
        pod.record(store).await.unwrap();
        let ours = format!(
            "logging: {{logStore: {{endpoint: '{}', prefix: platform, tls: {{caSecretRef: {{name: store-ca, key: ca.crt}}}}}}, ",
            store.url()
        );
        let named = format!("blob_storage: {{logs: {{{named}}}}}\n");
        let named = named + &plain.replace("logging: {", &ours);
        install(&installed, &named).await;
        let logs = async |secret: &str| {
            let output = Command::new(&program)
                .env_clear()
                .env("HOME", "/nonexistent")
                .args(["logs", EXECUTION, "--from", "archive"])
                .args(["--credentials-secret", secret, "--kubeconfig"])
                .arg(installed.cluster.kubeconfig())
                .output()
                .await
                .unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(
                !said.contains("hunter2") && !said.contains("aHVudGVy"),
                "{said}"
            );
            let lines = String::from_utf8(output.stdout).unwrap();
            (output.status.code(), lines, said)
        };
        let (code, lines, said) = logs(reader).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("verified: 2 lines, complete"), "{said}");
        let lines: Vec<&str> = lines
            .lines()
            .filter_map(|line| line.rsplit(' ').next())
            .collect();
        assert_eq!(lines, ["one", "two"]);
        let (code, _, said) = logs("nobody").await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(missing), "{said}");
    }
}
