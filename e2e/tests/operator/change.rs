//! A change of injection: tried before it reaches users' pods, switched without a gap, and left out where it is refused.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        admissionregistration::v1::MutatingAdmissionPolicyBinding,
        core::v1::Pod,
        rbac::v1::{ClusterRole, Role},
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use katonic_log_config::layout;
use katonic_logging_core::names;
use katonic_logging_crds::Plane;
use katonic_logging_e2e::{
    eventually::eventually,
    operator::{COMPUTE, Installed, Operator, PLATFORM, SOON, condition, splunk_policy},
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    ENDPOINT, admission_bindings, admission_policies, apply, in_force, install, installed, pod,
    with_policy,
};

/// How long a change may take: it is tried, taken up, and left to settle.
const A_CHANGE: Duration = Duration::from_mins(1);

/// The installation with another agent.
fn with_agent(image: &str, memory: &str) -> String {
    let agent = json!({
        "image": image,
        "resources": {"requests": {"memory": "16Mi"}, "limits": {"memory": memory}},
    });
    let installation = json!({
        "namespaces": {"platform": {"name": PLATFORM}, "compute": {"name": COMPUTE}},
        "logging": {"agent": agent},
    });
    installation.to_string()
}

fn image(version: &str) -> String {
    format!("localhost/katonic-log-agent:{version}")
}

/// The image of the agent that a pod created now would have; none when it would have none.
async fn injected(installed: &Installed, namespace: &str) -> Option<String> {
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), namespace);
    agent_of_a_pod(&pods).await.unwrap()
}

async fn agent_of_a_pod(pods: &Api<Pod>) -> kube::Result<Option<String>> {
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let created = pods.create(&dry_run, &pod("now", "web")).await?;
    let containers = created.spec.and_then(|spec| spec.init_containers);
    let mut containers = containers.into_iter().flatten();
    Ok(containers
        .find(|container| container.name == layout::CONTAINER)
        .and_then(|agent| agent.image))
}

/// Waits until pods of both planes get this agent.
async fn reaches_pods(installed: &Installed, image: &str) {
    for namespace in [PLATFORM, COMPUTE] {
        eventually(
            format!("pods of {namespace} get {image}"),
            A_CHANGE,
            async || {
                let found = injected(installed, namespace).await;
                anyhow::ensure!(found.as_deref() == Some(image), "they get {found:?}");
                Ok(Some(()))
            },
        )
        .await
        .unwrap();
    }
}

/// The names of all admission policies and bindings.
async fn admission_objects(installed: &Installed) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let all = ListParams::default();
    let policies = admission_policies(installed).list(&all).await?.items;
    let bindings = admission_bindings(installed).list(&all).await?.items;
    Ok((
        policies.iter().map(ResourceExt::name_any).collect(),
        bindings.iter().map(ResourceExt::name_any).collect(),
    ))
}

/// Waits until one policy and one binding remain, the one bound by the other.
async fn one_of_each_remains(installed: &Installed) {
    eventually("one policy and one binding remain", A_CHANGE, async || {
        let (policies, bindings) = admission_objects(installed).await?;
        let bound = bound_policy(installed).await?;
        anyhow::ensure!(
            bindings == [names::ADMISSION_BINDING] && policies == [bound.as_str()],
            "there are {policies:?} and {bindings:?}, bound is {bound}"
        );
        Ok(Some(()))
    })
    .await
    .unwrap();
}

async fn bound_policy(installed: &Installed) -> anyhow::Result<String> {
    let binding: MutatingAdmissionPolicyBinding = admission_bindings(installed)
        .get(names::ADMISSION_BINDING)
        .await?;
    Ok(binding
        .spec
        .and_then(|spec| spec.policy_name)
        .unwrap_or_default())
}

