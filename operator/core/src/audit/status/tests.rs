//! Each state of the world and the one line that a person sees of it.

use std::collections::{BTreeMap, BTreeSet};

use katonic_logging_crds::{AuditPolicy, AuditPolicySpec, Plane, SecretKeyRef};

use super::*;
use crate::{
    admission::DefinitionUid,
    audit::{Vocabulary, plan},
    coverage::{Coverage, Mend, State as PodState},
    credential::{Credential, Lookup},
    installation::Problem,
    names,
    plan::{self as plans, Namespace, Observed},
    status::{Failure, Report},
    testing,
};

struct World {
    policy: AuditPolicy,
    installation: Option<Installation>,
    problem: Option<Problem>,
    has_namespace: bool,
    report: Report,
    token: Lookup,
    agent: PodState,
}

fn world(events: &[&str]) -> World {
    let spec = AuditPolicySpec {
        events: (!events.is_empty()).then(|| events.iter().copied().map(str::to_owned).collect()),
        ..AuditPolicySpec::default()
    };
    let mut policy = AuditPolicy::new("p", spec);
    policy.metadata.generation = Some(3);
    World {
        policy,
        installation: Some(testing::installation()),
        problem: None,
        has_namespace: true,
        report: Report::default(),
        token: Lookup::Found(Credential::new(b"abc".to_vec())),
        agent: PodState::Current,
    }
}

impl World {
    fn status_at(&self, second: i64) -> AuditPolicyStatus {
        let candidate = Candidate::readable(&self.policy);
        let vocabulary = Vocabulary::with(&BTreeSet::new());
        let plan = plan(vocabulary, [candidate.clone()], None);
        let logging = self.installation.as_ref().map(|installation| {
            let secret = SecretKeyRef {
                name: "splunk".into(),
                key: "token".into(),
            };
            let observed = Observed {
                candidates: candidate.shipping_of(installation).into_iter().collect(),
                namespaces: ["katonic-platform", "katonic-compute"]
                    .map(|name| (name.to_owned(), Namespace::default()))
                    .into(),
                credentials: [(secret, self.token.clone())].into(),
                refusals: BTreeMap::new(),
                last_good: BTreeMap::new(),
                definition: DefinitionUid("uid".into()),
                operator_namespace: names::OPERATOR_NAMESPACE.into(),
                reporting: None,
            };
            plans::plan(installation, &observed).unwrap()
        });
        let covered = Coverage {
            counts: [(self.agent, 1)].into_iter().collect(),
            mend: Mend::default(),
            troubled: Vec::new(),
        };
        let facts = Facts {
            installation: self.installation.as_ref(),
            plan: self.installation.as_ref().map(|_| &plan),
            has_namespace: self.has_namespace,
            shipping: status::Facts {
                plan: logging.as_ref(),
                report: &self.report,
                problem: self.problem.as_ref(),
                coverage: &[(Plane::Platform, covered)].into(),
                restarts: &BTreeMap::new(),
                retention: &BTreeMap::new(),
                delivery: None,
            },
        };
        summarize(&candidate, facts, Timestamp::from_second(second).unwrap())
    }

    /// The conditions, each as `type=status reason: message`.
    fn lines(&self) -> Vec<String> {
        let conditions = self.status_at(0).conditions;
        conditions
            .iter()
            .map(|one| {
                format!(
                    "{}={} {}: {}",
                    one.type_, one.status, one.reason, one.message
                )
            })
            .collect()
    }
}

#[test]
fn a_policy_in_force_says_how_many_events_and_where() {
    let world = world(&[]);
    assert_eq!(
        world.lines(),
        [
            "Accepted=True Valid: the policy can be used as it is written",
            "TrackerConfigured=True Configured: 9 events are enabled in ConfigMap katonic-platform/event-tracker, where the event tracker is told to write them into its log",
            "Ready=True InForce: the policy is in force; 9 events are enabled in ConfigMap katonic-platform/event-tracker, where the event tracker is told to write them into its log",
        ]
    );
    let status = world.status_at(0);
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!((status.event_count, status.events.len()), (Some(9), 9));
    assert_eq!(
        status.tracker.as_deref(),
        Some("katonic-platform/event-tracker")
    );
}

#[test]
fn an_event_that_the_platform_does_not_have_is_named_with_those_that_it_has() {
    let lines = world(&["ModelCreated", "ModelDeleted"]).lines();
    assert!(lines[0].starts_with("Accepted=False UnknownEvent: spec.events: the platform has no event ModelDeleted: write some of ModelArchived, "), "{lines:?}");
    assert!(
        lines[0].ends_with("what is enabled stays enabled until this is mended"),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("Ready=False UnknownEvent"),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with("Stalled=True UnknownEvent"),
        "{lines:?}"
    );
    let mut world = world(&["ModelDeleted"]);
    assert_eq!(world.status_at(0).event_count, None);
    world.policy.status = Some(AuditPolicyStatus {
        events: vec!["ModelCreated".to_owned()],
        ..AuditPolicyStatus::default()
    });
    let status = world.status_at(0);
    assert_eq!(
        (status.event_count, status.events),
        (Some(1), vec!["ModelCreated".to_owned()])
    );
    world.policy.spec.suspend = Some(true);
    assert_eq!(world.status_at(0).events, Vec::<String>::new());
}

