//! From one way of injection to the other, and ways that cannot work.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::api::{admissionregistration::v1::MutatingAdmissionPolicyBinding, core::v1::Pod};
use katonic_log_config::layout;
use katonic_logging_core::{names, webhook::configuration::bound_namespaces};
use katonic_logging_e2e::{
    cluster::{Minor, Options, Tier},
    eventually::eventually,
    operator::{COMPUTE, Installed, Operator, PLATFORM, SOON, condition, splunk_policy},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{ENDPOINT, World, agents, apply, install, install_agent, pod, start_operator, try_pod};

/// How long the next pod waits: a tenth of the shortest time that anything here has to settle.
const BETWEEN: Duration = Duration::from_millis(50);

/// Tries pods one after another until it is told to stop; how many agents each of them had.
pub struct Stream {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<usize>>,
}

impl Stream {
    pub fn start(installed: &Installed) -> Self {
        Self::tolerating(installed, |_| false)
    }

    /// The same where the API server is replaced: none answers for a while, and then one that has not read its own `OpenAPI` document
    /// yet (`docs/injection.md`, "How pods get it"). Neither creates a pod that could lack the agent.
    pub fn across_an_upgrade(installed: &Installed) -> Self {
        Self::tolerating(installed, |error| match error {
            kube::Error::Api(status) => {
                status.code == 503
                    && status
                        .message
                        .starts_with("Resource kind /v1, Kind=Pod not found.")
            }
            kube::Error::HyperError(_) | kube::Error::Service(_) => true,
            _ => false,
        })
    }

    fn tolerating(installed: &Installed, is_tolerated: fn(&kube::Error) -> bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, client) = (stop.clone(), installed.client.clone());
        let task = tokio::spawn(async move {
            let pods: Api<Pod> = Api::namespaced(client, PLATFORM);
            let dry_run = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            let mut seen = Vec::new();
            while !told.load(Ordering::SeqCst) {
                match pods.create(&dry_run, &pod()).await {
                    Ok(created) => seen.push(agents(&created)),
                    Err(error) => assert!(is_tolerated(&error), "a pod was not created: {error:?}"),
                }
                // Each costs the API server some milliseconds of work.
                tokio::time::sleep(BETWEEN).await;
            }
            seen
        });
        Self { stop, task }
    }

    pub async fn end(self) -> Vec<usize> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

pub async fn bindings(installed: &Installed) -> Vec<String> {
    let all: Api<MutatingAdmissionPolicyBinding> = Api::all(installed.client.clone());
    let all = all.list(&ListParams::default()).await.unwrap().items;
    all.iter().map(ResourceExt::name_any).collect()
}

/// Waits until this way is the only one; how long both were there.
async fn takes_over(world: &World, mode: &str) -> Duration {
    let both = Cell::new(None);
    eventually(format!("{mode} has taken over"), SOON, async || {
        let bindings = bindings(&world.installed).await;
        let policy = bindings.iter().any(|name| name == names::ADMISSION_BINDING);
        let webhook = world.configuration().await.is_some();
        anyhow::ensure!(policy || webhook, "no way is there");
        if policy && webhook {
            both.set(both.get().or_else(|| Some(Instant::now())));
        }
        let alone = policy != webhook && webhook == (mode == "Webhook");
        Ok(alone.then_some(()))
    })
    .await
    .unwrap();
    both.get().map(|since| since.elapsed()).unwrap_or_default()
}

#[tokio::test]
async fn each_way_takes_over_from_the_other_and_every_pod_meanwhile_has_one_agent() {
    let world = World::new("AdmissionPolicy").await;
    let _webhook = world.webhook().await;
    world.policy().await;
    world.ready("True", "InForce").await;
    assert!(world.configuration().await.is_none());
    assert_eq!(bindings(&world.installed).await, [names::ADMISSION_BINDING]);
    let stream = Stream::start(&world.installed);
    for _ in 0..2 {
        for mode in ["Webhook", "AdmissionPolicy"] {
            install(&world.installed, mode).await;
            let both = takes_over(&world, mode).await;
            // The API server that has answered is not the only one.
            assert!(both > Duration::from_millis(2_500), "{mode}: {both:?}");
            world.ready("True", "InForce").await;
        }
    }
    let seen = stream.end().await;
    assert!(seen.len() > 50, "{}", seen.len());
    assert!(seen.iter().all(|agents| *agents == 1), "{seen:?}");
}

#[tokio::test]
async fn a_webhook_that_is_not_there_is_told_and_the_admission_policy_stays() {
    let installed = Installed::start(Tier::ApiServer, Options::default())
        .await
        .unwrap();
    let _operator = Operator::start(&installed.cluster, "one").await.unwrap();
    installed
        .sink_secret("splunk", "token", "abc")
        .await
        .unwrap();
    installed
        .create(&splunk_policy("logs", ENDPOINT, "splunk"))
        .await
        .unwrap();
    installed.ready("logs", "True", "InForce").await.unwrap();
    let stream = Stream::start(&installed);
    let told = async |reason: &str, words: &str| {
        let status = installed.ready("logs", "False", reason).await.unwrap();
        let injected = condition(&status, "Injected").unwrap().clone();
        assert_eq!(injected.reason, reason);
        assert!(injected.message.contains(words), "{}", injected.message);
        assert!(
            injected
                .message
                .contains("until then the admission policy goes on"),
            "{}",
            injected.message
        );
        status
    };
    install(&installed, "Webhook").await;
    let status = told(
        "WebhookNotInstalled",
        "`kubectl apply --server-side -k manifests/webhook`",
    )
    .await;
    assert!(condition(&status, "Stalled").is_some());
    apply(&installed, "manifests/webhook").await;
    // Nobody runs its pods here.
    let status = told("WebhookNotReady", "describe pods").await;
    assert!(condition(&status, "Reconciling").is_some());
    assert_eq!(bindings(&installed).await, [names::ADMISSION_BINDING]);
    install(&installed, "Auto").await;
    installed.ready("logs", "True", "InForce").await.unwrap();
    let seen = stream.end().await;
    assert!(
        !seen.is_empty() && seen.iter().all(|agents| *agents == 1),
        "{seen:?}"
    );
}

/// Revision of the agent of a pod that is created now.
async fn revision(world: &World) -> String {
    revision_in(world, PLATFORM).await
}

async fn revision_in(world: &World, namespace: &str) -> String {
    let pod = try_pod(&world.installed, namespace).await;
    assert_eq!(agents(&pod), 1, "in {namespace}");
    pod.annotations()[names::AGENT_REVISION_ANNOTATION].clone()
}

/// Pods of both planes get the agent of this revision.
async fn both_get(world: &World, revision: &str) {
    for namespace in [PLATFORM, COMPUTE] {
        assert_eq!(revision_in(world, namespace).await, revision, "{namespace}");
    }
}

/// A changed agent that is too large for one of the namespaces; the revision of the former one.
async fn held_up(world: &World) -> String {
    let before = revision(world).await;
    let limits = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small", "namespace": PLATFORM},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "64Mi"}}]},
    });
    let cluster = &world.installed.cluster;
    let limits = limits.to_string();
    let said = cluster.kubectl_with(&["apply", "-f", "-"], &limits).await;
    said.unwrap().ok().unwrap();
    install_agent(&world.installed, "Webhook", "128Mi").await;
    let message = world.ready("False", "InjectionRefused").await;
    assert!(
        message.contains("maximum memory usage per Container is 64Mi"),
        "{message}"
    );
    assert!(
        message.contains("pods go on getting the former one"),
        "{message}"
    );
    before
}

