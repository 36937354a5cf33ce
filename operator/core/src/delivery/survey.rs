//! How each policy is doing over all of its pods.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use katonic_log_config::report::{PolicyReport, RefusedReason, SinkReport, SinkState, shortened};
use katonic_logging_crds::{Plane, SinkStatus};

use super::{
    Fleet, Losses, Route, Seen, Unidentified, last_event,
    losses::{Told, Unreported},
    policy_of,
};
use crate::{
    acknowledgement::Acknowledged, candidate::Candidate, condition::Reason, coverage::Index,
};

/// How long an agent has for its first report after it was started.
const FIRST_REPORT: SignedDuration = SignedDuration::from_secs(30);

/// So many intervals without a report, and nobody knows how an agent is doing.
const INTERVALS_UNTIL_SILENT: i32 = 3;

/// How long a sink fails in a pod before it is told: a connection that breaks and is made anew is no news.
const FAILS_FOR: SignedDuration = SignedDuration::from_secs(15);

/// How long a sink fails nowhere before that is told, so that one that comes and goes is told of once.
const WORKS_FOR: SignedDuration = SignedDuration::from_secs(30);

/// How far behind a sink is before it is told, in seconds.
const BACKLOG: u64 = 120;

/// How far behind it still is while that is told, in seconds: one that is as fast as what is written comes and goes at any one line.
const CAUGHT_UP: u64 = 60;

/// How many of these lines a sink is beyond, by its lag in seconds.
pub(super) fn steps(lag: u64) -> u64 {
    u64::from(lag >= CAUGHT_UP) + u64::from(lag >= BACKLOG)
}

/// How every policy is doing, by its UID.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    deliveries: HashMap<Arc<str>, Delivery>,
    /// How a policy is doing that no agent can have.
    nobody: Delivery,
    /// Agents that have reported.
    pub agents: usize,
    /// When to look again though nobody has reported.
    pub due: Option<Timestamp>,
}

impl Survey {
    /// How a policy is doing; one that no agent can have is doing as one without pods.
    pub fn of(&self, uid: &str) -> &Delivery {
        self.deliveries.get(uid).unwrap_or(&self.nobody)
    }

    /// Every policy of which it was asked.
    pub fn deliveries(&self) -> impl Iterator<Item = &Delivery> {
        let deliveries = self.deliveries.values();
        deliveries.filter(|delivery| !delivery.policy.is_empty())
    }

    fn at(&mut self, uid: impl Into<Arc<str>>) -> &mut Delivery {
        self.deliveries.entry(uid.into()).or_default()
    }

    fn again_at(&mut self, at: Timestamp) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

/// How one policy is doing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Delivery {
    /// The policy's name; none where it was not asked of it.
    pub policy: String,
    /// Agents that run in pods of the policy, those left out that have just been started.
    pub agents: usize,
    /// Those of them that run the policy as it is told.
    pub current: usize,
    /// Those that run another form of it, or do not know of it yet.
    pub outdated: usize,
    /// Those that do not run it as it is told, and why.
    pub refusing: BTreeMap<RefusedReason, Refusing>,
    /// Those that refuse the bundle as it is mounted and go on with an older one, whether the policy is in it as it is told or not.
    pub refusing_bundle: Option<Refusing>,
    /// Those of them that therefore do not run the policy as it is told.
    pub held_back: usize,
    /// Those of which nothing is known.
    pub silent: usize,
    /// One of the silent ones.
    pub silent_pod: Option<String>,
    /// Whether this instance has listened for too short a time to have heard of all of them.
    pub is_learning: bool,
    /// Its sinks, by name.
    pub sinks: BTreeMap<String, SinkDelivery>,
    /// The audit events that its agents have seen.
    pub events: Events,
}

/// The audit events that agents have seen.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Events {
    /// Agents that tell of events: older ones do not.
    pub agents: usize,
    /// When the newest was written.
    pub last: Option<Timestamp>,
    /// Lines that are meant as events and are not as the contract has them, in pods that still run.
    pub faulty: u64,
    /// Why not, of most of them in one pod.
    pub fault: Option<String>,
}

/// Agents that do not run a policy as it is told, for one reason.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusing {
    /// How many.
    pub agents: usize,
    /// One of their pods.
    pub pod: String,
    /// What its agent says.
    pub message: String,
}

