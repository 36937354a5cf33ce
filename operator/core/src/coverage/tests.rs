//! What is counted, and that counting by changes comes to the same as counting one by one.

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use katonic_logging_crds::{
    ContainerSelector, LabelSelector, LabelSelectorRequirement, LoggingPolicy, Plane,
    labels::LabelText,
};
use proptest::prelude::*;

use super::*;
use crate::{
    Installation,
    bundle::selection,
    candidate::Candidate,
    injection::{Decision, Taken, decide},
    installation::Agent as InstalledAgent,
    sidecar::Sidecar,
    testing::{self, form, installation},
};

fn pod(containers: &[&str], labels: &[(&str, &str)]) -> Pod {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Pod {
        labels: labels.iter().map(owned).collect(),
        containers: containers.iter().map(|name| (*name).to_owned()).collect(),
        ..Pod::default()
    }
}

fn with_agent(pod: Pod, agent: &str) -> Pod {
    let agent = Agent::Present(form(agent));
    Pod { agent, ..pod }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn failing(until: Option<Timestamp>) -> Trouble {
    Trouble::Failing {
        words: "Error, exit code 1".into(),
        until,
    }
}

fn expected() -> Expected {
    Expected {
        agent: Some([form("new")].into()),
        former: Some([form("old")].into()),
        refused: false,
    }
}

fn policy(plane: Plane) -> Policy {
    let candidate = Candidate::readable(&testing::policy("p"));
    selection(
        candidate.policy.as_ref().unwrap(),
        &candidate,
        &installation(),
        plane,
    )
}

fn state(pod: &Pod) -> State {
    pod.state(&expected(), at(0)).unwrap()
}

fn refused(pod: Pod, reason: Reason) -> Pod {
    let agent = Agent::Refused(reason);
    Pod { agent, ..pod }
}

#[test]
fn a_pod_without_the_agent_says_why() {
    let plain = || pod(&["web"], &[]);
    for (pod, expected) in [
        (with_agent(plain(), "new"), State::Current),
        (with_agent(plain(), "old"), State::OlderAgent),
        (with_agent(plain(), "another"), State::ForeignAgent),
        (plain(), State::CreatedBefore),
        (refused(plain(), Reason::OptedOut), State::OptedOut),
        (refused(plain(), Reason::TrialLabel), State::TrialLabel),
        (refused(plain(), Reason::MirrorPod), State::MirrorPod),
        (refused(plain(), Reason::Windows), State::Windows),
        (
            refused(plain(), Reason::NameTaken(Taken::Container)),
            State::NameTaken,
        ),
    ] {
        assert_eq!(state(&pod), expected);
    }
    let waits = Pod {
        trouble: Some(Trouble::Image("not found".into())),
        ..with_agent(plain(), "old")
    };
    assert_eq!(state(&waits), State::AgentImageUnavailable);
    let forbids = Expected {
        refused: true,
        ..expected()
    };
    assert_eq!(
        plain().state(&forbids, at(0)),
        Some(State::NamespaceRefused)
    );
    let ending = Pod {
        terminating: true,
        ..plain()
    };
    assert_eq!(ending.state(&expected(), at(0)), None);
}

#[test]
fn a_pod_is_read_as_injection_sees_it() {
    let read = |pod: Value| {
        let metadata = serde_json::from_value(pod["metadata"].clone()).unwrap();
        Pod::read(metadata, &pod["spec"])
    };
    let agent = json!({"name": "katonic-log-agent", "restartPolicy": "Always", "volumeMounts": [{"name": "katonic-podlogs"}]});
    let injected = read(json!({
        "metadata": {"labels": {"logging.katonic.ai/inject": "false"}, "annotations": {"logging.katonic.ai/agent-revision": "abc"}},
        "spec": {"initContainers": [agent, {"name": "migrate"}], "containers": [{"name": "web"}]},
    }));
    assert!(matches!(injected.agent, Agent::Present(_)));
    assert_eq!(injected.containers, ["migrate", "web"]);
    let theirs =
        read(json!({"metadata": {}, "spec": {"containers": [{"name": "katonic-log-agent"}]}}));
    let taken = Reason::NameTaken(Taken::Container);
    assert_eq!(theirs.agent, Agent::Refused(taken));
    assert_eq!(theirs.containers, ["katonic-log-agent"]);
    let opted_out = read(json!({
        "metadata": {"labels": {"logging.katonic.ai/inject": "false"}},
        "spec": {"containers": [{"name": "web"}]},
    }));
    assert_eq!(opted_out.agent, Agent::Refused(Reason::OptedOut));
    let of_a_user = read(json!({
        "metadata": {"labels": {"logging.katonic.ai/trial": "in-force"}},
        "spec": {"containers": [{"name": "web"}]},
    }));
    assert_eq!(of_a_user.agent, Agent::Refused(Reason::TrialLabel));
    let plain = read(json!({"metadata": {}, "spec": {"containers": [{"name": "web"}]}}));
    assert_eq!(plain.agent, Agent::Missing);
}

#[test]
fn no_agent_is_older_than_one_that_is_not_known() {
    let pod = with_agent(pod(&["web"], &[]), "any");
    assert_eq!(pod.state(&Expected::default(), at(0)), Some(State::Current));
    // Whoever may not see what pods were given before takes all others for that.
    let unseen = Expected {
        former: None,
        ..expected()
    };
    assert_eq!(pod.state(&unseen, at(0)), Some(State::OlderAgent));
}

/// The specification of a pod that got this agent.
fn injected(agent: &InstalledAgent) -> Value {
    let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "web"}]}});
    let Decision::Inject(patch) = decide(&pod, &Sidecar::new(agent).unwrap()) else {
        panic!("the pod is left alone");
    };
    json_patch::patch(&mut pod, &patch).unwrap();
    pod["spec"].take()
}

