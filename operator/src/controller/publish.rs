//! The summarize step's shell: writes statuses and Events where they have changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt, stream};
use k8s_openapi::{
    api::core::v1::{ConfigMap, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Condition,
    jiff::{SignedDuration, Timestamp},
};
use katonic_logging_core::{
    Candidate, Installation, audit,
    delivery::Survey,
    event::{Event as Told, Open, Rotated, Rotations, Said, events},
    installation::Problem,
    names,
    plan::Plan,
    restart::{Id, Standing},
    retention::{BucketId, Outcome},
    status::{Difference, Facts, Report, summarize},
};
use katonic_logging_crds::{AuditPolicy, AuditPolicyStatus, LoggingPolicy, LoggingPolicyStatus};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{census::Census, sources::Sources};
use crate::{cache::chain, health::Health, metrics};

/// How many statuses are written at once; the API server gives a service account about 245 seats, shared with others.
const CONCURRENCY: usize = 16;

const LOGGING: &str = "LoggingPolicy";
const AUDIT: &str = "AuditPolicy";

/// What statuses are made of.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The plan in force.
    pub plan: Option<&'a Plan>,
    /// What applying it came to.
    pub report: &'a Report,
    /// The installation in force.
    pub installation: Option<&'a Installation>,
    /// What is wrong with the installation.
    pub problem: Option<&'a Problem>,
    /// Its pods.
    pub census: &'a Census,
    /// How it stands with the restarts of owners.
    pub restarts: &'a BTreeMap<Id, Standing>,
    /// What came of looking after buckets.
    pub retention: &'a BTreeMap<BucketId, Outcome>,
    /// What the event tracker is told, and whether the platform's namespace is there.
    pub audit: Option<&'a (audit::Plan, bool)>,
    /// What agents report; none: nobody listens.
    pub survey: Option<&'a Survey>,
}

/// A status that has changed.
#[derive(Clone, Copy)]
struct Change<'a> {
    name: &'a str,
    uid: &'a str,
    before: Said<'a>,
    after: Said<'a>,
}

/// What became of the statuses.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Whether all were written that had to be.
    pub all: bool,
    /// When those are due that can wait.
    pub due: Option<Timestamp>,
}

#[derive(Default)]
struct Changes {
    changed: Vec<(Candidate, LoggingPolicyStatus)>,
    due: Option<Timestamp>,
    /// Besides what the statuses themselves tell.
    events: Vec<(ObjectReference, Told)>,
}

/// Tells people what is so.
pub struct Publisher {
    policies: Api<LoggingPolicy>,
    audit_policies: Api<AuditPolicy>,
    unreadable: BTreeMap<String, LoggingPolicyStatus>,
    unreadable_audit: BTreeMap<String, AuditPolicyStatus>,
    /// When the status of each policy was written last, by its UID.
    written: BTreeMap<String, Timestamp>,
    rotations: Rotations,
    audit_rotations: Rotations,
    /// What was told of the policies of each kind and is not over.
    open: Mutex<Open>,
    client: Client,
    namespace: String,
    health: Arc<Health>,
}

impl Publisher {
    /// A publisher for the operator in this namespace.
    pub fn new(client: Client, namespace: &str, health: Arc<Health>) -> Self {
        Self {
            policies: Api::all(client.clone()),
            audit_policies: Api::all(client.clone()),
            unreadable: BTreeMap::new(),
            unreadable_audit: BTreeMap::new(),
            written: BTreeMap::new(),
            rotations: Rotations::default(),
            audit_rotations: Rotations::default(),
            open: Mutex::default(),
            client,
            namespace: namespace.to_owned(),
            health,
        }
    }

    /// Writes every status that has changed; those in which nothing but counts has changed only from time to time.
    pub async fn publish(
        &mut self,
        sources: &Sources,
        known: Known<'_>,
        now: Timestamp,
    ) -> Published {
        self.forget_gone(sources);
        let changes = sources
            .policies
            .with(|candidates| self.changes(candidates, known, now));
        let Changes {
            changed,
            due,
            events,
        } = changes.unwrap_or_default();
        let written: Vec<bool> = stream::iter(changed)
            .map(|(candidate, status)| self.write(sources, candidate, status))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        self.tell_all(events).await;
        Published {
            all: written.into_iter().all(|written| written),
            due,
        }
    }

    /// Forgets what was told of policies that are gone.
    fn forget_gone(&self, sources: &Sources) {
        let audit_policies = sources.audit_policies.all().unwrap_or_default();
        sources.policies.with(|policies| {
            let uids = policies.values().map(|candidate| candidate.uid.as_str());
            let of_audit = audit_policies
                .values()
                .map(|candidate| candidate.uid.as_str());
            let uids: BTreeSet<&str> = uids.chain(of_audit).collect();
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(&uids);
        });
    }

