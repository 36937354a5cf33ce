//! The plan: what the cluster should hold for the policies that there are.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use katonic_log_config::Reporting;
use katonic_logging_crds::{Plane, SecretKeyRef};

use crate::{
    admission::{Admission, DefinitionUid, admission},
    bundle::{self, Context, LastGood, PolicyOutcome, render},
    candidate::Candidate,
    credential::{Keyring, Lookup},
    installation::Installation,
    retention::{Custodies, gather},
};

/// What was seen of the cluster.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Every policy.
    pub candidates: Vec<Candidate>,
    /// Namespaces that exist.
    pub namespaces: BTreeMap<String, Namespace>,
    /// Those of them that take pods and refuse them with the agent.
    pub refusals: BTreeMap<String, Refused>,
    /// What was found of the referenced Secrets.
    pub credentials: BTreeMap<SecretKeyRef, Lookup>,
    /// What the agents of each namespace were told last.
    pub last_good: BTreeMap<String, LastGood>,
    /// The definition of the policies.
    pub definition: DefinitionUid,
    /// Namespace of the operator and of the sinks' Secrets.
    pub operator_namespace: String,
    /// Where agents report; none: nowhere.
    pub reporting: Option<Reporting>,
}

/// What of a namespace decides whether pods in it can be injected.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Namespace {
    /// Pod Security level that it enforces, from its label.
    pub pod_security: Option<String>,
    /// Whether it is being deleted; nothing can be created in it then.
    pub terminating: bool,
    /// Tells it from a later one of the same name.
    pub uid: String,
}

/// Levels of Kubernetes' "Pod Security Standards" that forbid `hostPath`, which the agent needs.
pub const FORBIDDING_LEVELS: [&str; 2] = ["baseline", "restricted"];

impl Namespace {
    /// Whether it forbids by its Pod Security level what the agent needs.
    pub fn forbidding_level(&self) -> Option<&str> {
        self.pod_security
            .as_deref()
            .filter(|level| FORBIDDING_LEVELS.contains(level))
    }
}

/// Why a namespace refuses pods with the agent; the API server's words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refused {
    /// It forbids what the agent cannot do without.
    Unsupported(String),
    /// For another reason: its limits do not fit, for example.
    Pods(String),
    /// It takes no trial pod at all, so that it cannot be known.
    Untried(String),
}

impl Refused {
    /// Whether nothing could be learnt.
    pub fn is_untried(&self) -> bool {
        matches!(self, Self::Untried(_))
    }

    /// The API server's words.
    pub fn words(&self) -> &str {
        match self {
            Self::Unsupported(words) | Self::Pods(words) | Self::Untried(words) => words,
        }
    }
}

/// Whether a plane can be served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlaneState {
    /// It can.
    Available,
    /// Its namespace does not exist, or is being deleted.
    NamespaceMissing,
    /// Its namespace forbids what the agent needs (`hostPath`, user 0): a pod with it would be refused.
    PodSecurity(String),
    /// A trial pod with the agent was refused there, and not without what the agent needs; the API server's words.
    Unsupported(String),
    /// A trial pod with the agent was refused there; the API server's words.
    PodsRefused(String),
    /// Trial pods are refused there, with the agent or without, so nobody knows whether one with it would be; the API
    /// server's words.
    Untried(String),
}

impl PlaneState {
    /// Whether pods of the namespace are left without the agent because of it.
    pub fn refuses_agent(&self) -> bool {
        match self {
            Self::Available | Self::NamespaceMissing => false,
            Self::PodSecurity(_)
            | Self::Unsupported(_)
            | Self::PodsRefused(_)
            | Self::Untried(_) => true,
        }
    }
}

/// One plane of the plan.
#[derive(Clone, Debug)]
pub struct PlanePlan {
    /// Its namespace.
    pub namespace: String,
    /// Whether it can be served.
    pub state: PlaneState,
    /// The bundle that its agents should see.
    pub bundle: Option<Secret>,
    /// What became of each policy that reaches it.
    pub outcomes: BTreeMap<String, PolicyOutcome>,
}

/// What the cluster should hold.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Every plane.
    pub planes: BTreeMap<Plane, PlanePlan>,
    /// Injection; none when no policy reaches a namespace that allows it.
    pub admission: Option<Admission>,
    /// The buckets whose retention is looked after.
    pub custodies: Custodies,
    /// UID and generation of every policy that it was made for, by name.
    made_for: BTreeMap<String, (String, i64)>,
}

impl Plan {
    /// The revision in which agents of a plane are told each policy, by the policy's UID.
    pub fn revisions(&self, plane: Plane) -> BTreeMap<&str, &str> {
        let outcomes = self.planes.get(&plane).map(|plane| &plane.outcomes);
        let outcomes = outcomes.into_iter().flatten();
        outcomes
            .filter_map(|(name, outcome)| {
                let (uid, _) = self.made_for.get(name)?;
                Some((uid.as_str(), outcome.revision.as_deref()?))
            })
            .collect()
    }