/// Nothing is remembered: the operator is new, or what injects was deleted.
#[test]
fn an_agent_of_before_what_is_remembered_is_told_as_older_and_one_that_does_not_run_is_nobodys() {
    let agent = installation().agent;
    let expected = Expected {
        agent: Some([Sidecar::new(&agent).unwrap().form()].into()),
        former: Some(BTreeSet::new()),
        refused: false,
    };
    let of_before = InstalledAgent {
        image: "localhost/katonic-log-agent:0.0.9".into(),
        ..agent.clone()
    };
    let read = |spec: &Value| Pod::read(ObjectMeta::default(), spec);
    let older = read(&injected(&of_before));
    assert_eq!(older.state(&expected, at(0)), Some(State::OlderAgent));
    let waits = Pod {
        trouble: Some(Trouble::Image("not found".into())),
        ..older
    };
    assert_eq!(waits.state(&expected, at(0)), Some(State::ForeignAgent));
    let another = InstalledAgent {
        image: "localhost/another:0.1.0".into(),
        ..agent
    };
    let foreign = read(&injected(&another));
    assert_eq!(foreign.state(&expected, at(0)), Some(State::ForeignAgent));
}

#[test]
fn an_agent_with_other_resources_is_not_the_one_that_new_pods_get() {
    let agent = installation().agent;
    let larger = |memory: &str| {
        let mut agent = agent.clone();
        agent.resources.limits = [("memory".to_owned(), memory.to_owned())].into();
        agent
    };
    let forms = |agent: &InstalledAgent| BTreeSet::from([Sidecar::new(agent).unwrap().form()]);
    let state = |found: &InstalledAgent, former: BTreeSet<Form>| {
        let expected = Expected {
            agent: Some(forms(&larger("32Mi"))),
            former: Some(former),
            refused: false,
        };
        let pod = Pod::read(ObjectMeta::default(), &injected(found));
        pod.state(&expected, at(0)).unwrap()
    };
    let none = BTreeSet::new;
    assert_eq!(state(&larger("32Mi"), none()), State::Current);
    // The installation asks for more than when the pod was created, or somebody has taken it away.
    assert_eq!(state(&larger("24Mi"), none()), State::OlderAgent);
    assert_eq!(
        state(&larger("24Mi"), forms(&larger("24Mi"))),
        State::OlderAgent
    );
    // It asks for less, or somebody has given it more.
    assert_eq!(
        state(&larger("64Mi"), forms(&larger("64Mi"))),
        State::OlderAgent
    );
    assert_eq!(state(&larger("64Mi"), none()), State::Current);
}

