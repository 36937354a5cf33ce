mod attackers;

use std::sync::Arc;

use katonic_log_config::report::{PolicyReport, Refused, RefusedReason, SinkState};
use katonic_logging_crds::{Plane, SinkStatus};

use super::*;
use crate::{
    Candidate,
    acknowledgement::Acknowledged,
    coverage::{self, Agent, Index},
    sidecar::Form,
    testing::{installation, policy},
};

const NAMESPACE: &str = "katonic-compute";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn sink(state: SinkState) -> SinkReport {
    SinkReport {
        name: "splunk".into(),
        state,
        ..SinkReport::default()
    }
}

fn report(revision: &str, sink: SinkReport) -> Report {
    Report {
        policies: vec![PolicyReport {
            uid: "uid-of-logs".into(),
            revision: Some(revision.into()),
            refused: None,
            sinks: vec![sink],
        }],
        ..Report::default()
    }
}

impl Fleet {
    /// Takes what a pod says that the watch knows, and that the policy takes.
    fn told(&mut self, pod: Pod, report: Report, now: Timestamp) -> bool {
        let facts = coverage::Pod {
            uid: pod.uid.clone(),
            containers: vec!["web".into()],
            ..coverage::Pod::default()
        };
        self.take(pod, Some(Arc::new(facts)), report, now)
    }
}

fn token_of(name: &str) -> Pod {
    Pod {
        uid: format!("uid-of-{name}"),
        namespace: NAMESPACE.into(),
        name: name.into(),
    }
}

/// A cluster with one policy that takes every pod, and these pods, whose agents have run since then.
struct Cluster {
    index: Index,
    policy: Candidate,
}

impl Cluster {
    fn new(pods: &[(&str, i64)]) -> Self {
        let policy = Candidate::readable(&policy("logs"));
        let mut index = Index::new(Plane::Compute);
        index.follow_policies([&policy], &installation());
        let pod = |(name, running): &(&str, i64)| {
            let pod = coverage::Pod {
                uid: format!("uid-of-{name}"),
                containers: vec!["web".into()],
                agent: Agent::Present(Form::read(&serde_json::Value::Null)),
                running: Some(at(*running)),
                ..coverage::Pod::default()
            };
            ((*name).to_owned(), Arc::new(pod))
        };
        index.follow_pods(&pods.iter().map(pod).collect());
        Self { index, policy }
    }

    fn survey(&self, fleet: &mut Fleet, second: i64) -> (Delivery, Option<Timestamp>) {
        let pods = PlanePods {
            namespace: NAMESPACE,
            index: &self.index,
            revisions: [("uid-of-logs", "new")].into(),
            live: self.index.uids().collect(),
        };
        let planes = [(Plane::Compute, pods)].into();
        let survey = fleet.survey(&planes, &[Asked::of(&self.policy)], at(second));
        (survey.of("uid-of-logs").clone(), survey.due)
    }

    /// The losses as the next leader finds them.
    fn remember(&mut self, delivery: &Delivery) {
        let losses = delivery.sinks.get("splunk");
        let unidentified = losses.and_then(|sink| sink.unidentified.as_ref());
        let losses = losses.and_then(|sink| sink.losses.as_ref());
        let mut status = self.policy.status.take().unwrap_or_default();
        status.sinks = vec![SinkStatus {
            name: "splunk".into(),
            kind: "splunk".into(),
            in_force: true,
            reason: "Configured".into(),
            message: None,
            delivery: None,
            losses: losses.map(Losses::status),
            unidentified: unidentified.map(Unidentified::status),
            retention: None,
        }];
        self.policy.status = Some(status);
    }
}

fn losses(delivery: &Delivery) -> Option<(u64, u64)> {
    let losses = delivery.sinks.get("splunk")?.losses.as_ref()?;
    Some((losses.lost, losses.rejected))
}

