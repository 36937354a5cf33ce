//! Pods that claim what is not theirs to claim, each with a token that the API server vouches for.

use katonic_logging_crds::labels::{LabelSelector, LabelText};

use super::*;

/// A cluster in which the policy takes the pods of one component alone.
fn selective(pods: &[(&str, &str)]) -> Cluster {
    let mut resource = policy("logs");
    let web = ("app".to_owned(), LabelText("web".into()));
    resource.spec.selector = Some(LabelSelector {
        match_labels: Some([web].into()),
        match_expressions: None,
    });
    let policy = Candidate::readable(&resource);
    let mut index = Index::new(Plane::Compute);
    index.follow_policies([&policy], &installation());
    let pods = pods
        .iter()
        .map(|(name, app)| ((*name).to_owned(), facts(name, app)));
    index.follow_pods(&pods.collect());
    Cluster { index, policy }
}

fn facts(name: &str, app: &str) -> Arc<coverage::Pod> {
    Arc::new(coverage::Pod {
        uid: format!("uid-of-{name}"),
        labels: [("app".to_owned(), app.to_owned())].into(),
        containers: vec!["web".into()],
        agent: Agent::Present(Form::read(&serde_json::Value::Null)),
        running: Some(at(0)),
        ..coverage::Pod::default()
    })
}

/// All that a pod can charge a sink with.
fn charge(count: u64) -> Report {
    let sink = SinkReport {
        delivered: count,
        lost: count,
        rejected: count,
        pending: count,
        rejection: Some("too large".into()),
        unidentified: true,
        ..sink(SinkState::Delivering)
    };
    report("new", sink)
}

/// Nothing is told of the sink that any pod has claimed.
fn is_clean(delivery: &Delivery, fleet: &Fleet) {
    let claimed = delivery.sinks.get("splunk");
    let claimed = claimed.map(|sink| (&sink.losses, &sink.unidentified, sink.pending));
    assert!(
        claimed.is_none_or(|claimed| claimed == (&None, &None, 0)),
        "{claimed:?}"
    );
    assert!(fleet.totals().is_empty(), "{:?}", fleet.totals());
}

#[test]
fn a_pod_of_another_namespace_charges_nothing_to_anybody() {
    let cluster = selective(&[("web", "web")]);
    let mut fleet = Fleet::default();
    let elsewhere = Pod {
        namespace: "somebody-elses".into(),
        ..token_of("stranger")
    };
    // Even one that is called as a pod of the plane is, and looks like it.
    let namesake = Pod {
        uid: "uid-of-namesake".into(),
        namespace: "somebody-elses".into(),
        name: "web".into(),
    };
    fleet.take(
        elsewhere,
        Some(facts("stranger", "web")),
        charge(5),
        at(1000),
    );
    fleet.take(namesake, None, charge(5), at(1000));
    for second in [1001, 1030, 1060] {
        let (delivery, _) = cluster.survey(&mut fleet, second);
        is_clean(&delivery, &fleet);
    }
    assert!(fleet.is_empty());
}

#[test]
fn a_pod_that_the_policy_does_not_take_charges_it_with_nothing() {
    let mut cluster = selective(&[("web", "web"), ("other", "database")]);
    let mut fleet = Fleet::default();
    fleet.take(token_of("other"), None, charge(5), at(1000));
    let (delivery, _) = cluster.survey(&mut fleet, 1001);
    is_clean(&delivery, &fleet);
    // Nor when it says so again, and when it ends with something pending.
    fleet.take(token_of("other"), None, charge(7), at(1002));
    cluster.index.follow_pods(&BTreeMap::new());
    let (delivery, _) = cluster.survey(&mut fleet, 1040);
    is_clean(&delivery, &fleet);
    assert!(fleet.is_empty());
}

#[test]
fn a_pod_that_has_just_ended_and_was_taken_counts_with_its_only_report() {
    let cluster = selective(&[]);
    let mut fleet = Fleet::default();
    let last = |count| Report {
        last: true,
        ..charge(count)
    };
    let job = || (token_of("job"), Some(facts("job", "web")));
    let (pod, known) = job();
    fleet.take(pod, known, last(5), at(1000));
    let (delivery, _) = cluster.survey(&mut fleet, 1001);
    assert_eq!(losses(&delivery), Some((5, 5)));
    let counted = |fleet: &Fleet| fleet.totals().values().map(|sum| sum.lost).sum::<u64>();
    assert_eq!(counted(&fleet), 5);
    // Its last words again, and others in its name: once is enough.
    for count in [5, 9, 5] {
        let (pod, known) = job();
        assert!(!fleet.take(pod, known, last(count), at(1010)));
        let (delivery, _) = cluster.survey(&mut fleet, 1011);
        assert_eq!(losses(&delivery), Some((5, 5)));
        assert_eq!(counted(&fleet), 5);
        let pods = delivery.sinks["splunk"].unidentified.as_ref().unwrap();
        assert_eq!(pods.count(), 1);
    }
    assert!(fleet.is_empty());
}

