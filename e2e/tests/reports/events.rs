//! What a policy's status and Events tell of agents: the first delivery, rotated credentials, and pods that are killed before they can
//! say anything.

use std::time::Duration;

use k8s_openapi::api::{core::v1::Pod, events::v1::Event};
use katonic_log_config::{
    Report,
    report::{PolicyReport, SinkReport, SinkState},
};
use katonic_logging_core::names;
use katonic_logging_crds::{LoggingPolicyStatus, SinkLosses};
use katonic_logging_e2e::{
    eventually::eventually,
    operator::{COMPUTE, Installed, SOON},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{
    World, agents_token, outside,
    reporter::{Answer, Reporter},
};

/// Longer than a pod that has just reported is held for one that is only new.
const LATER: Duration = Duration::from_secs(90);

/// A pod of which the kubelet says that its agent runs.
pub async fn running(installed: &Installed, name: &str) -> Pod {
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), COMPUTE);
    let pod = eventually("a new pod gets the agent", SOON, async || {
        let pod = json!({
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "web", "image": "localhost/none:v1"}]},
        });
        let pod = serde_json::from_value(pod)?;
        let pod = pods.create(&PostParams::default(), &pod).await?;
        let containers = pod
            .spec
            .iter()
            .flat_map(|spec| &spec.init_containers)
            .flatten();
        if containers.count() > 0 {
            return Ok(Some(pod));
        }
        pods.delete(name, &DeleteParams::default().grace_period(0))
            .await?;
        Ok(None)
    });
    let pod = pod.await.unwrap();
    let status = json!({"status": {"phase": "Running", "initContainerStatuses": [{
        "name": "katonic-log-agent", "image": "a", "imageID": "a", "ready": true, "restartCount": 0, "started": true,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }]}});
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(status));
    let patched = pods.patch_status(name, &parameters, &patch).await;
    patched.unwrap();
    pod
}

/// The reasons of the Events about the policy, with their notes.
async fn events(installed: &Installed) -> anyhow::Result<Vec<(String, String)>> {
    let events: Api<Event> = Api::namespaced(installed.client.clone(), names::CLAIM_NAMESPACE);
    let all = events.list(&ListParams::default()).await?;
    let about = all.into_iter().filter(|event| {
        let regarding = event.regarding.as_ref();
        regarding.is_some_and(|one| one.name.as_deref() == Some("logs"))
    });
    Ok(about
        .map(|event| {
            (
                event.reason.unwrap_or_default(),
                event.note.unwrap_or_default(),
            )
        })
        .collect())
}

async fn told(installed: &Installed, reason: &str) -> String {
    let found = eventually(format!("an Event {reason}"), LATER, async || {
        let events = events(installed).await?;
        let found = events.iter().find(|(one, _)| one == reason);
        anyhow::ensure!(found.is_some(), "{events:?}");
        Ok(found.map(|(_, note)| note.clone()))
    });
    found.await.unwrap()
}

/// An agent of the policy that runs it in the present form.
pub struct Agent {
    reporter: Reporter,
    token: String,
    policy: String,
}

impl Agent {
    pub async fn of(world: &World, pod: &Pod) -> Self {
        let policy = world.installed.policies().get("logs").await.unwrap();
        Self {
            reporter: world.reporter().await,
            token: agents_token(&world.installed, pod).await,
            policy: policy.uid().unwrap(),
        }
    }

    pub async fn says(&self, installed: &Installed, sink: SinkReport) {
        self.tries(installed, sink).await.unwrap().interval();
    }

    /// Reports, whether anybody answers or not.
    pub async fn tries(&self, installed: &Installed, sink: SinkReport) -> anyhow::Result<Answer> {
        let bundle = installed.bundle(COMPUTE).await.unwrap().unwrap();
        let policy = PolicyReport {
            uid: self.policy.clone(),
            revision: bundle.revisions.first().cloned(),
            refused: None,
            sinks: vec![sink],
        };
        let report = Report {
            policies: vec![policy],
            ..Report::default()
        };
        let body = serde_json::to_vec(&report).unwrap();
        self.reporter.send(Some(&self.token), &body).await
    }
}