#[test]
fn an_agent_is_counted_by_the_revision_that_it_runs() {
    let cluster = Cluster::new(&[("a", 0), ("b", 0), ("c", 0), ("d", 0), ("late", 990)]);
    let mut fleet = Fleet::default();
    let delivering = || sink(SinkState::Delivering);
    assert!(fleet.told(token_of("a"), report("new", delivering()), at(1000)));
    fleet.told(token_of("b"), report("old", delivering()), at(1000));
    fleet.told(token_of("c"), Report::default(), at(1000));
    let mut refusing = report("old", delivering());
    refusing.policies[0].refused = Some(Refused {
        reason: RefusedReason::NoRoom,
        message: "no room".into(),
    });
    fleet.told(token_of("d"), refusing, at(1000));
    let (delivery, due) = cluster.survey(&mut fleet, 1001);
    assert_eq!(
        (delivery.agents, delivery.current, delivery.outdated),
        (4, 1, 2)
    );
    assert_eq!(delivery.refusing[&RefusedReason::NoRoom].agents, 1);
    assert_eq!(
        delivery.refusing[&RefusedReason::NoRoom].pod,
        "katonic-compute/d"
    );
    // What the sinks of another form of the policy do says nothing of this one.
    assert_eq!(delivery.sinks["splunk"].acknowledging, 1);
    assert_eq!(
        due,
        Some(at(1020)),
        "when the late one should have reported"
    );
}

#[test]
fn who_says_nothing_is_silent_and_at_first_only_unknown() {
    let cluster = Cluster::new(&[("a", 0), ("b", 0)]);
    let mut fleet = Fleet::default();
    fleet.told(
        token_of("a"),
        report("new", sink(SinkState::Unknown)),
        at(1000),
    );
    let (delivery, _) = cluster.survey(&mut fleet, 1000);
    assert_eq!((delivery.current, delivery.silent), (1, 1));
    assert!(delivery.is_learning);
    assert_eq!(delivery.silent_pod.as_deref(), Some("katonic-compute/b"));
    let (delivery, _) = cluster.survey(&mut fleet, 1120);
    assert!(!delivery.is_learning, "two intervals are enough");
    assert_eq!((delivery.current, delivery.silent), (1, 1));
    let (delivery, _) = cluster.survey(&mut fleet, 1180);
    assert_eq!(
        (delivery.current, delivery.silent),
        (0, 2),
        "three are too many"
    );
}

#[test]
fn an_agent_of_a_fleet_that_has_shrunk_is_waited_for_as_long_as_it_was_told() {
    let names: Vec<String> = (0..6000).map(|number| format!("pod-{number}")).collect();
    let mut cluster = Cluster::new(&[("a", 0)]);
    let mut fleet = Fleet::default();
    for name in &names {
        fleet.told(token_of(name), Report::default(), at(1000));
    }
    // Six thousand and one report every 121 seconds.
    let delivering = report("new", sink(SinkState::Delivering));
    fleet.told(token_of("a"), delivering, at(1000));
    cluster.survey(&mut fleet, 1000);
    let (delivery, due) = cluster.survey(&mut fleet, 1050);
    assert_eq!((fleet.len(), delivery.silent), (1, 0));
    assert_eq!(due, Some(at(1000 + 3 * 121)));
    let (delivery, _) = cluster.survey(&mut fleet, 1000 + 3 * 121 - 1);
    assert_eq!((delivery.current, delivery.silent), (1, 0));
    let (delivery, _) = cluster.survey(&mut fleet, 1000 + 3 * 121);
    assert_eq!((delivery.current, delivery.silent), (0, 1));
    cluster.index.follow_pods(&BTreeMap::new());
    assert_eq!(cluster.survey(&mut fleet, 2000).0.agents, 0);
}

#[test]
fn nodes_whose_clocks_are_ten_minutes_off_are_told_of_as_any_other() {
    // As the kubelets say it: started in ten minutes, and more than ten minutes ago.
    let cluster = Cluster::new(&[("ahead", 1600), ("behind", 400)]);
    let mut fleet = Fleet::default();
    for name in ["ahead", "behind"] {
        let sink = SinkReport {
            acknowledged: Some(5),
            lost: 1,
            last_loss: Some(5),
            since: 20,
            message: Some("refused".into()),
            ..sink(SinkState::Unreachable)
        };
        fleet.told(token_of(name), report("new", sink), at(1000));
    }
    let (delivery, due) = cluster.survey(&mut fleet, 1000);
    assert_eq!(
        (delivery.agents, delivery.current, delivery.silent),
        (2, 2, 0)
    );
    let told = &delivery.sinks["splunk"];
    assert_eq!(told.failing[&SinkState::Unreachable].agents, 2);
    // By the operator's clock alone.
    assert_eq!(told.acknowledged, Some(at(995)));
    assert_eq!(told.losses.as_ref().unwrap().last, at(1000));
    assert_eq!(due, Some(at(1180)));
    let (delivery, _) = cluster.survey(&mut fleet, 1180);
    assert_eq!(delivery.silent, 2, "both at the same time");
}