#[tokio::test]
async fn a_changed_agent_that_a_namespace_refuses_is_not_what_the_webhook_adds() {
    let (world, _webhook) = World::in_force(Options::default()).await;
    let before = held_up(&world).await;
    assert_eq!(revision(&world).await, before);
    let delete = ["delete", "limitrange", "-n", PLATFORM, "small"];
    let cluster = &world.installed.cluster;
    cluster.kubectl(&delete).await.unwrap().ok().unwrap();
    world.ready("True", "InForce").await;
    assert_ne!(revision(&world).await, before);
}

#[tokio::test]
async fn while_a_changed_agent_is_held_up_namespaces_and_authorities_are_told_as_they_come_and_go()
{
    let (world, _webhook) = World::in_force(Options::default()).await;
    let before = held_up(&world).await;

    let secrets = world.installed.secrets(names::OPERATOR_NAMESPACE);
    let at_once = DeleteParams::default();
    let former = world.published().await.unwrap();
    secrets
        .delete(names::WEBHOOK_CERTIFICATE, &at_once)
        .await
        .unwrap();
    eventually("both authorities are published", SOON, async || {
        assert_eq!(revision(&world).await, before);
        let published = world.published().await.unwrap_or_default();
        Ok((published != former && published.contains(former.trim_end())).then_some(()))
    })
    .await
    .unwrap();

    let label = format!("{}=baseline", names::POD_SECURITY_LABEL);
    let cluster = &world.installed.cluster;
    let labelled = cluster
        .kubectl(&["label", "namespace", COMPUTE, &label])
        .await;
    labelled.unwrap().ok().unwrap();
    eventually(
        "its pods are taken, and without the agent",
        SOON,
        async || {
            let pods: Api<Pod> = Api::namespaced(world.installed.client.clone(), COMPUTE);
            let dry_run = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            let created = pods.create(&dry_run, &pod()).await?;
            Ok((agents(&created) == 0).then_some(()))
        },
    )
    .await
    .unwrap();
    // By the selector at once; the operator takes it out a little later.
    eventually("it is no longer named", SOON, async || {
        let configuration = world.configuration().await;
        let bound = configuration.as_ref().map(bound_namespaces);
        Ok((bound == Some([PLATFORM.to_owned()].into())).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(revision(&world).await, before);
}

/// Somebody's policy that refuses trial pods with an agent of these sizes: what only the webhook itself can show.
async fn refuse_trials(world: &World, sizes: &[&str]) {
    let condition = format!(
        "!has(object.metadata.labels) || !('{}' in object.metadata.labels) || !has(object.spec.initContainers) || \
         !object.spec.initContainers.exists(c, c.name == '{}' && c.resources.limits['memory'] in {sizes:?})",
        names::TRIAL_LABEL,
        layout::CONTAINER
    );
    let trial = json!({
        "metadata": {"generateName": "trial-", "labels": {names::TRIAL_LABEL: "test"}},
        "spec": {
            "initContainers": [{
                "name": layout::CONTAINER, "image": "localhost/none:v1",
                "resources": {"limits": {"memory": sizes[0]}},
            }],
            "containers": [{"name": "web", "image": "localhost/none:v1"}],
        },
    });
    demand(world, &condition, trial).await;
}

const DEMAND: &str = "demand.example.com";

/// Somebody's policy that wants this of every pod; returns when this pod is refused.
async fn demand(world: &World, condition: &str, refused: Value) {
    let name = DEMAND;
    let objects = [
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"],
                }]},
                "validations": [{"expression": condition, "message": "this agent is not wanted here"}],
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]},
        }),
    ];
    for object in objects {
        let cluster = &world.installed.cluster;
        let said = cluster
            .kubectl_with(&["apply", "-f", "-"], &object.to_string())
            .await;
        said.unwrap().ok().unwrap();
    }
    let refused: Pod = serde_json::from_value(refused).unwrap();
    let pods: Api<Pod> = Api::namespaced(world.installed.client.clone(), PLATFORM);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    eventually("the policy is in force", SOON, async || {
        Ok(pods.create(&dry_run, &refused).await.is_err().then_some(()))
    })
    .await
    .unwrap();
}

