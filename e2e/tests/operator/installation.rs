//! The installation: changed, broken, and found again.

use k8s_openapi::api::events::v1::Event;
use katonic_logging_core::names;
use katonic_logging_e2e::{
    eventually::eventually,
    operator::{COMPUTE, Operator, PLATFORM, SOON, condition},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};

use crate::{
    admission_bindings, admission_policies, data, in_force, install, installation, installed,
};

#[tokio::test]
async fn an_operator_that_starts_anew_keeps_what_was_last_good() {
    let installed = installed().await;
    let operator = in_force(&installed).await;
    let good = data(&installed, PLATFORM).await;
    operator.kill().await.unwrap();
    installed
        .secrets(names::OPERATOR_NAMESPACE)
        .delete("splunk", &DeleteParams::default())
        .await
        .unwrap();
    install(&installed, "namespaces: [").await;
    // The same instance, as a container that is restarted within its pod.
    let _operator = Operator::start(&installed.cluster, "one").await.unwrap();
    let status = installed
        .ready("logs", "False", "InstallationInvalid")
        .await
        .unwrap();
    assert!(
        condition(&status, "Ready")
            .unwrap()
            .message
            .contains("the last good installation stays in force")
    );
    assert_eq!(
        condition(&status, "SecretsResolved").unwrap().reason,
        "SecretMissing"
    );
    assert!(status.sinks[0].in_force);
    assert_eq!(data(&installed, PLATFORM).await, good);
    assert!(
        admission_policies(&installed)
            .get_opt(names::ADMISSION_POLICIES[0])
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn an_installation_that_cannot_be_used_is_told_everywhere_and_changes_nothing() {
    let installed = installed().await;
    let operator = in_force(&installed).await;
    let good = data(&installed, COMPUTE).await;
    let events: Api<Event> = Api::namespaced(installed.client.clone(), names::OPERATOR_NAMESPACE);
    for (yaml, words) in [
        ("namespaces: [".to_owned(), "cannot be used"),
        (
            installation(PLATFORM, PLATFORM),
            "each plane needs a namespace of its own",
        ),
        (
            installation(PLATFORM, "Not A Namespace"),
            "not the name of a namespace",
        ),
    ] {
        install(&installed, &yaml).await;
        eventually("the policy says what is wrong", SOON, async || {
            let status = installed
                .policies()
                .get("logs")
                .await?
                .status
                .unwrap_or_default();
            let ready = condition(&status, "Ready").cloned();
            Ok(ready
                .is_some_and(|ready| ready.status == "False" && ready.message.contains(words))
                .then_some(()))
        })
        .await
        .unwrap();
        eventually("an Event says what is wrong", SOON, async || {
            let events = events.list(&ListParams::default()).await?.items;
            Ok(events
                .iter()
                .any(|event| event.note.iter().any(|note| note.contains(words)))
                .then_some(()))
        })
        .await
        .unwrap();
        assert!(operator.log().unwrap().contains(words));
        assert_eq!(data(&installed, COMPUTE).await, good);
    }
    install(&installed, &installation(PLATFORM, COMPUTE)).await;
    installed.ready("logs", "True", "InForce").await.unwrap();
}

#[tokio::test]
async fn a_plane_can_move_to_a_namespace_that_comes_later() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    install(&installed, &installation(PLATFORM, "late")).await;
    let status = installed
        .ready("logs", "False", "NamespaceMissing")
        .await
        .unwrap();
    assert!(
        condition(&status, "Injected")
            .unwrap()
            .message
            .contains("namespace late of plane Compute")
    );
    eventually("the former plane is left", SOON, async || {
        Ok(installed
            .bundle_secret(COMPUTE)
            .await?
            .is_none()
            .then_some(()))
    })
    .await
    .unwrap();
    assert!(installed.bundle(PLATFORM).await.unwrap().is_some());
    installed.cluster.namespace("late").await.unwrap();
    // Without rights there, it is told; with them, it goes on by itself.
    installed
        .ready("logs", "False", "BundleNotWritten")
        .await
        .unwrap();
    let rbac = katonic_logging_e2e::program::workspace().join("manifests/plane/rbac.yaml");
    let apply = ["apply", "-n", "late", "-f", rbac.to_str().unwrap()];
    installed
        .cluster
        .kubectl(&apply)
        .await
        .unwrap()
        .ok()
        .unwrap();
    installed.ready("logs", "True", "InForce").await.unwrap();
    assert!(installed.bundle("late").await.unwrap().is_some());
    let binding = admission_bindings(&installed)
        .get(names::ADMISSION_BINDING)
        .await
        .unwrap();
    let binding = serde_json::to_string(&binding.spec).unwrap();
    assert!(
        binding.contains("\"late\"") && !binding.contains(COMPUTE),
        "{binding}"
    );
}
