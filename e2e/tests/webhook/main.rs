//! The webhook against a real API server, with its shipped manifests and the rights that they grant, and no others.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

mod certificates;
mod failures;
mod load;
mod oldest;
mod rights;
mod strangers;
mod switch;

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::MutatingWebhookConfiguration,
        core::v1::{ConfigMap, Pod, Secret},
    },
};
use katonic_log_config::layout;
use katonic_logging_core::{names, webhook::configuration::published};
use katonic_logging_e2e::{
    cluster::{Minor, Options, Tier},
    eventually::eventually,
    operator::{COMPUTE, Installed, Operator, PLATFORM, SOON, condition, splunk_policy},
    program,
    webhook::{Address, Webhook},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

const ENDPOINT: &str = "https://hec.example.com:8088";

/// A cluster with the operator's manifests and the webhook's, and an operator that uses the webhook.
struct World {
    installed: Installed,
    operator: Operator,
    address: Address,
}

impl World {
    async fn new(mode: &str) -> Self {
        Self::with(mode, Options::default()).await
    }

    async fn with(mode: &str, options: Options) -> Self {
        let installed = Installed::start(Tier::ApiServer, options).await.unwrap();
        apply(&installed, "manifests/webhook").await;
        install(&installed, mode).await;
        let address = Address::free().unwrap();
        installed
            .sink_secret("splunk", "token", "abc")
            .await
            .unwrap();
        let operator = start_operator(&installed, address).await;
        Self {
            installed,
            operator,
            address,
        }
    }

    /// With the policy `logs` in force by the webhook, on the oldest Kubernetes, which has no other way.
    async fn in_force(options: Options) -> (Self, Webhook) {
        let options = Options {
            minor: Minor::Oldest,
            ..options
        };
        let world = Self::with("Webhook", options).await;
        let webhook = world.webhook().await;
        world.policy().await;
        world.ready("True", "InForce").await;
        (world, webhook)
    }

    async fn webhook(&self) -> Webhook {
        let webhook = Webhook::start(&self.installed, self.address).await.unwrap();
        webhook.ready().await.unwrap();
        webhook
    }

    async fn policy(&self) {
        self.installed
            .create(&splunk_policy("logs", ENDPOINT, "splunk"))
            .await
            .unwrap();
    }

    async fn ready(&self, status: &str, reason: &str) -> String {
        let status = self.installed.ready("logs", status, reason).await.unwrap();
        condition(&status, "Ready").unwrap().message.clone()
    }

    fn configurations(&self) -> Api<MutatingWebhookConfiguration> {
        Api::all(self.installed.client.clone())
    }

    async fn configuration(&self) -> Option<MutatingWebhookConfiguration> {
        self.configurations()
            .get_opt(names::WEBHOOK_CONFIGURATION)
            .await
            .unwrap()
    }

    async fn published(&self) -> Option<String> {
        published(&self.configuration().await?)
    }

    async fn certificate(&self) -> Option<Secret> {
        self.installed
            .secrets(names::OPERATOR_NAMESPACE)
            .get_opt(names::WEBHOOK_CERTIFICATE)
            .await
            .unwrap()
    }

    /// The certificate that serves, and its key.
    async fn pair(&self) -> (String, String) {
        let data = self.certificate().await.unwrap().data.unwrap();
        let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
        (text("tls.crt"), text("tls.key"))
    }

    async fn merge_certificate(&self, data: BTreeMap<String, ByteString>) {
        let patch = Patch::Merge(json!({"data": data}));
        self.installed
            .secrets(names::OPERATOR_NAMESPACE)
            .patch(names::WEBHOOK_CERTIFICATE, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// How many agents a pod gets that is tried in a dry run.
    async fn agents_of_new_pod(&self) -> usize {
        agents(&try_pod(&self.installed, PLATFORM).await)
    }
}

async fn start_operator(installed: &Installed, address: Address) -> Operator {
    let url = address.url();
    let arguments = ["--webhook-url", &url];
    Operator::start_with(&installed.cluster, "one", &arguments)
        .await
        .unwrap()
}

async fn apply(installed: &Installed, kustomization: &str) {
    let folder = program::workspace().join(kustomization);
    let folder = folder.to_string_lossy();
    let said = installed
        .cluster
        .kubectl(&["apply", "--server-side", "-k", &folder])
        .await;
    said.unwrap().ok().unwrap();
}

async fn install(installed: &Installed, mode: &str) {
    install_agent(installed, mode, "32Mi").await;
}

/// The same with another limit of memory for the agent.
async fn install_agent(installed: &Installed, mode: &str, memory: &str) {
    let maps: Api<ConfigMap> = Api::namespaced(installed.client.clone(), names::OPERATOR_NAMESPACE);
    let yaml = format!(
        "namespaces: {{platform: {{name: {PLATFORM}}}, compute: {{name: {COMPUTE}}}}}\n\
         logging: {{injection: {{mode: {mode}}}, agent: {{image: 'localhost/katonic-log-agent:0.1.0', \
         resources: {{limits: {{memory: {memory}}}}}}}}}\n"
    );
    let patch = Patch::Merge(json!({"data": {names::INSTALLATION_KEY: yaml}}));
    maps.patch(names::INSTALLATION, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

fn pod() -> Pod {
    let pod = json!({
        "metadata": {"generateName": "web-"},
        "spec": {"containers": [{"name": "web", "image": "localhost/none:v1"}]},
    });
    serde_json::from_value(pod).unwrap()
}

/// A pod as the API server would create it.
async fn try_pod(installed: &Installed, namespace: &str) -> Pod {
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), namespace);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    pods.create(&dry_run, &pod()).await.unwrap()
}

/// How often the agent is in a pod.
fn agents(pod: &Pod) -> usize {
    let spec = pod.spec.as_ref().unwrap();
    let all = spec.init_containers.iter().flatten();
    all.chain(&spec.containers)
        .filter(|container| container.name == layout::CONTAINER)
        .count()
}

#[tokio::test]
async fn pods_of_planes_are_injected_and_others_are_not_asked_about() {
    let (world, webhook) = World::in_force(Options::default()).await;
    let pods: Api<Pod> = Api::namespaced(world.installed.client.clone(), COMPUTE);
    let mut large = serde_json::to_value(pod()).unwrap();
    large["metadata"] =
        json!({"name": "job", "annotations": {names::SAFE_TO_EVICT_ANNOTATION: "scratch"}});
    large["spec"]["initContainers"] = json!([{"name": "setup", "image": "localhost/none:v1"}]);
    large["spec"]["volumes"] = json!([{"name": "scratch", "emptyDir": {}}]);
    let created = pods
        .create(
            &PostParams::default(),
            &serde_json::from_value(large).unwrap(),
        )
        .await
        .unwrap();
    let spec = serde_json::to_value(&created.spec).unwrap();
    assert_eq!(spec["initContainers"][0]["name"], layout::CONTAINER);
    assert_eq!(spec["initContainers"][1]["name"], "setup");
    assert_eq!(spec["volumes"][0]["name"], "scratch");
    assert_eq!(
        created.metadata.annotations.unwrap()[names::SAFE_TO_EVICT_ANNOTATION],
        "scratch,katonic-podlogs,katonic-log-state"
    );
    // Neither of a pod that opts out nor of one elsewhere is the webhook asked.
    let (_, before) = webhook.get("/metrics").await.unwrap();
    let mut quiet = pod();
    quiet.metadata.labels =
        Some([(names::INJECT_LABEL.to_owned(), names::INJECT_NO.to_owned())].into());
    let created = pods.create(&PostParams::default(), &quiet).await.unwrap();
    assert_eq!(agents(&created), 0);
    world
        .installed
        .cluster
        .namespace("elsewhere")
        .await
        .unwrap();
    assert_eq!(agents(&try_pod(&world.installed, "elsewhere").await), 0);
    let (_, after) = webhook.get("/metrics").await.unwrap();
    assert_eq!(admissions(&before), admissions(&after));
    assert!(admissions(&after)["Injected"] >= 1, "{after}");
}

/// Pods that the webhook was asked about, by decision.
fn admissions(metrics: &str) -> BTreeMap<String, u64> {
    let mut counted = BTreeMap::new();
    for line in metrics.lines() {
        let Some(line) = line.strip_prefix("katonic_logging_webhook_admissions_total{") else {
            continue;
        };
        let (labels, count) = line.rsplit_once(' ').unwrap();
        let decision = labels.split('"').nth(1).unwrap();
        *counted.entry(decision.to_owned()).or_default() += count.parse::<u64>().unwrap();
    }
    counted
}

#[tokio::test]
async fn drift_is_repaired_and_the_last_policy_takes_the_configuration_with_it() {
    let (world, webhook) = World::in_force(Options::default()).await;
    let configurations = world.configurations();
    let good = world.configuration().await.unwrap().webhooks;
    let repaired = async |what: &str| {
        eventually(what, SOON, async || {
            let found = world.configuration().await;
            Ok(found
                .is_some_and(|found| found.webhooks == good)
                .then_some(()))
        })
        .await
        .unwrap();
    };
    for change in [
        json!({"webhooks": [{"name": names::WEBHOOK_CONFIGURATION, "failurePolicy": "Fail", "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://elsewhere.example.com"}}]}),
        json!({"metadata": {"labels": null}, "webhooks": null}),
    ] {
        configurations
            .patch(
                names::WEBHOOK_CONFIGURATION,
                &PatchParams::default(),
                &Patch::Merge(change),
            )
            .await
            .unwrap();
        repaired("an edited configuration is repaired").await;
    }
    configurations
        .delete(names::WEBHOOK_CONFIGURATION, &DeleteParams::default())
        .await
        .unwrap();
    repaired("a deleted configuration is written again").await;
    eventually("pods are injected as before", SOON, async || {
        Ok((world.agents_of_new_pod().await == 1).then_some(()))
    })
    .await
    .unwrap();
    world.installed.delete("logs").await.unwrap();
    eventually("the configuration is gone", SOON, async || {
        Ok(world.configuration().await.is_none().then_some(()))
    })
    .await
    .unwrap();
    assert!(webhook.terminate().await.unwrap());
}

/// What is in force is told to the webhook by its configuration, in the cluster: it needs neither operator nor installation.
#[tokio::test]
async fn injection_goes_on_while_the_operator_is_down() {
    let (world, webhook) = World::in_force(Options::default()).await;
    world.operator.kill().await.unwrap();
    webhook.kill().await.unwrap();
    let address = world.address;
    let again = Webhook::start(&world.installed, address).await.unwrap();
    again.ready().await.unwrap();
    for _ in 0..20 {
        assert_eq!(agents(&try_pod(&world.installed, PLATFORM).await), 1);
    }
}