#[test]
fn the_last_words_of_many_pods_said_again_are_counted_once_each() {
    let names: Vec<String> = (0..30).map(|number| format!("job-{number}")).collect();
    let cluster = selective(&[]);
    let mut fleet = Fleet::default();
    for _ in 0..3 {
        for name in &names {
            let last = Report {
                last: true,
                ..charge(1)
            };
            fleet.take(token_of(name), Some(facts(name, "web")), last, at(1000));
        }
        let (delivery, _) = cluster.survey(&mut fleet, 1001);
        assert_eq!(losses(&delivery), Some((30, 30)));
        let told = delivery.sinks["splunk"].losses.as_ref().unwrap();
        assert_eq!((told.pods.len(), told.more_pods), (10, 20));
        let pods = delivery.sinks["splunk"].unidentified.as_ref().unwrap();
        assert_eq!(pods.count(), 30);
    }
}

#[test]
fn a_pod_that_a_watch_tells_of_late_is_counted_then() {
    let mut cluster = selective(&[]);
    let mut fleet = Fleet::default();
    fleet.take(token_of("new"), None, charge(5), at(1000));
    let (delivery, _) = cluster.survey(&mut fleet, 1001);
    is_clean(&delivery, &fleet);
    let pods = [("new".to_owned(), facts("new", "web"))].into();
    cluster.index.follow_pods(&pods);
    let (delivery, _) = cluster.survey(&mut fleet, 1002);
    assert_eq!(losses(&delivery), Some((5, 5)));
    // And still after its labels have been changed: what it has lost the policy has lost.
    let pods = [("new".to_owned(), facts("new", "database"))].into();
    cluster.index.follow_pods(&pods);
    fleet.take(token_of("new"), None, charge(8), at(1003));
    let (delivery, _) = cluster.survey(&mut fleet, 1004);
    assert_eq!(losses(&delivery), Some((8, 8)));
    assert_eq!(fleet.totals().values().next().unwrap().lost, 8);
}

#[test]
fn impossible_counts_of_a_pod_of_the_policy_are_its_own_and_fit_into_a_status() {
    let cluster = selective(&[("a", "web"), ("b", "web")]);
    let mut fleet = Fleet::default();
    fleet.take(token_of("a"), None, charge(1 << 63), at(1000));
    fleet.take(token_of("b"), None, charge(1 << 63), at(1000));
    let (delivery, _) = cluster.survey(&mut fleet, 1001);
    assert_eq!(losses(&delivery), Some((u64::MAX, u64::MAX)));
    let status = delivery.sinks["splunk"].losses.as_ref().unwrap().status();
    assert_eq!((status.lost, status.rejected), (i64::MAX, i64::MAX));
    let of_pods: Vec<_> = status
        .pods
        .iter()
        .map(|pod| (&*pod.name, pod.lost))
        .collect();
    assert_eq!(of_pods, [("a", i64::MAX), ("b", i64::MAX)]);
}

#[test]
fn nothing_is_kept_of_policies_and_sinks_that_nobody_has() {
    let cluster = selective(&[("web", "web")]);
    let mut fleet = Fleet::default();
    let kept = |fleet: &mut Fleet| {
        let mut said = charge(1);
        said.policies[0].sinks.push(SinkReport {
            name: "made-up".into(),
            ..SinkReport::default()
        });
        said.policies.push(PolicyReport {
            uid: "made-up".into(),
            ..PolicyReport::default()
        });
        fleet.take(token_of("web"), None, said, at(1000));
        let report = fleet.latest("uid-of-web").unwrap();
        let policies = report.policies.iter();
        let policies = policies.map(|policy| (policy.uid.clone(), policy.sinks.len()));
        policies.collect::<Vec<_>>()
    };
    // While it is not known who is there, everybody may be.
    assert_eq!(
        kept(&mut fleet),
        [("made-up".to_owned(), 0), ("uid-of-logs".to_owned(), 2)]
    );
    fleet.expect(Some(&[Asked::of(&cluster.policy)]));
    assert_eq!(kept(&mut fleet), [("uid-of-logs".to_owned(), 1)]);
    // The sinks of one that cannot be read any more are those that it had.
    let mut unreadable = cluster.policy.clone();
    unreadable.policy = Err(Vec::new());
    fleet.expect(Some(&[Asked::of(&unreadable)]));
    assert_eq!(kept(&mut fleet), [("uid-of-logs".to_owned(), 1)]);
    fleet.expect(None);
    assert_eq!(kept(&mut fleet).len(), 2);
    fleet.expect(Some(&[Asked::of(&unreadable)]));
    assert_eq!(kept(&mut fleet), [("uid-of-logs".to_owned(), 2)]);
}

#[test]
fn what_a_pod_makes_up_anew_each_time_does_not_add_up_in_memory() {
    let cluster = selective(&[("other", "database")]);
    let mut fleet = Fleet::default();
    for number in 0..100 {
        let mut said = charge(1);
        said.policies[0].sinks[0].name = format!("made-up-{number}");
        fleet.take(token_of("other"), None, said, at(1000 + number));
        cluster.survey(&mut fleet, 1000 + number);
    }
    let seen = &fleet.seen["uid-of-other"];
    assert_eq!(
        (
            seen.uncounted.len(),
            seen.entered.len(),
            seen.taken_by.len()
        ),
        (1, 0, 0)
    );
    assert!(fleet.totals().is_empty());
}
