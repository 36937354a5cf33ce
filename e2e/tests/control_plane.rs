//! The harness without a node: the API server serves, refuses and records; a restart of it goes unnoticed afterwards.

use std::{fs, path::Path, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Pod, Secret},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use katonic_logging_e2e::{
    cluster::{Cluster, Component, Options, Tier},
    eventually::eventually,
    images,
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};

const WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_pod_can_be_created_in_a_new_namespace() {
    let cluster = Cluster::start(Tier::ApiServer).await.unwrap();
    cluster.namespace("compute").await.unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client().await.unwrap(), "compute");
    let pod: Pod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "first"},
        "spec": {"containers": [{"name": "main", "image": images::WORKLOAD}]},
    }))
    .unwrap();
    let created = pods.create(&PostParams::default(), &pod).await.unwrap();
    // The default admission plugins are on: ServiceAccount has added its token.
    assert_eq!(
        created.spec.unwrap().service_account_name.as_deref(),
        Some("default")
    );
}

#[tokio::test]
async fn kubectl_reads_manifests_and_reports_what_the_server_refuses() {
    let cluster = Cluster::start(Tier::ApiServer).await.unwrap();
    let manifest =
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {key: value}}";
    let applied = cluster
        .kubectl_with(&["apply", "-f", "-"], manifest)
        .await
        .unwrap()
        .ok()
        .unwrap();
    assert_eq!(applied.trim(), "configmap/settings created");
    let refused = manifest.replace("settings", "Not_A_Name");
    let refused = cluster
        .kubectl_with(&["apply", "-f", "-"], &refused)
        .await
        .unwrap();
    assert!(!refused.success);
    assert!(refused.stderr.contains("Not_A_Name"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_service_account_may_do_only_what_its_rules_grant_and_the_audit_log_has_both() {
    let options = Options {
        audit_log: true,
        ..Options::default()
    };
    let cluster = Cluster::start_with(Tier::ApiServer, options).await.unwrap();
    cluster.namespace("platform").await.unwrap();
    let allow = "create role reader --verb=list --resource=pods -n platform";
    let bind =
        "create rolebinding reader --role=reader --serviceaccount=platform:default -n platform";
    for command in [allow, bind] {
        let arguments: Vec<&str> = command.split(' ').collect();
        cluster.kubectl(&arguments).await.unwrap().ok().unwrap();
    }
    let client = cluster.client_for("platform", "default").await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "platform");
    // The authorizer learns of new rules by a watch of its own.
    eventually("the rule is in force", WITHIN, async || {
        Ok(Some(pods.list(&ListParams::default()).await?))
    })
    .await
    .unwrap();
    let secrets: Api<Secret> = Api::namespaced(client, "platform");
    let refused = secrets.list(&ListParams::default()).await.unwrap_err();
    assert!(
        matches!(&refused, kube::Error::Api(status) if status.code == 403),
        "{refused}"
    );

    let log = fs::read_to_string(cluster.audit_log().unwrap()).unwrap();
    let decisions: Vec<(String, String)> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|event| event["user"]["username"] == "system:serviceaccount:platform:default")
        .map(|event| {
            let decision = &event["annotations"]["authorization.k8s.io/decision"];
            (
                event["objectRef"]["resource"].to_string(),
                decision.to_string(),
            )
        })
        .collect();
    assert!(
        decisions.contains(&("\"pods\"".to_owned(), "\"allow\"".to_owned())),
        "{decisions:?}"
    );
    assert!(
        decisions.contains(&("\"secrets\"".to_owned(), "\"forbid\"".to_owned())),
        "{decisions:?}"
    );
}

#[tokio::test]
async fn objects_survive_a_kill_of_the_api_server_and_of_its_store() {
    let cluster = Cluster::start(Tier::ApiServer).await.unwrap();
    cluster.namespace("lasting").await.unwrap();
    for component in [Component::ApiServer, Component::Etcd] {
        cluster.stop_component(component).unwrap();
        assert!(
            cluster.stop_component(component).is_err(),
            "it must be gone by now"
        );
        if component == Component::ApiServer {
            assert!(
                !cluster
                    .kubectl(&["get", "namespaces"])
                    .await
                    .unwrap()
                    .success
            );
        }
        cluster.start_component(component).await.unwrap();
    }
    let found = eventually("the API server has its store back", WITHIN, async || {
        Ok(Some(
            cluster
                .kubectl(&["get", "namespace", "lasting", "-o", "name"])
                .await?
                .ok()?,
        ))
    });
    assert_eq!(found.await.unwrap().trim(), "namespace/lasting");
}

#[tokio::test]
async fn the_controllers_make_pods_of_a_deployment() {
    let cluster = Cluster::start(Tier::Controllers).await.unwrap();
    cluster.namespace("platform").await.unwrap();
    let client = cluster.client().await.unwrap();
    let deployment: Deployment = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "frontend"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "frontend"}},
            "template": {
                "metadata": {"labels": {"app": "frontend"}},
                "spec": {"containers": [{"name": "main", "image": images::WORKLOAD}]},
            },
        },
    }))
    .unwrap();
    Api::<Deployment>::namespaced(client.clone(), "platform")
        .create(&PostParams::default(), &deployment)
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(client, "platform");
    eventually(
        "two pods are made, and the scheduler says that there is no node",
        WITHIN,
        async || {
            let pods = pods
                .list(&ListParams::default().labels("app=frontend"))
                .await?
                .items;
            let unschedulable = pods.iter().filter(|pod| {
                let conditions = pod
                    .status
                    .as_ref()
                    .and_then(|status| status.conditions.as_ref());
                conditions
                    .into_iter()
                    .flatten()
                    .any(|condition| condition.reason.as_deref() == Some("Unschedulable"))
            });
            Ok((unschedulable.count() == 2).then_some(()))
        },
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn two_clusters_side_by_side_know_nothing_of_each_other() {
    let (first, second) = tokio::join!(
        Cluster::start(Tier::ApiServer),
        Cluster::start(Tier::ApiServer)
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some("mine".to_owned()),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    };
    let of = async |cluster: &Cluster| {
        Api::<Secret>::namespaced(cluster.client().await.unwrap(), "default")
    };
    of(&first)
        .await
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    assert!(of(&first).await.get_opt("mine").await.unwrap().is_some());
    assert!(of(&second).await.get_opt("mine").await.unwrap().is_none());
}

#[tokio::test]
async fn a_given_cluster_is_used_but_its_node_and_components_are_left_alone() {
    let running = Cluster::start(Tier::Controllers).await.unwrap();
    let given = Cluster::given(running.kubeconfig().to_owned())
        .await
        .unwrap();
    given.namespace("compute").await.unwrap();
    let found = given
        .kubectl(&["get", "namespace", "compute", "-o", "name"])
        .await
        .unwrap();
    assert_eq!(found.ok().unwrap().trim(), "namespace/compute");
    let account = given.client_for("compute", "default").await.unwrap();
    assert!(
        Api::<Pod>::all(account)
            .list(&ListParams::default())
            .await
            .is_err()
    );

    for refused in [
        given.stop_component(Component::ApiServer),
        given.load_image(Path::new("image.tar")).await,
        given.pod_logs("compute", "pod", "uid").map(|_| ()),
        given.audit_log().map(|_| ()),
    ] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("KATONIC_E2E_KUBECONFIG"), "{error}");
    }
    drop(given);
    assert!(
        running
            .kubectl(&["get", "namespaces"])
            .await
            .unwrap()
            .success
    );
}