/// The webhook cannot be tried before it is told what to add; what is refused then is taken back.
#[tokio::test]
async fn an_agent_that_only_the_webhook_shows_to_be_refused_is_taken_back() {
    let options = Options {
        minor: Minor::Oldest,
        ..Options::default()
    };
    let world = World::with("Webhook", options).await;
    let _webhook = world.webhook().await;
    refuse_trials(&world, &["32Mi", "128Mi"]).await;
    world.policy().await;
    let message = world.ready("False", "InjectionRefused").await;
    assert!(
        message.contains("this agent is not wanted here"),
        "{message}"
    );
    assert!(message.contains("so no pod of"), "{message}");
    eventually("nothing is left of it", SOON, async || {
        Ok(world.configuration().await.is_none().then_some(()))
    })
    .await
    .unwrap();

    install_agent(&world.installed, "Webhook", "48Mi").await;
    world.ready("True", "InForce").await;
    let before = revision(&world).await;
    let given = given_since(&world).await;
    install_agent(&world.installed, "Webhook", "128Mi").await;
    let message = world.ready("False", "InjectionRefused").await;
    assert!(
        message.contains("this agent is not wanted here"),
        "{message}"
    );
    assert!(
        message.contains("pods go on getting the former one"),
        "{message}"
    );
    both_get(&world, &before).await;
    assert_eq!(given_since(&world).await, given);
}