#[test]
fn a_sink_that_comes_and_goes_is_told_of_once() {
    let cluster = Cluster::new(&[("a", 0)]);
    let mut fleet = Fleet::default();
    let failing = |since| SinkReport {
        since,
        message: Some("refused".into()),
        ..sink(SinkState::Unreachable)
    };
    fleet.told(token_of("a"), report("new", failing(5)), at(1000));
    let (delivery, due) = cluster.survey(&mut fleet, 1001);
    assert!(delivery.sinks["splunk"].failing.is_empty(), "not for long");
    assert_eq!(due, Some(at(1010)));
    let (delivery, _) = cluster.survey(&mut fleet, 1010);
    let told = &delivery.sinks["splunk"].failing[&SinkState::Unreachable];
    assert_eq!((told.agents, told.message.as_str()), (1, "refused"));
    fleet.told(
        token_of("a"),
        report("new", sink(SinkState::Delivering)),
        at(1011),
    );
    let (delivery, due) = cluster.survey(&mut fleet, 1011);
    assert!(delivery.sinks["splunk"].was_failing);
    assert_eq!(due, Some(at(1040)));
    let (delivery, _) = cluster.survey(&mut fleet, 1040);
    assert!(!delivery.sinks["splunk"].was_failing);
    assert_eq!(delivery.sinks["splunk"].acknowledging, 1);
}

#[test]
fn pods_whose_execution_nobody_knows_are_counted_and_outlive_their_agents() {
    let mut cluster = Cluster::new(&[("a", 0), ("b", 0)]);
    let mut fleet = Fleet::default();
    let unidentified = |delivery: &Delivery| {
        let sink = delivery.sinks.get("splunk")?;
        let pods = sink.unidentified.as_ref()?;
        Some((pods.count(), pods.last.as_second()))
    };
    let told = |is: bool| {
        let sink = SinkReport {
            unidentified: is,
            ..sink(SinkState::Delivering)
        };
        report("new", sink)
    };
    fleet.told(token_of("a"), told(false), at(1000));
    assert_eq!(unidentified(&cluster.survey(&mut fleet, 1001).0), None);
    assert!(
        fleet.told(token_of("a"), told(true), at(1002)),
        "it is news"
    );
    assert!(!fleet.told(token_of("a"), told(true), at(1003)));
    let (delivery, _) = cluster.survey(&mut fleet, 1004);
    assert_eq!(unidentified(&delivery), Some((1, 1004)));
    // A short Job: its agent says so with its last words.
    let mut last = told(true);
    last.last = true;
    fleet.told(token_of("b"), last, at(1010));
    cluster.survey(&mut fleet, 1010);
    let (delivery, _) = cluster.survey(&mut fleet, 1011);
    assert_eq!(unidentified(&delivery), Some((2, 1010)));
    let pods = delivery.sinks["splunk"].unidentified.as_ref().unwrap();
    assert_eq!(
        pods.pods.first(),
        Some(&(NAMESPACE.to_owned(), "a".to_owned()))
    );
    // The next leader reads it from the status, and counts no pod that is named there twice.
    cluster.remember(&delivery);
    let mut next = Fleet::default();
    assert_eq!(
        unidentified(&cluster.survey(&mut next, 1020).0),
        Some((2, 1010))
    );
    next.told(token_of("a"), told(true), at(1021));
    assert_eq!(
        unidentified(&cluster.survey(&mut next, 1022).0),
        Some((2, 1010))
    );
    // Until somebody has seen it.
    cluster.policy.losses_acknowledged = Acknowledged::all(at(1010));
    assert_eq!(unidentified(&cluster.survey(&mut next, 1023).0), None);
    assert_eq!(unidentified(&cluster.survey(&mut fleet, 1023).0), None);
}

