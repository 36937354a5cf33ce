//! Every way to inject, tried on the same pods by a real API server: the pods that come out of it are the same.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

use std::{collections::BTreeMap, path::PathBuf, process::Stdio};

use k8s_openapi::api::core::v1::ConfigMap;
use katonic_log_config::layout;
use katonic_logging_core::{
    Installation, names,
    sidecar::{Form, Sidecar, VOLUMES},
};
use katonic_logging_e2e::{
    cluster::{Minor, Options, Tier},
    eventually::eventually,
    operator::{COMPUTE, Installed, Operator, PLATFORM, SOON, splunk_policy},
    program,
    webhook::{Address, Webhook},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// A namespace in which nothing is injected.
const PLAIN: &str = "plain";

/// A way in which pods get the agent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rendering {
    /// The API server does it.
    AdmissionPolicy,
    /// The API server asks a webhook.
    Webhook,
    /// `katonic-logging inject` does it, before.
    Offline,
}

/// A cluster in which pods get the agent in one way.
struct Bench {
    installed: Installed,
    program: PathBuf,
    rendering: Rendering,
    _operator: Option<Operator>,
    _webhook: Option<Webhook>,
}

impl Bench {
    async fn new(minor: Minor, rendering: Rendering) -> Self {
        let options = Options {
            minor,
            ..Options::default()
        };
        let installed = Installed::start(Tier::ApiServer, options).await.unwrap();
        installed.cluster.namespace(PLAIN).await.unwrap();
        let (operator, webhook) = match rendering {
            Rendering::AdmissionPolicy => {
                choose(&installed, "AdmissionPolicy").await;
                (
                    Some(Operator::start(&installed.cluster, "one").await.unwrap()),
                    None,
                )
            }
            Rendering::Webhook => {
                choose(&installed, "Webhook").await;
                let folder = program::workspace().join("manifests/webhook");
                let apply = ["apply", "--server-side", "-k", folder.to_str().unwrap()];
                installed
                    .cluster
                    .kubectl(&apply)
                    .await
                    .unwrap()
                    .ok()
                    .unwrap();
                let address = Address::free().unwrap();
                let arguments = ["--webhook-url", &address.url()];
                let operator = Operator::start_with(&installed.cluster, "one", &arguments).await;
                let webhook = Webhook::start(&installed, address).await.unwrap();
                (Some(operator.unwrap()), Some(webhook))
            }
            Rendering::Offline => (None, None),
        };
        if rendering != Rendering::Offline {
            installed
                .sink_secret("splunk", "token", "abc")
                .await
                .unwrap();
            let policy = splunk_policy("logs", "https://hec.example.com:8088", "splunk");
            installed.create(&policy).await.unwrap();
            installed.ready("logs", "True", "InForce").await.unwrap();
        }
        let program = tokio::task::spawn_blocking(|| {
            program::build("katonic-logging-operator", "katonic-logging")
        });
        Self {
            installed,
            program: program.await.unwrap().unwrap(),
            rendering,
            _operator: operator,
            _webhook: webhook,
        }
    }

