//! Each kind of execution as it behaves: archived, read back by its id, and proven complete.
//!
//! Names and labels are those of Domino's pods (`run-<id>-…`, `execution-id`, `workload-type`). A Model API has neither
//! label: its pods are named `model-<id>-…`, and a pattern of the installation finds the id.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ContainerState, Pod},
};
use katonic_logging_e2e::{eventually::eventually, images, operator::COMPUTE};
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::world::{LABEL, Said, WITHIN, World};

const TYPE: &str = "dominodatalab.com/workload-type";

/// All at once: most of their time they wait.
pub async fn each_kind_is_read_back_as_it_behaves(world: &World) {
    tokio::join!(
        a_job_that_ends(world),
        a_workspace_that_is_paused_and_comes_back(world),
        an_app_that_is_restarted(world),
        a_model_with_several_replicas(world),
    );
}

/// A Job makes the pod, and it ends by itself.
async fn a_job_that_ends(world: &World) {
    const LINES: usize = 3_000;
    const ID: &str = "63d16b3ebe3729589c5b0001";
    let arguments = ["lines", &LINES.to_string(), "--stderr-every", "7"];
    let job = json!({
        "metadata": {"name": format!("run-{ID}")},
        "spec": {"backoffLimit": 0, "template": template(Some((ID, "Batch")), &arguments, "Never")},
    });
    let jobs: Api<Job> = create(world, job).await;
    eventually("the Job has ended", WITHIN, async || {
        let status = jobs.get(&format!("run-{ID}")).await?.status;
        Ok(status.and_then(|status| status.completion_time).map(drop))
    })
    .await
    .unwrap();
    let said = complete(world, ID, "job").await;
    assert_eq!(of_pods(&said), [LINES]);
    assert!(
        said.stderr.contains("verified: 3,000 lines, complete\n"),
        "{said:?}"
    );
    // It is of this kind and no other.
    let said = world.logs_of(ID, &["--kind", "workspace"]).await;
    assert_eq!((said.code, said.lines.len()), (Some(5), 0), "{said:?}");
}

/// The pause deletes the pod; what comes back is another one, of the same execution.
async fn a_workspace_that_is_paused_and_comes_back(world: &World) {
    const ID: &str = "63d16b3ebe3729589c5b0002";
    let pods = pods(world);
    let mut lines = Vec::new();
    for (round, suffix) in ["a1b2c", "d3e4f", "g5h6i"].into_iter().enumerate() {
        let name = format!("run-{ID}-{suffix}");
        let arguments = ["forever", "--rate", "200"];
        let mut pod = template(Some((ID, "Workspace")), &arguments, "Never");
        pod["metadata"]["name"] = name.clone().into();
        let _: Api<Pod> = create(world, pod).await;
        world.runs(&name).await;
        // While it runs: what was before, whole, and this one, as far as it has come.
        let said = eventually(format!("lines of {name}"), WITHIN, async || {
            let said = world.logs_of(ID, &["--kind", "workspace"]).await;
            Ok((of_pods(&said).len() == round + 1).then_some(said))
        })
        .await
        .unwrap();
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(
            said.stderr.contains("no completeness record of "),
            "{said:?}"
        );
        world.archived_of(ID, 3 * (round + 1)).await;
        pods.delete(&name, &DeleteParams::default()).await.unwrap();
        gone(&pods, &name).await;
        let said = complete(world, ID, "workspace").await;
        let of_pods = of_pods(&said);
        assert_eq!(of_pods.len(), round + 1, "{said:?}");
        lines.push(of_pods.iter().sum::<usize>());
    }
    assert!(lines.is_sorted_by(|less, more| less < more), "{lines:?}");
}

/// Its process ends again and again, and the kubelet starts it anew.
async fn an_app_that_is_restarted(world: &World) {
    const ID: &str = "63d16b3ebe3729589c5b0003";
    const LINES: usize = 400;
    let pods = pods(world);
    let name = format!("run-{ID}-x7k2p");
    let arguments = ["attempts", "2", "/memory", &LINES.to_string()];
    let mut pod = template(Some((ID, "App")), &arguments, "Always");
    pod["metadata"]["name"] = name.clone().into();
    pod["spec"]["volumes"] = json!([{"name": "memory", "emptyDir": {}}]);
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "memory", "mountPath": "/memory"}]);
    let _: Api<Pod> = create(world, pod).await;
    eventually("the app was restarted twice", WITHIN, async || {
        // Whatever run is read while the kubelet starts the next one: no line is there twice.
        let said = world.logs_of(ID, &["--kind", "app"]).await;
        let numbers = said.numbers();
        let unique: BTreeSet<usize> = numbers.iter().copied().collect();
        assert_eq!(numbers.len(), unique.len(), "{said:?}");
        let status = pods.get(&name).await?.status.unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        // The run before the next one has ended, too.
        let is_over = |state: &ContainerState| state.running.is_none();
        let is_restarted = containers
            .iter()
            .any(|status| status.restart_count >= 2 && status.state.as_ref().is_some_and(is_over));
        Ok(is_restarted.then_some(()))
    })
    .await
    .unwrap();
    pods.delete(&name, &DeleteParams::default()).await.unwrap();
    gone(&pods, &name).await;
    let said = complete(world, ID, "app").await;
    let lines = of_pods(&said);
    assert_eq!(lines.len(), 1, "{said:?}");
    assert!(
        lines[0] >= 3 * LINES && lines[0].is_multiple_of(LINES),
        "{lines:?}"
    );
    let runs = format!("({} runs)", lines[0] / LINES);
    assert!(said.stderr.contains(&runs), "{said:?}");
}