/// What is done to pods of each namespace, and since when: an owner that was restarted after that is not restarted again.
async fn given_since(world: &World) -> Value {
    let configuration = world.configuration().await.unwrap();
    let history = &configuration.annotations()[names::HISTORY_ANNOTATION];
    let history: Value = serde_json::from_str(history).unwrap();
    assert!(history["since"][PLATFORM].is_object(), "{history}");
    history["since"].clone()
}

/// What is written at that moment is what nobody has seen to be taken.
#[tokio::test]
async fn an_operator_killed_while_it_tries_an_agent_leaves_the_next_one_the_former() {
    let (world, _webhook) = World::in_force(Options::default()).await;
    let before = revision(&world).await;
    refuse_trials(&world, &["128Mi"]).await;
    install_agent(&world.installed, "Webhook", "128Mi").await;
    eventually("it is tried", SOON, async || {
        let annotations = world.configuration().await.unwrap().metadata.annotations;
        let is_tried = annotations.unwrap().contains_key(names::FORMER_ANNOTATION);
        Ok(is_tried.then_some(()))
    })
    .await
    .unwrap();
    world.operator.kill().await.unwrap();
    let operator = start_operator(&world.installed, world.address).await;
    let world = World { operator, ..world };
    let message = world.ready("False", "InjectionRefused").await;
    assert!(
        message.contains("this agent is not wanted here"),
        "{message}"
    );
    assert!(
        message.contains("pods go on getting the former one"),
        "{message}"
    );
    both_get(&world, &before).await;
    let annotations = world.configuration().await.unwrap().metadata.annotations;
    assert!(!annotations.unwrap().contains_key(names::FORMER_ANNOTATION));
}

/// Nothing else shows it than the webhook, which is tried again when its configuration has changed.
#[tokio::test]
async fn an_agent_that_all_namespaces_come_to_refuse_is_taken_from_all_of_them() {
    let (world, _webhook) = World::in_force(Options::default()).await;
    refuse_trials(&world, &["32Mi"]).await;
    let secrets = world.installed.secrets(names::OPERATOR_NAMESPACE);
    secrets
        .delete(names::WEBHOOK_CERTIFICATE, &DeleteParams::default())
        .await
        .unwrap();
    let message = world.ready("False", "InjectionRefused").await;
    assert!(
        message.contains("no pod of katonic-compute and katonic-platform gets it"),
        "{message}"
    );
    eventually("nothing is left of it", SOON, async || {
        Ok(world.configuration().await.is_none().then_some(()))
    })
    .await
    .unwrap();
    // Pods that carry the agent find that it is taken again.
    let cluster = &world.installed.cluster;
    let delete = ["delete", "validatingadmissionpolicybinding", DEMAND];
    cluster.kubectl(&delete).await.unwrap().ok().unwrap();
    world.ready("True", "InForce").await;
}

