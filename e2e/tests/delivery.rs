//! The whole way of a line on a real node: from a policy to a sink that counts, through the shipped manifests alone.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

use std::{collections::BTreeMap, fs, time::Duration};

use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Pod};
use katonic_logging_core::names;
use katonic_logging_crds::{LoggingPolicy, LoggingPolicyStatus};
use katonic_logging_e2e::{
    cluster::{Cluster, Tier},
    eventually::eventually,
    images::{self, Image},
    operator::{COMPUTE, Installed, PLATFORM, splunk_policy},
    program,
    receiver::{
        Fault, Protocol, Receiver, Record, Tally, Times,
        splunk::{Rules, Token},
    },
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

/// How long a pod may take from its creation to its end, and a line to its sink, with room for a busy machine.
const WITHIN: Duration = Duration::from_mins(2);

const TOKEN: &str = "11111111-2222-3333-4444-555555555555";

struct World {
    installed: Installed,
    receiver: Receiver,
}

/// A cluster with a node, the operator as a pod from its image, and a collector; none, and counted, where no node can run.
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
    Some(World {
        installed,
        receiver,
    })
}

impl World {
    fn policy(&self, name: &str) -> LoggingPolicy {
        splunk_policy(name, &self.receiver.url(), "splunk")
    }

    async fn in_force(&self, policy: &LoggingPolicy) {
        self.installed.create(policy).await.unwrap();
        let name = policy.name_any();
        let policies = self.installed.policies();
        eventually(format!("{name} is in force"), WITHIN, async || {
            let status = policies.get(&name).await?.status.unwrap_or_default();
            let ready = status
                .conditions
                .into_iter()
                .find(|condition| condition.type_ == "Ready");
            Ok(ready
                .is_some_and(|ready| ready.status == "True")
                .then_some(()))
        })
        .await
        .unwrap();
    }

    async fn status(&self, policy: &str) -> LoggingPolicyStatus {
        let policy = self.installed.policies().get(policy).await.unwrap();
        policy.status.unwrap_or_default()
    }

    async fn delivering(&self, policy: &str) -> String {
        self.status(policy).await.delivering.unwrap_or_default()
    }

    /// Waits until a condition is so, and gives its message.
    async fn condition(&self, policy: &str, type_: &str, status: &str, reason: &str) -> String {
        let what = format!("{type_} of {policy} is {status}, {reason}");
        let found = eventually(what, WITHIN, async || {
            let conditions = self.status(policy).await.conditions;
            let mut found = conditions.into_iter().filter(|one| one.type_ == type_);
            Ok(found
                .find(|one| one.status == status && one.reason == reason)
                .map(|one| one.message))
        });
        let found = found.await;
        let conditions = self.status(policy).await.conditions;
        assert!(found.is_ok(), "{found:?}: {conditions:#?}");
        found.unwrap()
    }

    /// Runs a Job to its end and returns its pod.
    async fn run_job(&self, name: &str, containers: &[Value]) -> Pod {
        let job: Job = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": containers}}},
        }))
        .unwrap();
        let jobs: Api<Job> = Api::namespaced(self.installed.client.clone(), COMPUTE);
        jobs.create(&PostParams::default(), &job).await.unwrap();
        eventually(format!("the Job {name} is complete"), WITHIN, async || {
            let status = jobs.get(name).await?.status.unwrap_or_default();
            Ok((status.succeeded == Some(1)).then_some(()))
        })
        .await
        .unwrap();
        let pods: Api<Pod> = Api::namespaced(self.installed.client.clone(), COMPUTE);
        let found = pods
            .list(&ListParams::default().labels(&format!("job-name={name}")))
            .await
            .unwrap();
        found.items.into_iter().next().unwrap()
    }

    async fn create_pod(&self, namespace: &str, pod: &Pod) -> Pod {
        let pods: Api<Pod> = Api::namespaced(self.installed.client.clone(), namespace);
        pods.create(&PostParams::default(), pod).await.unwrap()
    }

    fn records_of(&self, pod: &str) -> Vec<Record> {
        self.receiver.inspect(|received| {
            received
                .records
                .iter()
                .filter(|record| record.source().pod == pod)
                .cloned()
                .collect()
        })
    }

    async fn arrives(&self, pod: &str, lines: usize) -> Tally {
        let of_pod = |record: &&Record| record.source().pod == pod;
        self.receiver
            .until(&format!("{lines} lines of {pod}"), WITHIN, |received| {
                Tally::of(received.records.iter().filter(of_pod)).unique >= lines
            })
            .await
            .unwrap();
        Tally::of(&self.records_of(pod))
    }
}

fn container(name: &str, arguments: &[&str]) -> Value {
    json!({"name": name, "image": images::WORKLOAD, "args": arguments})
}