/// Creates pods in dry runs all the time, and remembers which agents they got.
struct Users {
    agents: Arc<Mutex<Vec<Option<String>>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Users {
    fn of(installed: &Installed) -> Self {
        let agents = Arc::<Mutex<Vec<_>>>::default();
        let tasks = [PLATFORM, COMPUTE].map(|namespace| {
            let pods: Api<Pod> = Api::namespaced(installed.client.clone(), namespace);
            let agents = agents.clone();
            tokio::spawn(async move {
                loop {
                    let agent = agent_of_a_pod(&pods).await.unwrap();
                    agents.lock().unwrap().push(agent);
                    // As fast as users are, and not as fast as the API server is: each costs it some milliseconds of work.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            })
        });
        Self {
            agents,
            tasks: tasks.into(),
        }
    }

    /// The agents that their pods got, each once, and how many pods there were.
    fn end(self) -> (BTreeSet<Option<String>>, usize) {
        for task in self.tasks {
            assert!(!task.is_finished(), "pods were created all the time");
            task.abort();
        }
        let agents = self.agents.lock().unwrap();
        (agents.iter().cloned().collect(), agents.len())
    }
}

fn some(images: &[String]) -> BTreeSet<Option<String>> {
    images.iter().cloned().map(Some).collect()
}

fn stalled(status: &katonic_logging_crds::LoggingPolicyStatus) -> &Condition {
    condition(status, "Stalled").unwrap()
}

/// Waits until the policy says that the change is refused, in these words; until then what is before it is in force.
async fn refused(installed: &Installed, words: &str) {
    let status = installed
        .ready("logs", "False", "InjectionRefused")
        .await
        .unwrap();
    let message = &stalled(&status).message;
    assert!(message.contains(words), "{message}");
    assert!(
        message.contains("pods go on getting the former one"),
        "{message}"
    );
}

#[tokio::test]
async fn a_changed_agent_replaces_the_former_one_without_a_pod_that_has_none() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    one_of_each_remains(&installed).await;
    let former = bound_policy(&installed).await.unwrap();
    let users = Users::of(&installed);
    install(&installed, &with_agent(&image("0.2.0"), "32Mi")).await;
    reaches_pods(&installed, &image("0.2.0")).await;
    one_of_each_remains(&installed).await;
    let (agents, pods) = users.end();
    assert_eq!(agents, some(&[image("0.1.0"), image("0.2.0")]));
    println!("{pods} pods were created during the change, each with an agent");
    assert_ne!(bound_policy(&installed).await.unwrap(), former);
    installed.ready("logs", "True", "InForce").await.unwrap();
}

/// It acts on what it knew before it was stopped, until it learns that another one leads.
#[tokio::test]
async fn an_operator_stopped_for_longer_than_its_lease_undoes_nothing_of_the_next_one() {
    let installed = installed().await;
    let first = in_force(&installed).await;
    let _second = Operator::start(&installed.cluster, "two").await.unwrap();
    one_of_each_remains(&installed).await;
    let users = Users::of(&installed);
    install(&installed, &with_agent(&image("0.2.0"), "32Mi")).await;
    eventually("the change is tried", SOON, async || {
        let (_, bindings) = admission_objects(&installed).await?;
        let is_tried = bindings.iter().any(|name| name == names::TRIAL_BINDING);
        Ok(is_tried.then_some(()))
    })
    .await
    .unwrap();
    first.pause().unwrap();
    reaches_pods(&installed, &image("0.2.0")).await;
    one_of_each_remains(&installed).await;
    installed.ready("logs", "True", "InForce").await.unwrap();
    let bindings = admission_bindings(&installed);
    let version = async || {
        let binding = bindings.get(names::ADMISSION_BINDING).await;
        binding.unwrap().resource_version()
    };
    let before = version().await;
    first.resume().unwrap();
    assert!(!first.ends().await.unwrap(), "it has lost the lease");
    assert_eq!(version().await, before);
    one_of_each_remains(&installed).await;
    let agents = users.end().0;
    assert_eq!(agents, some(&[image("0.1.0"), image("0.2.0")]));
}

#[tokio::test]
async fn a_changed_agent_that_a_limit_range_refuses_stays_out_until_it_fits() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    apply(
        &installed,
        &json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small", "namespace": COMPUTE},
            "spec": {"limits": [{"type": "Container", "max": {"memory": "64Mi"}}]},
        }),
    )
    .await;
    let users = Users::of(&installed);
    install(&installed, &with_agent(&image("0.2.0"), "128Mi")).await;
    refused(&installed, "maximum memory usage per Container is 64Mi").await;
    one_of_each_remains(&installed).await;
    assert_eq!(users.end().0, some(&[image("0.1.0")]));
    let delete = ["delete", "limitrange", "-n", COMPUTE, "small"];
    let deleted = installed.cluster.kubectl(&delete).await.unwrap();
    deleted.ok().unwrap();
    reaches_pods(&installed, &image("0.2.0")).await;
    installed.ready("logs", "True", "InForce").await.unwrap();
    one_of_each_remains(&installed).await;
}

/// Somebody's policy that refuses pods with this image of the agent that try a change: what only a trial can show.
fn refuses_trials(image: &str) -> [Value; 2] {
    let trial = names::TRIAL_LABEL;
    refuses(&format!(
        "!has(object.metadata.labels) || !('{trial}' in object.metadata.labels) || {}",
        is_not_of(image)
    ))
}

