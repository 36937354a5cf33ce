//! What the agent's requests and limits mean to the pods that it is added to: their quality of service, limit ranges,
//! quotas and the cluster autoscaler, as a real control plane sees them.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, LimitRange, Pod, ResourceQuota};
use katonic_log_config::layout;
use katonic_logging_core::names;
use katonic_logging_e2e::{
    cluster::{Options, Tier},
    eventually::eventually,
    operator::{COMPUTE, Installed, Operator, PLATFORM, SOON, condition, splunk_policy},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

struct World {
    installed: Installed,
    _operator: Operator,
}

impl World {
    /// A control plane with a policy in force, the agent's resources as they are by default.
    async fn start() -> Self {
        let installed = Installed::start(Tier::Controllers, Options::default())
            .await
            .unwrap();
        let operator = Operator::start(&installed.cluster, "one").await.unwrap();
        installed
            .sink_secret("splunk", "token", "abc")
            .await
            .unwrap();
        let policy = splunk_policy("logs", "https://hec.example.com:8088", "splunk");
        installed.create(&policy).await.unwrap();
        installed.ready("logs", "True", "InForce").await.unwrap();
        Self {
            installed,
            _operator: operator,
        }
    }

    /// The installation with other resources for the agent.
    async fn install(&self, resources: &str) {
        let yaml = format!(
            "namespaces: {{platform: {{name: {PLATFORM}}}, compute: {{name: {COMPUTE}}}}}\n\
             logging: {{agent: {{image: 'localhost/katonic-log-agent:0.1.0', resources: {resources}}}}}\n"
        );
        let maps: Api<ConfigMap> =
            Api::namespaced(self.installed.client.clone(), names::OPERATOR_NAMESPACE);
        let patch = Patch::Merge(json!({"data": {names::INSTALLATION_KEY: yaml}}));
        maps.patch(names::INSTALLATION, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Another limit range in the place of the one that is there.
    async fn replace(&self, ranges: &Api<LimitRange>, range: &LimitRange) {
        let name = range.metadata.name.as_deref().unwrap();
        ranges.delete(name, &DeleteParams::default()).await.unwrap();
        ranges.create(&PostParams::default(), range).await.unwrap();
    }

    /// The policy says for this reason that pods are refused, in the API server's words.
    async fn refused(&self, reason: &str, words: &str) {
        let status = self.installed.ready("logs", "False", reason).await.unwrap();
        let message = &condition(&status, "Ready").unwrap().message;
        assert!(message.contains(words), "{message}");
    }

    /// A pod as the API server would make it.
    async fn tried(&self, namespace: &str, pod: &Value) -> Result<Pod, kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.installed.client.clone(), namespace);
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let pod = serde_json::from_value(pod.clone()).unwrap();
        pods.create(&dry_run, &pod).await
    }

    /// A pod of the platform plane, once the agent that is added to it has these limits.
    async fn tried_with(&self, pod: &Value, limits: &[(&str, &str)]) -> Pod {
        let wanted = quantities(limits);
        eventually("the agent has the new limits", SOON, async || {
            let pod = self.tried(PLATFORM, pod).await?;
            let agent = agent(&pod).ok_or_else(|| anyhow::anyhow!("there is no agent"))?;
            Ok((limits_of(agent) == wanted).then_some(pod))
        })
        .await
        .unwrap()
    }
}

fn quantities(quantities: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, quantity): &(&str, &str)| ((*name).to_owned(), (*quantity).to_owned());
    quantities.iter().map(owned).collect()
}

fn agent(pod: &Pod) -> Option<&Container> {
    let containers = pod.spec.as_ref()?.init_containers.as_ref()?;
    containers
        .iter()
        .find(|container| container.name == layout::CONTAINER)
}

fn limits_of(container: &Container) -> BTreeMap<String, String> {
    let limits = container
        .resources
        .as_ref()
        .and_then(|resources| resources.limits.clone());
    let text = |(name, quantity): (
        String,
        k8s_openapi::apimachinery::pkg::api::resource::Quantity,
    )| { (name, quantity.0) };
    limits.unwrap_or_default().into_iter().map(text).collect()
}

