//! What a person sees.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use katonic_logging_crds::{LoggingPolicy, LoggingPolicyStatus, PodsByReason};

use super::{
    text::{Palette, text},
    *,
};
use crate::{
    coverage::{WorkloadKind, coverage},
    injection::Taken,
    testing::{self, form, installation},
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn with_status(name: &str, reason: &str, message: &str) -> LoggingPolicy {
    let mut policy = testing::policy(name);
    policy.metadata.creation_timestamp = Some(Time(at(0)));
    let ready = reason == "InForce";
    let condition = |type_: &str| Condition {
        type_: type_.into(),
        status: if ready { "True" } else { "False" }.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: Some(1),
        last_transition_time: Time(at(3600)),
    };
    policy.status = Some(LoggingPolicyStatus {
        observed_generation: Some(1),
        conditions: vec![condition("Injected"), condition("Ready")],
        planes: Some("Platform,Compute".into()),
        logs: Some("Application".into()),
        pods: Some(PodCount {
            selected: 3,
            injected: 2,
            summary: "2/3".into(),
            uncovered: vec![PodsByReason {
                reason: "CreatedBefore".into(),
                count: 1,
            }],
        }),
        sink_count: Some(1),
        delivering: None,
        sinks: vec![SinkStatus {
            name: "splunk".into(),
            kind: "splunk".into(),
            in_force: true,
            reason: "Configured".into(),
            message: None,
            retention: None,
            unidentified: None,
            delivery: Some(SinkDelivery {
                state: "Unreachable".into(),
                message: Some("sink splunk is not reachable for 1 of 2 agents".into()),
                first: None,
            }),
            losses: Some(SinkLosses {
                lost: 5,
                rejected: 0,
                unreported: 2,
                last: Time(at(60)),
                rejection: None,
                pods: Vec::new(),
                more_pods: 0,
            }),
        }],
        retention: Some("30d".into()),
    });
    policy
}

fn pod(agent: Agent, parent: Parent) -> Pod {
    Pod {
        containers: vec!["web".into()],
        agent,
        parent,
        created: Some(at(7200)),
        ..Pod::default()
    }
}

fn workload(kind: WorkloadKind, name: &str) -> Workload {
    Workload {
        kind,
        name: name.into(),
    }
}

fn owned(kind: WorkloadKind, name: &str) -> Parent {
    Parent::Owner(Owner::Workload(workload(kind, name)))
}

fn views(candidates: &[Candidate], pods: Vec<(&str, Pod)>) -> Vec<PodView> {
    views_of(candidates, pods, None)
}

/// As who may not see what pods were given before sees them, and why not.
fn views_of(
    candidates: &[Candidate],
    pods: Vec<(&str, Pod)>,
    unseen: Option<&str>,
) -> Vec<PodView> {
    let named = pods.into_iter().map(|(name, pod)| (name.to_owned(), pod));
    let pods = [(Plane::Platform, named.collect())].into();
    let namespace = "katonic-platform".to_owned();
    let id = |kind, name| Id {
        namespace: namespace.clone(),
        workload: workload(kind, name),
    };
    let (current, former) = ([form("new")].into(), [form("old")].into());
    let judged = Judged {
        installation: &installation(),
        agent: &current,
        former: unseen.map_or(Ok(&former), Err),
        pods: &pods,
        replica_sets: &[("uid".to_owned(), owned(WorkloadKind::Deployment, "web"))].into(),
        now: at(0),
        obstacles: &[
            (id(WorkloadKind::DaemonSet, "by-hand"), Obstacle::OnDelete),
            (id(WorkloadKind::Deployment, "paused"), Obstacle::Paused),
        ]
        .into(),
    };
    uncovered(candidates, judged)
}

fn every_pod() -> Vec<(&'static str, Pod)> {
    let replica_set = Parent::ReplicaSet {
        name: "web-1".into(),
        uid: "uid".into(),
    };
    let other = |kind: &str| {
        Parent::Owner(Owner::Other {
            kind: kind.into(),
            name: "it".into(),
        })
    };
    let present = |agent: &str| Agent::Present(form(agent));
    vec![
        ("a-current", pod(present("new"), Parent::default())),
        (
            "b-older",
            pod(present("old"), owned(WorkloadKind::StatefulSet, "db")),
        ),
        ("c-before", pod(Agent::Missing, replica_set)),
        (
            "d-job",
            pod(Agent::Missing, Parent::Owner(Owner::Job("import".into()))),
        ),
        ("e-bare", pod(Agent::Missing, Parent::default())),
        (
            "f-by-hand",
            pod(Agent::Missing, owned(WorkloadKind::DaemonSet, "by-hand")),
        ),
        (
            "g-paused",
            pod(Agent::Missing, owned(WorkloadKind::Deployment, "paused")),
        ),
        ("h-alone", pod(Agent::Missing, other("ReplicaSet"))),
        ("i-rollout", pod(Agent::Missing, other("Rollout"))),
        (
            "j-opted-out",
            pod(Agent::Refused(Reason::OptedOut), Parent::default()),
        ),
        (
            "k-taken",
            pod(
                Agent::Refused(Reason::NameTaken(Taken::Container)),
                Parent::default(),
            ),
        ),
        (
            "l-foreign",
            pod(present("another"), owned(WorkloadKind::Deployment, "web")),
        ),
    ]
}

#[test]
fn every_pod_comes_with_what_mends_it() {
    let candidates = [Candidate::readable(&with_status("logs", "InForce", "fine"))];
    insta::assert_yaml_snapshot!("pods", views(&candidates, every_pod()));
}

#[test]
fn the_pods_that_are_listed_are_those_that_are_counted() {
    let candidate = Candidate::readable(&testing::policy("logs"));
    let pods = every_pod();
    let policy = selection(
        candidate.policy.as_ref().unwrap(),
        &candidate,
        &installation(),
        Plane::Platform,
    );
    let expected = Expected {
        agent: Some([form("new")].into()),
        former: Some([form("old")].into()),
        refused: false,
    };
    let counts = coverage(&policy, &expected, at(0), pods.iter().map(|(_, pod)| pod)).counts;
    let listed = views(&[candidate], pods);
    for state in State::ALL
        .into_iter()
        .filter(|state| *state != State::Current)
    {
        let listed = listed.iter().filter(|view| view.reason == state.as_str());
        assert_eq!(listed.count(), counts.of(state), "{state:?}");
    }
}

#[test]
fn a_namespace_that_forbids_the_agent_is_known_from_the_status() {
    let message =
        "namespace katonic-platform of plane Platform enforces the Pod Security level baseline";
    let candidates = [Candidate::readable(&with_status(
        "logs",
        "Unsupported",
        message,
    ))];
    let views = views(
        &candidates,
        vec![("p", pod(Agent::Missing, Parent::default()))],
    );
    assert_eq!(views[0].reason, "NamespaceRefused");
}

#[test]
fn no_agent_is_called_older_while_it_is_the_one_that_new_pods_get() {
    let refused = with_status("logs", "InjectionRefused", "no");
    let pods = every_pod();
    let views = views(&[Candidate::readable(&refused)], pods);
    assert!(!views.is_empty());
    assert!(views.iter().all(|view| view.reason != "OlderAgent"));
}

#[test]
fn what_the_reader_may_not_see_is_called_unknown_and_not_older() {
    let candidates = [Candidate::readable(&with_status("logs", "InForce", "fine"))];
    let why = "you have no right to read the history";
    let views = views_of(&candidates, every_pod(), Some(why));
    let of = |name: &str| views.iter().find(|view| view.name == name);
    for name in ["b-older", "l-foreign"] {
        let view = of(name).unwrap();
        assert_eq!((view.reason, view.note.as_deref()), ("Unknown", Some(why)));
        assert_eq!(view.command, None);
    }
    assert_eq!(of("a-current"), None);
    assert_eq!(of("c-before").unwrap().reason, "CreatedBefore");
    assert!(views.iter().all(|view| view.reason != "OlderAgent"));
}

#[test]
fn a_suspended_policy_selects_no_pods() {
    let mut policy = testing::policy("logs");
    policy.spec.suspend = Some(true);
    assert_eq!(views(&[Candidate::readable(&policy)], every_pod()), []);
}

fn overview() -> Overview {
    let mut unseen = with_status("new", "InForce", "fine");
    unseen.metadata.generation = Some(2);
    let policies = [
        with_status("logs", "InForce", "the policy is in force"),
        with_status("broken", "SecretMissing", "Secret splunk\x1b[2J is missing"),
        unseen,
    ];
    let candidates: Vec<Candidate> = policies.iter().map(Candidate::readable).collect();
    Overview {
        policies: candidates.iter().map(PolicyView::of).collect(),
        pods: Some(views(&candidates, every_pod())),
    }
}

#[test]
fn the_lines_are_as_reviewed() {
    let now = at(10 * 86_400);
    insta::assert_snapshot!("text", text(&overview(), Palette::Plain, now));
    let nothing = Overview::default();
    assert_eq!(
        text(&nothing, Palette::Plain, now),
        "There is no logging policy.\n"
    );
}

#[test]
fn colours_are_added_and_nothing_of_others_reaches_the_terminal_as_a_command() {
    let now = at(10 * 86_400);
    let plain = text(&overview(), Palette::Plain, now);
    assert!(!plain.contains('\x1b'), "{plain}");
    let colour = text(&overview(), Palette::Colour, now);
    assert!(colour.contains("\x1b[32mReady\x1b[0m"), "{colour}");
    assert!(!colour.contains("\x1b[2J"));
    let mut stripped = colour;
    for code in ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
        stripped = stripped.replace(code, "");
    }
    let trimmed = |text: &str| {
        text.lines()
            .map(str::trim_end)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(trimmed(&stripped), trimmed(&plain));
}