/// What the author of a pod writes under the agent's name, whatever it says of itself.
#[test]
fn an_agent_that_nobody_has_injected_counts_neither_for_a_policy_nor_against_it() {
    let sidecar = Sidecar::new(&installation().agent).unwrap();
    let expected = Expected {
        agent: Some([sidecar.form()].into()),
        former: Some(BTreeSet::new()),
        refused: false,
    };
    let read = |spec: &Value| Pod::read(ObjectMeta::default(), spec);
    let mut forged = injected(&installation().agent);
    assert_eq!(read(&forged).state(&expected, at(0)), Some(State::Current));
    forged["initContainers"][0]["image"] = json!("localhost/miner:v1");
    let forged = read(&forged);
    assert_eq!(forged.state(&expected, at(0)), Some(State::ForeignAgent));
    for trouble in [Trouble::Image("not found".into()), failing(None)] {
        let fails = Pod {
            trouble: Some(trouble),
            ..forged.clone()
        };
        assert_eq!(fails.state(&expected, at(0)), Some(State::ForeignAgent));
    }
    let counts = coverage(&policy(Plane::Platform), &expected, at(0), [&forged]).counts;
    assert_eq!((counts.selected(), counts.injected()), (0, 0));
    assert_eq!(counts.of(State::ForeignAgent), 1);
}

#[test]
fn only_pods_that_the_agent_belongs_in_are_selected() {
    let pods = [
        with_agent(pod(&["web"], &[]), "new"),
        pod(&["web"], &[]),
        refused(pod(&["web"], &[]), Reason::OptedOut),
        refused(pod(&["web"], &[]), Reason::Windows),
    ];
    let counts = coverage(&policy(Plane::Platform), &expected(), at(0), &pods).counts;
    assert_eq!((counts.selected(), counts.injected()), (2, 1));
    assert_eq!(counts.of(State::OptedOut), 1);
}

#[test]
fn a_compute_pod_with_nothing_but_user_code_is_not_selected() {
    let pods = [pod(&["run"], &[]), pod(&["run", "executor"], &[])];
    let selected = |plane| {
        coverage(&policy(plane), &expected(), at(0), &pods)
            .counts
            .selected()
    };
    assert_eq!(selected(Plane::Compute), 1);
    assert_eq!(selected(Plane::Platform), 2);
}

#[test]
fn what_mends_a_pod_is_told_by_its_owner() {
    let owned = |parent| Pod {
        parent,
        ..pod(&["web"], &[])
    };
    let workload = |kind, name: &str| {
        let name = name.to_owned();
        Parent::Owner(Owner::Workload(Workload { kind, name }))
    };
    let replica_set = Parent::ReplicaSet {
        name: "web-1".into(),
        uid: "uid".into(),
    };
    let pods = [
        owned(replica_set.clone()),
        owned(replica_set),
        owned(workload(WorkloadKind::StatefulSet, "db")),
        owned(Parent::Owner(Owner::Job("build".into()))),
        owned(Parent::default()),
    ];
    let mend = coverage(&policy(Plane::Platform), &expected(), at(0), &pods).mend;
    let deployment = workload(WorkloadKind::Deployment, "web");
    let resolved = mend.resolved(|parent| parent.owner(Some(&deployment)));
    let workloads: Vec<String> = resolved.workloads().map(ToString::to_string).collect();
    assert_eq!(workloads, ["deployment/web", "statefulset/db"]);
    assert_eq!((resolved.of_jobs, resolved.bare), (1, 1));
}

#[test]
fn an_agent_that_ends_again_and_again_counts_as_failing_until_it_has_run_for_long() {
    let runs = Pod {
        trouble: Some(failing(Some(at(600)))),
        ..with_agent(pod(&["web"], &[]), "new")
    };
    assert_eq!(runs.state(&expected(), at(599)), Some(State::AgentFailing));
    assert_eq!(runs.state(&expected(), at(600)), Some(State::Current));
    let candidate = Candidate::readable(&testing::policy("p"));
    let mut index = Index::new(Plane::Platform);
    index.follow_expected(&expected());
    index.follow_policies([&candidate], &installation());
    index.follow_pods(&[("runs".to_owned(), Arc::new(runs))].into());
    assert_eq!(index.follow_time(at(599)), Some(at(600)));
    let of = |index: &Index, state| index.counts(&candidate.uid).unwrap().of(state);
    assert_eq!(of(&index, State::AgentFailing), 1);
    assert_eq!(index.follow_time(at(600)), None);
    assert_eq!(
        (of(&index, State::AgentFailing), of(&index, State::Current)),
        (0, 1)
    );
}

