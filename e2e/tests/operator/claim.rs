//! A second installation in the same cluster: it says that it does nothing, and touches nothing of the first.

use std::time::Duration;

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Namespace, ServiceAccount},
    events::v1::Event,
    rbac::v1::{ClusterRoleBinding, Role, RoleBinding},
};
use katonic_logging_core::names;
use katonic_logging_e2e::{
    cluster::{Options, Tier},
    eventually::eventually,
    operator::{COMPUTE, Installed, Operator, PLATFORM, SOON, splunk_policy},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use serde_json::{Value, json};

use crate::{
    ENDPOINT, admission_bindings, admission_policies, in_force, installation, installed, pod,
};

/// Where the second installation is.
const SECOND: &str = "katonic-two";

/// How long a namespace may take to go.
const A_WHILE: Duration = Duration::from_mins(1);

async fn create<K>(api: &Api<K>, object: Value)
where
    K: Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

fn namespaced<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(
    client: &Client,
    namespace: &str,
) -> Api<K> {
    Api::namespaced(client.clone(), namespace)
}

/// Installs the operator once more, under names of its own where the cluster has them in common, and with all rights.
async fn install_second(installed: &Installed, yaml: &str) {
    let client = &installed.client;
    installed.cluster.namespace(SECOND).await.unwrap();
    create::<ServiceAccount>(
        &namespaced(client, SECOND),
        json!({"metadata": {"name": "katonic-logging"}}),
    )
    .await;
    create::<ConfigMap>(
        &namespaced(client, SECOND),
        json!({"metadata": {"name": names::INSTALLATION}, "data": {names::INSTALLATION_KEY: yaml}}),
    )
    .await;
    let subjects =
        json!([{"kind": "ServiceAccount", "name": "katonic-logging", "namespace": SECOND}]);
    let reference = |kind: &str, name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
    let own: Role = namespaced::<Role>(client, names::OPERATOR_NAMESPACE)
        .get("katonic-logging")
        .await
        .unwrap();
    let own = Role {
        metadata: ObjectMeta {
            name: Some("katonic-logging".into()),
            ..ObjectMeta::default()
        },
        ..own
    };
    namespaced::<Role>(client, SECOND)
        .create(&PostParams::default(), &own)
        .await
        .unwrap();
    for (namespace, role) in [
        (SECOND, "katonic-logging"),
        ("default", "katonic-logging-cluster"),
        (PLATFORM, "katonic-logging"),
        (COMPUTE, "katonic-logging"),
    ] {
        create::<RoleBinding>(
            &namespaced(client, namespace),
            json!({
                "metadata": {"name": "second"}, "roleRef": reference("Role", role), "subjects": subjects,
            }),
        )
        .await;
    }
    create::<ClusterRoleBinding>(
        &Api::all(client.clone()),
        json!({
            "metadata": {"name": "second"},
            "roleRef": reference("ClusterRole", "katonic-logging"), "subjects": subjects,
        }),
    )
    .await;
}

async fn is_ready(operator: &Operator, within: Duration) {
    eventually("the operator is ready", within, async || {
        let (code, body) = operator.get("/readyz").await?;
        anyhow::ensure!(code == 200, "{body}");
        Ok(Some(()))
    })
    .await
    .unwrap();
}

/// Waits until the operator says that it does nothing because of the one in this namespace.
async fn is_refused(operator: &Operator, holder: &str) {
    let words = format!("the operator in namespace {holder} works in this cluster already");
    eventually(
        "the operator is not ready, and says why",
        SOON,
        async || {
            let (code, body) = operator.get("/readyz").await?;
            anyhow::ensure!(code == 503 && body.contains(&words), "{code}: {body}");
            Ok(Some(()))
        },
    )
    .await
    .unwrap();
    assert!(operator.log().unwrap().contains(&words));
}

/// Versions of everything that the first installation has written.
async fn versions(installed: &Installed) -> Vec<(String, Option<String>)> {
    let all = ListParams::default();
    let mut versions = Vec::new();
    let mut add = |name: String, version| versions.push((name, version));
    for policy in admission_policies(installed).list(&all).await.unwrap() {
        add(policy.name_any(), policy.resource_version());
    }
    for binding in admission_bindings(installed).list(&all).await.unwrap() {
        add(binding.name_any(), binding.resource_version());
    }
    for policy in installed.policies().list(&all).await.unwrap() {
        add(policy.name_any(), policy.resource_version());
    }
    for namespace in [PLATFORM, COMPUTE] {
        let bundle = installed.bundle_secret(namespace).await.unwrap().unwrap();
        add(namespace.to_owned(), bundle.resource_version());
    }
    versions
}

#[tokio::test]
async fn a_second_installation_says_that_it_does_nothing_and_does_nothing() {
    let installed = installed().await;
    let first = in_force(&installed).await;
    eventually("the first has ended what it began", A_WHILE, async || {
        let policies = admission_policies(&installed);
        Ok((policies.list(&ListParams::default()).await?.items.len() == 1).then_some(()))
    })
    .await
    .unwrap();
    install_second(&installed, &installation("other-platform", COMPUTE)).await;
    let before = versions(&installed).await;
    let second = Operator::start_in(&installed.cluster, SECOND, "two")
        .await
        .unwrap();
    is_refused(&second, names::OPERATOR_NAMESPACE).await;
    eventually("an Event says so", SOON, async || {
        let events: Api<Event> = namespaced(&installed.client, SECOND);
        let events = events.list(&ListParams::default()).await?.items;
        let told = events.iter().any(|event| {
            let note = event.note.as_deref().unwrap_or_default();
            event.reason.as_deref() == Some("AnotherInstallation")
                && note.contains("remove one of them, with its namespace")
        });
        Ok(told.then_some(()))
    })
    .await
    .unwrap();
    is_ready(&first, SOON).await;
    assert_eq!(versions(&installed).await, before);
    // What was asked of the first is still done by the first.
    installed
        .create(&splunk_policy("next", ENDPOINT, "splunk"))
        .await
        .unwrap();
    installed.ready("next", "True", "InForce").await.unwrap();

    // While the first is down for a while, it is still the one.
    first.kill().await.unwrap();
    let before = versions(&installed).await;
    let second_anew = Operator::start_in(&installed.cluster, SECOND, "two")
        .await
        .unwrap();
    is_refused(&second_anew, names::OPERATOR_NAMESPACE).await;
    is_refused(&second, names::OPERATOR_NAMESPACE).await;
    assert_eq!(versions(&installed).await, before);
    let first = Operator::start(&installed.cluster, "one").await.unwrap();
    is_ready(&first, A_WHILE).await;

    // Nobody but an operator says who has it, whatever else he may do.
    let claims: Api<Lease> = namespaced(&installed.client, names::CLAIM_NAMESPACE);
    let theft = json!({"spec": {"holderIdentity": "kube-system"}});
    let stolen = claims
        .patch(names::CLAIM, &PatchParams::default(), &Patch::Merge(theft))
        .await
        .unwrap_err()
        .to_string();
    assert!(stolen.contains("only its operator writes it"), "{stolen}");

    // A claim that somebody deletes is taken again by the one that works.
    claims
        .delete(names::CLAIM, &DeleteParams::default())
        .await
        .unwrap();
    eventually("the claim is there again", SOON, async || {
        let claim = claims.get_opt(names::CLAIM).await?;
        let holder = claim.and_then(|claim| claim.spec?.holder_identity);
        Ok((holder.as_deref() == Some(names::OPERATOR_NAMESPACE)).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn of_two_installations_that_start_at_once_one_works() {
    let installed = installed().await;
    install_second(&installed, &installation(PLATFORM, COMPUTE)).await;
    let (first, second) = tokio::join!(
        Operator::start(&installed.cluster, "one"),
        Operator::start_in(&installed.cluster, SECOND, "two")
    );
    let operators = [
        (names::OPERATOR_NAMESPACE, first.unwrap()),
        (SECOND, second.unwrap()),
    ];
    let claims: Api<Lease> = namespaced(&installed.client, names::CLAIM_NAMESPACE);
    let holder = eventually("one has the claim", A_WHILE, async || {
        let claim = claims.get_opt(names::CLAIM).await?;
        Ok(claim.and_then(|claim| claim.spec?.holder_identity))
    })
    .await
    .unwrap();
    for (namespace, operator) in &operators {
        if *namespace == holder {
            is_ready(operator, A_WHILE).await;
        } else {
            is_refused(operator, &holder).await;
        }
    }
}

#[tokio::test]
async fn the_second_installation_takes_over_when_the_first_is_uninstalled() {
    let installed = Installed::start(Tier::Controllers, Options::default())
        .await
        .unwrap();
    let first = in_force(&installed).await;
    install_second(&installed, &installation(PLATFORM, COMPUTE)).await;
    let secret = json!({"metadata": {"name": "splunk"}, "stringData": {"token": "second"}});
    create(&installed.secrets(SECOND), secret).await;
    let second = Operator::start_in(&installed.cluster, SECOND, "two")
        .await
        .unwrap();
    is_refused(&second, names::OPERATOR_NAMESPACE).await;
    first.kill().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(installed.client.clone());
    namespaces
        .delete(names::OPERATOR_NAMESPACE, &DeleteParams::default())
        .await
        .unwrap();
    is_ready(&second, A_WHILE).await;
    eventually(
        "the second puts its own credential in force",
        A_WHILE,
        async || {
            let bundle = installed.bundle_secret(PLATFORM).await?;
            let data = bundle.and_then(|bundle| bundle.data).unwrap_or_default();
            let token = data.get("splunk_token");
            Ok(token
                .is_some_and(|token| token.0 == b"second")
                .then_some(()))
        },
    )
    .await
    .unwrap();
    installed.ready("logs", "True", "InForce").await.unwrap();
    let pods = namespaced(&installed.client, PLATFORM);
    let created = pods
        .create(&PostParams::default(), &pod("p", "web"))
        .await
        .unwrap();
    assert!(!crate::init_containers(&created).is_empty());
}
