//! What somebody else does to objects of ours is undone, and what is not ours is left alone.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use katonic_log_config::layout;
use katonic_logging_core::names;
use katonic_logging_e2e::{
    eventually::eventually,
    operator::{COMPUTE, PLATFORM, SOON, condition},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    admission_bindings, admission_policies, data, in_force, init_containers, installed, merge, pod,
    with_policy,
};

/// What the issue of drift promises.
const A_SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn drift_is_repaired_within_a_second() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    let good = data(&installed, PLATFORM).await;
    let secrets = installed.secrets(PLATFORM);
    let repaired = async |what: &str| {
        eventually(what, A_SECOND, async || {
            Ok((data(&installed, PLATFORM).await == good).then_some(()))
        })
        .await
        .unwrap();
    };
    merge(
        &secrets,
        names::BUNDLE,
        json!({"data": {layout::BUNDLE_FILE: "Z2FyYmFnZQ=="}}),
    )
    .await;
    repaired("an edited bundle is repaired").await;
    merge(
        &secrets,
        names::BUNDLE,
        json!({"data": {"added": "Z2FyYmFnZQ=="}}),
    )
    .await;
    repaired("a key that is not ours is taken out of the bundle").await;
    merge(
        &secrets,
        names::BUNDLE,
        json!({"metadata": {"labels": null}, "data": {"splunk_token": null}}),
    )
    .await;
    repaired("a bundle without its label and a credential is repaired").await;
    secrets
        .delete(names::BUNDLE, &DeleteParams::default())
        .await
        .unwrap();
    repaired("a deleted bundle is written again").await;

    let policies = admission_policies(&installed);
    let name = names::ADMISSION_POLICIES[0];
    let spec = policies.get(name).await.unwrap().spec;
    let patch =
        Patch::Merge(json!({"metadata": {"labels": null}, "spec": {"failurePolicy": "Fail"}}));
    policies
        .patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
    eventually(
        "an edited admission policy is repaired",
        A_SECOND,
        async || Ok((policies.get(name).await?.spec == spec).then_some(())),
    )
    .await
    .unwrap();
    policies
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
    eventually(
        "a deleted admission policy is written again",
        A_SECOND,
        async || {
            let policy = policies.get_opt(name).await?;
            Ok(policy.filter(|policy| policy.spec == spec))
        },
    )
    .await
    .unwrap();
    let bindings = admission_bindings(&installed);
    bindings
        .delete(names::ADMISSION_BINDING, &DeleteParams::default())
        .await
        .unwrap();
    eventually("a deleted binding is written again", A_SECOND, async || {
        Ok(bindings.get_opt(names::ADMISSION_BINDING).await?)
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let installed = installed().await;
    let theirs: Secret = serde_json::from_value(json!({
        "metadata": {"name": names::BUNDLE}, "stringData": {"mine": "precious"},
    }))
    .unwrap();
    installed
        .secrets(COMPUTE)
        .create(&PostParams::default(), &theirs)
        .await
        .unwrap();
    installed
        .cluster
        .kubectl(&[
            "label",
            "namespace",
            PLATFORM,
            "pod-security.kubernetes.io/enforce=baseline",
        ])
        .await
        .unwrap()
        .ok()
        .unwrap();
    let _operator = with_policy(&installed).await;
    let status = installed.ready("logs", "False", "NameTaken").await.unwrap();
    assert!(condition(&status, "Stalled").is_some());
    let injected = condition(&status, "Injected").unwrap();
    assert_eq!(injected.reason, "Unsupported");
    assert_eq!(data(&installed, COMPUTE).await["mine"].0, b"precious");
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), PLATFORM);
    let created = pods
        .create(&PostParams::default(), &pod("p", "web"))
        .await
        .unwrap();
    assert!(init_containers(&created).is_empty());
    installed.delete("logs").await.unwrap();
    eventually("the policy's own objects are gone", SOON, async || {
        let policies = admission_policies(&installed)
            .list(&ListParams::default())
            .await?
            .items;
        Ok(policies.is_empty().then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(data(&installed, COMPUTE).await["mine"].0, b"precious");
}
