//! Each state of the world and the one line that a person sees of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use katonic_logging_crds::{AuditPolicyStatus, LoggingPolicy, Rollout, SecretKeyRef};

use super::*;
use crate::{
    Installation,
    admission::DefinitionUid,
    coverage::{Mend, Owner, Parent, State, Trouble, Troubled, Workload, WorkloadKind},
    credential::{Credential, Lookup},
    installation,
    plan::{Namespace, Observed, Refused, plan},
    restart::{Id, Obstacle, Standing},
    testing,
    trial::{Refusal, Wait},
    way::{self, Action, Way},
};

fn counted(states: &[(State, usize)]) -> Coverage {
    Coverage {
        counts: states.iter().copied().collect(),
        mend: Mend::default(),
        troubled: Vec::new(),
    }
}

struct World {
    policy: LoggingPolicy,
    observed: Observed,
    report: Report,
    problem: Option<Problem>,
    coverage: BTreeMap<Plane, Coverage>,
    restarts: BTreeMap<Id, Standing>,
}

fn world() -> World {
    let secret = SecretKeyRef {
        name: "splunk".into(),
        key: "token".into(),
    };
    let both = || counted(&[(State::Current, 2)]);
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
            reporting: None,
        },
        report: Report::default(),
        problem: None,
        coverage: [(Plane::Platform, both()), (Plane::Compute, both())].into(),
        restarts: BTreeMap::new(),
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
            restarts: &self.restarts,
            retention: &BTreeMap::new(),
            delivery: None,
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
        [
            "Accepted",
            "SecretsResolved",
            "Injected",
            "RetentionEnforced",
            "Ready"
        ]
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
fn a_filter_without_its_key_says_what_becomes_of_the_policy() {
    let mut world = world();
    let filters = "[{redact: {pattern: a, hashKeySecretRef: {name: redaction, key: key}}}]";
    world.policy.spec.filters = serde_saphyr::from_str(filters).unwrap();
    let secret = SecretKeyRef {
        name: "redaction".into(),
        key: "key".into(),
    };
    let short = Lookup::Found(Credential::new(b"hunter2".to_vec()));
    world.observed.credentials.insert(secret, short);
    let status = world.status();
    says(
        &status,
        "CredentialInvalid",
        "filters: key `key` of Secret katonic-logging/redaction is too short for a key: use at least 16 bytes, for example from `openssl rand -hex 32`; until then nothing is collected for the policy",
        "Reconciling",
    );
    assert!(!status.sinks[0].in_force);
    assert_eq!(status.sinks[0].reason, "CredentialInvalid");
    assert!(!format!("{status:?}").contains("hunter2"));
}

