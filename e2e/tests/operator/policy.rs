//! Policies: put in force, taken out, and kept from harming each other.

use k8s_openapi::api::coordination::v1::Lease;
use katonic_log_config::layout;
use katonic_logging_core::names;
use katonic_logging_crds::Plane;
use katonic_logging_e2e::{
    eventually::eventually,
    operator::{COMPUTE, Operator, PLATFORM, SOON, condition, splunk_policy},
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{ENDPOINT, admission_bindings, admission_policies, data, in_force, installed};

#[tokio::test]
async fn a_policy_is_put_in_force_and_leaves_nothing_behind() {
    let installed = installed().await;
    let operator = in_force(&installed).await;
    for namespace in [PLATFORM, COMPUTE] {
        let bundle = installed.bundle(namespace).await.unwrap().unwrap();
        assert_eq!(bundle.policies.len(), 1);
        let data = data(&installed, namespace).await;
        assert_eq!(
            data.keys().collect::<Vec<_>>(),
            [layout::BUNDLE_FILE, "splunk_token"]
        );
        assert_eq!(data["splunk_token"].0, b"abc");
    }
    let line = installed
        .cluster
        .kubectl(&["get", "lp", "--no-headers"])
        .await
        .unwrap()
        .ok()
        .unwrap();
    let columns: Vec<&str> = line.split_whitespace().take(8).collect();
    assert_eq!(
        columns,
        [
            "logs",
            "Platform,Compute",
            "Application",
            "1",
            "30d",
            "0/0",
            "True",
            "InForce"
        ]
    );
    installed.delete("logs").await.unwrap();
    eventually("nothing of ours remains", SOON, async || {
        let bundles = installed.bundle_secret(PLATFORM).await?.is_none()
            && installed.bundle_secret(COMPUTE).await?.is_none();
        let policies = admission_policies(&installed)
            .list(&ListParams::default())
            .await?
            .items;
        let bindings = admission_bindings(&installed)
            .list(&ListParams::default())
            .await?
            .items;
        Ok((bundles && policies.is_empty() && bindings.is_empty()).then_some(()))
    })
    .await
    .unwrap();
    assert!(operator.terminate().await.unwrap());
    let leases: Api<Lease> = Api::namespaced(installed.client.clone(), names::OPERATOR_NAMESPACE);
    let holder = leases
        .get(names::LEASE)
        .await
        .unwrap()
        .spec
        .unwrap()
        .holder_identity;
    assert!(
        holder.is_none_or(|holder| holder.is_empty()),
        "the lease is given back"
    );
}

#[tokio::test]
async fn one_broken_policy_of_a_hundred_changes_no_byte_of_the_others() {
    let installed = installed().await;
    let _operator = Operator::start(&installed.cluster, "one").await.unwrap();
    installed
        .sink_secret("splunk", "token", "abc")
        .await
        .unwrap();
    for number in 0..99 {
        installed
            .create(&splunk_policy(&format!("p{number:02}"), ENDPOINT, "splunk"))
            .await
            .unwrap();
    }
    for number in 0..99 {
        installed
            .ready(&format!("p{number:02}"), "True", "InForce")
            .await
            .unwrap();
    }
    let before = data(&installed, COMPUTE).await;
    installed
        .create(&splunk_policy("broken", ENDPOINT, "nowhere"))
        .await
        .unwrap();
    installed
        .ready("broken", "False", "SecretMissing")
        .await
        .unwrap();
    assert_eq!(data(&installed, COMPUTE).await, before);
    for number in 0..99 {
        installed
            .ready(&format!("p{number:02}"), "True", "InForce")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_pattern_that_does_not_compile_is_told_and_what_was_in_force_stays() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    let filters = async |filters: Value| {
        let patch = Patch::Merge(json!({"spec": {"filters": filters}}));
        let policies = installed.policies();
        policies
            .patch("logs", &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    let told = async |wanted: usize| {
        eventually("the agents are told the filters", SOON, async || {
            let bundle = installed.bundle(PLATFORM).await?;
            let told = bundle.is_some_and(|bundle| bundle.policies[0].filters.len() == wanted);
            Ok(told.then_some(()))
        })
        .await
        .unwrap();
    };
    filters(json!([{"drop": {"pattern": "GET /healthz"}}])).await;
    told(1).await;
    installed.ready("logs", "True", "InForce").await.unwrap();
    let good = data(&installed, PLATFORM).await;

    filters(json!([{"drop": {"pattern": "GET /healthz"}}, {"keep": {"pattern": "(?!DEBUG)"}}]))
        .await;
    let status = installed.ready("logs", "False", "Invalid").await.unwrap();
    let accepted = condition(&status, "Accepted").unwrap();
    let words = "spec.filters[1].keep.pattern: not a usable regular expression: look-around";
    assert!(accepted.message.contains(words), "{}", accepted.message);
    assert!(
        accepted
            .message
            .contains("what was in force before stays in force")
    );
    assert_eq!(data(&installed, PLATFORM).await, good);

    filters(json!([{"drop": {"pattern": "GET /healthz"}}, {"keep": {"pattern": "WARN|ERROR"}}]))
        .await;
    told(2).await;
    installed.ready("logs", "True", "InForce").await.unwrap();
}

#[tokio::test]
async fn a_suspended_policy_is_taken_out_and_put_back() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    let suspend = async |suspend: bool| {
        let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
        installed
            .policies()
            .patch("logs", &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    suspend(true).await;
    installed.ready("logs", "True", "Suspended").await.unwrap();
    assert!(installed.bundle(PLATFORM).await.unwrap().is_none());
    suspend(false).await;
    installed.ready("logs", "True", "InForce").await.unwrap();
    let policy = &installed.bundle(PLATFORM).await.unwrap().unwrap().policies[0];
    assert_eq!(policy.name, "logs");
}

#[tokio::test]
async fn selection_reaches_the_agents_as_it_is_written() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    let mut policy = splunk_policy("narrow", ENDPOINT, "splunk");
    policy.spec.planes = Some(vec![Plane::Compute]);
    policy.spec.components = Some(vec!["keycloak".into()]);
    installed.create(&policy).await.unwrap();
    installed.ready("narrow", "True", "InForce").await.unwrap();
    let names = |bundle: katonic_log_config::Bundle| -> Vec<String> {
        bundle
            .policies
            .into_iter()
            .map(|policy| policy.name)
            .collect()
    };
    assert_eq!(
        names(installed.bundle(COMPUTE).await.unwrap().unwrap()),
        ["logs", "narrow"]
    );
    assert_eq!(
        names(installed.bundle(PLATFORM).await.unwrap().unwrap()),
        ["logs"]
    );
}