#[test]
fn what_was_stored_under_another_definition_is_refused_with_what_to_write() {
    let lines = world(&["model created"]).lines();
    assert!(
        lines[0].contains("`model created` is not the name of an event"),
        "{lines:?}"
    );
    assert!(lines[2].starts_with("Stalled=True Invalid"), "{lines:?}");
}

#[test]
fn a_suspended_policy_is_ready_and_enables_nothing() {
    let mut world = world(&["ModelCreated"]);
    world.policy.spec.suspend = Some(true);
    assert_eq!(
        world.lines(),
        [
            "Accepted=True Valid: the policy can be used as it is written",
            "TrackerConfigured=Unknown Suspended: the policy is suspended",
            "Ready=True Suspended: the policy is suspended: no event is enabled for it",
        ]
    );
    assert_eq!(world.status_at(0).events, Vec::<String>::new());
}

#[test]
fn a_namespace_that_is_missing_is_waited_for() {
    let mut world = world(&[]);
    world.has_namespace = false;
    let lines = world.lines();
    assert!(
        lines[1]
            .starts_with("TrackerConfigured=False NamespaceMissing: namespace katonic-platform"),
        "{lines:?}"
    );
    assert!(
        lines[3].starts_with("Reconciling=True NamespaceMissing"),
        "{lines:?}"
    );
}

#[test]
fn a_tracker_that_could_not_be_told_is_told_of_in_the_api_servers_words() {
    let mut world = world(&[]);
    world.report.tracker = Some(Failure {
        name_taken: false,
        message: "failed to apply ConfigMap: forbidden".to_owned(),
    });
    let lines = world.lines();
    assert!(
        lines[2].starts_with("Ready=False TrackerNotWritten: failed to apply"),
        "{lines:?}"
    );
    assert!(
        lines[3].starts_with("Reconciling=True TrackerNotWritten"),
        "{lines:?}"
    );
}

#[test]
fn without_an_installation_nobody_knows_where_the_platform_is() {
    let mut world = world(&[]);
    world.installation = None;
    world.problem = Some(Problem::missing("katonic-logging"));
    let lines = world.lines();
    assert!(
        lines[0].starts_with("Accepted=Unknown InstallationInvalid"),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("Ready=False InstallationInvalid"),
        "{lines:?}"
    );
    assert_eq!(world.status_at(0).tracker, None);
}

#[test]
fn the_time_of_a_condition_moves_only_with_its_state() {
    let mut world = world(&["ModelCreated"]);
    world.policy.status = Some(world.status_at(10));
    world.policy.spec.events = Some(vec!["ModelArchived".to_owned()]);
    let times = world.status_at(20).conditions;
    assert!(
        times
            .iter()
            .all(|one| one.last_transition_time.0.as_second() == 10)
    );
    world.has_namespace = false;
    let ready = world.status_at(30).conditions;
    let ready = ready.iter().find(|one| one.type_ == "Ready").unwrap();
    assert_eq!(ready.last_transition_time.0.as_second(), 30);
}

#[test]
fn what_is_shipped_is_asked_as_of_every_log() {
    let mut world = world(&["ModelCreated"]);
    world.policy.spec.sinks = Some(vec![testing::splunk_sink("https://hec.example.com:8088")]);
    world.policy.spec.suspend = Some(false);
    let lines = world.lines();
    let types: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(
        types,
        [
            "Accepted=True",
            "TrackerConfigured=True",
            "SecretsResolved=True",
            "Injected=True",
            "RetentionEnforced=True",
            "Ready=True"
        ]
    );
    assert!(
        lines[5].contains("1 event is enabled in ConfigMap katonic-platform/event-tracker"),
        "{lines:?}"
    );
    assert!(lines[5].contains("pod"), "{lines:?}");
    let status = world.status_at(0);
    assert_eq!(status.retention.as_deref(), Some("365d"));
    assert_eq!(status.sink_count, Some(1));
    assert_eq!(status.pods.unwrap().summary, "1/1");
    assert_eq!(status.sinks[0].reason, "Configured");

    world.agent = PodState::OlderAgent;
    let lines = world.lines();
    assert!(
        lines[3].starts_with("Injected=False PodsWithoutAgent"),
        "{lines:?}"
    );
    world.agent = PodState::Current;

    world.token = Lookup::SecretMissing;
    let lines = world.lines();
    assert!(
        lines[2].starts_with("SecretsResolved=False SecretMissing"),
        "{lines:?}"
    );
    assert!(
        lines[5].starts_with("Ready=False SecretMissing"),
        "{lines:?}"
    );

    world.policy.spec.events = Some(vec!["ModelDeleted".to_owned()]);
    let lines = world.lines();
    assert!(
        lines[1].starts_with("Ready=False UnknownEvent"),
        "{lines:?}"
    );
}
