//! What a status says of the pods of a policy: how many have the agent, why the others have not, and what mends it.

use std::collections::BTreeMap;

use katonic_log_config::layout;
use katonic_logging_crds::{Plane, PodCount, PodsByReason};

use super::count;
use crate::{
    condition::{Answer, Reason, Type},
    coverage::{Counts, Coverage, State, Trouble, Troubled, Workload, restart_command},
    names,
    policy::Policy,
    restart::{Id, Obstacle, Standing},
};

/// How many owners one sentence names.
const OWNERS: usize = 8;

/// The pods of a policy in one namespace.
pub(super) struct Counted<'a> {
    pub(super) namespace: &'a str,
    pub(super) coverage: &'a Coverage,
}

/// Whether every selected pod has the agent. `standing` says of a policy with `rollout: Automatic` how it stands with the
/// restarts. An agent of an older specification may know no audit events, and leaves an audit policy out then.
pub(super) fn covered(
    counted: &[Counted<'_>],
    standing: Option<&BTreeMap<Id, Standing>>,
    is_audit: bool,
) -> Answer {
    let counts = total(counted.iter().map(|counted| &counted.coverage.counts));
    let (selected, injected) = (counts.selected(), counts.injected());
    let note = left_out(&counts);
    if selected == 0 {
        return Answer::yes(
            Type::Injected,
            Reason::NoPods,
            format!("no pod is selected at present{note}"),
        );
    }
    let older = counts.of(State::OlderAgent);
    let of_them = if older > 0 {
        format!(", {older} of them an older one")
    } else {
        String::new()
    };
    let troubled = troubled(counted);
    let (waiting, failing) = (
        counts.of(State::AgentImageUnavailable),
        counts.of(State::AgentFailing),
    );
    let others = if injected + waiting + failing < selected {
        "; the others were created before injection was in force, or while it was not"
    } else {
        ""
    };
    let mut sentence = format!(
        "{injected} of {selected} selected pods run the log agent{of_them}{note}{troubled}{others}"
    );
    let mut mend = match standing {
        None => commands(counted),
        Some(standing) => restarts(counted, standing),
    };
    mend.extend(unrestartable(counted));
    if !mend.is_empty() {
        sentence = format!("{sentence}: {}", mend.join("; "));
    }
    let stopped = standing.is_some_and(|standing| stopped(counted, standing).is_some());
    if stopped {
        Answer::no(Type::Injected, Reason::RolloutStopped, sentence)
    } else if waiting > 0 {
        Answer::no(Type::Injected, Reason::AgentImageUnavailable, sentence)
    } else if failing > 0 {
        Answer::no(Type::Injected, Reason::AgentFailing, sentence)
    } else if injected == selected && !(is_audit && older > 0) {
        Answer::yes(Type::Injected, Reason::AllPods, sentence)
    } else {
        Answer::no(Type::Injected, Reason::PodsWithoutAgent, sentence)
    }
}

/// The pods whose agent is there and does not run, with the first of each namespace.
fn troubled(counted: &[Counted<'_>]) -> String {
    let mut sentences = Vec::new();
    for Counted {
        namespace,
        coverage,
    } in counted
    {
        for Troubled { pod, trouble } in &coverage.troubled {
            let pods = coverage.counts.of(trouble.state());
            let words = shortened(trouble.words());
            sentences.push(match trouble {
                Trouble::Image(_) => format!(
                    "; {pods} of namespace {namespace} cannot start before the agent's image can be pulled, {pod} for example: {words}: push the image, or correct logging.agent.image in ConfigMap {} and delete the pods that wait",
                    names::INSTALLATION
                ),
                Trouble::Failing { .. } => format!(
                    "; in {pods} of namespace {namespace} the agent ends again and again, in {pod} for example ({words}): `kubectl -n {namespace} logs {pod} -c {} --previous` shows its last words",
                    layout::CONTAINER
                ),
            });
        }
    }
    sentences.concat()
}

/// Enough of the words of others to know what is meant.
fn shortened(words: &str) -> String {
    const MOST: usize = 300;
    match words.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words.to_owned(),
    }
}

/// The counts as the status has them; `None` while the pods of a plane have not been listed.
pub(crate) fn pods(policy: &Policy, coverage: &BTreeMap<Plane, Coverage>) -> Option<PodCount> {
    if policy.suspend {
        return None;
    }
    let of_planes = policy
        .planes
        .iter()
        .map(|plane| coverage.get(plane).map(|coverage| &coverage.counts));
    let counts = total(of_planes.collect::<Option<Vec<_>>>()?);
    let (selected, injected) = (counts.selected(), counts.injected());
    let uncovered = State::ALL
        .into_iter()
        .filter(|state| *state != State::Current && counts.of(*state) > 0)
        .map(|state| PodsByReason {
            reason: state.as_str().to_owned(),
            count: count(counts.of(state)),
        });
    Some(PodCount {
        selected: count(selected),
        injected: count(injected),
        summary: format!("{injected}/{selected}"),
        uncovered: uncovered.collect(),
    })
}

fn total<'a>(all: impl IntoIterator<Item = &'a Counts>) -> Counts {
    all.into_iter().flat_map(Counts::states).collect()
}

