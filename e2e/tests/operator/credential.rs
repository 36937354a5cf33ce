//! Credentials that go missing, and come back.

use katonic_logging_core::names;
use katonic_logging_e2e::operator::{PLATFORM, condition, splunk_policy};
use kube::api::DeleteParams;
use serde_json::json;

use crate::{ENDPOINT, data, in_force, installed, merge};

#[tokio::test]
async fn a_credential_that_goes_missing_is_named_and_the_last_good_one_stays() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    installed
        .create(&splunk_policy("neighbour", ENDPOINT, "splunk"))
        .await
        .unwrap();
    installed
        .ready("neighbour", "True", "InForce")
        .await
        .unwrap();
    let good = data(&installed, PLATFORM).await;
    let secrets = installed.secrets(names::OPERATOR_NAMESPACE);
    let told = async |reason: &str, words: &str| {
        let status = installed.ready("logs", "False", reason).await.unwrap();
        let resolved = condition(&status, "SecretsResolved").unwrap();
        assert_eq!(
            (resolved.status.as_str(), resolved.reason.as_str()),
            ("False", reason)
        );
        assert!(resolved.message.contains(words), "{}", resolved.message);
        assert!(
            resolved
                .message
                .contains("the last good one stays in force"),
            "{}",
            resolved.message
        );
        assert!(status.sinks[0].in_force);
        assert_eq!(data(&installed, PLATFORM).await, good);
    };
    merge(&secrets, "splunk", json!({"data": {"token": ""}})).await;
    told(
        "CredentialEmpty",
        "key `token` of Secret katonic-logging/splunk is empty",
    )
    .await;
    merge(
        &secrets,
        "splunk",
        json!({"data": {"token": null, "other": "YQ=="}}),
    )
    .await;
    told(
        "SecretKeyMissing",
        "Secret katonic-logging/splunk has no key `token`",
    )
    .await;
    secrets
        .delete("splunk", &DeleteParams::default())
        .await
        .unwrap();
    told(
        "SecretMissing",
        "Secret katonic-logging/splunk does not exist",
    )
    .await;
    installed
        .sink_secret("splunk", "token", "rotated")
        .await
        .unwrap();
    installed.ready("logs", "True", "InForce").await.unwrap();
    installed
        .ready("neighbour", "True", "InForce")
        .await
        .unwrap();
    assert_eq!(
        data(&installed, PLATFORM).await["splunk_token"].0,
        b"rotated"
    );
}