#[test]
fn a_pattern_that_does_not_compile_is_told_on_one_line() {
    let mut world = world();
    world.policy.spec.filters = serde_saphyr::from_str("[{drop: {pattern: 'a('}}]").unwrap();
    let status = world.status();
    says(
        &status,
        "Invalid",
        "spec.filters[0].drop.pattern: not a usable regular expression: unclosed group at character 2",
        "Stalled",
    );
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

fn workload(kind: WorkloadKind, name: &str) -> Parent {
    let name = name.to_owned();
    Parent::Owner(Owner::Workload(Workload { kind, name }))
}

#[test]
fn pods_without_the_agent_come_with_the_commands_that_help() {
    let mut world = world();
    let mut uncovered = counted(&[(State::Current, 1), (State::CreatedBefore, 5)]);
    uncovered.mend = Mend {
        parents: [
            (workload(WorkloadKind::Deployment, "web"), 1),
            (workload(WorkloadKind::StatefulSet, "db"), 1),
        ]
        .into(),
        of_jobs: 1,
        bare: 1,
        others: [("Rollout".to_owned(), 1)].into(),
    };
    world.coverage.insert(Plane::Platform, uncovered);
    let status = world.status();
    says(
        &status,
        "PodsWithoutAgent",
        "3 of 8 selected pods run the log agent; the others were created before injection was in force, or while it was not: \
         `kubectl -n katonic-platform rollout restart deployment/web statefulset/db`; \
         1 belong to Jobs and end by themselves; 1 have no owner and get it when they are next created; \
         1 belong to the kind Rollout and get it when that makes them anew",
        "Reconciling",
    );
    let pods = status.pods.unwrap();
    let reasons: Vec<(&str, i32)> = pods
        .uncovered
        .iter()
        .map(|one| (one.reason.as_str(), one.count))
        .collect();
    assert_eq!(reasons, [("CreatedBefore", 5)]);
}

/// A policy with `rollout: Automatic` and an uncovered pod of each of these Deployments.
fn automatic(standing: &[(&str, Standing)]) -> World {
    let mut world = world();
    world.policy.spec.rollout = Some(Rollout::Automatic);
    let mut uncovered = counted(&[(State::Current, 1), (State::CreatedBefore, standing.len())]);
    for (name, standing) in standing {
        let parent = workload(WorkloadKind::Deployment, name);
        uncovered.mend.parents.insert(parent, 1);
        let workload = Workload {
            kind: WorkloadKind::Deployment,
            name: (*name).to_owned(),
        };
        let id = Id {
            namespace: "katonic-platform".into(),
            workload,
        };
        world.restarts.insert(id, standing.clone());
    }
    world.coverage.insert(Plane::Platform, uncovered);
    world
}

#[test]
fn restarts_are_told_as_they_go() {
    let status = automatic(&[
        ("a", Standing::Restarting),
        ("b", Standing::Queued),
        ("c", Standing::Obstructed(Obstacle::Paused)),
        ("d", Standing::Refused("no right".into())),
    ])
    .status();
    let words = "3 of 7 selected pods run the log agent; the others were created before injection was in force, or while it was not: \
                 deployment/a of namespace katonic-platform is being restarted; \
                 deployment/c of namespace katonic-platform is paused: `kubectl -n katonic-platform rollout resume deployment/c`; \
                 deployment/d of namespace katonic-platform could not be restarted: no right; \
                 1 owner has to wait for its turn";
    says(&status, "PodsWithoutAgent", words, "Reconciling");
}

#[test]
fn restarts_that_have_stopped_are_for_a_person_who_is_told_where() {
    let mut world = automatic(&[("a", Standing::Stopped), ("b", Standing::Queued)]);
    let words = "the restarts have stopped at deployment/a of namespace katonic-platform, which was restarted and is not healthy: \
                 `kubectl -n katonic-platform rollout status deployment/a` says what it waits for";
    says(&world.status_at(0), "RolloutStopped", words, "Stalled");
    // Also where no pod is left that lacks the agent.
    world
        .coverage
        .insert(Plane::Platform, counted(&[(State::Current, 1)]));
    says(&world.status_at(0), "RolloutStopped", words, "Stalled");
    world.policy.spec.rollout = Some(Rollout::Manual);
    assert_eq!(of(&world.status(), "Ready").status, "True");
}

#[test]
fn owners_that_wait_for_the_window_are_told_when_it_opens() {
    let opens = Timestamp::from_second(1_764_367_200).unwrap();
    let closed = Standing::Closed { opens };
    let status = automatic(&[("a", closed.clone()), ("b", closed)]).status();
    let words =
        "2 owners have to wait for the window of restarts, which opens at 2025-11-28T22:00:00Z";
    says(&status, "PodsWithoutAgent", words, "Reconciling");
}

fn in_trouble(pods: usize, trouble: Trouble) -> World {
    let mut world = world();
    let mut compute = counted(&[(State::Current, 1), (trouble.state(), pods)]);
    let pod = "run-1".to_owned();
    compute.troubled = vec![Troubled { pod, trouble }];
    world.coverage.insert(Plane::Compute, compute);
    world
}

#[test]
fn an_image_that_cannot_be_pulled_is_told_with_the_pods_that_wait_for_it() {
    let words = r#"failed to pull image "registry.example.com/agent:v2": not found"#;
    let status = in_trouble(2, Trouble::Image(words.into())).status();
    let expected = format!(
        "3 of 5 selected pods run the log agent; 2 of namespace katonic-compute cannot start before the agent's image can be pulled, run-1 for example: {words}: push the image, or correct logging.agent.image in ConfigMap katonic-logging-installation"
    );
    says(&status, "AgentImageUnavailable", &expected, "Reconciling");
    let pods = status.pods.unwrap();
    assert_eq!(pods.summary, "3/5");
    assert_eq!(pods.uncovered[0].reason, "AgentImageUnavailable");
    let endless = in_trouble(1, Trouble::Image("x".repeat(5000))).status();
    assert!(of(&endless, "Injected").message.len() < 1000);
}

#[test]
fn an_agent_that_ends_again_and_again_is_told_with_where_to_look() {
    let failing = Trouble::Failing {
        words: "OOMKilled, exit code 137".into(),
        until: None,
    };
    let status = in_trouble(1, failing).status();
    let expected = "in 1 of namespace katonic-compute the agent ends again and again, in run-1 for example (OOMKilled, exit code 137): `kubectl -n katonic-compute logs run-1 -c katonic-log-agent --previous`";
    says(&status, "AgentFailing", expected, "Reconciling");
}

#[test]
fn an_older_agent_is_told_and_holds_nothing_up() {
    let mut world = world();
    let mut older = counted(&[(State::OlderAgent, 2)]);
    let web = workload(WorkloadKind::Deployment, "web");
    older.mend.parents.insert(web, 2);
    world.coverage.insert(Plane::Platform, older);
    let status = world.status();
    assert_eq!(of(&status, "Ready").status, "True");
    let words = "4 of 4 selected pods run the log agent, 2 of them an older one: \
                 `kubectl -n katonic-platform rollout restart deployment/web`";
    assert_eq!(of(&status, "Injected").message, words);
    assert_eq!(status.pods.unwrap().uncovered[0].reason, "OlderAgent");
}

#[test]
fn of_many_owners_some_are_named_and_the_rest_is_counted() {
    let mut world = world();
    let mut uncovered = counted(&[(State::CreatedBefore, 30)]);
    for number in 10..40 {
        let owner = workload(WorkloadKind::Deployment, &format!("d{number}"));
        uncovered.mend.parents.insert(owner, 1);
    }
    world.coverage.insert(Plane::Platform, uncovered);
    let status = world.status();
    let message = &of(&status, "Injected").message;
    let words = "deployment/d17` and 22 more, listed by `katonic-logging status --pods`";
    assert!(message.contains(words), "{message}");
    assert!(!message.contains("d18"), "{message}");
}

#[test]
fn pods_that_opted_out_are_told_and_hold_nothing_up() {
    let mut world = world();
    world
        .coverage
        .insert(Plane::Platform, counted(&[(State::OptedOut, 2)]));
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
        ..Namespace::default()
    };
    forbidden
        .observed
        .namespaces
        .insert("katonic-compute".into(), level);
    says(
        &forbidden.status(),
        "Unsupported",
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
    refused.observed.refusals.insert(
        "katonic-platform".into(),
        Refused::Pods("minimum memory".into()),
    );
    says(
        &refused.status(),
        "PodsRefused",
        "minimum memory",
        "Stalled",
    );
    let mut unsupported = world();
    let words = Refused::Unsupported("hostPath is not allowed".into());
    unsupported
        .observed
        .refusals
        .insert("katonic-compute".into(), words);
    let status = unsupported.status();
    says(
        &status,
        "Unsupported",
        "volume katonic-podlogs from what refuses them: hostPath is not allowed",
        "Stalled",
    );
}

#[test]
fn a_change_of_the_agent_is_told_until_it_is_in_force() {
    let refusal = || Refusal {
        namespace: "katonic-compute".into(),
        message: "maximum memory".into(),
    };
    let with = |former, state| {
        let mut world = world();
        world.report.change = Some(Change {
            former,
            namespaces: ["katonic-compute".into(), "katonic-platform".into()].into(),
            state,
        });
        world.status()
    };
    let tried = with(true, ChangeState::Tried(Wait::TakenUp));
    says(
        &tried,
        "InjectionPending",
        "until it has passed, pods get the former one",
        "Reconciling",
    );
    let unanswered = with(true, ChangeState::Tried(Wait::Answer(refusal())));
    says(
        &unanswered,
        "InjectionPending",
        "no answer from namespace katonic-compute: maximum memory",
        "Reconciling",
    );
    let refused = with(true, ChangeState::Refused(refusal()));
    says(
        &refused,
        "InjectionRefused",
        "pods go on getting the former one: maximum memory; change `logging.agent`",
        "Stalled",
    );
    let first = with(false, ChangeState::Refused(refusal()));
    says(
        &first,
        "InjectionRefused",
        "so no pod of katonic-compute and katonic-platform gets it",
        "Stalled",
    );
}

#[test]
fn a_namespace_that_joins_and_is_refused_is_told_by_the_policies_that_reach_it() {
    let refused = |namespace: &str| {
        let mut world = world();
        world.report.change = Some(Change {
            former: false,
            namespaces: [namespace.into()].into(),
            state: ChangeState::Refused(Refusal {
                namespace: namespace.into(),
                message: "maximum memory".into(),
            }),
        });
        world.policy.spec.planes = Some(vec![Plane::Platform]);
        world.status()
    };
    says(
        &refused("katonic-platform"),
        "InjectionRefused",
        "so no pod of katonic-platform gets it: maximum memory",
        "Stalled",
    );
    let elsewhere = refused("katonic-compute");
    assert_eq!(of(&elsewhere, "Ready").status, "True");
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
        restarts: &BTreeMap::new(),
        retention: &BTreeMap::new(),
        delivery: None,
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

/// TCP, encrypted or not, tells less than an answer of a sink, and UDP nothing.
#[test]
fn a_syslog_sink_says_what_delivered_can_mean_by_its_transport() {
    for (transport, says, is_warned_about) in [
        (
            "TLS",
            "syslog acknowledges nothing, with TLS neither: delivered means that the server's TCP has it",
            false,
        ),
        (
            "TCP",
            "syslog acknowledges nothing: delivered means that the server's TCP has it",
            true,
        ),
        (
            "UDP",
            "syslog acknowledges nothing: delivered means sent",
            true,
        ),
    ] {
        let mut world = world();
        let sink = format!("{{name: siem, syslog: {{host: siem, transport: {transport}}}}}");
        world.policy.spec.sinks = vec![serde_saphyr::from_str(&sink).unwrap()];
        let status = world.status();
        let message = status.sinks[0].message.clone().unwrap_or_default();
        assert!(message.contains(says), "{message}");
        assert!(message.contains("without a word"), "{message}");
        // It is no mistake of the policy.
        let accepted = &of(&status, "Accepted").message;
        assert!(!accepted.contains("acknowledges"), "{accepted}");
        assert_eq!(accepted.contains("unencrypted"), is_warned_about);
        assert_eq!(of(&status, "Ready").status, "True");
    }
    let status = world().status();
    assert_eq!(status.sinks[0].message, None);
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
    world
        .coverage
        .insert(Plane::Compute, counted(&[(State::Current, 9)]));
    let second = world.status_at(200);
    assert_eq!(
        of(&first, "Ready").last_transition_time,
        of(&second, "Ready").last_transition_time
    );
    assert_ne!(first, second);
    assert_eq!(Difference::between(&first, &second), Difference::Counts);
    world.policy.status = Some(second.clone());
    assert_eq!(
        world.status_at(300),
        second,
        "nothing changed, so nothing is written"
    );
    world.coverage.insert(
        Plane::Compute,
        counted(&[(State::Current, 8), (State::CreatedBefore, 1)]),
    );
    let third = world.status_at(400);
    assert_eq!(Difference::between(&second, &third), Difference::Plan);
    assert_eq!(of(&third, "Ready").last_transition_time.0.as_second(), 400);
    assert_eq!(
        of(&third, "Accepted").last_transition_time.0.as_second(),
        100
    );
}

#[test]
fn a_way_of_injection_that_cannot_work_is_told_with_what_goes_on_meanwhile() {
    let told = |obstacle, goes_on| {
        let mut world = world();
        let way = match obstacle {
            way::Obstacle::PoliciesUnserved => Way::AdmissionPolicy,
            _ => Way::Webhook,
        };
        world.report.choice = Some(Choice {
            way,
            admission_policy: Action::Leave,
            webhook: Action::Leave,
            obstacle: Some((obstacle, goes_on)),
            switching: false,
        });
        let status = world.status();
        let injected = of(&status, "Injected").clone();
        assert_eq!(injected.status, "False");
        assert_eq!(of(&status, "Ready").reason, injected.reason);
        let stalled = types(&status).contains(&"Stalled");
        (injected.reason, injected.message, stalled)
    };
    let (reason, message, stalled) = told(way::Obstacle::WebhookNotInstalled, true);
    assert_eq!((reason.as_str(), stalled), ("WebhookNotInstalled", true));
    assert!(message.contains("-k manifests/webhook"), "{message}");
    assert!(
        message.ends_with("; until then the admission policy goes on"),
        "{message}"
    );
    let (reason, message, stalled) = told(way::Obstacle::WebhookNotReady, false);
    assert_eq!((reason.as_str(), stalled), ("WebhookNotReady", false));
    assert!(
        message.ends_with("; until then new pods are created without the log agent"),
        "{message}"
    );
    let (reason, message, stalled) = told(way::Obstacle::PoliciesUnserved, true);
    assert_eq!(
        (reason.as_str(), stalled),
        ("AdmissionPolicyUnsupported", true)
    );
    assert!(
        message.ends_with("; until then the webhook goes on"),
        "{message}"
    );
}

#[test]
fn when_the_last_audit_event_was_can_wait_as_what_agents_report_does() {
    let condition = |type_: &str, reason: &str| Condition {
        type_: type_.into(),
        status: "True".into(),
        reason: reason.into(),
        message: String::new(),
        observed_generation: None,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    };
    let status = |last: i64, seen: &str, accepted: &str| AuditPolicyStatus {
        last_event_time: Some(Time(Timestamp::from_second(last).unwrap())),
        conditions: vec![
            condition("Accepted", accepted),
            condition("EventsSeen", seen),
        ],
        ..AuditPolicyStatus::default()
    };
    let before = status(0, "NoEventsYet", "Valid");
    for later in [
        status(60, "NoEventsYet", "Valid"),
        status(0, "EventsSeen", "Valid"),
        status(60, "EventsFaulty", "Valid"),
    ] {
        assert_eq!(Difference::between(&before, &later), Difference::Reports);
    }
    let other = status(60, "EventsSeen", "Invalid");
    assert_eq!(Difference::between(&before, &other), Difference::Plan);
}