    /// The statuses that have changed and are due; nothing of the others is copied.
    fn changes(
        &mut self,
        candidates: &BTreeMap<String, Candidate>,
        known: Known<'_>,
        now: Timestamp,
    ) -> Changes {
        let pace = Pace::new(candidates.len(), known.survey);
        // Those of long ago make no change wait.
        self.written.retain(|_, at| now < *at + pace.counts);
        let mut changes = Changes::default();
        let (mut ready, mut not_ready) = (0, 0);
        let mut pods = BTreeMap::new();
        let mut unready = BTreeMap::new();
        let uids = candidates.values().map(|candidate| candidate.uid.as_str());
        self.rotations.retain(&uids.collect());
        for candidate in candidates.values() {
            let resolved = known
                .installation
                .and_then(|installation| candidate.resolved(installation));
            let candidate = resolved.as_ref().unwrap_or(candidate);
            // A policy that cannot be read has no status that can: what was written is remembered instead.
            let mut remembered = None;
            if candidate.policy.is_err() && candidate.status.is_none() {
                remembered = self.unreadable.get(&candidate.uid).map(|status| Candidate {
                    status: Some(status.clone()),
                    ..candidate.clone()
                });
            }
            let candidate = remembered.as_ref().unwrap_or(candidate);
            if known.plan.is_some_and(|plan| !plan.is_made_for(candidate)) {
                // It came after the plan was made; the next pass has it.
                continue;
            }
            let coverage = known.census.of(candidate);
            let counts = coverage
                .values()
                .flat_map(|coverage| coverage.counts.states());
            pods.insert(candidate.name.clone(), counts.collect());
            let delivery = known.survey.map(|survey| survey.of(&candidate.uid));
            let facts = Facts {
                plan: known.plan,
                report: known.report,
                problem: known.problem,
                coverage: &coverage,
                restarts: known.restarts,
                retention: known.retention,
                delivery,
            };
            // A condition's time has seconds; more would be lost on the way and look like a change.
            let seconds = Timestamp::from_second(now.as_second()).unwrap_or(now);
            let status = summarize(candidate, facts, seconds);
            if let Some(reason) = unready_because(&status.conditions) {
                not_ready += 1;
                unready.insert(candidate.name.clone(), reason);
            } else {
                ready += 1;
            }
            if let Some(plan) = known.plan {
                let credentials = plan.credentials(&candidate.name);
                let rotated = Rotated {
                    policy: &candidate.uid,
                    generation: candidate.generation,
                    credentials: credentials.as_deref(),
                    conditions: &status.conditions,
                };
                let (event, next) = self.rotations.follow(rotated, now);
                let about = || about::<LoggingPolicy>(&candidate.name, &candidate.uid);
                changes.events.extend(event.map(|event| (about(), event)));
                changes.due = changes.due.into_iter().chain(next).min();
            }
            if candidate.status.as_ref() == Some(&status) {
                continue;
            }
            let before = candidate.status.as_ref();
            let difference = before.map(|before| Difference::between(before, &status));
            if let Some(next) = self.waits(&candidate.uid, difference, &pace, now) {
                changes.due = Some(changes.due.map_or(next, |due| due.min(next)));
                continue;
            }
            if candidate.policy.is_err() {
                self.unreadable
                    .insert(candidate.uid.clone(), status.clone());
            }
            changes.changed.push((candidate.clone(), status));
        }
        self.health.metrics.count_policies(ready, not_ready);
        self.health.metrics.count_pods(pods);
        self.health.metrics.readiness.follow(LOGGING, unready);
        changes
    }

    /// Until when a change of a status waits; none when it is written now. `difference`: none where nothing was written before.
    fn waits(
        &mut self,
        uid: &str,
        difference: Option<Difference>,
        pace: &Pace,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let last = self.written.get(uid);
        let next = last
            .zip(difference)
            .map(|(last, difference)| *last + pace.of(difference));
        if next.is_some_and(|next| now < next) {
            return next;
        }
        self.written.insert(uid.to_owned(), now);
        None
    }

    async fn write(
        &self,
        sources: &Sources,
        candidate: Candidate,
        status: LoggingPolicyStatus,
    ) -> bool {
        let Candidate {
            name,
            uid,
            status: before,
            ..
        } = &candidate;
        let change = Change {
            name,
            uid,
            before: before.as_ref().map_or_else(Said::default, |before| Said {
                conditions: &before.conditions,
                sinks: &before.sinks,
            }),
            after: Said {
                conditions: &status.conditions,
                sinks: &status.sinks,
            },
        };
        let remember = || {
            sources.policies.update(name, |known| {
                if known.uid == *uid {
                    known.status = Some(status.clone());
                }
            });
        };
        self.write_status(&self.policies, LOGGING, change, &status, remember)
            .await
    }