/// How one sink of a policy is doing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SinkDelivery {
    /// Agents to which it acknowledges what they send.
    pub acknowledging: usize,
    /// Agents that have sent it nothing yet.
    pub quiet: usize,
    /// Agents for which it has failed for a while.
    pub failing: BTreeMap<SinkState, Failing>,
    /// Whether it has failed a moment ago.
    pub was_failing: bool,
    /// Agents for which it is behind.
    pub behind: usize,
    /// How far it is behind for the worst of all, in seconds.
    pub lag: u64,
    /// The pod of that one.
    pub lag_pod: Option<String>,
    /// Bytes that it has not acknowledged, of all agents.
    pub pending: u64,
    /// When it acknowledged anything last, to any agent.
    pub acknowledged: Option<Timestamp>,
    /// What it has not got and nobody has acknowledged.
    pub losses: Option<Losses>,
    /// Pods whose logs it has without the id of an execution, and nobody has acknowledged it.
    pub unidentified: Option<Unidentified>,
}

/// Agents for which a sink fails in the same way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failing {
    /// How many.
    pub agents: usize,
    /// One of their pods.
    pub pod: String,
    /// What its agent says.
    pub message: String,
}

/// A policy of which it is asked.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// Its name among all that ship logs.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// The names of its sinks; none where nobody can say. What an agent says of others is passed over: names are an administrator's,
    /// and no pod makes up more of them.
    pub sinks: Option<BTreeSet<&'a str>>,
    /// What its status tells of its sinks.
    pub told: &'a [SinkStatus],
    /// What an administrator has acknowledged of its losses.
    pub acknowledged: Acknowledged,
}

impl Asked<'_> {
    /// Whether it has a sink of this name.
    fn has(&self, sink: &str) -> bool {
        self.sinks.as_ref().is_none_or(|sinks| sinks.contains(sink))
    }
}

impl<'a> Asked<'a> {
    /// A policy as the cluster has it.
    pub fn of(candidate: &'a Candidate) -> Self {
        let status = candidate.status.as_ref();
        let policy = candidate.policy.as_ref().ok();
        let sinks = policy.map(|policy| {
            let sinks = policy.sinks.iter();
            let sinks = sinks.map(|sink| sink.config.name.as_str());
            let of_installation = policy.of_installation.iter();
            let of_installation = of_installation.map(|sink| sink.name.as_str());
            sinks.chain(of_installation).collect()
        });
        Self {
            sinks,
            name: &candidate.name,
            uid: &candidate.uid,
            told: status.map_or(&[], |status| &status.sinks),
            acknowledged: candidate.losses_acknowledged.clone(),
        }
    }
}

/// The pods of one plane.
#[derive(Debug)]
pub struct PlanePods<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its pods.
    pub index: &'a Index,
    /// The revision in which agents are told each policy, by the policy's UID.
    pub revisions: BTreeMap<&'a str, &'a str>,
    /// The UIDs of all pods that have not ended.
    pub live: HashSet<&'a str>,
}

