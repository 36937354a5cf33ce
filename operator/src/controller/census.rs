//! Keeps count of the pods of every policy, and of whom to restart for those that lack the agent. Decides nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::{
    Candidate, Installation, Policy,
    coverage::{Coverage, Expected, Index, Parent, Workload},
    delivery::{Asked, Fleet, PlanePods, Survey},
    history::History,
    injection::Specification,
    installation::Agent,
    plan::{Plan, PlaneState},
    restart::Id,
    sidecar::Sidecar,
};
use katonic_logging_crds::{Plane, Rollout};
use kube::Client;

use super::{
    reports::Reports,
    sources::{PlaneSources, Sources},
};
use crate::owners::Owners;

/// Counts of the pods of each plane.
#[derive(Debug)]
pub struct Census {
    planes: BTreeMap<Plane, Counted>,
    owners: Owners,
    agent: Option<(Agent, Sidecar)>,
    due: Option<Timestamp>,
}

#[derive(Debug)]
struct Counted {
    namespace: String,
    index: Index,
    /// Whether the pods have been listed.
    listed: bool,
}

impl Census {
    /// Has counted nothing yet.
    pub fn new(client: Client) -> Self {
        Self {
            planes: BTreeMap::new(),
            owners: Owners::new(client),
            agent: None,
            due: None,
        }
    }

    /// Counts what has changed.
    pub async fn follow(
        &mut self,
        sources: &Sources,
        planes: &PlaneSources,
        installation: &Installation,
        plan: Option<&Plan>,
        now: Timestamp,
    ) {
        self.due = None;
        // While a change is tried or refused, new pods get the agent of before.
        let in_force = sources.installation_in_force();
        let sidecar = self.sidecar(&in_force.as_ref().unwrap_or(installation).agent);
        let history = sources.history();
        let audit_policies = sources.audit_policies.all().unwrap_or_default();
        for plane in Plane::ALL {
            let Some(source) = planes.get(plane) else {
                continue;
            };
            let counted = self.planes.entry(plane).or_insert_with(|| Counted {
                namespace: source.namespace.clone(),
                index: Index::new(plane),
                listed: false,
            });
            if counted.namespace != source.namespace {
                counted.namespace.clone_from(&source.namespace);
                counted.index = Index::new(plane);
            }
            counted
                .index
                .follow_expected(&expected(plan, plane, sidecar.as_ref(), &history));
            sources.policies.with(|candidates| {
                let shipping = audit_policies.values();
                let shipping = shipping.filter_map(|one| one.shipping.as_ref());
                counted
                    .index
                    .follow_policies(candidates.values().chain(shipping), installation);
            });
            let followed = source.pods.with(|pods| counted.index.follow_pods(pods));
            counted.listed = followed.is_some();
            let due = counted.index.follow_time(now);
            self.due = self.due.into_iter().chain(due).min();
        }
        let mut all = BTreeSet::new();
        for counted in self.planes.values() {
            let parents = counted.index.parents();
            self.owners.resolve(&counted.namespace, &parents).await;
            all.extend(parents);
        }
        self.owners.retain(&all);
    }

    /// The owners whose restart would mend pods of a policy.
    fn workloads(&self, candidate: &Candidate) -> Vec<Id> {
        let of_planes = self.of(candidate).into_iter();
        let ids = of_planes.flat_map(|(plane, coverage)| {
            let namespace = self
                .planes
                .get(&plane)
                .map(|counted| counted.namespace.clone());
            let workloads = coverage.mend.workloads().cloned().collect::<Vec<_>>();
            namespace.into_iter().flat_map(move |namespace| {
                let id = |workload: &Workload| Id {
                    namespace: namespace.clone(),
                    workload: workload.clone(),
                };
                workloads.iter().map(id).collect::<Vec<_>>()
            })
        });
        ids.collect()
    }

    /// What new pods get.
    fn sidecar(&mut self, agent: &Agent) -> Option<Sidecar> {
        if self.agent.as_ref().is_none_or(|(known, _)| known != agent) {
            self.agent = Some((agent.clone(), Sidecar::new(agent).ok()?));
        }
        self.agent.as_ref().map(|(_, sidecar)| sidecar.clone())
    }