    /// What the program makes of manifests: what it prints, and what it tells.
    async fn inject(&self, manifests: &str) -> (String, String) {
        let mut inject = Command::new(&self.program)
            .args(["inject", "-f", "-", "--installation"])
            .arg(installation_file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = inject.stdin.take().unwrap();
        stdin.write_all(manifests.as_bytes()).await.unwrap();
        drop(stdin);
        let output = inject.wait_with_output().await.unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        (String::from_utf8(output.stdout).unwrap(), told)
    }

    /// Creates pods, all of which must be taken; as they come back, by name.
    async fn create(&self, namespace: &str, manifests: &str) -> BTreeMap<String, Value> {
        // Fields that an API server does not know are dropped, as from clients that do not ask to be told.
        let arguments = [
            "create",
            "--validate=ignore",
            "-o",
            "json",
            "-n",
            namespace,
            "-f",
            "-",
        ];
        let created = self
            .installed
            .cluster
            .kubectl_with(&arguments, manifests)
            .await;
        let created = created.unwrap().ok().unwrap();
        let pods = serde_json::Deserializer::from_str(&created).into_iter::<Value>();
        let named = |pod: Value| {
            let metadata = &pod["metadata"];
            let generated = metadata["generateName"].as_str();
            let name = generated
                .or_else(|| metadata["name"].as_str())
                .unwrap()
                .to_owned();
            (name, comparable(pod))
        };
        pods.map(Result::unwrap).map(named).collect()
    }

    /// Creates pods in this way.
    async fn through(&self, namespace: &str, manifests: &str) -> BTreeMap<String, Value> {
        if self.rendering == Rendering::Offline {
            let (injected, _) = self.inject(manifests).await;
            return self.create(namespace, &injected).await;
        }
        self.create(namespace, manifests).await
    }
}

/// Has the operator inject in this way.
async fn choose(installed: &Installed, mode: &str) {
    let maps: Api<ConfigMap> = Api::namespaced(installed.client.clone(), names::OPERATOR_NAMESPACE);
    let yaml = std::fs::read_to_string(installation_file()).unwrap();
    let yaml = yaml.replace("mode: Auto", &format!("mode: {mode}"));
    assert!(yaml.contains(mode));
    let patch = Patch::Merge(json!({"data": {names::INSTALLATION_KEY: yaml}}));
    maps.patch(names::INSTALLATION, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// The installation as it is shipped.
fn installation_file() -> PathBuf {
    program::workspace().join("manifests/installation.yaml")
}

/// The folder with the pods.
fn corpus() -> PathBuf {
    program::workspace().join("operator/core/tests/pods")
}

/// All of them as one file.
fn manifests() -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(corpus()).unwrap() {
        all.push_str("---\n");
        all.push_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    all
}

/// A pod without what differs between any two pods: who made it when, and the random name of its token's volume. That
/// volume is added before or after ours, so the order of volumes differs too, which is of no consequence.
fn comparable(mut pod: Value) -> Value {
    let metadata = pod["metadata"].as_object_mut().unwrap();
    metadata.retain(|field, _| ["annotations", "labels"].contains(&field.as_str()));
    pod.as_object_mut().unwrap().remove("status");
    let spec = &mut pod["spec"];
    let volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    let tokens = volumes.iter().filter_map(|volume| volume["name"].as_str());
    let token = tokens
        .into_iter()
        .find(|name| name.starts_with("kube-api-access-"));
    if let Some(token) = token {
        let text = pod.to_string().replace(token, "kube-api-access");
        pod = serde_json::from_str(&text).unwrap();
    }
    if let Some(volumes) = pod["spec"]["volumes"].as_array_mut() {
        volumes.sort_by_key(|volume| volume["name"].as_str().map(str::to_owned));
    }
    pod
}

fn is_injected(pod: &Value) -> bool {
    pod["metadata"]["annotations"][names::AGENT_REVISION_ANNOTATION].is_string()
}

/// Tries every way on every pod; the first is the measure of the others.
async fn same_pods(minor: Minor, renderings: &[Rendering]) {
    let corpus = corpus();
    let count = std::fs::read_dir(&corpus).unwrap().count();
    assert!(count >= 50, "{count}");
    let yaml = std::fs::read_to_string(installation_file()).unwrap();
    let installation = Installation::validate(&yaml, names::OPERATOR_NAMESPACE).unwrap();
    let agent = Sidecar::new(&installation.agent).unwrap();
    let mut measure: Option<BTreeMap<String, Value>> = None;
    for rendering in renderings {
        let bench = Bench::new(minor, *rendering).await;
        let pods = bench.through(PLATFORM, &manifests()).await;
        assert_eq!(pods.len(), count);
        for (name, pod) in &pods {
            let file = corpus.join(format!("{}.yaml", name.trim_end_matches('-')));
            let says = std::fs::read_to_string(file).unwrap();
            assert_eq!(
                is_injected(pod),
                says.starts_with("# Inject\n"),
                "{rendering:?}: {name}"
            );
        }
        // Whatever the API server has made of it and of its pod, it is known again; but for what it required, where it was to share
        // in resources of the pod that the oldest then drops.
        let shares = |name: &str| {
            let manifest = std::fs::read_to_string(corpus.join(format!("{name}.yaml")));
            let manifest: Value = serde_saphyr::from_str(&manifest.unwrap()).unwrap();
            manifest["spec"]["resources"].is_object()
        };
        for (name, pod) in pods.iter().filter(|(_, pod)| is_injected(pod)) {
            if shares(name.trim_end_matches('-')) && pod["spec"]["resources"].is_null() {
                continue;
            }
            let found = Form::read(&pod["spec"]);
            assert!(agent.form().is(&found), "{rendering:?}: {name}");
        }
        // Of the others an API server may have dropped what they were left alone for: the oldest knows no resources of pods.
        let injected = pods.iter().filter(|(_, pod)| is_injected(pod));
        let again = bench.through(COMPUTE, &as_manifests(injected)).await;
        assert!(again.len() >= 40, "{}", again.len());
        let measure = measure.get_or_insert_with(|| pods.clone());
        for (name, pod) in measure {
            let pretty = |pod: &Value| serde_json::to_string_pretty(pod).unwrap();
            assert_eq!(pretty(&pods[name]), pretty(pod), "{rendering:?}: {name}");
            if let Some(again) = again.get(name.trim_end_matches('-')) {
                assert_eq!(pretty(again), pretty(pod), "{rendering:?}, again: {name}");
            }
        }
    }
}

/// The same pods, to be created once more.
fn as_manifests<'a>(pods: impl Iterator<Item = (&'a String, &'a Value)>) -> String {
    let named = pods.map(|(name, pod)| {
        let mut pod = pod.clone();
        pod["metadata"]["name"] = json!(name.trim_end_matches('-'));
        pod
    });
    json!({"apiVersion": "v1", "kind": "List", "items": named.collect::<Vec<_>>()}).to_string()
}

#[tokio::test]
async fn on_the_newest_minor_every_way_makes_the_same_pods_and_a_second_pass_changes_nothing() {
    let all = [
        Rendering::AdmissionPolicy,
        Rendering::Webhook,
        Rendering::Offline,
    ];
    same_pods(Minor::Newest, &all).await;
}

#[tokio::test]
async fn on_the_oldest_minor_every_way_makes_the_same_pods_and_a_second_pass_changes_nothing() {
    same_pods(Minor::Oldest, &[Rendering::Webhook, Rendering::Offline]).await;
}

/// A pod with this in its container.
fn pod(name: &str, mut container: Value) -> Value {
    container["name"] = json!("web");
    container["image"] = json!("localhost/none:v1");
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container]},
    })
}