/// Its trial has everybody's pods refused, so somebody has to want it.
#[tokio::test]
async fn a_refused_agent_is_tried_again_when_somebody_asks_for_it() {
    let (world, _webhook) = World::in_force(Options::default()).await;
    let former = revision(&world).await;
    refuse_trials(&world, &["128Mi"]).await;
    install_agent(&world.installed, "Webhook", "128Mi").await;
    world.ready("False", "InjectionRefused").await;
    let version = async || {
        let configuration = world.configuration().await.unwrap();
        configuration.metadata.resource_version
    };
    let before = version().await;
    let asks = format!("{}=now", names::REQUESTED_AT_ANNOTATION);
    let namespace = names::OPERATOR_NAMESPACE;
    let map = [
        "annotate",
        "configmap",
        "-n",
        namespace,
        names::INSTALLATION,
        &asks,
    ];
    let cluster = &world.installed.cluster;
    cluster.kubectl(&map).await.unwrap().ok().unwrap();
    eventually("it is written again", SOON, async || {
        Ok((version().await != before).then_some(()))
    })
    .await
    .unwrap();
    eventually("it is taken back again", SOON, async || {
        let annotations = world.configuration().await.unwrap().metadata.annotations;
        let is_tried = annotations.unwrap().contains_key(names::FORMER_ANNOTATION);
        let is_former = revision(&world).await == former;
        Ok((is_former && !is_tried).then_some(()))
    })
    .await
    .unwrap();
    both_get(&world, &former).await;
}

/// A namespace that takes bare pods with the agent may refuse others; so all of them are tried before it is written.
#[tokio::test]
async fn an_agent_that_some_pods_cannot_have_is_found_before_the_webhook_is_told_of_it() {
    let (world, _webhook) = World::in_force(Options::default()).await;
    let before = world
        .configuration()
        .await
        .unwrap()
        .metadata
        .resource_version;
    // The pods of the trial with init containers of their own take more than this with another agent, and less with this one.
    let limits = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "pods", "namespace": PLATFORM},
        "spec": {"limits": [{"type": "Pod", "max": {"memory": "160Mi"}}]},
    });
    let cluster = &world.installed.cluster;
    let said = cluster
        .kubectl_with(&["apply", "-f", "-"], &limits.to_string())
        .await;
    said.unwrap().ok().unwrap();
    install_agent(&world.installed, "Webhook", "64Mi").await;
    let message = world.ready("False", "InjectionRefused").await;
    assert!(
        message.contains("maximum memory usage per Pod is 160Mi"),
        "{message}"
    );
    let after = world
        .configuration()
        .await
        .unwrap()
        .metadata
        .resource_version;
    assert_eq!(after, before);
}

/// Whatever is added to a pod may be forbidden by somebody.
#[tokio::test]
async fn an_agent_whose_annotation_is_forbidden_is_found_before_the_webhook_is_told_of_it() {
    let (world, _webhook) = World::in_force(Options::default()).await;
    let former = revision(&world).await;
    let annotation = names::AGENT_REVISION_ANNOTATION;
    let condition = format!(
        "!has(object.metadata.annotations) || !('{annotation}' in object.metadata.annotations) || \
         object.metadata.annotations['{annotation}'] == '{former}'"
    );
    let mut refused = serde_json::to_value(pod()).unwrap();
    refused["metadata"]["labels"] = json!({names::INJECT_LABEL: names::INJECT_NO});
    refused["metadata"]["annotations"] = json!({annotation: "another"});
    demand(&world, &condition, refused).await;
    let version = async || {
        let configuration = world.configuration().await.unwrap();
        configuration.metadata.resource_version
    };
    let before = version().await;
    install_agent(&world.installed, "Webhook", "64Mi").await;
    let message = world.ready("False", "InjectionRefused").await;
    assert!(
        message.contains("this agent is not wanted here"),
        "{message}"
    );
    assert_eq!(version().await, before);
    both_get(&world, &former).await;
}