fn pod(name: &str, labels: &Value, containers: &[Value]) -> Pod {
    let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": {"restartPolicy": "Never", "containers": containers}});
    serde_json::from_value(pod).unwrap()
}

/// The agent's own account, from its termination message.
fn account(pod: &Pod) -> BTreeMap<String, Value> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.init_container_statuses.as_ref())
        .unwrap();
    let terminated = statuses[0]
        .state
        .as_ref()
        .and_then(|state| state.terminated.as_ref())
        .unwrap();
    assert_eq!(terminated.exit_code, 0);
    serde_json::from_str(terminated.message.as_ref().unwrap()).unwrap()
}

/// The process of the agent in a pod, as this machine sees it.
fn agent_process(pod: &Pod) -> Option<Pid> {
    let mark = format!("POD_UID={}", pod.uid().unwrap());
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let marked = environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark.as_bytes());
        marked.then_some(Pid::from_raw(pid))
    })
}

#[tokio::test]
async fn every_line_of_a_job_arrives_once_and_user_code_is_left_out() {
    let Some(world) = world().await else { return };
    world.in_force(&world.policy("application-logs")).await;
    let lines = ["lines", "20000", "--stderr-every", "7"];
    let pod = world
        .run_job(
            "import",
            &[
                container("executor", &lines),
                container("run", &["lines", "50"]),
            ],
        )
        .await;
    // The Job is complete, so the agent has ended: what it has not delivered by now it never will.
    let records = world.records_of(&pod.name_any());
    let tallies = Tally::by_source(&records);
    let numbers: std::collections::BTreeSet<_> =
        records.iter().map(|record| record.line.clone()).collect();
    assert_eq!(
        (records.len(), numbers.len()),
        (20_000, 20_000),
        "{tallies:#?}"
    );
    for (source, tally) in tallies {
        assert_eq!(source.container, "executor");
        assert_eq!(
            (tally.duplicates, tally.out_of_order, tally.unnumbered),
            (0, 0, 0),
            "{source:?}: {tally}"
        );
    }
    let account = account(&pod);
    assert_eq!(
        (
            &account["delivered"],
            &account["rejected"],
            &account["lost"]
        ),
        (&json!(20_000), &json!(0), &json!(0))
    );
    let record = &records[0];
    assert_eq!(record.field("namespace"), COMPUTE);
    assert_eq!(record.field("node"), "node1");
    assert_eq!(record.about("sourcetype"), "kube:container:executor");
}

#[tokio::test]
async fn the_last_lines_of_short_jobs_are_not_lost() {
    let Some(world) = world().await else { return };
    world.in_force(&world.policy("application-logs")).await;
    for number in 0..5 {
        let pod = world
            .run_job(
                &format!("short-{number}"),
                &[container("executor", &["lines", "10"])],
            )
            .await;
        let tally = Tally::of(&world.records_of(&pod.name_any()));
        assert!(tally.is_complete(10) && tally.duplicates == 0, "{tally}");
    }
}

#[tokio::test]
async fn running_pods_follow_a_new_policy_and_a_rotated_token_without_a_restart() {
    let Some(world) = world().await else {
        return;
    };
    let mut elsewhere = world.policy("elsewhere");
    elsewhere.spec.components = Some(vec!["nothing-of-this-name".into()]);
    world.in_force(&elsewhere).await;
    let labels = json!({"app": "workspace"});
    // It stays when it has written everything: the kubelet changes no mounted Secret of a pod that ends.
    let lines = ["workspace", "3000", "--rate", "100"];
    let pod = world
        .create_pod(
            COMPUTE,
            &pod("workspace", &labels, &[container("executor", &lines)]),
        )
        .await;
    let folder = world
        .installed
        .cluster
        .pod_logs(COMPUTE, "workspace", &pod.uid().unwrap())
        .unwrap();
    eventually("the pod writes", WITHIN, async || {
        Ok(fs::metadata(folder.join("executor/0.log")).ok().map(|_| ()))
    })
    .await
    .unwrap();
    let agent = agent_process(&pod).unwrap();
    assert!(world.records_of("workspace").is_empty());
    // A policy that comes while the pod runs.
    world
        .installed
        .create(&world.policy("application-logs"))
        .await
        .unwrap();
    world.arrives("workspace", 100).await;
    // The token is rotated: the old one is refused from now on, until the new one has come.
    let rotated = "99999999-8888-7777-6666-555555555555";
    world.receiver.change_rules(|protocol| {
        if let Protocol::Splunk(rules) = protocol {
            rules.tokens = [(rotated.to_owned(), Token::default())].into();
        }
    });
    world
        .receiver
        .until("the old token is refused", WITHIN, |received| {
            received.answers(403) > 0
        })
        .await
        .unwrap();
    world
        .installed
        .sink_secret("splunk", "token", rotated)
        .await
        .unwrap();
    let tally = world.arrives("workspace", 3000).await;
    assert!(tally.is_complete(3000), "{tally}");
    assert_eq!((tally.duplicates, tally.out_of_order), (0, 0), "{tally}");
    assert_eq!(agent_process(&pod), Some(agent), "it is the same process");
}