#[tokio::test]
async fn a_pod_near_the_api_servers_limits_is_created_without_the_agent_and_this_is_told() {
    near_the_limits(Rendering::AdmissionPolicy).await;
}

#[tokio::test]
async fn so_it_is_by_the_webhook() {
    near_the_limits(Rendering::Webhook).await;
}

async fn near_the_limits(rendering: Rendering) {
    let bench = Bench::new(Minor::Newest, rendering).await;
    let words = |name: &str, bytes: usize| {
        pod(
            name,
            json!({"args": vec!["a".repeat(1 << 10); bytes >> 10]}),
        )
    };
    let variables = |name: &str, count: usize| {
        let variables = (0..count).map(|n| json!({"name": format!("V{n:05}"), "value": "x"}));
        pod(name, json!({"env": variables.collect::<Vec<_>>()}))
    };
    let annotations = |name: &str, length: usize| {
        let mut pod = pod(name, json!({}));
        pod["metadata"]["annotations"] = json!({"a": "é".repeat(length)});
        pod
    };
    for (name, pod, is_small) in [
        ("args", words("args", 900 << 10), true),
        // etcd takes 1.5 MiB in one request: these arguments, what is beside them, and no agent more.
        ("more-args", words("more-args", 1530 << 10), false),
        ("variables", variables("variables", 13_000), true),
        ("more-variables", variables("more-variables", 17_000), false),
        ("annotations", annotations("annotations", 120 << 10), true),
        (
            "more-annotations",
            annotations("more-annotations", (128 << 10) - 1),
            false,
        ),
    ] {
        let manifest = pod.to_string();
        let created = bench
            .create(PLATFORM, &manifest)
            .await
            .remove(name)
            .unwrap();
        assert_eq!(is_injected(&created), is_small, "{name}");
        let (injected, told) = bench.inject(&manifest).await;
        assert_eq!(injected.contains(layout::CONTAINER), is_small, "{name}");
        let says = if is_small {
            format!("stdin: Pod {name}: added the log agent\n")
        } else {
            format!(
                "stdin: Pod {name}: left as it is, because it is nearly as large as the API server takes: move text from its arguments, variables or annotations to a ConfigMap\n"
            )
        };
        assert_eq!(told, says);
        assert_eq!(
            bench.create(PLAIN, &injected).await[name],
            created,
            "{name}"
        );
    }
    // With the agent, the largest of these pods would not have been.
    let (small, _) = bench.inject(&words("small", 1 << 10).to_string()).await;
    let mut large: Value = serde_saphyr::from_str(&small).unwrap();
    large["spec"]["containers"][0]["args"] =
        words("large", 1530 << 10)["spec"]["containers"][0]["args"].take();
    let create = ["create", "-n", PLAIN, "-f", "-"];
    let refused = bench
        .installed
        .cluster
        .kubectl_with(&create, &large.to_string())
        .await;
    let refused = refused.unwrap().stderr;
    assert!(refused.contains("too large"), "{refused}");
}