/// The pods that the agent does not belong into.
fn left_out(counts: &Counts) -> String {
    let sentences = [
        (
            counts.of(State::OptedOut),
            format!(
                "opted out by the label {}={}",
                names::INJECT_LABEL,
                names::INJECT_NO
            ),
        ),
        (
            counts.of(State::TrialLabel),
            format!(
                "have the label {}, which is for pods with which the operator tries injection",
                names::TRIAL_LABEL
            ),
        ),
        (
            counts.of(State::MirrorPod) + counts.of(State::Windows),
            "static or Windows pods cannot have the agent".to_owned(),
        ),
        (
            counts.of(State::NameTaken)
                + counts.of(State::PodLevelResources)
                + counts.of(State::TooLarge),
            "cannot have it as they are written, `katonic-logging status --pods` says why"
                .to_owned(),
        ),
        (
            counts.of(State::ForeignAgent),
            format!(
                "have an init container {} that is not as injection writes it",
                layout::CONTAINER
            ),
        ),
    ];
    let told: Vec<String> = sentences
        .into_iter()
        .filter(|(pods, _)| *pods > 0)
        .map(|(pods, what)| format!("{pods} {what}"))
        .collect();
    if told.is_empty() {
        String::new()
    } else {
        format!(" (not counted: {})", told.join(", "))
    }
}