/// That no init container of a pod has this image.
fn is_not_of(image: &str) -> String {
    format!(
        "!has(object.spec.initContainers) || !object.spec.initContainers.exists(c, c.image == '{image}')"
    )
}

/// Somebody's policy that wants this of every pod.
fn refuses(condition: &str) -> [Value; 2] {
    let name = "no-trials.example.com";
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Ignore",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"],
            }]},
            "validations": [{"expression": condition, "message": "this agent is not wanted here"}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    [policy, binding]
}

#[tokio::test]
async fn a_changed_agent_that_fails_its_trial_is_withdrawn_and_can_be_taken_back() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    for object in refuses_trials(&image("0.2.0")) {
        apply(&installed, &object).await;
    }
    let users = Users::of(&installed);
    install(&installed, &with_agent(&image("0.2.0"), "32Mi")).await;
    refused(&installed, "this agent is not wanted here").await;
    one_of_each_remains(&installed).await;
    install(&installed, &with_agent(&image("0.1.0"), "32Mi")).await;
    installed.ready("logs", "True", "InForce").await.unwrap();
    one_of_each_remains(&installed).await;
    assert_eq!(users.end().0, some(&[image("0.1.0")]));
}

/// A step of a change, by what can be seen of it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Written,
    Bound,
    Switched,
    Cleared,
}

impl Step {
    async fn is_done(self, installed: &Installed, former: &str) -> anyhow::Result<bool> {
        let (policies, bindings) = admission_objects(installed).await?;
        let bound = bound_policy(installed).await?;
        Ok(match self {
            Self::Written => policies.len() == 2,
            Self::Bound => bindings.len() == 2,
            Self::Switched => bound != former,
            Self::Cleared => bound != former && policies.len() == 1,
        })
    }
}

#[tokio::test]
async fn an_operator_killed_at_any_step_of_a_change_leaves_the_next_one_to_end_it() {
    let installed = installed().await;
    let mut operator = in_force(&installed).await;
    one_of_each_remains(&installed).await;
    let users = Users::of(&installed);
    let mut images = vec![image("0.1.0")];
    let steps = [Step::Written, Step::Bound, Step::Switched, Step::Cleared];
    for (number, step) in steps.into_iter().enumerate() {
        let former = bound_policy(&installed).await.unwrap();
        let next = image(&format!("0.2.{number}"));
        install(&installed, &with_agent(&next, "32Mi")).await;
        eventually(format!("{step:?} is done"), A_CHANGE, async || {
            let done = step.is_done(&installed, &former).await?;
            Ok(done.then_some(()))
        })
        .await
        .unwrap();
        operator.kill().await.unwrap();
        operator = Operator::start(&installed.cluster, "one").await.unwrap();
        reaches_pods(&installed, &next).await;
        one_of_each_remains(&installed).await;
        images.push(next);
    }
    assert_eq!(users.end().0, some(&images));
    installed.ready("logs", "True", "InForce").await.unwrap();
}

#[tokio::test]
async fn an_operator_killed_while_it_tries_the_first_agent_leaves_the_next_one_to_end_it() {
    let installed = installed().await;
    let operator = with_policy(&installed).await;
    eventually("the first agent is tried", A_CHANGE, async || {
        let (policies, bindings) = admission_objects(&installed).await?;
        Ok((policies.len() == 1 && bindings == [names::TRIAL_BINDING]).then_some(()))
    })
    .await
    .unwrap();
    operator.kill().await.unwrap();
    assert_eq!(injected(&installed, PLATFORM).await, None);
    let _operator = Operator::start(&installed.cluster, "one").await.unwrap();
    installed.ready("logs", "True", "InForce").await.unwrap();
    reaches_pods(&installed, &image("0.1.0")).await;
    one_of_each_remains(&installed).await;
}

#[tokio::test]
async fn a_namespace_that_joins_while_a_change_is_refused_gets_the_agent_that_is_in_force() {
    joins_while_refused(refuses_trials(&image("0.2.0"))).await;
}

#[tokio::test]
async fn a_namespace_that_joins_and_refuses_every_pod_with_the_changed_agent_gets_the_one_in_force()
{
    joins_while_refused(refuses(&is_not_of(&image("0.2.0")))).await;
}