    /// When to count again though nothing has changed.
    pub fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// What is done to new pods.
    pub fn specification(&self) -> Option<Specification> {
        self.agent
            .as_ref()
            .map(|(_, sidecar)| Specification::of(sidecar))
    }

    /// The pods of a policy in each plane whose pods have been listed.
    pub fn of(&self, candidate: &Candidate) -> BTreeMap<Plane, Coverage> {
        let coverage = |(plane, counted): (&Plane, &Counted)| {
            let coverage = counted.index.coverage(&candidate.uid)?;
            let mend = coverage
                .mend
                .resolved(|parent: &Parent| self.owners.of(parent));
            counted
                .listed
                .then_some((*plane, Coverage { mend, ..coverage }))
        };
        self.planes.iter().filter_map(coverage).collect()
    }
}

/// How every policy is doing, by what the agents of its pods report.
pub fn survey(
    census: &Census,
    fleet: &mut Fleet,
    sources: &Sources,
    plan: Option<&Plan>,
    now: Timestamp,
) -> Survey {
    let mut planes = BTreeMap::new();
    for (plane, counted) in census.planes.iter().filter(|(_, counted)| counted.listed) {
        let pods = PlanePods {
            namespace: &counted.namespace,
            index: &counted.index,
            revisions: plan.map(|plan| plan.revisions(*plane)).unwrap_or_default(),
            live: counted.index.uids().collect::<HashSet<_>>(),
        };
        planes.insert(*plane, pods);
    }
    let ask = |asked: &[Asked<'_>]| fleet.survey(&planes, asked, now);
    // While the policies are not listed, nothing of them is forgotten.
    ask_of_all(sources, ask).unwrap_or_default()
}

/// Has reports taken of the policies that there are, where all of them are known.
pub fn expect(reports: &Reports, sources: &Sources) {
    if !sources.are_all_policies_known() {
        reports.expect(None);
        return;
    }
    ask_of_all(sources, |asked| reports.expect(Some(asked)));
}

/// Asks something of all policies that ship logs; none while they are not listed.
fn ask_of_all<T>(sources: &Sources, ask: impl FnOnce(&[Asked<'_>]) -> T) -> Option<T> {
    let audit_policies = sources.audit_policies.all().unwrap_or_default();
    sources.policies.with(|candidates| {
        let mut asked: Vec<_> = candidates.values().map(Asked::of).collect();
        let shipping = audit_policies.values();
        let shipping = shipping.filter_map(|candidate| candidate.shipping.as_ref());
        asked.extend(shipping.map(Asked::of));
        ask(&asked)
    })
}

/// The owners that policies with `rollout: Automatic` want to see restarted; `None` when there is no such policy.
pub fn wanted(census: &Census, sources: &Sources) -> Option<BTreeSet<Id>> {
    let is_automatic = |policy: &&Policy| !policy.suspend && policy.rollout == Rollout::Automatic;
    sources.policies.with(|candidates| {
        let automatic = candidates.values().filter(|candidate| {
            candidate
                .policy
                .as_ref()
                .is_ok_and(|policy| is_automatic(&policy))
        });
        let mut automatic = automatic.peekable();
        automatic.peek()?;
        let owners = automatic.flat_map(|candidate| census.workloads(candidate));
        Some(owners.collect())
    })?
}

/// What the pods of a plane are compared with.
fn expected(
    plan: Option<&Plan>,
    plane: Plane,
    sidecar: Option<&Sidecar>,
    history: &History,
) -> Expected {
    let state = plan
        .and_then(|plan| plan.planes.get(&plane))
        .map(|plane| &plane.state);
    Expected {
        agent: sidecar.map(|sidecar| history.forms(sidecar)),
        former: sidecar.map(|sidecar| history.former(&sidecar.revision)),
        refused: state.is_some_and(PlaneState::refuses_agent),
    }
}
