//! Archives: in the store that a policy spells out, or in the one that the installation names.

use katonic_log_config::{Store, Target};
use katonic_logging_core::names;
use katonic_logging_e2e::operator::{COMPUTE, Operator, PLATFORM, condition};
use serde_json::json;

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
