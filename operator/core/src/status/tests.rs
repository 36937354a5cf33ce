//! Each state of the world and the one line that a person sees of it.

use katonic_logging_crds::{LoggingPolicy, SecretKeyRef};

use super::*;
use crate::{
    Installation,
    admission::DefinitionUid,
    credential::{Credential, Lookup},
    installation,
    plan::{Namespace, Observed, plan},
    testing,
};

struct World {
    policy: LoggingPolicy,
    observed: Observed,
    report: Report,
    problem: Option<Problem>,
    coverage: BTreeMap<Plane, Coverage>,
}

fn world() -> World {
    let secret = SecretKeyRef {
        name: "splunk".into(),
        key: "token".into(),
    };
    let both = Coverage {
        selected: 2,
        injected: 2,
        ..Coverage::default()
    };
    World {
        policy: testing::policy("p"),
        observed: Observed {
            candidates: Vec::new(),
            namespaces: ["katonic-platform", "katonic-compute"]
                .map(|name| (name.to_owned(), Namespace::default()))
                .into(),
            credentials: [(secret, Lookup::Found(Credential::new(b"abc".to_vec())))].into(),
            refusals: BTreeMap::new(),
            last_good: BTreeMap::new(),
            definition: DefinitionUid("uid".into()),
            operator_namespace: "katonic-logging".into(),
        },
        report: Report::default(),
        problem: None,
        coverage: [(Plane::Platform, both), (Plane::Compute, both)].into(),
    }
}

impl World {
    fn status_at(&mut self, seconds: i64) -> LoggingPolicyStatus {
        let candidate = Candidate::readable(&self.policy);
        self.observed.candidates = vec![candidate.clone()];
        let plan = plan(&testing::installation(), &self.observed).unwrap();
        let facts = Facts {
            plan: Some(&plan),
            report: &self.report,
            problem: self.problem.as_ref(),
            coverage: &self.coverage,
        };
        summarize(&candidate, facts, Timestamp::from_second(seconds).unwrap())
    }

    fn status(mut self) -> LoggingPolicyStatus {
        self.status_at(0)
    }
}

fn of<'a>(status: &'a LoggingPolicyStatus, type_: &str) -> &'a Condition {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .unwrap()
}

fn types(status: &LoggingPolicyStatus) -> Vec<&str> {
    status
        .conditions
        .iter()
        .map(|condition| condition.type_.as_str())
        .collect()
}

/// Ready is False for this reason, its message says this, and the condition of progress is that.
fn says(status: &LoggingPolicyStatus, reason: &str, message: &str, progress: &str) {
    let ready = of(status, "Ready");
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", reason),
        "{}",
        ready.message
    );
    assert!(ready.message.contains(message), "{}", ready.message);
    assert_eq!(*types(status).last().unwrap(), progress);
}

#[test]
fn a_policy_in_force_says_so_in_one_line() {
    let status = world().status();
    assert_eq!(
        types(&status),
        ["Accepted", "SecretsResolved", "Injected", "Ready"]
    );
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.status == "True")
    );
    assert_eq!(of(&status, "Ready").reason, "InForce");
    assert_eq!(status.planes.as_deref(), Some("Platform,Compute"));
    assert_eq!(status.pods.unwrap().summary, "4/4");
    assert_eq!(status.sink_count, Some(1));
    assert_eq!(status.sinks[0].reason, "Configured");
    assert_eq!(status.observed_generation, Some(1));
}

#[test]
fn a_missing_secret_is_named_and_may_come_by_itself() {
    let mut world = world();
    world
        .observed
        .credentials
        .values_mut()
        .for_each(|lookup| *lookup = Lookup::SecretMissing);
    let status = world.status();
    says(
        &status,
        "SecretMissing",
        "Secret katonic-logging/splunk does not exist",
        "Reconciling",
    );
    assert!(
        of(&status, "SecretsResolved")
            .message
            .contains("the sink is left out")
    );
    assert!(!status.sinks[0].in_force);
}

#[test]
fn pods_without_the_agent_come_with_the_command_that_helps() {
    let mut world = world();
    world.coverage.insert(
        Plane::Platform,
        Coverage {
            selected: 3,
            injected: 1,
            ..Coverage::default()
        },
    );
    let status = world.status();
    says(
        &status,
        "PodsWithoutAgent",
        "kubectl -n katonic-platform rollout restart deployment",
        "Reconciling",
    );
    assert!(of(&status, "Injected").message.starts_with("3 of 5"));
}

#[test]
fn pods_that_opted_out_are_told_and_hold_nothing_up() {
    let mut world = world();
    world.coverage.insert(
        Plane::Platform,
        Coverage {
            opted_out: 2,
            ..Coverage::default()
        },
    );
    assert!(of(&world.status(), "Ready").message.contains("2 opted out"));
}

#[test]
fn a_namespace_that_is_missing_or_forbids_the_agent_is_named() {
    let mut missing = world();
    missing.observed.namespaces.remove("katonic-compute");
    says(
        &missing.status(),
        "NamespaceMissing",
        "namespace katonic-compute of plane Compute",
        "Reconciling",
    );
    let mut forbidden = world();
    let level = Namespace {
        pod_security: Some("baseline".into()),
        terminating: false,
    };
    forbidden
        .observed
        .namespaces
        .insert("katonic-compute".into(), level);
    says(
        &forbidden.status(),
        "PodSecurity",
        "enforces the Pod Security level baseline",
        "Stalled",
    );
}