/// All replicas print at once; one id finds them.
async fn a_model_with_several_replicas(world: &World) {
    const ID: &str = "63d16b3ebe3729589c5b0004";
    const REPLICAS: usize = 3;
    const LINES: usize = 15_000;
    let name = format!("model-{ID}");
    let arguments = ["workspace", &LINES.to_string(), "--rate", "3000"];
    let mut template = template(None, &arguments, "Always");
    template["metadata"]["labels"]["app"] = name.clone().into();
    let deployment = json!({
        "metadata": {"name": name},
        "spec": {"replicas": REPLICAS, "selector": {"matchLabels": {"app": name}}, "template": template},
    });
    let deployments: Api<Deployment> = create(world, deployment).await;
    let expected = vec![LINES; REPLICAS];
    // Read while they print, again and again, and once they have printed everything.
    let readings = std::cell::Cell::new(0);
    eventually("all lines of all replicas", WITHIN, async || {
        let said = world.logs_of(ID, &["--kind", "model-api"]).await;
        readings.set(readings.get() + 1);
        let lines = of_pods(&said);
        assert!(matches!(said.code, Some(3 | 5)), "{said:?}");
        Ok((lines == expected).then_some(()))
    })
    .await
    .unwrap();
    assert!(
        readings.get() > 1,
        "the first reading already found everything"
    );
    deployments
        .delete(&name, &DeleteParams::background())
        .await
        .unwrap();
    let pods = pods(world);
    eventually("the replicas are gone", WITHIN, async || {
        let selected = ListParams::default().labels(&format!("app={name}"));
        Ok(pods.list(&selected).await?.items.is_empty().then_some(()))
    })
    .await
    .unwrap();
    let said = complete(world, ID, "model-api").await;
    assert_eq!(of_pods(&said), expected);
    assert!(
        said.stderr
            .contains("verified: 45,000 lines, complete (3 pods, 3 runs)"),
        "{said:?}"
    );
}

/// The pod of a kind, as the platform labels it where it does.
fn template(labels: Option<(&str, &str)>, arguments: &[&str], restart: &str) -> Value {
    let labels = labels.map_or_else(|| json!({}), |(id, kind)| json!({LABEL: id, TYPE: kind}));
    json!({
        "metadata": {"labels": labels},
        "spec": {
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "run", "image": images::WORKLOAD, "args": arguments}],
        },
    })
}

fn pods(world: &World) -> Api<Pod> {
    Api::namespaced(world.installed.client.clone(), COMPUTE)
}

async fn create<K>(world: &World, object: Value) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(world.installed.client.clone(), COMPUTE);
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
    api
}

async fn gone(pods: &Api<Pod>, name: &str) {
    eventually(format!("{name} is gone"), WITHIN, async || {
        Ok(pods.get_opt(name).await?.is_none().then_some(()))
    })
    .await
    .unwrap();
}

/// What the command says once the archive proves that everything is there.
async fn complete(world: &World, id: &str, kind: &str) -> Said {
    eventually(format!("{id} is complete"), WITHIN, async || {
        let said = world.logs_of(id, &["--kind", kind]).await;
        assert!(matches!(said.code, Some(0 | 3)), "{said:?}");
        Ok((said.code == Some(0)).then_some(said))
    })
    .await
    .unwrap()
}

/// How many lines of each pod there are, after checking that each of a pod's is there once.
fn of_pods(said: &Said) -> Vec<usize> {
    let mut pods: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (record, number) in said.lines.iter().zip(said.numbers()) {
        let pod = record["pod_uid"].as_str().unwrap();
        pods.entry(pod).or_default().push(number);
    }
    let counted = pods.into_values().map(|mut numbers| {
        numbers.sort_unstable();
        let expected: Vec<usize> = (1..=numbers.len()).collect();
        assert_eq!(numbers, expected, "{}", said.stderr);
        expected.len()
    });
    counted.collect()
}
