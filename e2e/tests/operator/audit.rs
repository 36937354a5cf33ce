//! Audit policies: the event tracker is told what they ask for, and nothing else of its ConfigMap is touched.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{core::v1::ConfigMap, events::v1::Event};
use katonic_logging_core::names;
use katonic_logging_crds::AuditPolicyStatus;
use katonic_logging_e2e::{
    eventually::eventually,
    operator::{COMPUTE, Installed, Operator, PLATFORM, SOON, splunk_policy},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{ENDPOINT, apply, install, installation, installed};

/// What repairing drift promises.
const A_SECOND: Duration = Duration::from_secs(1);

fn trackers(installed: &Installed, namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(installed.client.clone(), namespace)
}

async fn told(trackers: &Api<ConfigMap>, name: &str) -> BTreeMap<String, String> {
    let tracker = trackers.get_opt(name).await.unwrap();
    tracker.and_then(|tracker| tracker.data).unwrap_or_default()
}

/// Waits until the ConfigMap has exactly these keys.
async fn says(trackers: &Api<ConfigMap>, name: &str, expected: &[(&str, &str)], within: Duration) {
    let expected: BTreeMap<String, String> = expected
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    eventually(format!("{name} says {expected:?}"), within, async || {
        let found = told(trackers, name).await;
        anyhow::ensure!(found == expected, "it says {found:?}");
        Ok(Some(()))
    })
    .await
    .unwrap();
}

async fn is_gone(trackers: &Api<ConfigMap>, name: &str) {
    eventually(format!("{name} is gone"), SOON, async || {
        Ok(trackers.get_opt(name).await?.is_none().then_some(()))
    })
    .await
    .unwrap();
}

async fn patch(trackers: &Api<ConfigMap>, name: &str, patch: Value) {
    trackers
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

/// Changes an audit policy as `kubectl patch` does.
async fn change(installed: &Installed, policy: &str, patch: Value) {
    let policies = installed.audit_policies();
    policies
        .patch(policy, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

async fn delete(installed: &Installed, policy: &str) {
    let policies = installed.audit_policies();
    policies
        .delete(policy, &DeleteParams::default())
        .await
        .unwrap();
}

fn message<'a>(status: &'a AuditPolicyStatus, type_: &str) -> &'a str {
    let condition = status.conditions.iter().find(|one| one.type_ == type_);
    condition.map_or("", |condition| &condition.message)
}

const CREATED: [(&str, &str); 2] = [
    (names::AUDIT_ENABLED, "true"),
    (names::AUDIT_EVENTS, "ModelCreated"),
];

#[tokio::test]
async fn applying_a_policy_switches_the_tracker_on_and_deleting_the_last_switches_it_off() {
    let installed = installed().await;
    let _operator = Operator::start(&installed.cluster, "one").await.unwrap();
    let trackers = trackers(&installed, PLATFORM);
    installed.audit("all", &[]).await.unwrap();
    let status = installed
        .audit_ready("all", "True", "InForce")
        .await
        .unwrap();
    assert_eq!((status.event_count, status.events.len()), (Some(9), 9));
    assert_eq!(
        message(&status, "Ready"),
        "the policy is in force; 9 events are enabled in ConfigMap katonic-platform/event-tracker, where the event tracker is told to write them into its log"
    );
    let all = "ModelArchived,ModelCollaboratorAdded,ModelCollaboratorChanged,ModelCollaboratorRemoved,ModelCreated,ModelSettingsChanged,ModelVersionPublished,ModelVersionStarted,ModelVersionStopped";
    let wanted = [(names::AUDIT_ENABLED, "true"), (names::AUDIT_EVENTS, all)];
    says(&trackers, names::EVENT_TRACKER, &wanted, SOON).await;
    let shown = installed.cluster.kubectl(&["get", "ap"]).await.unwrap();
    let shown = shown.ok().unwrap();
    let words: Vec<Vec<&str>> = shown
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        words[0],
        [
            "NAME",
            "EVENTS",
            "SINKS",
            "RETENTION",
            "TRACKER",
            "LAST",
            "EVENT",
            "DELIVERING",
            "READY",
            "REASON",
            "AGE"
        ]
    );
    // Without sinks there is nothing that keeps.
    assert_eq!(
        words[1][..6],
        [
            "all",
            "9",
            "0",
            "katonic-platform/event-tracker",
            "True",
            "InForce"
        ]
    );

    // Others that overlap: each event once, and the policy that goes takes with it what nobody else asks for.
    installed
        .audit("some", &["ModelCreated", "ModelArchived"])
        .await
        .unwrap();
    installed.audit("one", &["ModelCreated"]).await.unwrap();
    installed
        .audit_ready("some", "True", "InForce")
        .await
        .unwrap();
    says(&trackers, names::EVENT_TRACKER, &wanted, SOON).await;
    delete(&installed, "all").await;
    let some = [
        (names::AUDIT_ENABLED, "true"),
        (names::AUDIT_EVENTS, "ModelArchived,ModelCreated"),
    ];
    says(&trackers, names::EVENT_TRACKER, &some, SOON).await;
    change(&installed, "some", json!({"spec": {"suspend": true}})).await;
    let status = installed
        .audit_ready("some", "True", "Suspended")
        .await
        .unwrap();
    assert_eq!(status.event_count, None);
    says(&trackers, names::EVENT_TRACKER, &CREATED, SOON).await;
    delete(&installed, "one").await;
    // Nobody but the operator has ever had a part in it.
    is_gone(&trackers, names::EVENT_TRACKER).await;
}

#[tokio::test]
async fn the_trackers_other_settings_are_left_alone_and_ours_are_repaired() {
    let installed = installed().await;
    let trackers = trackers(&installed, PLATFORM);
    let theirs = ConfigMap {
        metadata: ObjectMeta {
            name: Some(names::EVENT_TRACKER.to_owned()),
            labels: Some([("app".to_owned(), "event-tracker".to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([("queue.size".to_owned(), "100".to_owned())].into()),
        ..ConfigMap::default()
    };
    trackers
        .create(&PostParams::default(), &theirs)
        .await
        .unwrap();
    let operator = Operator::start(&installed.cluster, "one").await.unwrap();
    installed.audit("one", &["ModelCreated"]).await.unwrap();
    installed
        .audit_ready("one", "True", "InForce")
        .await
        .unwrap();
    let wanted = [CREATED[0], CREATED[1], ("queue.size", "100")];
    says(&trackers, names::EVENT_TRACKER, &wanted, A_SECOND).await;

    let name = names::EVENT_TRACKER;
    patch(&trackers, name, json!({"data": {"queue.size": "200"}})).await;
    let wanted = [CREATED[0], CREATED[1], ("queue.size", "200")];
    for edit in [
        json!({"data": {names::AUDIT_ENABLED: "false"}}),
        json!({"data": {names::AUDIT_EVENTS: "ModelCreated,ModelArchived"}}),
        json!({"data": {names::AUDIT_ENABLED: null, names::AUDIT_EVENTS: null}}),
    ] {
        patch(&trackers, name, edit).await;
        says(&trackers, name, &wanted, A_SECOND).await;
    }
    // The operator's own part is taken back, by one that did not see the policy go.
    operator.kill().await.unwrap();
    delete(&installed, "one").await;
    let _operator = Operator::start(&installed.cluster, "one").await.unwrap();
    says(&trackers, name, &[("queue.size", "200")], SOON).await;
    let left = trackers.get(name).await.unwrap();
    assert_eq!(left.metadata.labels, theirs.metadata.labels);

    trackers
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
    installed.audit("two", &["ModelCreated"]).await.unwrap();
    says(&trackers, name, &CREATED, SOON).await;
    trackers
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
    says(&trackers, name, &CREATED, A_SECOND).await;
}

#[tokio::test]
async fn an_event_that_the_platform_does_not_have_is_told_and_takes_nothing_away() {
    let installed = installed().await;
    let _operator = Operator::start(&installed.cluster, "one").await.unwrap();
    let trackers = trackers(&installed, PLATFORM);
    installed.audit("one", &["ModelCreated"]).await.unwrap();
    installed
        .audit_ready("one", "True", "InForce")
        .await
        .unwrap();
    change(
        &installed,
        "one",
        json!({"spec": {"events": ["ModelCreated", "DatasetDeleted"]}}),
    )
    .await;
    let status = installed
        .audit_ready("one", "False", "UnknownEvent")
        .await
        .unwrap();
    assert!(
        message(&status, "Stalled").starts_with(
            "spec.events: the platform has no event DatasetDeleted: write some of ModelArchived, "
        ),
        "{status:?}"
    );
    // What it asked for before stays, beside what others ask for.
    installed.audit("two", &["ModelArchived"]).await.unwrap();
    let both = [
        (names::AUDIT_ENABLED, "true"),
        (names::AUDIT_EVENTS, "ModelArchived,ModelCreated"),
    ];
    says(&trackers, names::EVENT_TRACKER, &both, SOON).await;
    // Also when somebody takes it away meanwhile.
    trackers
        .delete(names::EVENT_TRACKER, &DeleteParams::default())
        .await
        .unwrap();
    says(&trackers, names::EVENT_TRACKER, &both, A_SECOND).await;
    let events: Api<Event> = Api::namespaced(installed.client.clone(), "default");
    eventually("the Event is there", SOON, async || {
        let found = events.list(&ListParams::default()).await?;
        let about = |event: &Event| {
            let regarding = event.regarding.as_ref();
            regarding.is_some_and(|about| {
                about.kind.as_deref() == Some("AuditPolicy") && about.name.as_deref() == Some("one")
            }) && event.reason.as_deref() == Some("UnknownEvent")
        };
        Ok(found.items.iter().any(about).then_some(()))
    })
    .await
    .unwrap();
    // The administrator says that the tracker has it.
    let more = installation(PLATFORM, COMPUTE).replace(
        "logging: {",
        "logging: {audit: {events: [DatasetDeleted]}, ",
    );
    install(&installed, &more).await;
    installed
        .audit_ready("one", "True", "InForce")
        .await
        .unwrap();
    let all = [
        (names::AUDIT_ENABLED, "true"),
        (
            names::AUDIT_EVENTS,
            "DatasetDeleted,ModelArchived,ModelCreated",
        ),
    ];
    says(&trackers, names::EVENT_TRACKER, &all, SOON).await;
}

#[tokio::test]
async fn another_tracker_is_told_and_the_former_one_left_as_it_was() {
    let installed = installed().await;
    let _operator = Operator::start(&installed.cluster, "one").await.unwrap();
    let trackers = trackers(&installed, PLATFORM);
    installed.audit("one", &["ModelCreated"]).await.unwrap();
    installed
        .audit_ready("one", "True", "InForce")
        .await
        .unwrap();
    let elsewhere = installation(PLATFORM, COMPUTE).replace(
        "logging: {",
        "logging: {audit: {tracker: {configMap: tracker-settings}}, ",
    );
    install(&installed, &elsewhere).await;
    // The shipped rights are for the ConfigMap of the shipped installation.
    let status = installed
        .audit_ready("one", "False", "TrackerNotWritten")
        .await
        .unwrap();
    assert!(
        message(&status, "Ready").contains("katonic-platform/tracker-settings")
            && message(&status, "Ready").contains("forbidden"),
        "{status:?}"
    );
    let mut role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "tracker-settings", "namespace": PLATFORM},
        "rules": [{
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": ["tracker-settings"],
            "verbs": ["list", "watch", "create", "patch", "delete"],
        }],
    });
    apply(&installed, &role).await;
    role["kind"] = "RoleBinding".into();
    role.as_object_mut().unwrap().remove("rules");
    role["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tracker-settings"});
    role["subjects"] = json!([{"kind": "ServiceAccount", "name": "katonic-logging", "namespace": names::OPERATOR_NAMESPACE}]);
    apply(&installed, &role).await;
    installed
        .audit_ready("one", "True", "InForce")
        .await
        .unwrap();
    says(&trackers, "tracker-settings", &CREATED, SOON).await;
    is_gone(&trackers, names::EVENT_TRACKER).await;
}

/// What an audit policy ships goes the way of every log: by the bundle of the platform's agents, and of no others.
#[tokio::test]
async fn a_policy_with_sinks_is_told_to_the_agents_of_the_platform() {
    let installed = installed().await;
    let _operator = Operator::start(&installed.cluster, "one").await.unwrap();
    let policy = json!({
        "apiVersion": "logging.katonic.ai/v1alpha1",
        "kind": "AuditPolicy",
        "metadata": {"name": "siem"},
        "spec": {
            "events": ["ModelCreated", "ModelArchived"],
            "retention": "Forever",
            "sinks": [
                {"name": "splunk", "splunk": {"endpoint": ENDPOINT, "tokenSecretRef": {"name": "splunk", "key": "token"}}},
                {"name": "siem", "syslog": {"host": "siem.example.com", "transport": "TLS", "facility": "audit"}},
            ],
        },
    });
    apply(&installed, &policy).await;
    let status = installed
        .audit_ready("siem", "False", "SecretMissing")
        .await
        .unwrap();
    assert_eq!(status.sink_count, Some(2));
    // Of the sinks one can be used; the tracker is told in any case.
    let events = "ModelArchived,ModelCreated";
    let wanted = [
        (names::AUDIT_ENABLED, "true"),
        (names::AUDIT_EVENTS, events),
    ];
    let trackers = trackers(&installed, PLATFORM);
    says(&trackers, names::EVENT_TRACKER, &wanted, SOON).await;
    installed
        .sink_secret("splunk", "token", "abc")
        .await
        .unwrap();
    let status = installed
        .audit_ready("siem", "True", "InForce")
        .await
        .unwrap();
    assert_eq!(status.retention.as_deref(), Some("Forever"));
    assert!(status.sinks.iter().all(|sink| sink.in_force), "{status:?}");
    let bundle = installed.bundle(PLATFORM).await.unwrap().unwrap();
    let [told] = &bundle.policies[..] else {
        panic!("{bundle:?}");
    };
    assert_eq!(told.name, "audit/siem");
    assert_eq!(told.components, [names::EVENT_TRACKER.to_owned()].into());
    let events = told.audit.as_ref().and_then(|audit| audit.events.clone());
    assert_eq!(
        events,
        Some(["ModelArchived", "ModelCreated"].map(str::to_owned).into())
    );
    assert_eq!(installed.bundle(COMPUTE).await.unwrap(), None);
    let secret = installed.bundle_secret(PLATFORM).await.unwrap().unwrap();
    let owners = secret.metadata.owner_references.unwrap();
    assert_eq!(
        (owners[0].kind.as_str(), owners[0].name.as_str()),
        ("AuditPolicy", "siem")
    );
    // A logging policy of the same name is another one.
    installed
        .create(&splunk_policy("siem", ENDPOINT, "splunk"))
        .await
        .unwrap();
    installed.ready("siem", "True", "InForce").await.unwrap();
    let bundle = installed.bundle(PLATFORM).await.unwrap().unwrap();
    let mut told: Vec<&str> = bundle
        .policies
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    told.sort_unstable();
    assert_eq!(told, ["audit/siem", "siem"]);

    // Unusable: what was told stays.
    change(
        &installed,
        "siem",
        json!({"spec": {"events": ["ModelLost"]}}),
    )
    .await;
    installed
        .audit_ready("siem", "False", "UnknownEvent")
        .await
        .unwrap();
    assert_eq!(installed.bundle(PLATFORM).await.unwrap().unwrap(), bundle);
    delete(&installed, "siem").await;
    eventually("what it shipped is told no more", SOON, async || {
        let bundle = installed.bundle(PLATFORM).await?;
        let left = bundle.map(|bundle| bundle.policies.len());
        Ok((left == Some(1)).then_some(()))
    })
    .await
    .unwrap();
}