async fn joins_while_refused(refusing: [Value; 2]) {
    let installed = installed().await;
    let _operator = Operator::start(&installed.cluster, "one").await.unwrap();
    installed
        .sink_secret("splunk", "token", "abc")
        .await
        .unwrap();
    let mut policy = splunk_policy("logs", ENDPOINT, "splunk");
    policy.spec.planes = Some(vec![Plane::Platform]);
    installed.create(&policy).await.unwrap();
    installed.ready("logs", "True", "InForce").await.unwrap();
    for object in refusing {
        apply(&installed, &object).await;
    }
    install(&installed, &with_agent(&image("0.2.0"), "32Mi")).await;
    refused(&installed, "this agent is not wanted here").await;
    assert_eq!(injected(&installed, COMPUTE).await, None);
    let mut joins = splunk_policy("joins", ENDPOINT, "splunk");
    joins.spec.planes = Some(vec![Plane::Compute]);
    installed.create(&joins).await.unwrap();
    reaches_pods(&installed, &image("0.1.0")).await;
    refused(&installed, "this agent is not wanted here").await;
}

#[tokio::test]
async fn drift_of_a_change_is_repaired_and_the_former_agent_stays() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    for object in refuses_trials(&image("0.2.0")) {
        apply(&installed, &object).await;
    }
    one_of_each_remains(&installed).await;
    install(&installed, &with_agent(&image("0.2.0"), "32Mi")).await;
    refused(&installed, "this agent is not wanted here").await;
    // What is in force is no longer what the installation says, and is put back all the same.
    let policy = bound_policy(&installed).await.unwrap();
    let policies = admission_policies(&installed);
    let before = policies.get(&policy).await.unwrap().spec;
    policies
        .delete(&policy, &kube::api::DeleteParams::default())
        .await
        .unwrap();
    eventually("the policy is there again", SOON, async || {
        let found = policies.get_opt(&policy).await?;
        Ok((found.and_then(|policy| policy.spec) == before).then_some(()))
    })
    .await
    .unwrap();
    let patch = Patch::Merge(json!({"spec": {"policyName": "somebody-elses"}}));
    admission_bindings(&installed)
        .patch(names::ADMISSION_BINDING, &PatchParams::default(), &patch)
        .await
        .unwrap();
    eventually("the binding is as it was", SOON, async || {
        Ok((bound_policy(&installed).await? == policy).then_some(()))
    })
    .await
    .unwrap();
    reaches_pods(&installed, &image("0.1.0")).await;
}

/// What another API server may still bind must not become what was never tried.
#[tokio::test]
async fn the_name_that_has_just_come_free_is_not_used_before_every_api_server_has_left_it() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    one_of_each_remains(&installed).await;
    let former = bound_policy(&installed).await.unwrap();
    install(&installed, &with_agent(&image("0.2.0"), "32Mi")).await;
    eventually("the binding is switched", A_CHANGE, async || {
        Ok((bound_policy(&installed).await? != former).then_some(()))
    })
    .await
    .unwrap();
    let switched = Instant::now();
    install(&installed, &with_agent(&image("0.3.0"), "32Mi")).await;
    let next = image("0.3.0");
    eventually("the next one has the other name", A_CHANGE, async || {
        let policy = admission_policies(&installed).get_opt(&former).await?;
        let policy = serde_json::to_string(&policy)?;
        Ok(policy.contains(&next).then_some(()))
    })
    .await
    .unwrap();
    let took = switched.elapsed();
    assert!(took > Duration::from_millis(2_500), "{took:?}");
    reaches_pods(&installed, &next).await;
    one_of_each_remains(&installed).await;
}