/// The commands that give the agent to pods that lack it or have an older one.
fn commands(counted: &[Counted<'_>]) -> Vec<String> {
    let commands = counted.iter().filter_map(|counted| {
        let workloads: Vec<&Workload> = counted.coverage.mend.workloads().collect();
        command(counted.namespace, &workloads)
    });
    commands.collect()
}

/// The pods that a restart would mend and nobody can restart.
fn unrestartable(counted: &[Counted<'_>]) -> Vec<String> {
    let mut sentences = Vec::new();
    let sum = |of: fn(&Coverage) -> usize| -> usize {
        counted.iter().map(|counted| of(counted.coverage)).sum()
    };
    let of_jobs = sum(|coverage| coverage.mend.of_jobs);
    let bare = sum(|coverage| coverage.mend.bare);
    if of_jobs > 0 {
        sentences.push(format!("{of_jobs} belong to Jobs and end by themselves"));
    }
    if bare > 0 {
        sentences.push(format!(
            "{bare} have no owner and get it when they are next created"
        ));
    }
    let mut others: BTreeMap<&str, usize> = BTreeMap::new();
    for (kind, pods) in counted
        .iter()
        .flat_map(|counted| &counted.coverage.mend.others)
    {
        *others.entry(kind).or_default() += pods;
    }
    for (kind, pods) in others {
        sentences.push(format!(
            "{pods} belong to the kind {kind} and get it when that makes them anew"
        ));
    }
    sentences
}

/// The command that restarts these workloads of a namespace; none when there are none.
fn command(namespace: &str, workloads: &[&Workload]) -> Option<String> {
    let shown = &workloads[..workloads.len().min(OWNERS)];
    if shown.is_empty() {
        return None;
    }
    let command = restart_command(namespace, shown.iter().copied());
    let more = workloads.len() - shown.len();
    Some(if more == 0 {
        format!("`{command}`")
    } else {
        format!("`{command}` and {more} more, listed by `katonic-logging status --pods`")
    })
}

/// The workload at which the restarts have stopped, if that concerns these namespaces.
fn stopped<'a>(counted: &[Counted<'_>], standing: &'a BTreeMap<Id, Standing>) -> Option<&'a Id> {
    let (stopped, _) = standing
        .iter()
        .find(|(_, standing)| **standing == Standing::Stopped)?;
    let is_here = counted
        .iter()
        .any(|counted| counted.namespace == stopped.namespace);
    let waits = counted.iter().any(|counted| {
        let mut workloads = counted.coverage.mend.workloads();
        workloads.any(|workload| {
            standing.get(&id(counted.namespace, workload)) == Some(&Standing::Queued)
        })
    });
    (is_here || waits).then_some(stopped)
}

fn id(namespace: &str, workload: &Workload) -> Id {
    Id {
        namespace: namespace.to_owned(),
        workload: workload.clone(),
    }
}

/// How it stands with the restarts of the owners of these pods.
fn restarts(counted: &[Counted<'_>], standing: &BTreeMap<Id, Standing>) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(Id {
        namespace,
        workload,
    }) = stopped(counted, standing)
    {
        sentences.push(format!(
            "the restarts have stopped at {workload} of namespace {namespace}, which was restarted and is not healthy: `kubectl -n {namespace} rollout status {workload}` says what it waits for; they go on when it is healthy"
        ));
    }
    let (mut queued, mut closed, mut unnamed) = (0_usize, None, 0_usize);
    for counted in counted {
        let namespace = counted.namespace;
        for workload in counted.coverage.mend.workloads() {
            let told = match standing.get(&id(namespace, workload)) {
                Some(Standing::Queued) => {
                    queued += 1;
                    continue;
                }
                Some(Standing::Closed { opens }) => {
                    closed = Some((closed.map_or(0, |(owners, _)| owners) + 1, *opens));
                    continue;
                }
                // Told above, or about to be decided.
                Some(Standing::Stopped) | None => continue,
                Some(Standing::Restarting) => {
                    format!("{workload} of namespace {namespace} is being restarted")
                }
                Some(Standing::Busy) => format!(
                    "{workload} of namespace {namespace} is restarted when it is healthy and nobody else is rolling it out"
                ),
                Some(Standing::InVain { restarted }) => format!(
                    "{workload} of namespace {namespace} was restarted at {restarted} and pods of it still lack the agent: it is not restarted again, `katonic-logging status --pods` lists them"
                ),
                Some(Standing::Refused(message)) => {
                    format!("{workload} of namespace {namespace} could not be restarted: {message}")
                }
                Some(Standing::Obstructed(obstacle)) => obstructed(namespace, workload, *obstacle),
            };
            if sentences.len() < OWNERS {
                sentences.push(told);
            } else {
                unnamed += 1;
            }
        }
    }
    if unnamed > 0 {
        sentences.push(format!("and {unnamed} more owners"));
    }
    if queued > 0 {
        sentences.push(if queued == 1 {
            "1 owner has to wait for its turn".to_owned()
        } else {
            format!("{queued} owners have to wait for their turn")
        });
    }
    if let Some((waiting, opens)) = closed {
        sentences.push(format!(
            "{waiting} {} to wait for the window of restarts, which opens at {opens}",
            if waiting == 1 {
                "owner has"
            } else {
                "owners have"
            }
        ));
    }
    sentences
}

fn obstructed(namespace: &str, workload: &Workload, obstacle: Obstacle) -> String {
    match obstacle {
        Obstacle::InTemplate => format!(
            "{workload} of namespace {namespace} has an agent in its template, which a restart would leave as it is: make its manifest anew with `katonic-logging inject`, or without one"
        ),
        Obstacle::Paused => format!(
            "{workload} of namespace {namespace} is paused: `kubectl -n {namespace} rollout resume {workload}`"
        ),
        Obstacle::OnDelete => format!(
            "{workload} of namespace {namespace} has the update strategy OnDelete: each of its pods gets the agent when you delete it"
        ),
        Obstacle::Partitioned => format!(
            "{workload} of namespace {namespace} has a partition, so a restart would leave some of its pods: set it to 0, or delete those pods"
        ),
    }
}