    /// Writes every status of an audit policy that has changed and is due.
    pub async fn publish_audit(
        &mut self,
        sources: &Sources,
        known: Known<'_>,
        now: Timestamp,
    ) -> Published {
        let seconds = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let candidates = sources.audit_policies.all().unwrap_or_default();
        let pace = Pace::new(candidates.len(), known.survey);
        let unreadable = &self.unreadable_audit;
        let mut unready = BTreeMap::new();
        let rotations = &mut self.audit_rotations;
        let uids = candidates.values().map(|candidate| candidate.uid.as_str());
        rotations.retain(&uids.collect());
        let (mut rotated, mut due) = (Vec::new(), None::<Timestamp>);
        let changed = candidates.into_values().filter_map(|mut candidate| {
            // One that cannot be read has no status that can: what was written is remembered instead.
            if candidate.policy.is_err() && candidate.status.is_none() {
                candidate.status = unreadable.get(&candidate.uid).cloned();
            }
            let shipping = known
                .installation
                .and_then(|installation| candidate.shipping_of(installation));
            let is_planned = known
                .audit
                .is_none_or(|(plan, _)| plan.is_made_for(&candidate));
            let is_shipping_planned = shipping
                .as_ref()
                .zip(known.plan)
                .is_none_or(|(shipping, plan)| plan.is_made_for(shipping));
            if !is_planned || !is_shipping_planned {
                // It came after the plan was made; the next pass has it.
                return None;
            }
            let coverage = shipping.as_ref().map(|shipping| known.census.of(shipping));
            let delivery = known.survey.map(|survey| survey.of(&candidate.uid));
            let facts = audit::Facts {
                installation: known.installation,
                plan: known.audit.map(|(plan, _)| plan),
                has_namespace: known.audit.is_some_and(|(_, has_namespace)| *has_namespace),
                shipping: Facts {
                    plan: known.plan,
                    report: known.report,
                    problem: known.problem,
                    coverage: &coverage.unwrap_or_default(),
                    restarts: known.restarts,
                    retention: known.retention,
                    delivery,
                },
            };
            let status = audit::summarize(&candidate, facts, seconds);
            due = due.into_iter().chain(audit::due(&status, seconds)).min();
            if let Some(reason) = unready_because(&status.conditions) {
                unready.insert(candidate.name.clone(), reason);
            }
            if let Some((plan, shipping)) = known.plan.zip(shipping.as_ref()) {
                let credentials = plan.credentials(&shipping.name);
                let of_policy = Rotated {
                    policy: &candidate.uid,
                    generation: candidate.generation,
                    credentials: credentials.as_deref(),
                    conditions: &status.conditions,
                };
                let (event, next) = rotations.follow(of_policy, now);
                let about = || about::<AuditPolicy>(&candidate.name, &candidate.uid);
                rotated.extend(event.map(|event| (about(), event)));
                due = due.into_iter().chain(next).min();
            }
            (candidate.status.as_ref() != Some(&status)).then_some((candidate, status))
        });
        let mut changed: Vec<(audit::Candidate, AuditPolicyStatus)> = changed.collect();
        self.health.metrics.readiness.follow(AUDIT, unready);
        changed.retain(|(candidate, status)| {
            let before = candidate.status.as_ref();
            let difference = before.map(|before| Difference::between(before, status));
            let next = self.waits(&candidate.uid, difference, &pace, now);
            due = due.into_iter().chain(next).min();
            next.is_none()
        });
        let of_unreadable = changed
            .iter()
            .filter(|(candidate, _)| candidate.policy.is_err());
        let of_unreadable: Vec<_> = of_unreadable
            .map(|(candidate, status)| (candidate.uid.clone(), status.clone()))
            .collect();
        self.unreadable_audit.extend(of_unreadable);
        let written: Vec<bool> = stream::iter(changed)
            .map(|(candidate, status)| self.write_audit(sources, candidate, status))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        self.tell_all(rotated).await;
        Published {
            all: written.into_iter().all(|written| written),
            due,
        }
    }

    async fn write_audit(
        &self,
        sources: &Sources,
        candidate: audit::Candidate,
        status: AuditPolicyStatus,
    ) -> bool {
        let audit::Candidate {
            name,
            uid,
            status: before,
            ..
        } = &candidate;
        let change = Change {
            name,
            uid,
            before: before.as_ref().map_or_else(Said::default, |before| Said {
                conditions: &before.conditions,
                sinks: &before.sinks,
            }),
            after: Said {
                conditions: &status.conditions,
                sinks: &status.sinks,
            },
        };
        let remember = || {
            sources.audit_policies.update(name, |known| {
                if known.uid == *uid {
                    known.status = Some(status.clone());
                }
            });
        };
        self.write_status(&self.audit_policies, AUDIT, change, &status, remember)
            .await
    }