#[tokio::test]
async fn a_namespace_that_joins_and_does_not_take_the_agent_is_told_by_the_policies_that_reach_it()
{
    let installed = installed().await;
    let _operator = with_policy(&installed).await;
    let mut platform = splunk_policy("platform", ENDPOINT, "splunk");
    platform.spec.planes = Some(vec![Plane::Platform]);
    installed.create(&platform).await.unwrap();
    installed.delete("logs").await.unwrap();
    installed
        .ready("platform", "True", "InForce")
        .await
        .unwrap();
    eventually("only one namespace is left", A_CHANGE, async || {
        Ok(injected(&installed, COMPUTE).await.is_none().then_some(()))
    })
    .await
    .unwrap();

    // Nobody may try a pod there, and who does is refused.
    let roles: Api<Role> = Api::namespaced(installed.client.clone(), COMPUTE);
    let shipped = roles.get(names::FIELD_MANAGER).await.unwrap();
    let mut without = shipped.clone();
    let kept = without.rules.as_mut().unwrap();
    kept.retain(|rule| rule.verbs != ["create"]);
    assert_ne!(without.rules, shipped.rules);
    without.metadata.managed_fields = None;
    let replaced = roles
        .replace(names::FIELD_MANAGER, &PostParams::default(), &without)
        .await
        .unwrap();
    let [policy, mut binding] = refuses_trials(&image("0.1.0"));
    binding["spec"]["matchResources"] = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": COMPUTE}},
    });
    for object in [policy, binding] {
        apply(&installed, &object).await;
    }
    installed
        .create(&splunk_policy("logs", ENDPOINT, "splunk"))
        .await
        .unwrap();
    eventually("the missing right is told", A_CHANGE, async || {
        let status = installed.ready("logs", "False", "InjectionPending").await?;
        let message = &condition(&status, "Injected").unwrap().message;
        anyhow::ensure!(
            message.contains(r#"cannot create resource "pods""#),
            "{message}"
        );
        Ok(Some(()))
    })
    .await
    .unwrap();

    let mut again = shipped;
    again.metadata.resource_version = replaced.metadata.resource_version;
    again.metadata.managed_fields = None;
    roles
        .replace(names::FIELD_MANAGER, &PostParams::default(), &again)
        .await
        .unwrap();
    let status = installed
        .ready("logs", "False", "InjectionRefused")
        .await
        .unwrap();
    let message = &stalled(&status).message;
    assert!(
        message.contains("so no pod of katonic-compute gets it: "),
        "{message}"
    );
    assert!(
        message.contains("this agent is not wanted here"),
        "{message}"
    );
    installed
        .ready("platform", "True", "InForce")
        .await
        .unwrap();
    assert_eq!(injected(&installed, PLATFORM).await, Some(image("0.1.0")));
    assert_eq!(injected(&installed, COMPUTE).await, None);
}

#[tokio::test]
async fn injection_goes_on_while_no_operator_runs() {
    let installed = installed().await;
    let operator = in_force(&installed).await;
    operator.kill().await.unwrap();
    for namespace in [PLATFORM, COMPUTE] {
        let pods: Api<Pod> = Api::namespaced(installed.client.clone(), namespace);
        let later = pod("later", "web");
        let created = pods.create(&PostParams::default(), &later).await.unwrap();
        assert_eq!(crate::init_containers(&created), [layout::CONTAINER]);
    }
}

#[tokio::test]
async fn a_policy_that_cannot_be_written_is_told_and_the_former_one_stays() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    let roles: Api<ClusterRole> = Api::all(installed.client.clone());
    let rights = async |verbs: &[&str]| {
        let mut role = roles.get(names::FIELD_MANAGER).await.unwrap();
        for rule in role.rules.iter_mut().flatten() {
            let resources = rule.resources.iter().flatten();
            if resources.eq(&["mutatingadmissionpolicies"]) {
                rule.verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
            }
        }
        let parameters = PostParams::default();
        let replaced = roles
            .replace(names::FIELD_MANAGER, &parameters, &role)
            .await;
        replaced.unwrap();
    };
    rights(&["get", "list", "watch"]).await;
    install(&installed, &with_agent(&image("0.2.0"), "32Mi")).await;
    let status = installed
        .ready("logs", "False", "AdmissionNotWritten")
        .await
        .unwrap();
    let message = &condition(&status, "Ready").unwrap().message;
    assert!(
        message.contains(r#"cannot patch resource "mutatingadmissionpolicies""#),
        "{message}"
    );
    assert!(condition(&status, "Reconciling").is_some());
    assert_eq!(injected(&installed, PLATFORM).await, Some(image("0.1.0")));
    rights(&["get", "list", "watch", "create", "patch", "delete"]).await;
    reaches_pods(&installed, &image("0.2.0")).await;
    one_of_each_remains(&installed).await;
}

#[tokio::test]
async fn an_agent_that_fails_its_first_trial_reaches_no_pod() {
    let installed = installed().await;
    for object in refuses_trials(&image("0.1.0")) {
        apply(&installed, &object).await;
    }
    let _operator = with_policy(&installed).await;
    let status = installed
        .ready("logs", "False", "InjectionRefused")
        .await
        .unwrap();
    let message = &stalled(&status).message;
    assert!(
        message.contains("so no pod of katonic-compute and katonic-platform gets it"),
        "{message}"
    );
    assert_eq!(injected(&installed, PLATFORM).await, None);
    eventually("nothing of it remains", SOON, async || {
        let (policies, bindings) = admission_objects(&installed).await?;
        Ok((policies.is_empty() && bindings.is_empty()).then_some(()))
    })
    .await
    .unwrap();
    // The next change is tried anew.
    install(&installed, &with_agent(&image("0.2.0"), "32Mi")).await;
    reaches_pods(&installed, &image("0.2.0")).await;
    let next = splunk_policy("next", ENDPOINT, "splunk");
    installed.create(&next).await.unwrap();
    installed.ready("next", "True", "InForce").await.unwrap();
}