#[tokio::test]
async fn a_pod_that_mounts_our_volumes_without_declaring_them_is_refused_as_it_is_without_us() {
    undeclared(Rendering::AdmissionPolicy).await;
}

#[tokio::test]
async fn so_it_is_beside_the_webhook() {
    undeclared(Rendering::Webhook).await;
}

/// With our volumes in it, such a pod would be taken, and read the credentials of sinks or the logs of a node's other pods.
async fn undeclared(rendering: Rendering) {
    let bench = Bench::new(Minor::Newest, rendering).await;
    let refusal = async |namespace: &str, manifest: &str| {
        let create = ["create", "-n", namespace, "-f", "-"];
        let cluster = &bench.installed.cluster;
        let created = cluster.kubectl_with(&create, manifest).await.unwrap();
        assert!(created.stdout.is_empty(), "{}", created.stdout);
        created.stderr
    };
    let mounts = |name: &str| json!({"volumeMounts": [{"name": name, "mountPath": "/theirs"}]});
    let mut pods: Vec<Value> = VOLUMES
        .iter()
        .map(|volume| pod("mounts", mounts(volume)))
        .collect();
    let device = json!({"volumeDevices": [{"name": VOLUMES[0], "devicePath": "/dev/theirs"}]});
    pods.push(pod("device", device));
    let mut first = pod("first", json!({}));
    let init = pod("first", mounts(VOLUMES[0]))["spec"]["containers"][0].take();
    first["spec"]["initContainers"] = json!([init]);
    first["spec"]["initContainers"][0]["name"] = json!("first");
    pods.push(first);
    for pod in pods {
        let manifest = pod.to_string();
        let without = refusal(PLAIN, &manifest).await;
        assert!(without.contains("Not found"), "{without}");
        assert_eq!(refusal(PLATFORM, &manifest).await, without);
        let (left, told) = bench.inject(&manifest).await;
        assert!(!left.contains(layout::CONTAINER), "{left}");
        assert!(told.contains("which it does not declare"), "{told}");
    }
}

#[tokio::test]
async fn no_limit_range_refuses_a_pod_because_the_agent_shares_in_its_resources() {
    let bench = Bench::new(Minor::Newest, Rendering::AdmissionPolicy).await;
    let of_pod =
        json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}});
    let shares = |name: &str| {
        let mut pod = pod(name, json!({}));
        pod["spec"]["resources"] = of_pod.clone();
        pod.to_string()
    };
    let before = bench.create(PLATFORM, &shares("before")).await;
    assert!(is_injected(&before["before"]));
    assert_eq!(
        before["before"]["spec"]["initContainers"][0]["resources"],
        json!({})
    );
    // What the container and the agent would be given together is more than the pod has.
    let defaults = json!({"cpu": "60m", "memory": "40Mi"});
    let limit = json!({"type": "Container", "default": defaults, "defaultRequest": defaults});
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "defaults"}, "spec": {"limits": [limit]}});
    let create = ["create", "-n", PLATFORM, "-f", "-"];
    let created = bench
        .installed
        .cluster
        .kubectl_with(&create, &range.to_string())
        .await;
    created.unwrap().ok().unwrap();
    let after = eventually("the limit range is in force", SOON, async || {
        let created = bench
            .create(PLATFORM, &shares("after"))
            .await
            .remove("after")
            .unwrap();
        let has_defaults = created["spec"]["containers"][0]["resources"]["limits"].is_object();
        if !has_defaults {
            let delete = ["delete", "pod", "after", "--force", "-n", PLATFORM];
            bench.installed.cluster.kubectl(&delete).await?.ok()?;
        }
        Ok(has_defaults.then_some(created))
    })
    .await
    .unwrap();
    assert!(!is_injected(&after));
}