fn requests_of(container: &Container) -> BTreeMap<String, String> {
    let requests = container
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.clone());
    requests
        .unwrap_or_default()
        .into_iter()
        .map(|(name, quantity)| (name, quantity.0))
        .collect()
}

fn pod(resources: &Value) -> Value {
    json!({
        "metadata": {"name": "sized"},
        "spec": {"containers": [{"name": "web", "image": "localhost/none:v1", "resources": resources}]},
    })
}

fn quality_of_service(pod: &Pod) -> &str {
    let status = pod.status.as_ref().unwrap();
    status.qos_class.as_deref().unwrap()
}

#[tokio::test]
async fn a_guaranteed_pod_stays_guaranteed_where_the_agent_has_equal_requests_and_limits() {
    let world = World::start().await;
    let equal = json!({"cpu": "1", "memory": "1Gi"});
    let guaranteed = pod(&json!({"requests": equal, "limits": equal}));
    let burstable = pod(&json!({"requests": equal}));
    let best_effort = pod(&json!({}));
    // By default it is no bigger than it must be, and has no limit of CPU.
    let by_default = [("memory", "32Mi")];
    for pod in [&guaranteed, &burstable, &best_effort] {
        let pod = world.tried_with(pod, &by_default).await;
        assert_eq!(quality_of_service(&pod), "Burstable");
    }
    world
        .install("{requests: {cpu: 50m, memory: 32Mi}, limits: {cpu: 50m, memory: 32Mi}}")
        .await;
    let equal = [("cpu", "50m"), ("memory", "32Mi")];
    for (pod, class) in [
        (&guaranteed, "Guaranteed"),
        (&burstable, "Burstable"),
        (&best_effort, "Burstable"),
    ] {
        let pod = world.tried_with(pod, &equal).await;
        assert_eq!(quality_of_service(&pod), class);
        // HorizontalPodAutoscalers want a CPU request of every container.
        assert_eq!(requests_of(agent(&pod).unwrap()), quantities(&equal));
    }
}

#[tokio::test]
async fn limit_ranges_fill_in_what_the_agent_leaves_open_or_refuse_it_and_no_other_pod() {
    let world = World::start().await;
    let ranges: Api<LimitRange> = Api::namespaced(world.installed.client.clone(), PLATFORM);
    let range = |limits: Value| -> LimitRange {
        let range = json!({"metadata": {"name": "containers"}, "spec": {"limits": [limits]}});
        serde_json::from_value(range).unwrap()
    };
    let defaults = json!({"type": "Container", "default": {"cpu": "2", "memory": "1Gi"}, "defaultRequest": {"cpu": "1", "memory": "1Gi"}});
    ranges
        .create(&PostParams::default(), &range(defaults))
        .await
        .unwrap();
    // What the installation says stays as it is; the CPU limit is the namespace's.
    let unsized_pod = pod(&json!({}));
    let filled = world
        .tried_with(&unsized_pod, &[("cpu", "2"), ("memory", "32Mi")])
        .await;
    let filled = agent(&filled).unwrap();
    assert_eq!(
        requests_of(filled),
        quantities(&[("cpu", "10m"), ("memory", "16Mi")])
    );
    // A changed agent that the namespace would not take reaches nobody: pods go on getting the one that they got.
    let at_most = |memory: &str| {
        range(
            json!({"type": "Container", "max": {"memory": memory}, "default": {"memory": "16Mi"}}),
        )
    };
    world.replace(&ranges, &at_most("48Mi")).await;
    world.install("{limits: {memory: 64Mi}}").await;
    let refusal = "maximum memory usage per Container is 48Mi, but limit is 64Mi";
    world.refused("InjectionRefused", refusal).await;
    world.tried_with(&unsized_pod, &[("memory", "32Mi")]).await;
    // One that refuses the agent that its pods get is left alone.
    world.install("{}").await;
    world
        .installed
        .ready("logs", "True", "InForce")
        .await
        .unwrap();
    world.replace(&ranges, &at_most("24Mi")).await;
    let refusal = "maximum memory usage per Container is 24Mi, but limit is 32Mi";
    world.refused("PodsRefused", refusal).await;
    let left_alone = eventually("pods are taken without the agent", SOON, async || {
        let pod = world.tried(PLATFORM, &unsized_pod).await?;
        Ok(agent(&pod).is_none().then_some(pod))
    })
    .await
    .unwrap();
    assert!(left_alone.spec.unwrap().init_containers.is_none());
    // The other plane is none of this namespace's business.
    assert!(agent(&world.tried(COMPUTE, &unsized_pod).await.unwrap()).is_some());
}

