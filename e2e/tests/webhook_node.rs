//! The webhook as it is shipped, on a real node: its Deployment, its Service, its certificate, and the whole way of a line.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::{
    admissionregistration::v1::{MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration},
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use katonic_log_config::layout;
use katonic_logging_core::names;
use katonic_logging_e2e::{
    cluster::{Cluster, Tier},
    eventually::eventually,
    images::{self, Image},
    operator::{COMPUTE, Installed, PLATFORM, splunk_policy},
    program,
    receiver::{Protocol, Receiver, Tally, splunk::Rules},
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

/// With room for a busy machine.
const WITHIN: Duration = Duration::from_mins(3);

const TOKEN: &str = "11111111-2222-3333-4444-555555555555";

fn is_injected(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref().unwrap();
    let mut containers = spec.init_containers.iter().flatten();
    containers.any(|container| container.name == layout::CONTAINER)
}

/// A cluster with the operator and the webhook from their images, and a collector.
struct World {
    installed: Installed,
    receiver: Receiver,
}

impl World {
    async fn new() -> Option<Self> {
        let cluster = Cluster::start_or_skip(Tier::Node).await.unwrap()?;
        for image in [Image::Operator, Image::Agent] {
            let archive = tokio::task::spawn_blocking(move || image.build()).await;
            cluster
                .load_image(&archive.unwrap().unwrap())
                .await
                .unwrap();
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
        let maps: Api<ConfigMap> =
            Api::namespaced(installed.client.clone(), names::OPERATOR_NAMESPACE);
        let yaml = format!(
            "namespaces: {{platform: {{name: {PLATFORM}}}, compute: {{name: {COMPUTE}}}}}\n\
             logging: {{injection: {{mode: Webhook}}, agent: {{image: '{}'}}}}\n",
            images::AGENT
        );
        let patch = Patch::Merge(json!({"data": {names::INSTALLATION_KEY: yaml}}));
        maps.patch(names::INSTALLATION, &PatchParams::default(), &patch)
            .await
            .unwrap();
        let world = Self {
            installed,
            receiver,
        };
        world
            .kubectl(&["apply", "--server-side", "-k", &manifests()])
            .await;
        world.available().await;
        Some(world)
    }

    async fn kubectl(&self, arguments: &[&str]) -> String {
        let said = self.installed.cluster.kubectl(arguments).await.unwrap();
        said.ok().unwrap()
    }

    /// Waits until both pods of the webhook, and no others, are as its Deployment wants them.
    async fn available(&self) {
        let deployments: Api<Deployment> =
            Api::namespaced(self.installed.client.clone(), names::OPERATOR_NAMESPACE);
        let waited = eventually("the webhook is available", WITHIN, async || {
            let deployment = deployments.get(names::WEBHOOK).await?;
            let status = deployment.status.unwrap_or_default();
            let current = status.observed_generation == deployment.metadata.generation;
            let both = [
                status.replicas,
                status.updated_replicas,
                status.available_replicas,
            ];
            Ok((current && both == [Some(2); 3]).then_some(()))
        });
        let waited = waited.await;
        if waited.is_err() {
            let pods = ["describe", "pods", "-n", names::OPERATOR_NAMESPACE];
            eprintln!("{}", self.kubectl(&pods).await);
        }
        waited.unwrap();
    }

    async fn in_force(&self) {
        self.installed
            .create(&splunk_policy("logs", &self.receiver.url(), "splunk"))
            .await
            .unwrap();
        let policies = self.installed.policies();
        eventually("the policy is in force", WITHIN, async || {
            let status = policies.get("logs").await?.status.unwrap_or_default();
            let ready = status
                .conditions
                .into_iter()
                .find(|one| one.type_ == "Ready");
            let ready = ready.filter(|ready| ready.status == "True");
            Ok(ready.map(|_| ()))
        })
        .await
        .unwrap();
        let bindings: Api<MutatingAdmissionPolicyBinding> = Api::all(self.installed.client.clone());
        let bindings = bindings.list(&ListParams::default()).await.unwrap();
        assert!(bindings.items.is_empty());
    }

    async fn carries_every_line_of_a_job(&self) {
        let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "import"},
        "spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [
            {"name": "executor", "image": images::WORKLOAD, "args": ["lines", "5000"]},
        ]}}},
    }))
    .unwrap();
        let jobs: Api<Job> = Api::namespaced(self.installed.client.clone(), COMPUTE);
        jobs.create(&PostParams::default(), &job).await.unwrap();
        eventually("the Job is complete", WITHIN, async || {
            let status = jobs.get("import").await?.status.unwrap_or_default();
            Ok((status.succeeded == Some(1)).then_some(()))
        })
        .await
        .unwrap();
        let pods: Api<Pod> = Api::namespaced(self.installed.client.clone(), COMPUTE);
        let of_job = ListParams::default().labels("job-name=import");
        let pod = pods.list(&of_job).await.unwrap().items.remove(0);
        assert!(is_injected(&pod));
        let name = pod.name_any();
        let records = self.receiver.inspect(|received| {
            let of_pod = received
                .records
                .iter()
                .filter(|record| record.source().pod == name);
            of_pod.cloned().collect::<Vec<_>>()
        });
        let tally = Tally::of(&records);
        assert_eq!(
            (tally.unique, tally.duplicates, tally.out_of_order),
            (5000, 0, 0),
            "{tally}"
        );
    }

    /// Replaces both pods of the webhook while pods are created one after another.
    async fn misses_no_pod_when_it_is_replaced(&self) {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, client) = (stop.clone(), self.installed.client.clone());
        let creating = tokio::spawn(async move {
            let pods: Api<Pod> = Api::namespaced(client, PLATFORM);
            let dry_run = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"generateName": "web-"},
                "spec": {"containers": [{"name": "web", "image": images::WORKLOAD}]},
            }))
            .unwrap();
            let (mut injected, mut missed) = (0, 0);
            while !told.load(Ordering::SeqCst) {
                if is_injected(&pods.create(&dry_run, &pod).await.unwrap()) {
                    injected += 1;
                } else {
                    missed += 1;
                }
            }
            (injected, missed)
        });
        let webhooks: Api<Pod> =
            Api::namespaced(self.installed.client.clone(), names::OPERATOR_NAMESPACE);
        let of_webhook =
            ListParams::default().labels("app.kubernetes.io/name=katonic-logging-webhook");
        let uids = async || -> BTreeSet<String> {
            let pods = webhooks.list(&of_webhook).await.unwrap().items;
            pods.iter().filter_map(ResourceExt::uid).collect()
        };
        let before = uids().await;
        let restart = [
            "rollout",
            "restart",
            "deployment",
            names::WEBHOOK,
            "-n",
            names::OPERATOR_NAMESPACE,
        ];
        self.kubectl(&restart).await;
        eventually("both pods of the webhook are others", WITHIN, async || {
            let now = uids().await;
            Ok((now.len() == 2 && now.is_disjoint(&before)).then_some(()))
        })
        .await
        .unwrap();
        self.available().await;
        stop.store(true, Ordering::SeqCst);
        let (injected, missed) = creating.await.unwrap();
        assert_eq!(missed, 0, "of {injected} pods");
        assert!(injected > 50, "{injected}");
    }

    /// Uninstalls it while it is wanted: the policy says so, and nothing is left that API servers would ask in vain.
    async fn is_missed_when_it_is_uninstalled(&self) {
        let policies = self.installed.policies();
        self.kubectl(&["delete", "-k", &manifests()]).await;
        eventually("the policy says what is missing", WITHIN, async || {
            let status = policies.get("logs").await?.status.unwrap_or_default();
            let injected = status
                .conditions
                .into_iter()
                .find(|one| one.type_ == "Injected");
            Ok(injected.filter(|injected| injected.reason == "WebhookNotInstalled"))
        })
        .await
        .unwrap();
        let configurations: Api<MutatingWebhookConfiguration> =
            Api::all(self.installed.client.clone());
        eventually("the configuration is gone", WITHIN, async || {
            let found = configurations.get_opt(names::WEBHOOK_CONFIGURATION).await?;
            Ok(found.is_none().then_some(()))
        })
        .await
        .unwrap();
        let certificate = self.installed.secrets(names::OPERATOR_NAMESPACE);
        eventually("the certificate is collected", WITHIN, async || {
            let found = certificate.get_opt(names::WEBHOOK_CERTIFICATE).await?;
            Ok(found.is_none().then_some(()))
        })
        .await
        .unwrap();
    }
}

fn manifests() -> String {
    let folder = program::workspace().join("manifests/webhook");
    folder.to_string_lossy().into_owned()
}

#[tokio::test]
async fn the_shipped_webhook_injects_and_none_of_its_pods_is_missed_when_it_is_replaced() {
    let Some(world) = World::new().await else {
        return;
    };
    world.in_force().await;
    world.carries_every_line_of_a_job().await;
    world.misses_no_pod_when_it_is_replaced().await;
    world.is_missed_when_it_is_uninstalled().await;
}