pub fn sink(state: SinkState, pending: u64) -> SinkReport {
    SinkReport {
        name: "splunk".into(),
        state,
        pending,
        ..SinkReport::default()
    }
}

async fn status(installed: &Installed) -> LoggingPolicyStatus {
    let policy = installed.policies().get("logs").await.unwrap();
    policy.status.unwrap_or_default()
}

#[tokio::test]
async fn a_first_delivery_and_rotated_credentials_are_told_once_each() {
    let world = World::start().await;
    let installed = &world.installed;
    world.told().await;
    let agent = Agent::of(&world, &running(installed, "web").await).await;
    agent.says(installed, sink(SinkState::Unknown, 0)).await;
    agent.says(installed, sink(SinkState::Delivering, 0)).await;
    let note = told(installed, "FirstDelivery").await;
    assert!(note.ends_with(": splunk"), "{note}");
    let before = installed.bundle(COMPUTE).await.unwrap().unwrap().revisions;
    installed
        .sink_secret("splunk", "token", "hush")
        .await
        .unwrap();
    eventually("the credential is in the bundle", SOON, async || {
        let bundle = installed.bundle(COMPUTE).await?;
        Ok(bundle.filter(|bundle| bundle.revisions != before))
    })
    .await
    .unwrap();
    eventually("it is under way", SOON, async || {
        let status = status(installed).await;
        let conditions = status.conditions.iter();
        let mut rolling = conditions.filter(|one| one.reason == "RollingOut");
        Ok(rolling.next().map(|_| ()))
    })
    .await
    .unwrap();
    agent.says(installed, sink(SinkState::Delivering, 0)).await;
    let note = told(installed, "CredentialsRotated").await;
    assert!(note.contains("1 of 1 agents"), "{note}");
    assert!(!note.contains("hush"), "{note}");
    agent.says(installed, sink(SinkState::Unreachable, 0)).await;
    agent.says(installed, sink(SinkState::Delivering, 0)).await;
    installed.ready("logs", "True", "InForce").await.unwrap();
    let events = events(installed).await.unwrap();
    for reason in ["FirstDelivery", "CredentialsRotated"] {
        let told = events.iter().filter(|(one, _)| one == reason).count();
        assert_eq!(told, 1, "{events:?}");
    }
}

#[tokio::test]
async fn a_pod_that_is_killed_with_lines_pending_is_told_by_the_next_leader_too() {
    let world = World::start().await;
    let agent = Agent::of(&world, &running(&world.installed, "killed").await).await;
    agent
        .says(&world.installed, sink(SinkState::Unreachable, 4096))
        .await;
    let pods: Api<Pod> = Api::namespaced(world.installed.client.clone(), COMPUTE);
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete("killed", &at_once).await.unwrap();
    let note = told(&world.installed, "PodsUnreported").await;
    assert!(note.contains("splunk"), "{note}");
    let losses = async |installed: &Installed| -> anyhow::Result<Option<SinkLosses>> {
        let policy = installed.policies().get("logs").await?;
        let sink = policy
            .status
            .and_then(|status| status.sinks.into_iter().next());
        Ok(sink.and_then(|sink| sink.losses))
    };
    let told = losses(&world.installed).await.unwrap().unwrap();
    assert_eq!((told.unreported, told.lost), (1, 0));
    let pod = &told.pods[0];
    assert_eq!((pod.name.as_str(), pod.pending), ("killed", 4096));
    assert!(pod.heard.is_some());
    let World {
        installed,
        operator,
        address,
    } = world;
    operator.kill().await.unwrap();
    let _second = outside(&installed, "one", address).await;
    installed.ready("logs", "True", "InForce").await.unwrap();
    assert_eq!(losses(&installed).await.unwrap(), Some(told.clone()));
    // Somebody has seen to it.
    let annotation = json!({"metadata": {"annotations": {
        names::ACKNOWLEDGE_LOSSES_ANNOTATION: told.last.0.to_string(),
    }}});
    let parameters = PatchParams::default();
    let patched = installed
        .policies()
        .patch("logs", &parameters, &Patch::Merge(annotation))
        .await;
    patched.unwrap();
    eventually("it is told no longer", SOON, async || {
        Ok(losses(&installed).await?.is_none().then_some(()))
    })
    .await
    .unwrap();
}