#[test]
fn what_could_not_be_written_is_told_in_the_servers_words() {
    let failure = |name_taken| Failure {
        name_taken,
        message: "the server said no".into(),
    };
    let mut admission = world();
    admission.report.admission = Some(failure(false));
    says(
        &admission.status(),
        "AdmissionNotWritten",
        "the server said no",
        "Reconciling",
    );
    let mut bundle = world();
    bundle
        .report
        .bundles
        .insert("katonic-compute".into(), failure(true));
    says(
        &bundle.status(),
        "NameTaken",
        "the server said no",
        "Stalled",
    );
}

#[test]
fn injection_is_claimed_only_after_a_dry_run_has_shown_it() {
    let mut pending = world();
    pending
        .report
        .injection_pending
        .insert("katonic-compute".into());
    let status = pending.status();
    says(
        &status,
        "InjectionPending",
        "katonic-compute",
        "Reconciling",
    );
    assert_eq!(of(&status, "Injected").status, "Unknown");
    let mut refused = world();
    refused
        .observed
        .refusals
        .insert("katonic-platform".into(), "minimum memory".into());
    says(
        &refused.status(),
        "PodsRefused",
        "minimum memory",
        "Stalled",
    );
}

#[test]
fn a_sink_is_in_force_only_where_it_was_written() {
    let mut world = world();
    let failure = Failure {
        name_taken: false,
        message: "no".into(),
    };
    world
        .report
        .bundles
        .insert("katonic-compute".into(), failure);
    let sink = &world.status().sinks[0];
    assert_eq!(
        (sink.in_force, sink.reason.as_str()),
        (false, "NotConfigured")
    );
}

#[test]
fn an_installation_that_cannot_be_used_is_told_on_every_policy() {
    let mut world = world();
    world.problem = Some(installation::Problem::missing("katonic-logging"));
    let status = world.status();
    says(
        &status,
        "InstallationInvalid",
        "the last good installation stays in force",
        "Stalled",
    );
    assert_eq!(of(&status, "Injected").status, "True");
}

#[test]
fn without_any_installation_nothing_is_claimed() {
    let candidate = Candidate::readable(&testing::policy("p"));
    let problem = Installation::validate("", "katonic-logging").unwrap_err();
    let (report, coverage) = (Report::default(), BTreeMap::new());
    let facts = Facts {
        plan: None,
        report: &report,
        problem: Some(&problem),
        coverage: &coverage,
    };
    let status = summarize(&candidate, facts, Timestamp::UNIX_EPOCH);
    says(
        &status,
        "InstallationInvalid",
        "installation.yaml",
        "Stalled",
    );
    assert_eq!(of(&status, "Injected").status, "Unknown");
    assert_eq!(status.pods, None);
}

#[test]
fn a_suspended_policy_is_what_its_user_wants() {
    let mut world = world();
    world.policy.spec.suspend = Some(true);
    let status = world.status();
    assert_eq!(of(&status, "Ready").status, "True");
    assert_eq!(of(&status, "Ready").reason, "Suspended");
    assert_eq!(status.sinks[0].reason, "Suspended");
    assert!(!status.sinks[0].in_force);
    assert_eq!(status.pods, None);
}

#[test]
fn an_invalid_policy_says_everything_that_is_wrong() {
    let mut world = world();
    world.policy.spec.sinks = vec![testing::splunk_sink("ftp://a")];
    world.policy.spec.planes = Some(vec![]);
    let status = world.status();
    says(
        &status,
        "Invalid",
        "spec.sinks[0].splunk.endpoint",
        "Stalled",
    );
    assert!(of(&status, "Ready").message.contains("spec.planes"));
    assert_eq!(types(&status), ["Accepted", "Ready", "Stalled"]);
}

#[test]
fn an_unencrypted_sink_is_accepted_with_a_warning() {
    let mut world = world();
    world.policy.spec.sinks = vec![testing::splunk_sink("http://h")];
    let status = world.status();
    assert!(of(&status, "Accepted").message.contains("unencrypted"));
    assert!(
        status.sinks[0]
            .message
            .as_ref()
            .unwrap()
            .contains("unencrypted")
    );
    assert_eq!(of(&status, "Ready").status, "True");
}

#[test]
fn pods_that_have_not_been_listed_are_not_guessed() {
    let mut world = world();
    world.coverage.remove(&Plane::Compute);
    let status = world.status();
    says(&status, "PodsUnknown", "katonic-compute", "Reconciling");
    assert_eq!(of(&status, "Injected").status, "Unknown");
}

#[test]
fn times_move_only_with_the_state() {
    let mut world = world();
    let first = world.status_at(100);
    world.policy.status = Some(first.clone());
    world.coverage.insert(
        Plane::Compute,
        Coverage {
            selected: 9,
            injected: 9,
            ..Coverage::default()
        },
    );
    let second = world.status_at(200);
    assert_eq!(
        of(&first, "Ready").last_transition_time,
        of(&second, "Ready").last_transition_time
    );
    assert_ne!(first, second);
    world.policy.status = Some(second.clone());
    assert_eq!(
        world.status_at(300),
        second,
        "nothing changed, so nothing is written"
    );
    world.coverage.insert(
        Plane::Compute,
        Coverage {
            selected: 9,
            injected: 8,
            ..Coverage::default()
        },
    );
    let third = world.status_at(400);
    assert_eq!(of(&third, "Ready").last_transition_time.0.as_second(), 400);
    assert_eq!(
        of(&third, "Accepted").last_transition_time.0.as_second(),
        100
    );
}