    /// Writes a status, and tells what of its change a person has to know. What is written is to be remembered, so that the next
    /// pass does not write it again while the watch is still behind.
    async fn write_status<K>(
        &self,
        api: &Api<K>,
        kind: &'static str,
        change: Change<'_>,
        status: &impl Serialize,
        remember: impl FnOnce(),
    ) -> bool
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let Change {
            name,
            uid,
            before,
            after,
        } = change;
        let body = serde_json::json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name, "uid": uid},
            "status": status,
        });
        let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
        let patched = api
            .patch_status(name, &parameters, &Patch::Apply(&body))
            .await;
        match patched {
            // Gone meanwhile, or another one of the same name: the watch will say so.
            Err(kube::Error::Api(error)) if [404, 409].contains(&error.code) => {
                return true;
            }
            patched => {
                self.health
                    .metrics
                    .wrote(kind, metrics::Outcome::of(&patched));
                if let Err(error) = patched {
                    tracing::warn!(kind, policy = %name, error = %chain(&error), "failed to write the status");
                    return false;
                }
            }
        }
        let told = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            events(uid, before, after, &mut open).into_iter()
        };
        let told = told.map(|event| (about::<K>(name, uid), event));
        self.tell_all(told.collect()).await;
        remember();
        true
    }

    async fn tell_all(&self, events: Vec<(ObjectReference, Told)>) {
        for (about, event) in events {
            let (kind, policy) = (about.kind.as_deref(), about.name.as_deref());
            tracing::info!(kind, policy, reason = %event.reason, note = %event.note, "policy");
            self.tell(&about, event.warning, event.reason, event.note, "Reconcile")
                .await;
        }
    }

    /// Tells that the installation cannot be used, or that it can be used again.
    pub async fn tell_installation(&self, problem: Option<&Problem>) {
        let reference = ObjectReference {
            api_version: Some(ConfigMap::api_version(&()).into_owned()),
            kind: Some(ConfigMap::kind(&()).into_owned()),
            name: Some(names::INSTALLATION.to_owned()),
            namespace: Some(self.namespace.clone()),
            ..ObjectReference::default()
        };
        let (warning, reason, note) = if let Some(problem) = problem {
            tracing::error!(%problem, "the installation cannot be used; the last good one stays in force");
            (
                true,
                "InstallationInvalid",
                format!("{problem}; the last good installation stays in force"),
            )
        } else {
            tracing::info!("the installation can be used again");
            (
                false,
                "InstallationAccepted",
                "the installation is in force".to_owned(),
            )
        };
        self.tell(
            &reference,
            warning,
            reason.to_owned(),
            note,
            "ReadInstallation",
        )
        .await;
    }

    async fn tell(
        &self,
        about: &ObjectReference,
        warning: bool,
        reason: String,
        note: String,
        action: &str,
    ) {
        let type_ = if warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        let event = Event {
            type_,
            reason,
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        let reporter = Reporter {
            controller: names::FIELD_MANAGER.to_owned(),
            instance: None,
        };
        // A recorder of its own for each Event: one that lives on takes Events of the same reason for repetitions and
        // keeps the first one's words, while ours are told once, when they begin, and differ in what to do.
        let recorder = Recorder::new(self.client.clone(), reporter);
        // The status says the same: an Event that cannot be written costs nobody anything.
        if let Err(error) = recorder.publish(&event, about).await {
            tracing::warn!(error = %chain(&error), "failed to write an Event");
        }
    }
}

/// How long a status stays as it was written, by what has changed.
struct Pace {
    counts: SignedDuration,
    reports: SignedDuration,
}

impl Pace {
    /// Counts change two seconds apart, and no more than fifty a second over all policies: pods of executions come and go all the
    /// time, and two thousand policies may select them. What agents report changes at once where there are few, and ten seconds
    /// apart where there are ten thousand.
    fn new(policies: usize, survey: Option<&Survey>) -> Self {
        let millis =
            |number: usize| SignedDuration::from_millis(i64::try_from(number).unwrap_or(i64::MAX));
        let agents = survey.map_or(0, |survey| survey.agents);
        let reports = millis(agents.min(10_000));
        Self {
            counts: millis(policies.saturating_mul(20).max(2000)).max(reports),
            reports,
        }
    }

    fn of(&self, difference: Difference) -> SignedDuration {
        match difference {
            Difference::Counts => self.counts,
            Difference::Reports => self.reports,
            Difference::Plan => SignedDuration::ZERO,
        }
    }
}

/// A policy, as Events are about it.
fn about<K: Resource<DynamicType = ()>>(name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

/// Why a policy is not ready, in one word; none where it is.
fn unready_because(conditions: &[Condition]) -> Option<String> {
    let mut conditions = conditions.iter();
    let ready = conditions.find(|condition| condition.type_ == "Ready")?;
    (ready.status != "True").then(|| ready.reason.clone())
}