/// A policy of few labels, values and containers, so that changes meet.
fn policies() -> impl Strategy<Value = LoggingPolicy> {
    let word = || prop::sample::select(vec!["a", "b", "c"]);
    let labels = prop::collection::btree_map(word(), word(), 0..2);
    let expression = (word(), prop::sample::select(vec!["In", "NotIn"]), word());
    let expressions = prop::collection::vec(expression, 0..2);
    let components = prop::option::of(word());
    let excluded = prop::option::of(word());
    let suspend = prop::bool::weighted(0.1);
    (
        0..6_u8,
        labels,
        expressions,
        components,
        excluded,
        suspend,
        1..3_i64,
    )
        .prop_map(
            |(number, labels, expressions, component, excluded, suspend, generation)| {
                let mut policy = testing::policy(&format!("p{number}"));
                policy.metadata.generation = Some(generation);
                let requirement =
                    |(key, operator, value): (&str, &str, &str)| LabelSelectorRequirement {
                        key: key.into(),
                        operator: serde_json::from_value(operator.into()).unwrap(),
                        values: Some(vec![LabelText(value.into())]),
                    };
                let owned =
                    |(key, value): (&str, &str)| (key.to_owned(), LabelText(value.to_owned()));
                policy.spec.selector = Some(LabelSelector {
                    match_labels: Some(labels.into_iter().map(owned).collect()),
                    match_expressions: Some(expressions.into_iter().map(requirement).collect()),
                });
                policy.spec.components = component.map(|name| vec![name.to_owned()]);
                policy.spec.containers = excluded.map(|name| ContainerSelector {
                    include: None,
                    exclude: Some(vec![name.to_owned()]),
                });
                policy.spec.suspend = Some(suspend);
                policy
            },
        )
}

fn pods() -> impl Strategy<Value = Pod> {
    let word = || prop::sample::select(vec!["a", "b", "c", "app"]);
    let labels = prop::collection::btree_map(word(), word(), 0..3);
    let containers = prop::collection::vec(word(), 1..3);
    let agent = prop::sample::select(vec![
        Agent::Missing,
        Agent::Refused(Reason::OptedOut),
        Agent::Present(form("another")),
        Agent::Present(form("old")),
        Agent::Present(form("new")),
    ]);
    let owner = |name: &str| Parent::Owner(Owner::Job(name.to_owned()));
    let replica_set = Parent::ReplicaSet {
        name: "r".into(),
        uid: "u".into(),
    };
    let parent = prop::sample::select(vec![Parent::default(), owner("j"), replica_set]);
    let trouble = prop::sample::select(vec![
        None,
        None,
        Some(Trouble::Image("not found".into())),
        Some(failing(None)),
        Some(failing(Some(at(2)))),
        Some(failing(Some(at(8)))),
    ]);
    let terminating = prop::bool::weighted(0.1);
    (labels, containers, agent, parent, terminating, trouble).prop_map(
        |(labels, containers, agent, parent, terminating, trouble)| {
            let labels = labels.into_iter();
            Pod {
                uid: String::new(),
                labels: labels
                    .map(|(key, value)| (key.into(), value.into()))
                    .collect(),
                containers: containers.into_iter().map(str::to_owned).collect(),
                agent,
                parent,
                created: None,
                terminating,
                trouble,
                running: None,
            }
        },
    )
}

#[derive(Clone, Debug)]
enum Change {
    Pod(u8, Option<Box<Pod>>),
    Policy(Box<LoggingPolicy>),
    NoPolicy(u8),
    Expected(Expected),
    UserContainers(bool),
    Time(i64),
}

fn changes() -> impl Strategy<Value = Change> {
    let expected = (
        prop::sample::select(vec![None, Some("old"), Some("new")]),
        any::<bool>(),
    );
    prop_oneof![
        6 => (0..8_u8, prop::option::weighted(0.8, pods())).prop_map(|(name, pod)| Change::Pod(name, pod.map(Box::new))),
        4 => policies().prop_map(|policy| Change::Policy(Box::new(policy))),
        1 => (0..6_u8).prop_map(Change::NoPolicy),
        1 => expected.prop_map(|(agent, refused)| Change::Expected(Expected {
            agent: agent.map(|agent| [form(agent)].into()),
            former: Some(["old", "new"].map(form).into()),
            refused,
        })),
        1 => any::<bool>().prop_map(Change::UserContainers),
        2 => (1..4_i64).prop_map(Change::Time),
    ]
}