#[test]
fn losses_are_added_up_over_pods_and_outlive_them() {
    let cluster = Cluster::new(&[("a", 0), ("b", 0)]);
    let mut fleet = Fleet::default();
    let lost = |lost, rejected| {
        let sink = SinkReport {
            lost,
            rejected,
            rejection: Some("too large".into()),
            ..sink(SinkState::Delivering)
        };
        report("new", sink)
    };
    fleet.told(token_of("a"), lost(0, 0), at(1000));
    let (delivery, _) = cluster.survey(&mut fleet, 1000);
    assert_eq!(losses(&delivery), None);
    fleet.told(token_of("a"), lost(5, 0), at(1001));
    fleet.told(token_of("b"), lost(2, 3), at(1001));
    let (delivery, _) = cluster.survey(&mut fleet, 1001);
    assert_eq!(losses(&delivery), Some((7, 3)));
    // The same again is nothing new.
    fleet.told(token_of("a"), lost(5, 0), at(1002));
    let (delivery, _) = cluster.survey(&mut fleet, 1002);
    assert_eq!(losses(&delivery), Some((7, 3)));
    let end = Report {
        last: true,
        ..lost(9, 0)
    };
    fleet.told(token_of("a"), end, at(1003));
    let gone = Cluster::new(&[("b", 0)]);
    let (delivery, _) = gone.survey(&mut fleet, 1003);
    assert_eq!(losses(&delivery), Some((11, 3)));
    assert!(fleet.latest("uid-of-a").is_none());
    let told = delivery.sinks["splunk"].losses.as_ref().unwrap();
    assert_eq!(told.rejection.as_deref(), Some("too large"));
    assert_eq!(told.last, at(1003));
}

#[test]
fn the_next_leader_goes_on_with_what_the_status_tells() {
    let mut cluster = Cluster::new(&[("a", 0)]);
    let lost = |lost| {
        let sink = SinkReport {
            lost,
            last_loss: Some(1),
            ..sink(SinkState::Delivering)
        };
        report("new", sink)
    };
    let mut first = Fleet::default();
    first.told(token_of("a"), lost(5), at(1000));
    let (delivery, _) = cluster.survey(&mut first, 1000);
    cluster.remember(&delivery);
    let mut second = Fleet::default();
    let (delivery, _) = cluster.survey(&mut second, 2000);
    assert_eq!(losses(&delivery), Some((5, 0)), "before anybody reports");
    second.told(token_of("a"), lost(5), at(2001));
    let (delivery, _) = cluster.survey(&mut second, 2001);
    assert_eq!(losses(&delivery), Some((5, 0)));
    second.told(token_of("a"), lost(6), at(2002));
    let (delivery, _) = cluster.survey(&mut second, 2002);
    assert_eq!(losses(&delivery), Some((6, 0)));
}

#[test]
fn what_an_administrator_has_seen_is_told_no_longer_and_not_again_by_the_next_leader() {
    let mut cluster = Cluster::new(&[("a", 0)]);
    let lost = |lost, last_loss| {
        let sink = SinkReport {
            lost,
            last_loss,
            ..sink(SinkState::Delivering)
        };
        report("new", sink)
    };
    let mut first = Fleet::default();
    first.told(token_of("a"), lost(5, Some(1)), at(1000));
    let (delivery, _) = cluster.survey(&mut first, 1000);
    assert_eq!(losses(&delivery), Some((5, 0)));
    cluster.policy.losses_acknowledged = Acknowledged::all(at(1000));
    let (delivery, _) = cluster.survey(&mut first, 1010);
    assert_eq!(losses(&delivery), None);
    cluster.remember(&delivery);
    let mut second = Fleet::default();
    second.told(token_of("a"), lost(5, Some(1001)), at(2000));
    let (delivery, _) = cluster.survey(&mut second, 2000);
    assert_eq!(losses(&delivery), None);
    second.told(token_of("a"), lost(6, Some(0)), at(2001));
    let (delivery, _) = cluster.survey(&mut second, 2001);
    assert_eq!(losses(&delivery), Some((1, 0)));
}

