//! Every kind of owner on a real node: what ran before the policy follows it, and its lines arrive.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use katonic_logging_e2e::{
    cluster::{Cluster, Tier},
    eventually::eventually,
    images::{self, Image},
    operator::{Installed, PLATFORM},
    receiver::{Protocol, Receiver, Record, Tally, splunk::Rules},
};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{automatic, get, has_agent, pods_of, restarted_at, uid};

/// Three restarts, one after the other, of pods that take their time to end.
const WITHIN: Duration = Duration::from_mins(4);

const TOKEN: &str = "11111111-2222-3333-4444-555555555555";

/// How many lines a pod writes and then stays.
const LINES: usize = 500;

fn template(app: &str, restart_policy: &str) -> Value {
    let lines = LINES.to_string();
    let container = json!({"name": "main", "image": images::WORKLOAD, "args": ["workspace", lines, "--rate", "1000"]});
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {
            "restartPolicy": restart_policy,
            "terminationGracePeriodSeconds": 3,
            "containers": [container],
        },
    })
}

fn owner(api_version: &str, kind: &str, app: &str, more: &Value) -> Value {
    let mut spec = json!({
        "selector": {"matchLabels": {"app": app}},
        "template": template(app, "Always"),
    });
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": app}, "spec": spec})
}

/// The operator as a pod from its image, a sink that counts, and a pod of every kind of owner without the agent.
struct World {
    installed: Installed,
    receiver: Receiver,
    before: Vec<Pod>,
}

async fn world() -> Option<World> {
    let cluster = Cluster::start_or_skip(Tier::Node).await.unwrap()?;
    for image in [Image::Operator, Image::Agent] {
        let archive = tokio::task::spawn_blocking(move || image.build())
            .await
            .unwrap()
            .unwrap();
        cluster.load_image(&archive).await.unwrap();
    }
    let address = cluster.receiver_address().unwrap();
    let rules = Protocol::Splunk(Rules::with_token(TOKEN));
    let receiver = cluster
        .inside(Receiver::start((address, 8088).into(), rules))
        .await
        .unwrap()
        .unwrap();
    let installed = Installed::new(cluster).await.unwrap();
    installed
        .sink_secret("splunk", "token", TOKEN)
        .await
        .unwrap();
    let before = create(&installed).await;
    Some(World {
        installed,
        receiver,
        before,
    })
}

/// Makes every kind of owner, and waits until their pods run.
async fn create(installed: &Installed) -> Vec<Pod> {
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "import"},
        "spec": {"template": template("import", "Never")},
    });
    let mut bare = template("bare", "Always");
    bare["apiVersion"] = "v1".into();
    bare["kind"] = "Pod".into();
    bare["metadata"]["name"] = "bare".into();
    for object in [
        owner("apps/v1", "Deployment", "web", &json!({"replicas": 2})),
        owner("apps/v1", "StatefulSet", "db", &json!({"replicas": 1})),
        owner("apps/v1", "DaemonSet", "node", &json!({})),
        job,
        bare,
    ] {
        let create = ["-n", PLATFORM, "create", "-f", "-"];
        let yaml = object.to_string();
        let created = installed.cluster.kubectl_with(&create, &yaml).await;
        created.unwrap().ok().unwrap();
    }
    let mut before = Vec::new();
    for (app, count) in [
        ("web", 2),
        ("db", 1),
        ("node", 1),
        ("import", 1),
        ("bare", 1),
    ] {
        let running = eventually(format!("{app} runs"), WITHIN, async || {
            let pods = pods_of(&installed.client, PLATFORM, app).await;
            let running = pods.iter().filter(|pod| {
                let status = pod.status.as_ref();
                status.and_then(|status| status.phase.as_deref()) == Some("Running")
            });
            Ok((running.count() == count).then_some(pods))
        })
        .await
        .unwrap();
        assert!(!running.iter().any(has_agent));
        before.extend(running);
    }
    before
}

impl World {
    /// Waits until every line of every pod of an app has arrived, each once.
    async fn arrives(&self, app: &str) {
        for pod in pods_of(&self.installed.client, PLATFORM, app).await {
            let name = pod.name_any();
            let of_pod = |record: &&Record| record.source().pod == name;
            self.receiver
                .until(&format!("every line of {name}"), WITHIN, |received| {
                    Tally::of(received.records.iter().filter(of_pod)).unique >= LINES
                })
                .await
                .unwrap();
            let tally = self
                .receiver
                .inspect(|received| Tally::of(received.records.iter().filter(of_pod)));
            assert!(
                tally.is_complete(LINES) && tally.duplicates == 0,
                "{name}: {tally}"
            );
        }
    }
}

#[tokio::test]
async fn what_ran_before_the_policy_follows_it_and_every_line_of_it_arrives() {
    let Some(world) = world().await else { return };
    let installed = &world.installed;
    installed
        .create(&automatic("logs", &world.receiver.url()))
        .await
        .unwrap();
    for app in ["web", "db", "node"] {
        eventually(format!("{app} has the agent"), WITHIN, async || {
            let pods = pods_of(&installed.client, PLATFORM, app).await;
            Ok((!pods.is_empty() && pods.iter().all(has_agent)).then_some(()))
        })
        .await
        .unwrap();
    }
    let policies = installed.policies();
    eventually("four of six pods have the agent", WITHIN, async || {
        let status = policies.get("logs").await?.status.unwrap_or_default();
        let counted = status.pods.map(|pods| pods.summary);
        Ok((counted.as_deref() == Some("4/6")).then_some(()))
    })
    .await
    .unwrap();
    // In this order, and none again.
    let mut restarts = Vec::new();
    for workload in ["deployment/web", "statefulset/db", "daemonset/node"] {
        restarts.push(restarted_at(installed, PLATFORM, workload).await.unwrap());
        let object = get(installed, PLATFORM, workload).await;
        assert_eq!(object["metadata"]["generation"], 2, "{workload}");
    }
    restarts.dedup();
    assert!(restarts.len() == 3 && restarts.is_sorted(), "{restarts:?}");
    for app in ["import", "bare"] {
        let pods = pods_of(&installed.client, PLATFORM, app).await;
        let kept = world.before.iter().filter(|pod| pod.labels()["app"] == app);
        let uids = |pods: &mut dyn Iterator<Item = &Pod>| pods.map(uid).collect::<Vec<_>>();
        assert_eq!(uids(&mut pods.iter()), uids(&mut kept.into_iter()));
        assert!(!pods.iter().any(has_agent));
    }
    for app in ["web", "db", "node"] {
        world.arrives(app).await;
    }
}