/// Pods, policies and the rest as they are, beside the index that has followed.
struct World {
    pods: BTreeMap<String, Arc<Pod>>,
    candidates: BTreeMap<String, Candidate>,
    expected: Expected,
    now: Timestamp,
    installation: Installation,
    index: Index,
    made: usize,
}

impl World {
    fn new() -> Self {
        Self {
            pods: BTreeMap::new(),
            candidates: BTreeMap::new(),
            expected: Expected::default(),
            now: at(0),
            installation: installation(),
            index: Index::new(Plane::Compute),
            made: 0,
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Pod(name, Some(pod)) => {
                self.pods.insert(format!("pod-{name}"), Arc::from(pod));
            }
            Change::Pod(name, None) => {
                self.pods.remove(&format!("pod-{name}"));
            }
            Change::Policy(mut policy) => {
                let name = policy.metadata.name.clone().unwrap();
                // As the API server does: a change counts the generation up, what is made anew is another object.
                if let Some(known) = self.candidates.get(&name) {
                    policy.metadata.uid = Some(known.uid.clone());
                    policy.metadata.generation = Some(known.generation + 1);
                } else {
                    self.made += 1;
                    policy.metadata.uid = Some(format!("uid-{}", self.made));
                    policy.metadata.generation = Some(1);
                }
                self.candidates.insert(name, Candidate::readable(&policy));
            }
            Change::NoPolicy(number) => {
                self.candidates.remove(&format!("p{number}"));
            }
            Change::Expected(expected) => self.expected = expected,
            Change::Time(seconds) => {
                self.now = self
                    .now
                    .checked_add(SignedDuration::from_secs(seconds))
                    .unwrap();
            }
            Change::UserContainers(a) => {
                let name = if a { "a" } else { "b" };
                let pattern = katonic_log_config::ContainerPattern::try_from(name.to_owned());
                self.installation.user_containers = [pattern.unwrap()].into();
            }
        }
    }

    fn follow(&mut self) {
        self.index.follow_expected(&self.expected);
        self.index
            .follow_policies(self.candidates.values(), &self.installation);
        self.index.follow_pods(&self.pods);
        self.index.follow_time(self.now);
    }

    fn is_right(&self) {
        for candidate in self.candidates.values() {
            let policy = candidate.policy.as_ref().unwrap();
            let selection = selection(policy, candidate, &self.installation, Plane::Compute);
            let pods = self.pods.values().map(AsRef::as_ref);
            let counted = coverage(&selection, &self.expected, self.now, pods);
            let known = (!policy.suspend).then_some(counted);
            // Which pod is named for an agent that does not run has tests of its own.
            let coverage = self.index.coverage(&candidate.uid);
            let coverage = coverage.map(|coverage| Coverage {
                troubled: Vec::new(),
                ..coverage
            });
            assert_eq!(coverage, known);
        }
    }
}

proptest! {
    #[test]
    fn counting_by_changes_comes_to_the_same_as_counting_one_by_one(
        batches in prop::collection::vec(prop::collection::vec(changes(), 0..4), 1..20)
    ) {
        let mut world = World::new();
        for batch in batches {
            for change in batch {
                world.take(change);
            }
            world.follow();
            world.is_right();
        }
    }
}

#[test]
fn pods_that_no_policy_tells_apart_are_one_class() {
    let mut world = World::new();
    world.take(Change::Policy(Box::new(testing::policy("p1"))));
    for number in 0..200_u8 {
        let execution = number.to_string();
        let labels = [("dominodatalab.com/execution-id", execution.as_str())];
        world.take(Change::Pod(
            number,
            Some(Box::new(pod(&["executor"], &labels))),
        ));
    }
    world.follow();
    assert_eq!(world.index.classes(), 1);
    assert_eq!(world.index.counts("uid-1").unwrap().selected(), 200);
    // A policy that asks for one execution tells that one from all others, which stay one class.
    let mut narrow = testing::policy("p2");
    let execution = (
        "dominodatalab.com/execution-id".to_owned(),
        LabelText("7".into()),
    );
    narrow.spec.selector = Some(LabelSelector {
        match_labels: Some([execution].into()),
        match_expressions: None,
    });
    world.take(Change::Policy(Box::new(narrow)));
    world.follow();
    assert_eq!(world.index.classes(), 2);
    assert_eq!(world.index.counts("uid-2").unwrap().selected(), 1);
}