/// A policy is in force when its agents run it and its sink acknowledges; what goes wrong is told with its reason until it is over, and
/// losses until somebody has seen them.
#[tokio::test]
async fn a_status_tells_what_becomes_of_the_lines() {
    let Some(world) = world().await else { return };
    world.in_force(&world.policy("application-logs")).await;
    let labels = json!({"app": "workspace"});
    let lines = ["workspace", "1000000", "--rate", "20"];
    let workspace = pod("workspace", &labels, &[container("executor", &lines)]);
    world.create_pod(COMPUTE, &workspace).await;
    world.arrives("workspace", 20).await;
    let condition = async |type_: &str, status: &str, reason: &str| {
        world
            .condition("application-logs", type_, status, reason)
            .await
    };
    condition("RolledOut", "True", "AllAgents").await;
    condition("Delivering", "True", "Acknowledged").await;
    condition("Ready", "True", "InForce").await;
    assert_eq!(world.delivering("application-logs").await, "1/1");
    // The old token is refused from now on.
    let rotated = "99999999-8888-7777-6666-555555555555";
    world.receiver.change_rules(|protocol| {
        if let Protocol::Splunk(rules) = protocol {
            rules.tokens = [(rotated.to_owned(), Token::default())].into();
        }
    });
    let told = condition("Delivering", "False", "AuthenticationFailed").await;
    assert!(
        told.contains("for 1 of 1 agents, katonic-compute/workspace for example"),
        "{told}"
    );
    assert!(!told.contains(TOKEN), "{told}");
    condition("Stalled", "True", "AuthenticationFailed").await;
    assert_eq!(world.delivering("application-logs").await, "0/1");
    world
        .installed
        .sink_secret("splunk", "token", rotated)
        .await
        .unwrap();
    condition("RolledOut", "False", "RollingOut").await;
    condition("RolledOut", "True", "AllAgents").await;
    condition("Delivering", "True", "Acknowledged").await;
    condition("Ready", "True", "InForce").await;
    // Nobody gets what is written while the sink is down and the pod ends.
    world
        .receiver
        .misbehave(Fault::status(503), Times::UntilTold);
    condition("Delivering", "False", "Unreachable").await;
    let mut short = pod(
        "short",
        &labels,
        &[container("executor", &["lines", "100"])],
    );
    let spec = short.spec.as_mut().unwrap();
    spec.termination_grace_period_seconds = Some(10);
    world.create_pod(COMPUTE, &short).await;
    let told = condition("Delivering", "False", "LinesLost").await;
    assert!(
        told.contains("will never get 100 records of katonic-compute/short (100)"),
        "{told}"
    );
    world.receiver.behave();
    let status = world.status("application-logs").await;
    let losses = status.sinks[0].losses.clone().unwrap();
    assert_eq!((losses.lost, losses.rejected), (100, 0), "{losses:?}");
    let seen = format!("{}@{}", status.sinks[0].name, losses.last.0);
    let command = format!("{}={seen}", names::ACKNOWLEDGE_LOSSES_ANNOTATION);
    assert!(told.contains(&command), "{told}");
    let seen = json!({"metadata": {"annotations": {names::ACKNOWLEDGE_LOSSES_ANNOTATION: seen}}});
    world
        .installed
        .policies()
        .patch(
            "application-logs",
            &PatchParams::default(),
            &Patch::Merge(seen),
        )
        .await
        .unwrap();
    condition("Ready", "True", "InForce").await;
}

