//! Restarts with real controllers and without a node: a stand-in for the kubelet says which pods are ready.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::{
    api::{
        admissionregistration::v1::MutatingAdmissionPolicyBinding,
        core::v1::{ConfigMap, Pod},
    },
    jiff::{Timestamp, ToSpan as _, tz::TimeZone},
};
use katonic_log_config::layout;
use katonic_logging_core::{names, sidecar::VOLUMES};
use katonic_logging_crds::PodCount;
use katonic_logging_e2e::{
    cluster::{Options, Tier},
    eventually::eventually,
    operator::{Installed, Operator, PLATFORM, condition},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{automatic, has_agent, pods_of, restarted_at, uid};

/// How long controllers and operator have for a step.
const WITHIN: Duration = Duration::from_secs(40);

const ENDPOINT: &str = "https://hec.example.com:8088";

/// Says of pods that they run and are ready, but for those of some apps.
struct Kubelet {
    held: Arc<Mutex<BTreeSet<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kubelet {
    fn start(client: Client) -> Self {
        let held: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let shared = held.clone();
        let task = tokio::spawn(async move {
            let pods: Api<Pod> = Api::namespaced(client, PLATFORM);
            loop {
                let all = pods.list(&ListParams::default()).await;
                for pod in all.map(|list| list.items).unwrap_or_default() {
                    let app = pod.labels().get("app").cloned().unwrap_or_default();
                    let phase = pod
                        .status
                        .as_ref()
                        .and_then(|status| status.phase.as_deref());
                    if phase == Some("Pending") && !shared.lock().unwrap().contains(&app) {
                        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": Timestamp::now()});
                        let status = json!({"status": {"phase": "Running", "conditions": [ready]}});
                        // It may be gone by now.
                        let _ = pods
                            .patch_status(
                                &pod.name_any(),
                                &PatchParams::default(),
                                &Patch::Merge(status),
                            )
                            .await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { held, task }
    }

    /// New pods of this app do not become ready.
    fn hold(&self, app: &str) {
        self.held.lock().unwrap().insert(app.to_owned());
    }

    fn release(&self, app: &str) {
        self.held.lock().unwrap().remove(app);
    }
}

struct World {
    installed: Installed,
    kubelet: Kubelet,
}

async fn world() -> World {
    let installed = Installed::start(Tier::Controllers, Options::default())
        .await
        .unwrap();
    installed
        .sink_secret("splunk", "token", "abc")
        .await
        .unwrap();
    let kubelet = Kubelet::start(installed.client.clone());
    World { installed, kubelet }
}

fn template(app: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "main", "image": "localhost/none:v1"}]},
    })
}

fn workload(kind: &str, name: &str, more: &Value) -> Value {
    let mut spec = json!({
        "replicas": 1,
        "selector": {"matchLabels": {"app": name}},
        "template": template(name),
    });
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

impl World {
    async fn create(&self, objects: &[Value]) {
        for object in objects {
            let created = self
                .installed
                .cluster
                .kubectl_with(&["-n", PLATFORM, "create", "-f", "-"], &object.to_string())
                .await
                .unwrap();
            created.ok().unwrap();
        }
        for object in objects {
            let app = object["metadata"]["name"].as_str().unwrap();
            eventually(format!("the pod of {app} runs"), WITHIN, async || {
                let pods = pods_of(&self.installed.client, PLATFORM, app).await;
                Ok(pods.iter().any(is_running).then_some(()))
            })
            .await
            .unwrap();
        }
    }

    async fn operator(&self) -> Operator {
        Operator::start(&self.installed.cluster, "one")
            .await
            .unwrap()
    }

    /// Waits until the condition `Injected` has this reason and its message these words.
    async fn says(&self, reason: &str, words: &[&str]) {
        let policies = self.installed.policies();
        eventually(format!("the policy says {words:?}"), WITHIN, async || {
            let status = policies.get("logs").await?.status.unwrap_or_default();
            let injected = condition(&status, "Injected").cloned();
            let holds = injected.as_ref().is_some_and(|injected| {
                injected.reason == reason
                    && words.iter().all(|words| injected.message.contains(words))
            });
            anyhow::ensure!(holds, "it is {injected:?}");
            Ok(Some(()))
        })
        .await
        .unwrap();
    }

    /// Waits until all pods of an app have the agent.
    async fn follows(&self, app: &str) {
        eventually(
            format!("the pods of {app} have the agent"),
            WITHIN,
            async || {
                let pods = pods_of(&self.installed.client, PLATFORM, app).await;
                Ok((!pods.is_empty() && pods.iter().all(has_agent)).then_some(()))
            },
        )
        .await
        .unwrap();
    }

    async fn restarted(&self, workload: &str) -> Option<String> {
        restarted_at(&self.installed, PLATFORM, workload).await
    }

    async fn install_window(&self, window: &str) {
        let agent = "{image: 'localhost/katonic-log-agent:0.1.0'}";
        self.install(&format!("agent: {agent}\n  rollout: {{window: {window}}}"))
            .await;
    }

    async fn install(&self, logging: &str) {
        let yaml = format!(
            "namespaces: {{platform: {{name: {PLATFORM}}}, compute: {{name: katonic-compute}}}}\n\
             logging:\n  {logging}\n"
        );
        let maps: Api<ConfigMap> =
            Api::namespaced(self.installed.client.clone(), names::OPERATOR_NAMESPACE);
        let patch = Patch::Merge(json!({"data": {names::INSTALLATION_KEY: yaml}}));
        maps.patch(names::INSTALLATION, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }
}

fn is_running(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase == Some("Running")
}

#[tokio::test]
async fn owners_are_restarted_one_after_the_other_and_jobs_and_bare_pods_are_left_alone() {
    let world = world().await;
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "import"},
        "spec": {"template": {"metadata": {"labels": {"app": "import"}}, "spec": {
            "restartPolicy": "Never", "containers": [{"name": "main", "image": "localhost/none:v1"}],
        }}},
    });
    let mut bare = template("bare");
    bare["apiVersion"] = "v1".into();
    bare["kind"] = "Pod".into();
    bare["metadata"]["name"] = "bare".into();
    let db = json!({"replicas": 2, "podManagementPolicy": "Parallel"});
    world
        .create(&[
            workload("Deployment", "web", &json!({"replicas": 2})),
            workload("StatefulSet", "db", &db),
            job,
            bare,
        ])
        .await;
    let mut untouched = Vec::new();
    for app in ["import", "bare"] {
        untouched.extend(pods_of(&world.installed.client, PLATFORM, app).await);
    }
    world.kubelet.hold("web");
    let operator = world.operator().await;
    world
        .installed
        .create(&automatic("logs", ENDPOINT))
        .await
        .unwrap();
    let restarting = "deployment/web of namespace katonic-platform is being restarted";
    let words = [
        restarting,
        "1 owner has to wait for its turn",
        "1 belong to Jobs and end by themselves",
        "1 have no owner and get it when they are next created",
    ];
    world.says("PodsWithoutAgent", &words).await;
    let first = world.restarted("deployment/web").await.unwrap();
    // An operator that starts anew in the middle waits for the same one.
    operator.kill().await.unwrap();
    let policies = world.installed.policies();
    let forgotten = Patch::Merge(json!({"status": {"conditions": []}}));
    policies
        .patch_status("logs", &PatchParams::default(), &forgotten)
        .await
        .unwrap();
    let operator = world.operator().await;
    world.says("PodsWithoutAgent", &words).await;
    assert_eq!(world.restarted("statefulset/db").await, None);

    world.kubelet.release("web");
    world.follows("web").await;
    world.follows("db").await;
    world
        .says(
            "PodsWithoutAgent",
            &["4 of 6 selected pods run the log agent"],
        )
        .await;
    assert_eq!(world.restarted("deployment/web").await, Some(first.clone()));
    let second = world.restarted("statefulset/db").await.unwrap();
    assert!(first < second, "{first} {second}");
    let mut left = Vec::new();
    for app in ["import", "bare"] {
        left.extend(pods_of(&world.installed.client, PLATFORM, app).await);
    }
    assert_eq!(
        left.iter().map(uid).collect::<Vec<_>>(),
        untouched.iter().map(uid).collect::<Vec<_>>()
    );
    let (_, metrics) = operator.get("/metrics").await.unwrap();
    for line in [
        r#"katonic_logging_writes_total{kind="StatefulSet",outcome="success"} 1"#,
        r#"katonic_logging_pods{policy="logs",state="Current"} 4"#,
        r#"katonic_logging_pods{policy="logs",state="CreatedBefore"} 2"#,
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
}

#[tokio::test]
async fn restarts_stop_at_the_first_owner_that_does_not_become_healthy_and_go_on_when_it_is() {
    let world = world().await;
    world
        .create(&[
            workload("Deployment", "api", &json!({"progressDeadlineSeconds": 2})),
            workload("Deployment", "web", &json!({})),
        ])
        .await;
    world.kubelet.hold("api");
    let _operator = world.operator().await;
    world
        .installed
        .create(&automatic("logs", ENDPOINT))
        .await
        .unwrap();
    world
        .says(
            "RolloutStopped",
            &[
                "the restarts have stopped at deployment/api of namespace katonic-platform",
                "`kubectl -n katonic-platform rollout status deployment/api`",
                "1 owner has to wait for its turn",
            ],
        )
        .await;
    let status = world
        .installed
        .ready("logs", "False", "RolloutStopped")
        .await
        .unwrap();
    assert_eq!(condition(&status, "Stalled").unwrap().status, "True");
    assert_eq!(world.restarted("deployment/web").await, None);
    world.kubelet.release("api");
    world.follows("web").await;
    world
        .installed
        .ready("logs", "True", "InForce")
        .await
        .unwrap();
}

#[tokio::test]
async fn while_the_window_is_closed_nothing_is_restarted_and_the_status_says_when_it_opens() {
    let world = world().await;
    world
        .create(&[workload("Deployment", "web", &json!({}))])
        .await;
    let later = Timestamp::now()
        .to_zoned(TimeZone::UTC)
        .saturating_add(3.days());
    let day = later.strftime("%A");
    world
        .install_window(&format!("{{days: [{day}], from: '01:30', to: '02:30'}}"))
        .await;
    let _operator = world.operator().await;
    world
        .installed
        .create(&automatic("logs", ENDPOINT))
        .await
        .unwrap();
    let opens = format!("which opens at {}T01:30:00Z", later.strftime("%Y-%m-%d"));
    let words = [
        "1 owner has to wait for the window of restarts",
        opens.as_str(),
    ];
    world.says("PodsWithoutAgent", &words).await;
    assert_eq!(world.restarted("deployment/web").await, None);
    world.install_window("{from: '00:00', to: '24:00'}").await;
    world.follows("web").await;
}

#[tokio::test]
async fn what_takes_no_restart_is_named_with_what_to_do() {
    let world = world().await;
    // No restart gives these the agent.
    let mut quiet = workload("Deployment", "quiet", &json!({}));
    quiet["spec"]["template"]["metadata"]["labels"][names::INJECT_LABEL] = names::INJECT_NO.into();
    let mut taken = workload("Deployment", "taken", &json!({}));
    taken["spec"]["template"]["spec"]["containers"][0]["name"] = layout::CONTAINER.into();
    world.create(&[quiet, taken]).await;
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    world
        .create(&[
            workload("Deployment", "paused", &json!({"paused": false})),
            workload("StatefulSet", "by-hand", &on_delete),
            workload("ReplicaSet", "alone", &json!({})),
        ])
        .await;
    let pause = ["-n", PLATFORM, "rollout", "pause", "deployment/paused"];
    world
        .installed
        .cluster
        .kubectl(&pause)
        .await
        .unwrap()
        .ok()
        .unwrap();
    // Its right to restart is taken away, as an administrator may who wants no restarts at all.
    let role = ["-n", PLATFORM, "delete", "role", "katonic-logging-rollout"];
    world
        .installed
        .cluster
        .kubectl(&role)
        .await
        .unwrap()
        .ok()
        .unwrap();
    let _operator = world.operator().await;
    world
        .installed
        .create(&automatic("logs", ENDPOINT))
        .await
        .unwrap();
    world
        .says("PodsWithoutAgent", &["could not be restarted", "forbidden"])
        .await;
    let plane = katonic_logging_e2e::program::workspace().join("manifests/plane/rbac.yaml");
    let apply = [
        "apply",
        "--server-side",
        "-n",
        PLATFORM,
        "-f",
        plane.to_str().unwrap(),
    ];
    world
        .installed
        .cluster
        .kubectl(&apply)
        .await
        .unwrap()
        .ok()
        .unwrap();
    world
        .says(
            "PodsWithoutAgent",
            &[
                "deployment/paused of namespace katonic-platform is paused: `kubectl -n katonic-platform rollout resume deployment/paused`",
                "statefulset/by-hand of namespace katonic-platform has the update strategy OnDelete",
                "1 belong to the kind ReplicaSet",
            ],
        )
        .await;
    let resume = ["-n", PLATFORM, "rollout", "resume", "deployment/paused"];
    world
        .installed
        .cluster
        .kubectl(&resume)
        .await
        .unwrap()
        .ok()
        .unwrap();
    world.follows("paused").await;
    let told = ["1 opted out", "1 cannot have it as they are written"];
    world.says("PodsWithoutAgent", &told).await;
    for workload in ["deployment/quiet", "deployment/taken"] {
        assert_eq!(world.restarted(workload).await, None);
    }
    for app in ["by-hand", "alone"] {
        assert!(!has_agent(
            &pods_of(&world.installed.client, PLATFORM, app).await[0]
        ));
    }
}

#[tokio::test]
async fn the_commands_that_a_manual_policy_names_give_the_agent_to_every_pod_they_can() {
    let world = world().await;
    world
        .create(&[
            workload("Deployment", "web", &json!({})),
            workload("StatefulSet", "db", &json!({})),
        ])
        .await;
    let _operator = world.operator().await;
    let mut policy = automatic("logs", ENDPOINT);
    policy.spec.rollout = None;
    world.installed.create(&policy).await.unwrap();
    let command = "kubectl -n katonic-platform rollout restart deployment/web statefulset/db";
    world
        .says("PodsWithoutAgent", &["0 of 2 selected pods", command])
        .await;
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    world
        .installed
        .cluster
        .kubectl(&arguments)
        .await
        .unwrap()
        .ok()
        .unwrap();
    world.follows("web").await;
    world.follows("db").await;
    let status = world
        .installed
        .ready("logs", "True", "InForce")
        .await
        .unwrap();
    assert_eq!(status.pods.unwrap().summary, "2/2");
}

#[tokio::test]
async fn a_changed_agent_reaches_running_pods_and_one_that_is_refused_restarts_nothing() {
    let world = world().await;
    let limits = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small-containers"},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "48Mi"}}]},
    });
    let create = ["-n", PLATFORM, "create", "-f", "-"];
    let limits = limits.to_string();
    let created = world.installed.cluster.kubectl_with(&create, &limits).await;
    created.unwrap().ok().unwrap();
    let operator = world.operator().await;
    let policy = automatic("logs", ENDPOINT);
    world.installed.create(&policy).await.unwrap();
    world
        .installed
        .ready("logs", "True", "InForce")
        .await
        .unwrap();
    world
        .create(&[workload("Deployment", "web", &json!({}))])
        .await;
    world.follows("web").await;
    let agent = |version: &str, memory: &str| {
        format!(
            "agent: {{image: 'localhost/katonic-log-agent:{version}', resources: {{limits: {{memory: {memory}}}}}}}"
        )
    };

    world.install(&agent("0.2.0", "64Mi")).await;
    world
        .says("InjectionRefused", &["pods go on getting the former one"])
        .await;
    let (_, metrics) = operator.get("/metrics").await.unwrap();
    let current = r#"katonic_logging_pods{policy="logs",state="Current"} 1"#;
    assert!(metrics.contains(current), "{metrics}");
    assert!(!metrics.contains("OlderAgent"), "{metrics}");
    assert_eq!(world.restarted("deployment/web").await, None);

    world.install(&agent("0.3.0", "32Mi")).await;
    eventually("the pod has the changed agent", WITHIN, async || {
        let pods = pods_of(&world.installed.client, PLATFORM, "web").await;
        let has_it = |pod: &Pod| {
            let spec = pod.spec.as_ref();
            let mut agents = spec
                .iter()
                .flat_map(|spec| spec.init_containers.iter().flatten());
            agents.any(|agent| agent.image.as_deref() == Some("localhost/katonic-log-agent:0.3.0"))
        };
        Ok((!pods.is_empty() && pods.iter().all(has_it)).then_some(()))
    })
    .await
    .unwrap();
    assert!(world.restarted("deployment/web").await.is_some());
    world
        .installed
        .ready("logs", "True", "InForce")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_manual_policy_names_the_command_for_pods_with_an_older_agent_and_restarts_none() {
    let world = world().await;
    let _operator = world.operator().await;
    let mut policy = automatic("logs", ENDPOINT);
    policy.spec.rollout = None;
    world.installed.create(&policy).await.unwrap();
    let ready = async || world.installed.ready("logs", "True", "InForce").await;
    ready().await.unwrap();
    world
        .create(&[
            workload("Deployment", "web", &json!({})),
            workload("StatefulSet", "db", &json!({})),
        ])
        .await;
    world.follows("web").await;
    world.follows("db").await;
    world
        .install("agent: {image: 'localhost/katonic-log-agent:0.2.0'}")
        .await;
    let command = "kubectl -n katonic-platform rollout restart deployment/web statefulset/db";
    let told =
        format!("2 of 2 selected pods run the log agent, 2 of them an older one: `{command}`");
    world.says("AllPods", &[&told]).await;
    // It works, so the policy stays Ready, and nobody but a person restarts anything.
    let pods = ready().await.unwrap().pods.unwrap();
    let uncovered = pods
        .uncovered
        .iter()
        .map(|one| (one.reason.as_str(), one.count));
    assert_eq!(uncovered.collect::<Vec<_>>(), [("OlderAgent", 2)]);
    for workload in ["deployment/web", "statefulset/db"] {
        assert_eq!(world.restarted(workload).await, None);
    }
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    let restarted = world.installed.cluster.kubectl(&arguments).await;
    restarted.unwrap().ok().unwrap();
    eventually("no pod has an older agent", WITHIN, async || {
        let status = world.installed.policies().get("logs").await?.status;
        let pods = status.and_then(|status| status.pods);
        let all = |pods: PodCount| pods.summary == "2/2" && pods.uncovered.is_empty();
        Ok(pods.is_some_and(all).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_owner_restarted_in_vain_is_not_restarted_again_because_the_window_changes() {
    let world = world().await;
    let _operator = world.operator().await;
    let policy = automatic("logs", ENDPOINT);
    world.installed.create(&policy).await.unwrap();
    world
        .installed
        .ready("logs", "True", "InForce")
        .await
        .unwrap();
    world
        .create(&[workload("Deployment", "web", &json!({}))])
        .await;
    world.follows("web").await;
    // Somebody's policy has these run the agent of today for ever.
    for object in pins_agents(&["fixed", "later"], "localhost/katonic-log-agent:0.1.0") {
        let arguments = ["apply", "--server-side", "-f", "-"];
        let cluster = &world.installed.cluster;
        let applied = cluster.kubectl_with(&arguments, &object.to_string()).await;
        applied.unwrap().ok().unwrap();
    }
    let fixed = |name: &str| workload("Deployment", name, &json!({}));
    world.create(&[fixed("fixed")]).await;
    let agent = "agent: {image: 'localhost/katonic-log-agent:0.2.0'}";
    world.install(agent).await;
    let restarted = eventually("the owner is restarted", WITHIN, async || {
        Ok(world.restarted("deployment/fixed").await)
    })
    .await
    .unwrap();
    let in_vain = "pods of it still lack the agent: it is not restarted again";
    world.says("AllPods", &["deployment/fixed", in_vain]).await;
    world
        .install(&format!(
            "{agent}\n  rollout: {{window: {{from: '00:00', to: '24:00'}}}}"
        ))
        .await;
    eventually("the window is in force", WITHIN, async || {
        let bindings: Api<MutatingAdmissionPolicyBinding> =
            Api::all(world.installed.client.clone());
        let binding = bindings.get(names::ADMISSION_BINDING).await?;
        let written = binding
            .annotations()
            .get(names::INSTALLATION_ANNOTATION)
            .cloned();
        Ok(written
            .is_some_and(|written| written.contains("24:00"))
            .then_some(()))
    })
    .await
    .unwrap();
    // Another owner has its turn after this one, if this one had a turn.
    world.create(&[fixed("later")]).await;
    eventually("a later owner is restarted", WITHIN, async || {
        Ok(world.restarted("deployment/later").await)
    })
    .await
    .unwrap();
    assert_eq!(world.restarted("deployment/fixed").await, Some(restarted));
}

/// A policy that gives the agents of these owners' pods this image.
fn pins_agents(apps: &[&str], image: &str) -> [Value; 2] {
    let name = "pins.example.com";
    // Without a condition: a policy that did not match before the agent was there is not asked again.
    let expression = format!(
        "has(object.spec.initContainers) ? [JSONPatch{{op: 'replace', path: '/spec/initContainers/0/image', value: '{image}'}}] : []"
    );
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Ignore",
            "reinvocationPolicy": "IfNeeded",
            "matchConstraints": {
                "resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"],
                }],
                "objectSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": apps}]},
            },
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name},
    });
    [policy, binding]
}