    /// What tells the credentials that agents are told with a policy from every other, over all planes; none: it needs none.
    pub fn credentials(&self, policy: &str) -> Option<String> {
        let outcomes = self.planes.values();
        let outcomes = outcomes.filter_map(|plane| plane.outcomes.get(policy));
        let all: Vec<&str> = outcomes
            .filter_map(|outcome| outcome.credentials.as_deref())
            .collect();
        (!all.is_empty()).then(|| all.join(" "))
    }

    /// Whether new pods of any namespace should get the agent, be it that it refuses them.
    pub fn wants_injection(&self) -> bool {
        let wants = |plane: &PlanePlan| {
            plane.state != PlaneState::NamespaceMissing && !plane.outcomes.is_empty()
        };
        self.planes.values().any(wants)
    }

    /// Whether the plan knows this very policy. Of one that came or changed later it says nothing, and so must its status.
    pub fn is_made_for(&self, candidate: &Candidate) -> bool {
        self.made_for
            .get(&candidate.name)
            .is_some_and(|(uid, generation)| {
                *uid == candidate.uid && *generation == candidate.generation
            })
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bundle.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// The admission policy.
    #[error("failed to render the admission policy")]
    Admission(#[source] serde_json::Error),
}

/// Makes the plan.
///
/// # Errors
/// When something cannot be serialised, which no input is known to cause; the cluster is then left as it is.
pub fn plan(installation: &Installation, observed: &Observed) -> Result<Plan, Error> {
    let usable = observed
        .candidates
        .iter()
        .filter_map(|candidate| candidate.policy.as_ref().ok());
    let keyring = Keyring::open(
        usable.flat_map(|policy| policy.needs().chain(policy.management_needs())),
        &observed.credentials,
        &observed.operator_namespace,
    );
    let context = Context {
        installation,
        keyring: &keyring,
        reporting: observed.reporting.as_ref(),
    };
    let mut planes = BTreeMap::new();
    let mut injected = BTreeSet::new();
    for plane in Plane::ALL {
        let namespace = installation.namespace(plane).to_owned();
        let state = state(
            observed.namespaces.get(&namespace),
            observed.refusals.get(&namespace),
        );
        let rendered = render(
            context,
            plane,
            &observed.candidates,
            observed.last_good.get(&namespace),
        )?;
        if state == PlaneState::Available && !rendered.outcomes.is_empty() {
            injected.insert(namespace.clone());
        }
        let bundle = rendered.secret.filter(|_| match state {
            PlaneState::Available => true,
            PlaneState::NamespaceMissing => false,
            // It is left alone, but for agents that were let in before.
            _ => observed.last_good.contains_key(&namespace),
        });
        planes.insert(
            plane,
            PlanePlan {
                namespace,
                state,
                bundle,
                outcomes: rendered.outcomes,
            },
        );
    }
    let admission = if injected.is_empty() {
        None
    } else {
        Some(admission(installation, &injected, &observed.definition).map_err(Error::Admission)?)
    };
    let made_for = observed
        .candidates
        .iter()
        .map(|candidate| {
            (
                candidate.name.clone(),
                (candidate.uid.clone(), candidate.generation),
            )
        })
        .collect();
    let proxies = &installation.agent.proxy;
    Ok(Plan {
        planes,
        admission,
        custodies: gather(&observed.candidates, &keyring, proxies),
        made_for,
    })
}

fn state(namespace: Option<&Namespace>, refused: Option<&Refused>) -> PlaneState {
    let Some(namespace) = namespace.filter(|namespace| !namespace.terminating) else {
        return PlaneState::NamespaceMissing;
    };
    if let Some(level) = namespace.forbidding_level() {
        return PlaneState::PodSecurity(level.to_owned());
    }
    match refused {
        Some(Refused::Unsupported(message)) => PlaneState::Unsupported(message.clone()),
        Some(Refused::Pods(message)) => PlaneState::PodsRefused(message.clone()),
        Some(Refused::Untried(message)) => PlaneState::Untried(message.clone()),
        None => PlaneState::Available,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        credential::Credential,
        names,
        testing::{installation, policy},
    };

    fn observed(policies: &[katonic_logging_crds::LoggingPolicy]) -> Observed {
        let secret = SecretKeyRef {
            name: "splunk".into(),
            key: "token".into(),
        };
        Observed {
            candidates: policies.iter().map(Candidate::readable).collect(),
            namespaces: ["katonic-platform", "katonic-compute"]
                .map(|name| (name.to_owned(), Namespace::default()))
                .into(),
            credentials: [(secret, Lookup::Found(Credential::new(b"abc".to_vec())))].into(),
            refusals: BTreeMap::new(),
            last_good: BTreeMap::new(),
            definition: DefinitionUid("uid".into()),
            operator_namespace: names::OPERATOR_NAMESPACE.into(),
            reporting: None,
        }
    }

    fn plan_for(observed: &Observed) -> Plan {
        plan(&installation(), observed).unwrap()
    }

    fn injected(plan: &Plan) -> Vec<String> {
        let Some(admission) = &plan.admission else {
            return Vec::new();
        };
        admission.namespaces.iter().cloned().collect()
    }

    #[test]
    fn both_planes_are_served_by_default() {
        let plan = plan_for(&observed(&[policy("a")]));
        assert!(plan.planes.values().all(|plane| plane.bundle.is_some()));
        assert_eq!(injected(&plan), ["katonic-compute", "katonic-platform"]);
    }

    #[test]
    fn a_plan_knows_the_policies_that_it_was_made_for_and_no_others() {
        let plan = plan_for(&observed(&[policy("a")]));
        assert!(plan.is_made_for(&Candidate::readable(&policy("a"))));
        assert!(!plan.is_made_for(&Candidate::readable(&policy("b"))));
        let mut changed = policy("a");
        changed.metadata.generation = Some(2);
        assert!(!plan.is_made_for(&Candidate::readable(&changed)));
        let mut recreated = policy("a");
        recreated.metadata.uid = Some("another".into());
        assert!(!plan.is_made_for(&Candidate::readable(&recreated)));
    }

    #[test]
    fn without_a_policy_nothing_is_wanted() {
        let plan = plan_for(&observed(&[]));
        assert!(plan.planes.values().all(|plane| plane.bundle.is_none()));
        assert_eq!(plan.admission, None);
    }

    #[test]
    fn pods_are_injected_before_the_sinks_credential_is_there() {
        let mut observed = observed(&[policy("a")]);
        observed
            .credentials
            .values_mut()
            .for_each(|lookup| *lookup = Lookup::SecretMissing);
        let plan = plan_for(&observed);
        assert!(plan.planes.values().all(|plane| plane.bundle.is_none()));
        assert_eq!(injected(&plan).len(), 2);
    }

    #[test]
    fn a_namespace_that_forbids_the_agent_is_left_alone() {
        let mut observed = observed(&[policy("a")]);
        let compute = observed.namespaces.get_mut("katonic-compute").unwrap();
        compute.pod_security = Some("restricted".into());
        let plan = plan_for(&observed);
        assert_eq!(injected(&plan), ["katonic-platform"]);
        let compute = &plan.planes[&Plane::Compute];
        assert_eq!(compute.state, PlaneState::PodSecurity("restricted".into()));
        assert!(compute.bundle.is_none());
    }

    #[test]
    fn agents_that_were_let_in_before_it_was_forbidden_are_still_told() {
        let mut observed = observed(&[policy("a")]);
        let told = plan_for(&observed).planes[&Plane::Compute].bundle.clone();
        let told = LastGood::read(&told.unwrap().data.unwrap()).unwrap();
        observed.last_good = [("katonic-compute".to_owned(), told)].into();
        let refused = Refused::Unsupported("hostPath is not allowed".into());
        observed.refusals = [("katonic-compute".to_owned(), refused)].into();
        let plan = plan_for(&observed);
        assert_eq!(injected(&plan), ["katonic-platform"]);
        assert!(plan.planes[&Plane::Compute].bundle.is_some());
    }

    #[test]
    fn a_namespace_that_refuses_pods_with_the_agent_is_not_bound() {
        let mut observed = observed(&[policy("a")]);
        observed
            .refusals
            .insert("katonic-compute".into(), Refused::Pods("too small".into()));
        let plan = plan_for(&observed);
        assert_eq!(injected(&plan), ["katonic-platform"]);
        assert_eq!(
            plan.planes[&Plane::Compute].state,
            PlaneState::PodsRefused("too small".into())
        );
    }

    #[test]
    fn a_missing_namespace_does_not_hold_up_the_other() {
        let mut observed = observed(&[policy("a")]);
        observed.namespaces.remove("katonic-compute");
        let plan = plan_for(&observed);
        assert_eq!(injected(&plan), ["katonic-platform"]);
        assert!(plan.planes[&Plane::Compute].bundle.is_none());
        assert!(plan.planes[&Plane::Platform].bundle.is_some());
    }

    #[test]
    fn injection_is_wanted_by_policies_that_are_not_suspended_where_there_are_namespaces() {
        let wants = |policies: &[katonic_logging_crds::LoggingPolicy],
                     change: &dyn Fn(&mut Observed)| {
            let mut observed = observed(policies);
            change(&mut observed);
            plan(&installation(), &observed).unwrap().wants_injection()
        };
        let same = |_: &mut Observed| {};
        let mut suspended = policy("suspended");
        suspended.spec.suspend = Some(true);
        assert!(!wants(&[], &same));
        assert!(!wants(std::slice::from_ref(&suspended), &same));
        assert!(wants(&[suspended, policy("logs")], &same));
        let logs = &[policy("logs")];
        assert!(!wants(logs, &|observed| observed.namespaces.clear()));
        // Those that refuse it are wanted to take it.
        assert!(wants(logs, &|observed| {
            let refused = |name: &String| (name.clone(), Refused::Pods("no".to_owned()));
            observed.refusals = observed.namespaces.keys().map(refused).collect();
        }));
        // What an audit policy ships counts alone.
        assert!(wants(&[], &|observed| {
            let mut shipping = Candidate::readable(&policy("events"));
            shipping.kind = crate::candidate::Kind::Audit;
            observed.candidates = vec![shipping];
        }));
    }
}