#[tokio::test]
async fn a_quota_counts_the_agent_with_every_pod() {
    let world = World::start().await;
    let quotas: Api<ResourceQuota> = Api::namespaced(world.installed.client.clone(), PLATFORM);
    let quota = json!({
        "metadata": {"name": "compute"},
        "spec": {"hard": {"requests.cpu": "2", "requests.memory": "1Gi", "limits.memory": "2Gi", "pods": "10"}},
    });
    quotas
        .create(
            &PostParams::default(),
            &serde_json::from_value(quota).unwrap(),
        )
        .await
        .unwrap();
    let used = async |wanted: &[(&str, &str)]| {
        let wanted = quantities(wanted);
        eventually(format!("the quota shows {wanted:?}"), SOON, async || {
            let status = quotas.get("compute").await?.status.unwrap_or_default();
            let used = status.used.unwrap_or_default();
            let used: BTreeMap<String, String> = used
                .into_iter()
                .map(|(name, quantity)| (name, quantity.0))
                .filter(|(name, _)| wanted.contains_key(name))
                .collect();
            anyhow::ensure!(used == wanted, "{used:?}");
            Ok(Some(()))
        })
        .await
        .unwrap();
    };
    used(&[("requests.cpu", "0"), ("pods", "0")]).await;
    let mut first =
        pod(&json!({"requests": {"cpu": "1", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}));
    let pods: Api<Pod> = Api::namespaced(world.installed.client.clone(), PLATFORM);
    pods.create(
        &PostParams::default(),
        &serde_json::from_value(first.clone()).unwrap(),
    )
    .await
    .unwrap();
    used(&[
        ("requests.cpu", "1010m"),
        ("requests.memory", "528Mi"),
        ("limits.memory", "1056Mi"),
        ("pods", "1"),
    ])
    .await;
    // A pod that just fits without the agent does not fit with it: the refusal is the quota's own.
    first["metadata"]["name"] = json!("second");
    let refused = world.tried(PLATFORM, &first).await.unwrap_err().to_string();
    assert!(
        refused.contains("exceeded quota: compute") && refused.contains("requests.cpu=1010m"),
        "{refused}"
    );
    // A used-up quota is no reason to leave the namespace alone.
    world
        .installed
        .ready("logs", "True", "InForce")
        .await
        .unwrap();
}

#[tokio::test]
async fn the_autoscaler_keeps_what_it_was_told_and_learns_of_the_agents_volumes() {
    let world = World::start().await;
    let annotation = |pod: &Pod| {
        let annotations = pod.metadata.annotations.clone().unwrap_or_default();
        annotations.get(names::SAFE_TO_EVICT_ANNOTATION).cloned()
    };
    let ours = "katonic-podlogs,katonic-log-state";
    let bare = world.tried(PLATFORM, &pod(&json!({}))).await.unwrap();
    assert_eq!(annotation(&bare).as_deref(), Some(ours));
    let mut told = pod(&json!({}));
    told["metadata"]["annotations"] = json!({
        names::SAFE_TO_EVICT_ANNOTATION: "scratch",
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    });
    let told = world.tried(PLATFORM, &told).await.unwrap();
    assert_eq!(annotation(&told), Some(format!("scratch,{ours}")));
    let others = told.metadata.annotations.unwrap();
    assert_eq!(
        others["cluster-autoscaler.kubernetes.io/safe-to-evict"],
        "false"
    );
    // Every volume that the autoscaler would stumble over is named.
    let volumes = bare.spec.unwrap().volumes.unwrap();
    let on_disk = volumes.iter().filter(|volume| {
        let in_memory = |medium: &Option<String>| medium.as_deref() == Some("Memory");
        let empty_dir = volume.empty_dir.as_ref();
        volume.host_path.is_some() || empty_dir.is_some_and(|one| !in_memory(&one.medium))
    });
    let on_disk: Vec<&str> = on_disk.map(|volume| volume.name.as_str()).collect();
    assert_eq!(on_disk.join(","), ours);
}