#[tokio::test]
async fn an_owner_with_an_agent_in_its_template_is_named_and_not_restarted() {
    let world = world().await;
    let _operator = world.operator().await;
    let policy = automatic("logs", ENDPOINT);
    world.installed.create(&policy).await.unwrap();
    world
        .installed
        .ready("logs", "True", "InForce")
        .await
        .unwrap();
    world
        .create(&[workload("Deployment", "web", &json!({}))])
        .await;
    world.follows("web").await;
    // A manifest that the agent of today was added to before it was applied.
    let web = pods_of(&world.installed.client, PLATFORM, "web")
        .await
        .remove(0);
    let spec = serde_json::to_value(web.spec).unwrap();
    let volumes = spec["volumes"].as_array().unwrap().iter();
    let volumes: Vec<&Value> = volumes
        .filter(|volume| VOLUMES.contains(&volume["name"].as_str().unwrap_or_default()))
        .collect();
    let fixed = |name: &str| {
        let mut workload = workload("Deployment", name, &json!({}));
        let template = &mut workload["spec"]["template"]["spec"];
        template["initContainers"] = json!([spec["initContainers"][0]]);
        template["volumes"] = json!(volumes);
        workload
    };
    world.create(&[fixed("fixed")]).await;
    world
        .install("agent: {image: 'localhost/katonic-log-agent:0.2.0'}")
        .await;
    let told = "deployment/fixed of namespace katonic-platform has an agent in its template";
    world
        .says("AllPods", &[told, "katonic-logging inject"])
        .await;
    // Its name comes first, so it would have had its turn before this one.
    eventually("the other owner is restarted", WITHIN, async || {
        Ok(world.restarted("deployment/web").await)
    })
    .await
    .unwrap();
    world.says("AllPods", &[told]).await;
    assert_eq!(world.restarted("deployment/fixed").await, None);
}

#[tokio::test]
async fn nothing_is_restarted_while_nothing_injects_the_pods_that_would_follow() {
    let world = world().await;
    world
        .create(&[workload("Deployment", "web", &json!({}))])
        .await;
    let agent = "{image: 'localhost/katonic-log-agent:0.1.0'}";
    let by_webhook = format!("agent: {agent}\n  injection: {{mode: Webhook}}");
    world.install(&by_webhook).await;
    let operator = world.operator().await;
    world
        .installed
        .create(&automatic("logs", ENDPOINT))
        .await
        .unwrap();
    world.says("WebhookNotInstalled", &[]).await;
    // It has counted the pod, and so would have restarted its owner.
    let wanted = r#"katonic_logging_pods{policy="logs",state="CreatedBefore"} 1"#;
    eventually("the pod is counted", WITHIN, async || {
        let (_, metrics) = operator.get("/metrics").await?;
        Ok(metrics.contains(wanted).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(world.restarted("deployment/web").await, None);
    world.install(&format!("agent: {agent}")).await;
    world.follows("web").await;
    assert!(world.restarted("deployment/web").await.is_some());
}