#[test]
fn what_is_acknowledged_of_one_sink_is_told_on_of_the_others() {
    let mut cluster = Cluster::new(&[("a", 0)]);
    let mut fleet = Fleet::default();
    let mut said = report("new", sink(SinkState::Delivering));
    said.policies[0].sinks[0].lost = 5;
    fleet.told(token_of("a"), said, at(1000));
    assert_eq!(losses(&cluster.survey(&mut fleet, 1001).0), Some((5, 0)));
    let mut told = |of: &str| {
        cluster.policy.losses_acknowledged = Acknowledged::default().and(of, at(1001));
        losses(&cluster.survey(&mut fleet, 1002).0)
    };
    assert_eq!(told("another"), Some((5, 0)));
    assert_eq!(told("splunk"), None);
}

#[test]
fn sums_grow_by_what_is_new_and_impossible_counts_do_no_harm() {
    let mut fleet = Fleet::default();
    let delivered = |delivered, uptime| Report {
        uptime,
        ..report(
            "new",
            SinkReport {
                delivered,
                ..sink(SinkState::Delivering)
            },
        )
    };
    let cluster = Cluster::new(&[("a", 0), ("b", 0)]);
    cluster.survey(&mut fleet, 1000);
    let sum = |fleet: &mut Fleet| {
        cluster.survey(fleet, 1100);
        fleet
            .totals()
            .values()
            .next()
            .map_or(0, |sum| sum.delivered)
    };
    // Of an agent that was there before this instance, what it did before is not known to be new.
    fleet.told(token_of("a"), delivered(1_000_000, 500), at(1010));
    assert_eq!(sum(&mut fleet), 0);
    fleet.told(token_of("a"), delivered(1_000_010, 560), at(1070));
    assert_eq!(sum(&mut fleet), 10);
    fleet.told(token_of("b"), delivered(7, 5), at(1071));
    assert_eq!(sum(&mut fleet), 17);
    // Its state was lost: it counts anew.
    fleet.told(token_of("b"), delivered(3, 1), at(1072));
    assert_eq!(sum(&mut fleet), 20);
    fleet.told(token_of("b"), delivered(u64::MAX, 2), at(1073));
    assert_eq!(sum(&mut fleet), u64::MAX);
}

#[test]
fn the_order_of_a_report_says_nothing() {
    let cluster = Cluster::new(&[("a", 0)]);
    let mut fleet = Fleet::default();
    let mut said = report("new", sink(SinkState::Delivering));
    let others = ["uid-of-other", "a-uid", "z-uid"].map(|uid| PolicyReport {
        uid: uid.into(),
        ..PolicyReport::default()
    });
    said.policies.extend(others);
    assert!(fleet.told(token_of("a"), said.clone(), at(1000)));
    let (delivery, _) = cluster.survey(&mut fleet, 1000);
    assert_eq!((delivery.current, delivery.outdated), (1, 0));
    said.policies.reverse();
    assert!(!fleet.told(token_of("a"), said, at(1001)));
}

#[test]
fn figures_alone_are_no_news() {
    let mut fleet = Fleet::default();
    let report = |delivered, since, lag| Report {
        uptime: since,
        ..report(
            "new",
            SinkReport {
                delivered,
                since,
                lag,
                acknowledged: Some(since),
                ..sink(SinkState::Delivering)
            },
        )
    };
    assert!(fleet.told(token_of("a"), report(1, 1, 0), at(0)));
    assert!(!fleet.told(token_of("a"), report(100, 61, 3), at(60)));
    assert!(fleet.told(token_of("a"), report(100, 61, 500), at(120)));
}

