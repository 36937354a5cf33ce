//! The operator against a real API server, with its shipped manifests and the rights that they grant, and no others.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding},
        coordination::v1::Lease,
        core::v1::{ConfigMap, Pod, Secret},
        events::v1::Event,
    },
};
use katonic_log_config::layout;
use katonic_logging_core::names;
use katonic_logging_crds::Plane;
use katonic_logging_e2e::{
    cluster::{Cluster, Component, Options, Tier},
    eventually::eventually,
    operator::{COMPUTE, Installed, Operator, PLATFORM, SOON, condition, splunk_policy},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

const ENDPOINT: &str = "https://hec.example.com:8088";

/// What the issue of drift promises.
const A_SECOND: Duration = Duration::from_secs(1);

async fn installed() -> Installed {
    Installed::new(Cluster::start(Tier::ApiServer).await.unwrap())
        .await
        .unwrap()
}

/// An operator, and the policy `logs` with its Secret.
async fn with_policy(installed: &Installed) -> Operator {
    let operator = Operator::start(&installed.cluster, "one").await.unwrap();
    installed
        .sink_secret("splunk", "token", "abc")
        .await
        .unwrap();
    installed
        .create(&splunk_policy("logs", ENDPOINT, "splunk"))
        .await
        .unwrap();
    operator
}

/// A policy in force, its Secret and its operator.
async fn in_force(installed: &Installed) -> Operator {
    let operator = with_policy(installed).await;
    installed.ready("logs", "True", "InForce").await.unwrap();
    operator
}

fn admission_policies(installed: &Installed) -> Api<MutatingAdmissionPolicy> {
    Api::all(installed.client.clone())
}

fn admission_bindings(installed: &Installed) -> Api<MutatingAdmissionPolicyBinding> {
    Api::all(installed.client.clone())
}

async fn data(installed: &Installed, namespace: &str) -> BTreeMap<String, ByteString> {
    installed
        .bundle_secret(namespace)
        .await
        .unwrap()
        .and_then(|secret| secret.data)
        .unwrap_or_default()
}

async fn merge(secrets: &Api<Secret>, name: &str, patch: Value) {
    secrets
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

async fn install(installed: &Installed, yaml: &str) {
    let maps: Api<ConfigMap> = Api::namespaced(installed.client.clone(), names::OPERATOR_NAMESPACE);
    let patch = json!({"data": {names::INSTALLATION_KEY: yaml}});
    maps.patch(
        names::INSTALLATION,
        &PatchParams::default(),
        &Patch::Merge(patch),
    )
    .await
    .unwrap();
}

fn installation(platform: &str, compute: &str) -> String {
    format!(
        "namespaces: {{platform: {{name: {platform}}}, compute: {{name: {compute}}}}}\n\
         logging: {{agent: {{image: 'localhost/katonic-log-agent:0.1.0'}}}}\n"
    )
}

fn pod(name: &str, container: &str) -> Pod {
    let pod = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": container, "image": "localhost/none:v1"}]},
    });
    serde_json::from_value(pod).unwrap()
}

fn init_containers(pod: &Pod) -> Vec<&str> {
    let spec = pod.spec.as_ref().unwrap();
    spec.init_containers
        .iter()
        .flatten()
        .map(|container| container.name.as_str())
        .collect()
}

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
    let columns: Vec<&str> = line.split_whitespace().take(6).collect();
    assert_eq!(
        columns,
        ["logs", "Platform,Compute", "1", "0/0", "True", "InForce"]
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
async fn pods_created_from_then_on_get_the_agent_and_are_counted() {
    let installed = installed().await;
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), PLATFORM);
    pods.create(&PostParams::default(), &pod("before", "web"))
        .await
        .unwrap();
    let _operator = in_force_with_uncovered_pod(&installed).await;
    // The policy says no more than that the pod before lacks it: injection is in force, and no moment is waited for.
    let after = pods
        .create(&PostParams::default(), &pod("after", "web"))
        .await
        .unwrap();
    assert_eq!(init_containers(&after), [layout::CONTAINER]);
    let policies = installed.policies();
    eventually("one of two pods is covered", SOON, async || {
        let status = policies.get("logs").await?.status.unwrap_or_default();
        Ok(status
            .pods
            .is_some_and(|pods| pods.summary == "1/2")
            .then_some(()))
    })
    .await
    .unwrap();
    let mut quiet = pod("quiet", "web");
    quiet
        .labels_mut()
        .insert(names::INJECT_LABEL.into(), names::INJECT_NO.into());
    assert!(
        init_containers(&pods.create(&PostParams::default(), &quiet).await.unwrap()).is_empty()
    );
    pods.delete(
        "before",
        &DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        },
    )
    .await
    .unwrap();
    let status = installed.ready("logs", "True", "InForce").await.unwrap();
    assert_eq!(status.pods.unwrap().summary, "1/1");
}