/// An administrator enables auditing by applying one policy; the tracker that runs follows, and its events arrive as any line of
/// its log does.
#[tokio::test]
async fn audit_events_are_written_and_shipped_while_a_policy_enables_them() {
    let Some(world) = world().await else { return };
    world.in_force(&world.policy("application-logs")).await;
    let tracker = json!({
        "metadata": {"name": "event-tracker", "labels": {"app": "event-tracker"}},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "containers": [{
                "name": "event-tracker",
                "image": images::WORKLOAD,
                "args": ["tracker", "/etc/event-tracker", "--rate", "50"],
                "volumeMounts": [{"name": "settings", "mountPath": "/etc/event-tracker"}],
            }],
            "volumes": [{"name": "settings", "configMap": {"name": names::EVENT_TRACKER, "optional": true}}],
        },
    });
    let tracker: Pod = serde_json::from_value(tracker).unwrap();
    world.create_pod(PLATFORM, &tracker).await;
    let lines = || -> Vec<String> {
        let records = world.records_of("event-tracker");
        records.into_iter().map(|record| record.line).collect()
    };
    let is_event = |line: &&String| line.starts_with('{');
    eventually("actions arrive", WITHIN, async || {
        Ok((lines().len() >= 20).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(lines().iter().filter(is_event).count(), 0);

    let enabled = ["ModelArchived", "ModelCreated"];
    world.installed.audit("some", &enabled).await.unwrap();
    let events = || -> Vec<Value> {
        let read = |line: &String| serde_json::from_str(line).unwrap();
        lines().iter().filter(is_event).map(read).collect()
    };
    eventually("events arrive", WITHIN, async || {
        Ok((events().len() >= 20).then_some(()))
    })
    .await
    .unwrap();
    let schema = fs::read_to_string(program::workspace().join("manifests/audit-event.schema.json"));
    let schema: Value = serde_json::from_str(&schema.unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for event in events() {
        assert!(validator.is_valid(&event), "{event}");
        assert!(
            enabled.contains(&event["event"].as_str().unwrap()),
            "{event}"
        );
        assert!(ids.insert(event["id"].to_string()), "{event} came twice");
    }

    let policies = world.installed.audit_policies();
    policies
        .delete("some", &DeleteParams::default())
        .await
        .unwrap();
    // Of ten actions each event is one.
    eventually("no more events arrive", WITHIN, async || {
        let lines = lines();
        let last = lines.iter().rev().take(40);
        Ok((last.filter(is_event).count() == 0).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_agent_killed_in_the_middle_of_a_batch_loses_nothing() {
    let Some(world) = world().await else { return };
    world.in_force(&world.policy("application-logs")).await;
    let lines = ["lines", "20000", "--rate", "500"];
    let created = world
        .create_pod(
            COMPUTE,
            &pod("steady", &json!({}), &[container("executor", &lines)]),
        )
        .await;
    // The kubelet waits longer before each restart and makes none once the pod's own containers have ended: two fit in.
    for lines in [1000, 3000] {
        world.arrives("steady", lines).await;
        world
            .receiver
            .misbehave(Fault::TakeThenReset, Times::Exactly(1));
        let before = eventually("the agent runs", WITHIN, async || {
            Ok(agent_process(&created))
        })
        .await
        .unwrap();
        kill(before, Signal::SIGKILL).unwrap();
        eventually("it is started again", WITHIN, async || {
            Ok(agent_process(&created).filter(|process| *process != before))
        })
        .await
        .unwrap();
    }
    let tally = world.arrives("steady", 20_000).await;
    assert!(tally.is_complete(20_000), "{tally}");
    // At least once: what was taken and not acknowledged comes again, under the same id.
    let mut lines_by_id: BTreeMap<String, String> = BTreeMap::new();
    for record in world.records_of("steady") {
        let line = lines_by_id
            .entry(record.id().to_owned())
            .or_insert_with(|| record.line.clone());
        assert_eq!(*line, record.line, "one id, one line");
    }
    assert_eq!(lines_by_id.len(), 20_000);
}

#[tokio::test]
async fn the_operator_may_die_and_pods_are_injected_and_lines_delivered_all_the_same() {
    let Some(world) = world().await else { return };
    world.in_force(&world.policy("application-logs")).await;
    let deployments: Api<Deployment> =
        Api::namespaced(world.installed.client.clone(), names::OPERATOR_NAMESPACE);
    deployments
        .delete("katonic-logging", &DeleteParams::default())
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(world.installed.client.clone(), names::OPERATOR_NAMESPACE);
    eventually("the operator's pod is gone", WITHIN, async || {
        Ok(pods
            .list(&ListParams::default())
            .await?
            .items
            .is_empty()
            .then_some(()))
    })
    .await
    .unwrap();
    let pod = world
        .run_job("orphan", &[container("executor", &["lines", "1000"])])
        .await;
    let tally = Tally::of(&world.records_of(&pod.name_any()));
    assert!(tally.is_complete(1000) && tally.duplicates == 0, "{tally}");
    // The bundles are owned by the policies: they go with the last one although nobody is there to delete them.
    world.installed.delete("application-logs").await.unwrap();
    eventually("the bundles are collected", WITHIN, async || {
        let platform = world.installed.bundle_secret(PLATFORM).await?;
        let compute = world.installed.bundle_secret(COMPUTE).await?;
        Ok((platform.is_none() && compute.is_none()).then_some(()))
    })
    .await
    .unwrap();
}