impl Fleet {
    /// How every policy is doing.
    pub fn survey(
        &mut self,
        planes: &BTreeMap<Plane, PlanePods<'_>>,
        policies: &[Asked<'_>],
        now: Timestamp,
    ) -> Survey {
        let now = whole(now);
        let began = *self.began.get_or_insert(now);
        self.attribute(planes);
        self.count();
        self.enter(policies, now);
        let mut survey = Survey::default();
        if let Some(due) = self.forget(planes, policies, now) {
            survey.again_at(due);
        }
        survey.agents = self.len();
        let learnt = after(began, self.interval().saturating_mul(2));
        for plane in planes.values() {
            for (name, pod, uids) in plane.index.agents() {
                let named = || format!("{}/{name}", plane.namespace);
                let seen = self.seen.get(&pod.uid);
                if let Some(seen) = seen
                    && now < seen.silent_from()
                {
                    survey.again_at(seen.silent_from());
                    if seen.report.last {
                        // It is about to end.
                        continue;
                    }
                    for uid in uids {
                        let listening = Listening {
                            wanted: plane.revisions.get(&**uid).copied(),
                            behind: self.behind.get(&**uid),
                            now,
                        };
                        let due = survey
                            .at(Arc::clone(uid))
                            .hear(seen, uid, listening, &named);
                        if let Some(due) = due {
                            survey.again_at(due);
                        }
                    }
                    continue;
                }
                let first = after(pod.running.unwrap_or(now), FIRST_REPORT);
                if seen.is_none() && now < first {
                    survey.again_at(first);
                    continue;
                }
                if now < learnt {
                    survey.again_at(learnt);
                }
                for uid in uids {
                    let delivery = survey.at(Arc::clone(uid));
                    delivery.agents += 1;
                    delivery.silent += 1;
                    delivery.is_learning = now < learnt;
                    delivery.silent_pod.get_or_insert_with(named);
                }
            }
        }
        self.finish(&mut survey, policies, now);
        survey
    }

    /// Enters losses into the ledger.
    fn enter(&mut self, policies: &[Asked<'_>], now: Timestamp) {
        let mut asked = HashMap::new();
        for policy in policies {
            let told = policy.told.iter();
            let told =
                told.filter_map(|sink| Some((&*sink.name, Losses::read(sink.losses.as_ref()?))));
            self.ledger.open(policy.uid, told);
            let told = policy.told.iter();
            let told = told.filter_map(|sink| {
                Some((&*sink.name, Unidentified::read(sink.unidentified.as_ref()?)))
            });
            self.register.open(policy.uid, told);
            self.recall(policy);
            let acknowledged = &policy.acknowledged;
            self.ledger.acknowledge(policy.uid, acknowledged);
            self.register.acknowledge(policy.uid, acknowledged);
            asked.insert(policy.uid, policy);
        }
        for seen in self.seen.values_mut() {
            let process = seconds_before(seen.at, seen.report.uptime);
            for (route, sink) in super::sinks(&seen.report) {
                let counts = (sink.lost, sink.rejected);
                let known = seen.entered.get(&route).copied();
                let asked = asked.get(route.policy.as_str());
                let Some(asked) = asked.filter(|asked| asked.has(&route.sink)) else {
                    continue;
                };
                if !seen.taken_by.contains(route.policy.as_str()) {
                    continue;
                }
                if sink.unidentified && seen.registered.insert(route.clone()) {
                    // A pod that was there when somebody acknowledged is told again to no next leader.
                    let until = asked.acknowledged.until(&route.sink);
                    let is_seen = until.is_some_and(|until| process <= until);
                    if !is_seen {
                        self.register.enter(&route, &seen.pod, now);
                    }
                }
                if counts == (0, 0) || known == Some(counts) {
                    continue;
                }
                let told = Told {
                    counts,
                    known,
                    latest: sink
                        .last_loss
                        .map_or(process, |age| seconds_before(seen.at, age)),
                    acknowledged: asked.acknowledged.until(&route.sink),
                    rejection: sink.rejection.as_deref(),
                    now,
                };
                self.ledger.enter(&route, &seen.pod, &told);
                seen.entered.insert(route, counts);
            }
        }
    }

    /// What its status tells to be behind was so for the leader before.
    fn recall(&mut self, policy: &Asked<'_>) {
        if self.recalled.insert(policy.uid.to_owned()) {
            let told = policy.told.iter().filter(|sink| {
                let delivery = sink.delivery.as_ref();
                delivery.is_some_and(|told| told.state == Reason::Backlogged.as_str())
            });
            let told: BTreeSet<String> = told.map(|sink| sink.name.clone()).collect();
            if !told.is_empty() {
                self.behind.insert(policy.uid.to_owned(), told);
            }
        }
    }

    /// Forgets pods and policies that are gone; when to look again for others.
    fn forget(
        &mut self,
        planes: &BTreeMap<Plane, PlanePods<'_>>,
        policies: &[Asked<'_>],
        now: Timestamp,
    ) -> Option<Timestamp> {
        let is_live = |uid: &str| planes.values().any(|plane| plane.live.contains(uid));
        let is_listed = |namespace: &str| planes.values().any(|plane| plane.namespace == namespace);
        let asked: HashMap<&str, &Asked<'_>> =
            policies.iter().map(|policy| (policy.uid, policy)).collect();
        let is_there = |route: &Route| {
            let policy = asked.get(route.policy.as_str());
            policy.is_some_and(|policy| policy.has(&route.sink))
        };
        let mut next: Option<Timestamp> = None;
        let (ledger, ended) = (&mut self.ledger, &mut self.ended);
        self.seen.retain(|uid, seen| {
            if is_live(uid) {
                return true;
            }
            // Its agent may be faster than the watch of the pods.
            let known = after(seen.at, FIRST_REPORT);
            if now < known && !(seen.report.last && seen.facts.is_some()) {
                next = Some(next.map_or(known, |next| next.min(known)));
                return true;
            }
            // In a namespace that is no plane any more nobody knows whether it has ended, and of a pod that no watch has told of neither.
            if !is_listed(&seen.pod.namespace) || seen.facts.is_none() {
                return false;
            }
            ended.insert(uid, now);
            for (route, sink) in super::sinks(&seen.report) {
                let is_taken = seen.taken_by.contains(route.policy.as_str());
                if !seen.report.last && sink.pending > 0 && is_taken && is_there(&route) {
                    let unreported = Unreported {
                        pending: sink.pending,
                        heard: whole(seen.at),
                    };
                    ledger.enter_unreported(&route, &seen.pod, unreported, now);
                }
            }
            false
        });
        self.totals.retain(|route, _| is_there(route));
        self.failed.retain(|route, _| is_there(route));
        let is_policy = |policy: &str| asked.contains_key(policy);
        self.behind.retain(|policy, _| is_policy(policy));
        self.recalled.retain(|policy| is_policy(policy));
        self.ledger.retain(is_policy, is_there);
        self.register.retain(is_policy, is_there);
        next
    }

    /// Adds what is remembered of each sink.
    fn finish(&mut self, survey: &mut Survey, policies: &[Asked<'_>], now: Timestamp) {
        for policy in policies {
            let delivery = survey.at(policy.uid);
            policy.name.clone_into(&mut delivery.policy);
            let sinks = &mut delivery.sinks;
            sinks.retain(|name, _| policy.has(name));
            // Also those of which no agent that is left can tell.
            let remembered = self.ledger.sinks(policy.uid);
            for sink in remembered.chain(self.register.sinks(policy.uid)) {
                sinks.entry(sink.to_owned()).or_default();
            }
            let mut dues = Vec::new();
            let behind = sinks.iter().filter(|(_, sink)| sink.behind > 0);
            let behind: BTreeSet<String> = behind.map(|(name, _)| name.clone()).collect();
            if behind.is_empty() {
                self.behind.remove(policy.uid);
            } else {
                self.behind.insert(policy.uid.to_owned(), behind);
            }
            for (name, sink) in sinks {
                let route = Route {
                    policy: policy.uid.to_owned(),
                    sink: name.clone(),
                };
                sink.losses = self.ledger.of(&route).cloned();
                sink.unidentified = self.register.of(&route).cloned();
                if !sink.failing.is_empty() {
                    self.failed.insert(route, now);
                } else if let Some(failed) = self.failed.get(&route) {
                    let works = after(*failed, WORKS_FOR);
                    if now < works {
                        sink.was_failing = true;
                        dues.push(works);
                    } else {
                        self.failed.remove(&route);
                    }
                }
            }
            for due in dues {
                survey.again_at(due);
            }
        }
    }
}

impl Seen {
    /// From when on nobody knows how the agent is doing, if it says nothing. It waits as long as it was told to, whatever the fleet
    /// has become meanwhile.
    fn silent_from(&self) -> Timestamp {
        after(
            self.at,
            self.again_in.saturating_mul(INTERVALS_UNTIL_SILENT),
        )
    }
}

/// What is known of a policy while its agents are heard.
#[derive(Clone, Copy)]
struct Listening<'a> {
    /// Its revision.
    wanted: Option<&'a str>,
    /// Its sinks that are told to be behind.
    behind: Option<&'a BTreeSet<String>>,
    now: Timestamp,
}

impl Delivery {
    /// Adds what the agent of one pod says of the policy; when that means something else though nobody says anything.
    fn hear(
        &mut self,
        seen: &Seen,
        uid: &str,
        listening: Listening<'_>,
        named: &impl Fn() -> String,
    ) -> Option<Timestamp> {
        let Listening {
            wanted,
            behind,
            now,
        } = listening;
        self.agents += 1;
        let refused_bundle = seen.report.bundle_refused.as_ref();
        if let Some(message) = refused_bundle {
            let refusing = self.refusing_bundle.get_or_insert_with(|| Refusing {
                agents: 0,
                pod: named(),
                message: message.clone(),
            });
            refusing.agents += 1;
        }
        let older = match refused_bundle {
            Some(_) => &mut self.held_back,
            None => &mut self.outdated,
        };
        let Some(report) = policy_of(&seen.report, uid) else {
            // What is left out for want of room has nothing to complain of.
            if seen.report.omitted > 0 {
                self.current += 1;
            } else {
                *older += 1;
            }
            return None;
        };
        let is_current = wanted.is_some() && report.revision.as_deref() == wanted;
        if report.refused.is_none() && !is_current {
            *older += 1;
            // Its sinks may be others.
            return None;
        }
        if !self.judge(report, is_current, named) {
            // Its sinks may be others.
            return None;
        }
        self.events.hear(report, seen.at);
        let passed = now.duration_since(seen.at).max(SignedDuration::ZERO);
        let mut next = None;
        for sink in &report.sinks {
            let was_behind = behind.is_some_and(|sinks| sinks.contains(&sink.name));
            let known = self.sinks.entry(sink.name.clone()).or_default();
            let least = if was_behind { CAUGHT_UP } else { BACKLOG };
            known.behind += usize::from(sink.lag >= least);
            let due = known.hear(sink, passed, now, named);
            next = next.into_iter().chain(due).min();
        }
        next
    }

    /// Whether the agent runs the policy as it is told, or why not.
    fn judge(
        &mut self,
        report: &PolicyReport,
        is_current: bool,
        named: &impl Fn() -> String,
    ) -> bool {
        if let Some(refused) = &report.refused {
            let refusing = self.refusing.entry(refused.reason);
            let refusing = refusing.or_insert_with(|| Refusing {
                agents: 0,
                pod: named(),
                message: refused.message.clone(),
            });
            refusing.agents += 1;
        } else {
            self.current += 1;
        }
        is_current
    }
}

impl Events {
    /// Adds what the agent of one pod says. Each sink gets the same lines, and some are behind.
    fn hear(&mut self, report: &PolicyReport, at: Timestamp) {
        let audits = || report.sinks.iter().filter_map(|sink| sink.audit.as_ref());
        self.agents += usize::from(audits().next().is_some());
        let last = report.sinks.iter().filter_map(|sink| last_event(sink, at));
        self.last = self.last.max(last.max());
        if let Some(most) = audits().max_by_key(|audit| audit.faulty) {
            self.faulty = self.faulty.saturating_add(most.faulty);
            self.fault = self
                .fault
                .take()
                .or_else(|| most.fault.as_deref().map(shortened));
        }
    }
}

impl SinkDelivery {
    /// The way in which it fails for most agents.
    pub fn worst(&self) -> Option<(SinkState, &Failing)> {
        let worst = self
            .failing
            .iter()
            .max_by_key(|(_, failing)| failing.agents);
        worst.map(|(state, failing)| (*state, failing))
    }

    /// Adds what the agent of one pod said of the sink, so long ago; when that means something else though nobody says anything.
    fn hear(
        &mut self,
        sink: &SinkReport,
        passed: SignedDuration,
        now: Timestamp,
        named: &impl Fn() -> String,
    ) -> Option<Timestamp> {
        self.pending = self.pending.saturating_add(sink.pending);
        let acknowledged = sink.acknowledged.map(|age| {
            let heard = now.saturating_sub(passed).unwrap_or(now);
            seconds_before(heard, age)
        });
        self.acknowledged = self.acknowledged.max(acknowledged);
        if sink.lag > self.lag {
            self.lag = sink.lag;
            self.lag_pod = Some(named());
        }
        match sink.state {
            SinkState::Unknown => self.quiet += 1,
            SinkState::Delivering => self.acknowledging += 1,
            state => {
                let lasts = seconds(sink.since).saturating_add(passed);
                if lasts < FAILS_FOR {
                    return Some(after(now, FAILS_FOR - lasts));
                }
                let failing = self.failing.entry(state).or_insert_with(|| Failing {
                    agents: 0,
                    pod: named(),
                    message: sink.message.clone().unwrap_or_default(),
                });
                failing.agents += 1;
            }
        }
        None
    }
}

fn seconds(seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn after(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

/// In whole seconds, as a status has times.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

pub(super) fn seconds_before(time: Timestamp, age: u64) -> Timestamp {
    time.saturating_sub(seconds(age)).unwrap_or(Timestamp::MIN)
}