#[test]
fn a_sink_is_behind_from_two_minutes_on_until_it_is_less_than_one_whoever_leads() {
    let mut cluster = Cluster::new(&[("a", 0), ("b", 0)]);
    let mut fleet = Fleet::default();
    let lag = |lag| {
        let sink = SinkReport {
            lag,
            ..sink(SinkState::Delivering)
        };
        report("new", sink)
    };
    let mut second = 1000;
    let mut behind = |cluster: &Cluster, fleet: &mut Fleet, of: u64, other: u64| {
        second += 1;
        fleet.told(token_of("a"), lag(of), at(second));
        fleet.told(token_of("b"), lag(other), at(second));
        cluster.survey(fleet, second).0.sinks["splunk"].behind
    };
    assert_eq!(behind(&cluster, &mut fleet, 119, 0), 0);
    assert_eq!(behind(&cluster, &mut fleet, 120, 0), 1);
    for lag in [119, 121, 60] {
        assert_eq!(behind(&cluster, &mut fleet, lag, 0), 1, "{lag}");
    }
    // While it is told, it is told of every agent.
    assert_eq!(behind(&cluster, &mut fleet, 119, 61), 2);
    // The next leader goes on.
    let (delivery, _) = cluster.survey(&mut fleet, 1010);
    cluster.remember(&delivery);
    let status = cluster.policy.status.as_mut().unwrap();
    status.sinks[0].delivery = Some(katonic_logging_crds::SinkDelivery {
        state: "Backlogged".into(),
        message: None,
        first: None,
    });
    let mut next = Fleet::default();
    assert_eq!(behind(&cluster, &mut next, 90, 0), 1);
    assert_eq!(behind(&cluster, &mut next, 59, 0), 0);
    assert_eq!(behind(&cluster, &mut next, 90, 0), 0);
}

#[test]
fn a_lag_is_news_when_it_crosses_a_line() {
    let mut fleet = Fleet::default();
    let mut is_news = |lag| {
        let sink = SinkReport {
            lag,
            ..sink(SinkState::Delivering)
        };
        fleet.told(token_of("a"), report("new", sink), at(1000))
    };
    let told = [0, 59, 60, 119, 120, 500, 119, 60, 59].map(&mut is_news);
    let expected = [true, false, true, false, true, false, true, false, true];
    assert_eq!(told, expected);
}

fn pending(bytes: u64) -> SinkReport {
    SinkReport {
        pending: bytes,
        ..sink(SinkState::Delivering)
    }
}

/// Pods of which nobody knows what became of their last lines, and what was pending of the first.
fn unreported(delivery: &Delivery) -> Option<(u64, u64)> {
    let losses = delivery.sinks.get("splunk")?.losses.as_ref()?;
    let first = losses.pods.values().next()?;
    Some((losses.unreported, first.unreported?.pending))
}

#[test]
fn a_pod_that_ends_without_a_last_report_is_told_if_anything_was_pending() {
    let mut cluster = Cluster::new(&[("killed", 0), ("done", 0), ("ended", 0)]);
    let mut first = Fleet::default();
    first.told(token_of("killed"), report("new", pending(700)), at(1000));
    first.told(token_of("done"), report("new", pending(0)), at(1000));
    first.told(token_of("ended"), report("new", pending(5)), at(1000));
    let (delivery, _) = cluster.survey(&mut first, 1001);
    assert_eq!(unreported(&delivery), None);
    assert_eq!(delivery.sinks["splunk"].pending, 705);
    let last = Report {
        last: true,
        ..report("new", pending(0))
    };
    first.told(token_of("ended"), last, at(1002));
    cluster.index.follow_pods(&BTreeMap::new());
    let (delivery, due) = cluster.survey(&mut first, 1003);
    assert_eq!(unreported(&delivery), None, "its report may be under way");
    assert_eq!(due, Some(at(1030)));
    let (delivery, _) = cluster.survey(&mut first, 1030);
    assert_eq!(unreported(&delivery), Some((1, 700)));
    assert_eq!(
        losses(&delivery),
        Some((0, 0)),
        "nothing is known to be lost"
    );
    let told = delivery.sinks["splunk"].losses.clone().unwrap();
    let killed = &told.pods[&(NAMESPACE.to_owned(), "killed".to_owned())];
    assert_eq!(killed.unreported.unwrap().heard, at(1000));
    assert_eq!(told.last, at(1030));
    assert!(first.is_empty());
    // The next leader, and an administrator who has seen it.
    cluster.remember(&delivery);
    let mut second = Fleet::default();
    let (delivery, _) = cluster.survey(&mut second, 2000);
    assert_eq!(unreported(&delivery), Some((1, 700)));
    cluster.policy.losses_acknowledged = Acknowledged::all(at(1030));
    let (delivery, _) = cluster.survey(&mut second, 2001);
    assert_eq!(unreported(&delivery), None);
}