async fn in_force_with_uncovered_pod(installed: &Installed) -> Operator {
    let operator = with_policy(installed).await;
    let status = installed
        .ready("logs", "False", "PodsWithoutAgent")
        .await
        .unwrap();
    let message = &condition(&status, "Injected").unwrap().message;
    assert!(
        message.contains("kubectl -n katonic-platform rollout restart deployment"),
        "{message}"
    );
    operator
}

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
    let spec = policies.get(names::ADMISSION).await.unwrap().spec;
    let patch =
        Patch::Merge(json!({"metadata": {"labels": null}, "spec": {"failurePolicy": "Fail"}}));
    policies
        .patch(names::ADMISSION, &PatchParams::default(), &patch)
        .await
        .unwrap();
    eventually(
        "an edited admission policy is repaired",
        A_SECOND,
        async || Ok((policies.get(names::ADMISSION).await?.spec == spec).then_some(())),
    )
    .await
    .unwrap();
    let bindings = admission_bindings(&installed);
    bindings
        .delete(names::ADMISSION, &DeleteParams::default())
        .await
        .unwrap();
    eventually("a deleted binding is written again", A_SECOND, async || {
        Ok(bindings.get_opt(names::ADMISSION).await?)
    })
    .await
    .unwrap();
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
            .get_opt(names::ADMISSION)
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
        .get(names::ADMISSION)
        .await
        .unwrap();
    let binding = serde_json::to_string(&binding.spec).unwrap();
    assert!(
        binding.contains("\"late\"") && !binding.contains(COMPUTE),
        "{binding}"
    );
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
    assert_eq!(injected.reason, "PodSecurity");
    assert_eq!(data(&installed, COMPUTE).await["mine"].0, b"precious");
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), PLATFORM);
    let created = pods
        .create(&PostParams::default(), &pod("p", "web"))
        .await
        .unwrap();
    assert!(init_containers(&created).is_empty());
    installed.delete("logs").await.unwrap();
    eventually("the policy's own objects are gone", SOON, async || {
        Ok(admission_policies(&installed)
            .get_opt(names::ADMISSION)
            .await?
            .is_none()
            .then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(data(&installed, COMPUTE).await["mine"].0, b"precious");
}

#[tokio::test]
async fn an_operator_killed_at_any_moment_leaves_the_next_one_a_consistent_world() {
    let installed = installed().await;
    installed
        .sink_secret("splunk", "token", "abc")
        .await
        .unwrap();
    for round in 0..5 {
        let operator = Operator::start(&installed.cluster, "one").await.unwrap();
        for number in 0..10 {
            let name = format!("p{round}{number}");
            installed
                .create(&splunk_policy(&name, ENDPOINT, "splunk"))
                .await
                .unwrap();
        }
        // It is in the middle of these ten: the first has been seen, and the kill is not aligned to any write.
        installed
            .ready(&format!("p{round}0"), "True", "InForce")
            .await
            .unwrap();
        operator.kill().await.unwrap();
    }
    let operator = Operator::start(&installed.cluster, "one").await.unwrap();
    for round in 0..5 {
        for number in 0..10 {
            installed
                .ready(&format!("p{round}{number}"), "True", "InForce")
                .await
                .unwrap();
        }
    }
    for namespace in [PLATFORM, COMPUTE] {
        assert_eq!(
            installed
                .bundle(namespace)
                .await
                .unwrap()
                .unwrap()
                .policies
                .len(),
            50
        );
    }
    // The next one finds nothing to do: not a byte is written again.
    let version = |secret: Option<Secret>| secret.and_then(|secret| secret.resource_version());
    let before = version(installed.bundle_secret(PLATFORM).await.unwrap());
    operator.kill().await.unwrap();
    let operator = Operator::start(&installed.cluster, "one").await.unwrap();
    eventually("it has reconciled", SOON, async || {
        let (_, metrics) = operator.get("/metrics").await?;
        Ok(metrics
            .contains("reconciles_total{outcome=\"success\"}")
            .then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(
        version(installed.bundle_secret(PLATFORM).await.unwrap()),
        before
    );
}

#[tokio::test]
async fn of_two_operators_one_works_and_the_other_takes_over() {
    let installed = installed().await;
    let first = in_force(&installed).await;
    let second = Operator::start(&installed.cluster, "two").await.unwrap();
    let leads = async |operator: &Operator, expected: u8| {
        eventually(
            format!("leader is {expected}"),
            Duration::from_secs(30),
            async || {
                let (_, metrics) = operator.get("/metrics").await?;
                Ok(metrics
                    .contains(&format!("katonic_logging_leader {expected}\n"))
                    .then_some(()))
            },
        )
        .await
        .unwrap();
    };
    leads(&first, 1).await;
    eventually("the second is ready to take over", SOON, async || {
        Ok((second.get("/readyz").await?.0 == 200).then_some(()))
    })
    .await
    .unwrap();
    leads(&second, 0).await;
    assert!(first.terminate().await.unwrap());
    leads(&second, 1).await;
    installed
        .create(&splunk_policy("next", ENDPOINT, "splunk"))
        .await
        .unwrap();
    installed.ready("next", "True", "InForce").await.unwrap();
    assert_eq!(second.get("/healthz").await.unwrap().0, 200);
}

#[tokio::test]
async fn an_api_server_that_goes_away_and_comes_back_is_no_end() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    installed
        .cluster
        .stop_component(Component::ApiServer)
        .unwrap();
    installed
        .cluster
        .start_component(Component::ApiServer)
        .await
        .unwrap();
    installed
        .create(&splunk_policy("later", ENDPOINT, "splunk"))
        .await
        .unwrap();
    installed.ready("later", "True", "InForce").await.unwrap();
}

#[tokio::test]
async fn the_operator_asks_for_nothing_that_its_rules_refuse_and_an_idle_one_writes_nothing() {
    let options = Options {
        audit_log: true,
        ..Options::default()
    };
    let cluster = Cluster::start_with(Tier::ApiServer, options).await.unwrap();
    let installed = Installed::new(cluster).await.unwrap();
    let operator = in_force(&installed).await;
    installed
        .sink_secret("splunk", "token", "rotated")
        .await
        .unwrap();
    eventually("the new credential is written", SOON, async || {
        Ok((data(&installed, PLATFORM).await["splunk_token"].0 == b"rotated").then_some(()))
    })
    .await
    .unwrap();
    installed.ready("logs", "True", "InForce").await.unwrap();
    let requests = |since: usize| -> Vec<Value> {
        let log = std::fs::read_to_string(installed.cluster.audit_log().unwrap()).unwrap();
        log.lines()
            .skip(since)
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|entry| {
                entry["user"]["username"] == "system:serviceaccount:katonic-logging:katonic-logging"
            })
            .filter(|entry| entry["stage"] == "ResponseComplete")
            .collect()
    };
    let writes = |since: usize| -> Vec<Value> {
        let read = ["get", "list", "watch"].map(Value::from);
        requests(since)
            .into_iter()
            .filter(|entry| {
                !read.contains(&entry["verb"]) && entry["objectRef"]["resource"] != "leases"
            })
            .collect()
    };
    let refused: Vec<Value> = requests(0)
        .into_iter()
        .filter(|entry| entry["responseStatus"]["code"] == 403)
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(!writes(0).is_empty(), "the audit log was read");
    // Idle from here on: the lease is renewed twice, so time has passed, and nothing else is written.
    let leases: Api<Lease> = Api::namespaced(installed.client.clone(), names::OPERATOR_NAMESPACE);
    let renewed = async || {
        leases
            .get(names::LEASE)
            .await
            .map(|lease| lease.spec.and_then(|spec| spec.renew_time))
    };
    let settled = std::fs::read_to_string(installed.cluster.audit_log().unwrap())
        .unwrap()
        .lines()
        .count();
    for _ in 0..2 {
        let last = renewed().await.unwrap();
        eventually(
            "the lease is renewed",
            Duration::from_secs(40),
            async || Ok((renewed().await? != last).then_some(())),
        )
        .await
        .unwrap();
    }
    assert_eq!(writes(settled), Vec::<Value>::new());
    let (_, metrics) = operator.get("/metrics").await.unwrap();
    assert!(
        metrics.contains(r#"katonic_logging_writes_total{kind="Secret",outcome="success"}"#),
        "{metrics}"
    );
    assert!(!metrics.contains("rotated") && !operator.log().unwrap().contains("rotated"));
}

#[tokio::test]
async fn the_operator_may_try_a_pod_and_never_create_one() {
    let installed = installed().await;
    let operator = installed
        .cluster
        .client_for(names::OPERATOR_NAMESPACE, "katonic-logging")
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(operator, PLATFORM);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    pods.create(&dry_run, &pod("trial", "web")).await.unwrap();
    eventually("the API server has the policy", SOON, async || {
        let refused = pods
            .create(&PostParams::default(), &pod("real", "web"))
            .await;
        if refused.is_ok() {
            // Before the API server has taken the policy up; the test is about what follows.
            let grace = DeleteParams::default().grace_period(0);
            let pods: Api<Pod> = Api::namespaced(installed.client.clone(), PLATFORM);
            pods.delete("real", &grace).await?;
        }
        let message = refused.err().map(|error| error.to_string());
        Ok(message.filter(|message| message.contains("in dry runs only")))
    })
    .await
    .unwrap();
    pods.create(&dry_run, &pod("trial", "web")).await.unwrap();
}

#[tokio::test]
async fn a_namespace_that_refuses_the_agent_is_told_in_the_servers_words() {
    let installed = installed().await;
    let quota = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "big-containers", "namespace": COMPUTE},
        "spec": {"limits": [{"type": "Container", "min": {"memory": "1Gi"}}]},
    });
    let apply = ["apply", "-f", "-"];
    installed
        .cluster
        .kubectl_with(&apply, &quota.to_string())
        .await
        .unwrap()
        .ok()
        .unwrap();
    let _operator = with_policy(&installed).await;
    let status = installed
        .ready("logs", "False", "PodsRefused")
        .await
        .unwrap();
    let message = &condition(&status, "Stalled").unwrap().message;
    // Nobody is kept out because of us: a pod that satisfies the limit gets in, without the agent.
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), COMPUTE);
    let mut large = serde_json::to_value(pod("large", "web")).unwrap();
    large["spec"]["containers"][0]["resources"] =
        json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}});
    let large = serde_json::from_value(large).unwrap();
    let created = pods.create(&PostParams::default(), &large).await.unwrap();
    assert!(init_containers(&created).is_empty());
    pods.delete("large", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    assert!(
        message.contains("minimum memory usage per Container is 1Gi"),
        "{message}"
    );
    installed
        .cluster
        .kubectl(&["delete", "limitrange", "-n", COMPUTE, "big-containers"])
        .await
        .unwrap()
        .ok()
        .unwrap();
    installed.ready("logs", "True", "InForce").await.unwrap();
}