#[test]
fn a_thousand_pods_that_end_without_a_word_are_counted_and_ten_are_named() {
    let names: Vec<String> = (0..1000).map(|number| format!("pod-{number}")).collect();
    let cluster = Cluster::new(&[]);
    let mut fleet = Fleet::default();
    for name in &names {
        fleet.told(token_of(name), report("new", pending(1)), at(1000));
    }
    let (delivery, _) = cluster.survey(&mut fleet, 1030);
    let told = delivery.sinks["splunk"].losses.as_ref().unwrap();
    assert_eq!(
        (told.unreported, told.pods.len(), told.more_pods),
        (1000, 10, 990)
    );
}

#[test]
fn no_agent_makes_up_sinks() {
    let cluster = Cluster::new(&[("a", 0)]);
    let mut fleet = Fleet::default();
    let mut said = report("new", pending(1));
    said.policies[0].sinks = ["splunk", "made-up"]
        .map(|name| SinkReport {
            name: name.into(),
            lost: 5,
            delivered: 7,
            ..pending(1)
        })
        .into();
    fleet.told(token_of("a"), said.clone(), at(1000));
    fleet.told(token_of("gone"), said, at(1000));
    for second in [1001, 1030] {
        let (delivery, _) = cluster.survey(&mut fleet, second);
        assert_eq!(delivery.sinks.keys().collect::<Vec<_>>(), ["splunk"]);
        let known = fleet.totals().keys().map(|route| route.sink.as_str());
        assert_eq!(known.collect::<Vec<_>>(), ["splunk"]);
    }
}

#[test]
fn pods_of_a_namespace_that_is_no_plane_any_more_have_not_ended() {
    let cluster = Cluster::new(&[]);
    let mut fleet = Fleet::default();
    let elsewhere = Pod {
        namespace: "former-plane".into(),
        ..token_of("a")
    };
    fleet.told(elsewhere, report("new", pending(1)), at(1000));
    let (delivery, _) = cluster.survey(&mut fleet, 1030);
    assert!(delivery.sinks.is_empty() && fleet.is_empty());
}

#[test]
fn an_agent_that_refuses_its_bundle_is_told_whatever_it_runs() {
    let cluster = Cluster::new(&[("a", 0), ("b", 0), ("c", 0)]);
    let mut fleet = Fleet::default();
    let refusing = |revision| Report {
        bundle_refused: Some("format 9 is newer than this agent".into()),
        ..report(revision, sink(SinkState::Delivering))
    };
    fleet.told(token_of("a"), refusing("new"), at(1000));
    fleet.told(token_of("b"), refusing("old"), at(1000));
    let unknown = Report {
        policies: Vec::new(),
        ..refusing("old")
    };
    fleet.told(token_of("c"), unknown, at(1000));
    let (delivery, _) = cluster.survey(&mut fleet, 1001);
    let counts = (delivery.current, delivery.outdated, delivery.held_back);
    assert_eq!(counts, (1, 0, 2));
    let told = delivery.refusing_bundle.unwrap();
    assert_eq!((told.agents, told.pod.as_str()), (3, "katonic-compute/a"));
    assert_eq!(told.message, "format 9 is newer than this agent");
}

#[test]
fn pods_of_nobody_are_forgotten() {
    let cluster = Cluster::new(&[("a", 0)]);
    let mut fleet = Fleet::default();
    fleet.told(token_of("a"), Report::default(), at(1000));
    fleet.told(token_of("elsewhere"), Report::default(), at(1000));
    cluster.survey(&mut fleet, 1001);
    assert_eq!(fleet.len(), 2, "the pod may only be new");
    cluster.survey(&mut fleet, 1060);
    assert_eq!(fleet.len(), 1);
}
