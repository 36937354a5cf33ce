//! What the operator is told, and when.

use std::{
    fs,
    io::{Error, Result, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use flate2::{Compression, GzBuilder};
use katonic_log_config::{
    Bundle, ContainerPattern, Filter, Pattern, Policy, Report, Selector, layout,
    report::{RefusedReason, SinkReport, SinkState},
};
use serde_json::{Value, json};

use crate::{
    operator::Operator,
    pod::{Pod, http, policy, splunk},
    server::{Reply, Server, closed_port},
    witness::{Tally, Witness, numbered, text},
};

/// So long that nothing but a change makes a report.
const NEVER: u32 = 3600;

/// The only sink of a policy in a report.
fn sink<'r>(report: &'r Report, name: &str) -> Option<&'r SinkReport> {
    let uid = format!("uid-of-{name}");
    let policy = report.policies.iter().find(|policy| policy.uid == uid)?;
    policy.sinks.first()
}

fn is_in(report: &Report, name: &str, state: SinkState) -> bool {
    sink(report, name).is_some_and(|sink| sink.state == state)
}

/// The revision of the only policy.
fn revision(report: &Report) -> Option<&str> {
    report.policies.first()?.revision.as_deref()
}

fn reporting_pod() -> Result<Pod> {
    let pod = Pod::new()?;
    pod.set_token("a-token\n")?;
    Ok(pod)
}

#[test]
fn a_report_says_which_revision_runs_and_what_the_sink_has() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let operator = Operator::start(NEVER)?;
    let mut pod = reporting_pod()?;
    let policies = vec![policy("p", http(&server.url())?)];
    pod.set_bundle(&operator.bundle(policies.clone(), "1")?)?;
    pod.write("web", "0.log", 1..=10)?;
    let agent = pod.start(&witness)?;
    let (number, report) = operator.wait("the first delivery", 0, |report| {
        is_in(report, "p", SinkState::Delivering)
    });
    assert_eq!(revision(&report), Some("1"));
    assert_eq!(report.agent, env!("CARGO_PKG_VERSION"));
    assert_eq!((report.omitted, report.last), (0, false));
    let sink = sink(&report, "p").cloned().unwrap_or_default();
    assert_eq!((sink.name.as_str(), sink.delivered), ("sink", 10));
    assert_eq!((sink.pending, sink.lag, sink.lost), (0, 0, 0));
    assert!(sink.acknowledged.is_some_and(|age| age <= report.uptime));
    // What was renewed is shown with the next report, of a bundle that has changed.
    pod.set_token("another-token")?;
    pod.set_bundle(&operator.bundle(policies, "2")?)?;
    let (number, report) = operator.wait("the second revision", number + 1, |report| {
        revision(report) == Some("2")
    });
    assert!(is_in(&report, "p", SinkState::Delivering), "{report:?}");
    let tokens = operator.tokens();
    assert_eq!(tokens[0], "a-token");
    assert_eq!(tokens[number], "another-token");
    // Counts are of the pod, not of the process.
    agent.terminate()?;
    pod.write("web", "0.log", 11..=15)?;
    let before = operator.reports().len();
    let _agent = pod.start(&witness)?;
    operator.wait("the counts of both agents", before, |report| {
        report.policies[0].sinks[0].delivered == 15
    });
    for said in &witness.seen().said {
        assert!(!said.to_string().contains("-token"), "{said}");
    }
    Ok(())
}

#[test]
fn a_sink_that_fails_and_recovers_is_told_at_once() -> Result<()> {
    let witness = Witness::default();
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let server = Server::start(&witness, move |_| {
        if is_down.load(Ordering::SeqCst) {
            Reply::Refuse(503, "", "hunter2".into())
        } else {
            Reply::Accept
        }
    })?;
    let operator = Operator::start(NEVER)?;
    let mut pod = reporting_pod()?;
    pod.set_bundle(&operator.bundle(vec![policy("p", http(&server.url())?)], "1")?)?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    let delivers = |report: &Report| is_in(report, "p", SinkState::Delivering);
    let (number, _) = operator.wait("the first delivery", 0, delivers);
    down.store(true, Ordering::SeqCst);
    pod.write("web", "0.log", 11..=20)?;
    let (number, report) = operator.wait("the failure", number, |report| {
        is_in(report, "p", SinkState::Unreachable)
    });
    let failing = sink(&report, "p").cloned().unwrap_or_default();
    let message = failing.message.unwrap_or_default();
    assert!(message.contains("HTTP 503"), "{message}");
    assert_eq!((failing.delivered, failing.lost), (10, 0));
    assert!(failing.pending > 0 && failing.acknowledged.is_some());
    down.store(false, Ordering::SeqCst);
    let (_, report) = operator.wait("the recovery", number, delivers);
    let recovered = sink(&report, "p").cloned().unwrap_or_default();
    assert_eq!((recovered.delivered, recovered.message), (20, None));
    Ok(())
}

#[test]
fn what_a_sink_refuses_is_told_with_its_reason_and_without_its_credential() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request| {
        let is_bad = |record: &Value| text(record) == Some(&numbered(5));
        let Some(bad) = request.records.iter().position(is_bad) else {
            return Reply::Accept;
        };
        let words = format!("bad for {}", request.header("authorization"));
        let answer = json!({"text": words, "code": 6, "invalid-event-number": bad});
        Reply::Refuse(400, "", answer.to_string())
    })?;
    let operator = Operator::start(NEVER)?;
    let mut pod = reporting_pod()?;
    pod.set("token", Some(b"hunter2-secret"))?;
    pod.set_bundle(&operator.bundle(vec![policy("p", splunk(&server.url())?)], "1")?)?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    let (_, report) = operator.wait("the rejection", 0, |report| {
        sink(report, "p").is_some_and(|sink| sink.rejected == 1)
    });
    let rejection = report.policies[0].sinks[0].rejection.clone();
    let rejection = rejection.unwrap_or_default();
    assert!(rejection.contains("bad for …"), "{rejection}");
    for taken in &operator.witness().seen().records {
        assert!(!taken.to_string().contains("hunter2"), "{taken}");
    }
    Ok(())
}

#[test]
fn the_last_report_has_what_became_of_everything() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let operator = Operator::start(NEVER)?;
    let mut pod = reporting_pod()?;
    let dead = format!("http://{}", closed_port()?);
    let policies = vec![
        policy("good", http(&server.url())?),
        policy("bad", http(&dead)?),
    ];
    pod.set_bundle(&operator.bundle(policies, "1")?)?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start_with(&witness, &["--drain-seconds", "2"])?;
    let (_, report) = operator.wait("both sinks", 0, |report| {
        is_in(report, "good", SinkState::Delivering) && is_in(report, "bad", SinkState::Unreachable)
    });
    assert_eq!(
        report.policies[0].uid, "uid-of-bad",
        "what ails comes first"
    );
    let (code, message) = agent.terminate()?;
    assert_eq!((code, &message["lost"]), (Some(0), &json!(100)));
    let reports = operator.reports();
    let last = reports.last().cloned().unwrap_or_default();
    assert!(last.last, "{last:?}");
    assert_eq!(reports.iter().filter(|report| report.last).count(), 1);
    let of = |name| sink(&last, name).cloned().unwrap_or_default();
    assert_eq!((of("good").delivered, of("good").lost), (100, 0));
    assert_eq!((of("bad").delivered, of("bad").lost), (0, 100));
    assert_eq!((of("bad").pending, of("bad").lag), (0, 0));
    Ok(())
}

/// Even one that lived for a moment.
#[test]
fn a_pod_that_ends_before_its_first_report_has_a_last_one() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let operator = Operator::start(NEVER)?;
    let mut pod = reporting_pod()?;
    pod.set_bundle(&operator.bundle(vec![policy("p", http(&server.url())?)], "1")?)?;
    pod.write("web", "0.log", 1..=10)?;
    let agent = pod.start(&witness)?;
    witness.wait_said("started", &[]);
    let (code, _) = agent.terminate()?;
    assert_eq!(code, Some(0));
    let reports = operator.reports();
    let last = reports.last().cloned().unwrap_or_default();
    let delivered = sink(&last, "p").map(|sink| sink.delivered);
    assert_eq!((last.last, delivered), (true, Some(10)));
    Ok(())
}

#[test]
fn how_far_a_sink_is_behind_is_told_and_of_one_that_keeps_up_nothing() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    // As often as an operator can ask for.
    let operator = Operator::start(0)?;
    let mut pod = reporting_pod()?;
    let dead = format!("http://{}", closed_port()?);
    let policies = vec![
        policy("good", http(&server.url())?),
        policy("bad", http(&dead)?),
    ];
    pod.set_bundle(&operator.bundle(policies, "1")?)?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    let lag = |report: &Report, name| sink(report, name).map_or(0, |sink| sink.lag);
    let (_, report) = operator.wait("a lag", 0, |report| lag(report, "bad") >= 5);
    assert!(lag(&report, "bad") <= report.uptime);
    assert_eq!(lag(&report, "good"), 0);
    Ok(())
}

#[test]
fn a_form_that_cannot_be_applied_is_told_with_the_one_that_stays() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let operator = Operator::start(NEVER)?;
    let mut pod = reporting_pod()?;
    let mut policy = policy("p", http(&server.url())?);
    pod.set_bundle(&operator.bundle(vec![policy.clone()], "1")?)?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    let (number, _) = operator.wait("the first revision", 0, |report| {
        revision(report) == Some("1")
    });
    let refused = |report: &Report| report.policies.first()?.refused.clone();
    let keep = |pattern: String| Pattern::try_from(pattern).map(Filter::Keep);
    policy.filters = vec![keep("(".to_owned()).map_err(Error::other)?];
    pod.set_bundle(&operator.bundle(vec![policy.clone()], "2")?)?;
    let (number, report) = operator.wait("what is refused", number, |report| {
        refused(report).is_some_and(|refused| refused.reason == RefusedReason::UnsupportedByAgent)
    });
    assert_eq!(revision(&report), Some("1"));
    let large = (0..8).map(|number| keep(format!(r"\w{{15}}{number}")));
    let large: std::result::Result<_, _> = large.collect();
    policy.filters = large.map_err(Error::other)?;
    pod.set_bundle(&operator.bundle(vec![policy.clone()], "3")?)?;
    let (number, report) = operator.wait("what has no room", number, |report| {
        refused(report).is_some_and(|refused| refused.reason == RefusedReason::NoRoom)
    });
    assert_eq!(revision(&report), Some("1"));
    pod.set(layout::BUNDLE_FILE, Some(b"garbage"))?;
    let (number, report) = operator.wait("a bundle that cannot be used", number, |report| {
        report.bundle_refused.is_some()
    });
    assert_eq!(revision(&report), Some("1"));
    policy.filters.clear();
    pod.set_bundle(&operator.bundle(vec![policy], "4")?)?;
    let (_, report) = operator.wait("the fourth revision", number, |report| {
        revision(report) == Some("4")
    });
    assert_eq!((refused(&report), &report.bundle_refused), (None, &None));
    Ok(())
}

#[test]
fn a_policy_that_waits_for_room_is_not_in_force_and_one_for_a_container_is() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let operator = Operator::start(NEVER)?;
    let mut pod = reporting_pod()?;
    let with = |name: &str, patterns: usize| -> Result<Policy> {
        let keep = |number| Pattern::try_from(format!(r"\w{{15}}{name}{number}"));
        let filters = (0..patterns).map(|number| keep(number).map(Filter::Keep));
        let filters: std::result::Result<_, _> = filters.collect();
        Ok(Policy {
            filters: filters.map_err(Error::other)?,
            ..policy(name, http(&server.url())?)
        })
    };
    let mut waits = with("waits", 8)?;
    let other = ContainerPattern::try_from("other".to_owned()).map_err(Error::other)?;
    waits.containers.include = [other].into();
    let mut elsewhere = with("elsewhere", 1)?;
    elsewhere.selector = Selector {
        match_labels: [("app".to_owned(), "other".to_owned())].into(),
        ..Selector::default()
    };
    let policies = vec![waits, with("large", 8)?, elsewhere];
    pod.set_bundle(&operator.bundle(policies, "1")?)?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    let (_, report) = operator.wait("a report", 0, |report| !report.policies.is_empty());
    let told = report.policies.iter().map(|policy| {
        let reason = policy.refused.as_ref().map(|refused| refused.reason);
        (policy.uid.as_str(), policy.revision.as_deref(), reason)
    });
    let expected = [
        ("uid-of-large", None, Some(RefusedReason::NoRoom)),
        ("uid-of-waits", Some("1"), None),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    Ok(())
}

#[test]
fn a_policy_that_is_newer_than_the_agent_is_told() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let operator = Operator::start(NEVER)?;
    let mut pod = reporting_pod()?;
    let known = policy("known", http(&server.url())?);
    let bundle = operator.bundle(vec![known.clone(), known], "1")?;
    let mut json = serde_json::to_value(&bundle)?;
    json["format"] = json!(1);
    json["policies"][0]["uid"] = json!("uid-of-newer");
    json["policies"][0]["sinks"][0]["target"] = json!({"carrierPigeon": {"feathers": 12}});
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
    gzip.write_all(json.to_string().as_bytes())?;
    pod.set(layout::BUNDLE_FILE, Some(&gzip.finish()?))?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    let (_, report) = operator.wait("both policies", 0, |report| report.policies.len() == 2);
    let newer = &report.policies[0];
    assert_eq!(
        (newer.uid.as_str(), &newer.revision),
        ("uid-of-newer", &None)
    );
    let refused = newer.refused.as_ref().map(|refused| refused.reason);
    assert_eq!(refused, Some(RefusedReason::UnsupportedByAgent));
    assert_eq!(newer.sinks, []);
    assert_eq!(report.policies[1].revision.as_deref(), Some("1"));
    witness.wait_lines(10);
    Ok(())
}

#[test]
fn of_very_many_policies_those_that_ail_are_told_and_the_others_counted() -> Result<()> {
    const POLICIES: usize = 2000;
    let witness = Witness::default();
    let operator = Operator::start(NEVER)?;
    let mut pod = reporting_pod()?;
    let dead = http(&format!("http://{}", closed_port()?))?;
    let idle = ContainerPattern::try_from("idle".to_owned()).map_err(Error::other)?;
    let mut policies: Vec<Policy> = (0..POLICIES)
        .map(|number| policy(&format!("{number:04}"), dead.clone()))
        .collect();
    for policy in &mut policies[..POLICIES - 3] {
        policy.containers.include = [idle.clone()].into();
    }
    pod.set_bundle(&operator.bundle(policies, "1")?)?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    let (_, report) = operator.wait("three that ail", 0, |report| {
        let failing = report.policies.iter().take(3);
        let failing = failing.flat_map(|policy| &policy.sinks);
        failing
            .filter(|sink| sink.state == SinkState::Unreachable)
            .count()
            == 3
    });
    let told = report.policies.len();
    assert!(told > 100 && report.omitted > 0, "{told}");
    assert_eq!(told as u64 + report.omitted, POLICIES as u64);
    let uids = report.policies.iter().map(|policy| policy.uid.as_str());
    let uids: Vec<&str> = uids.take(4).collect();
    let expected = ["1997", "1998", "1999", "0000"].map(|number| format!("uid-of-{number}"));
    assert_eq!(uids, expected);
    Ok(())
}

#[test]
fn a_bundle_that_names_no_operator_makes_no_report() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let operator = Operator::start(NEVER)?;
    let mut pod = reporting_pod()?;
    let policies = vec![policy("p", http(&server.url())?)];
    let bundle = operator.bundle(policies, "1")?;
    pod.set_bundle(&bundle)?;
    pod.write("web", "0.log", 1..=10)?;
    let agent = pod.start(&witness)?;
    operator.wait("a report", 0, |report| {
        is_in(report, "p", SinkState::Delivering)
    });
    pod.set_bundle(&Bundle {
        reporting: None,
        ..bundle
    })?;
    let applied = |line: &&Value| line["message"] == "bundle applied";
    witness.wait("the second bundle", |seen| {
        seen.said.iter().filter(applied).count() == 2
    });
    let before = operator.requests();
    pod.write("web", "0.log", 11..=20)?;
    assert_eq!(witness.wait_lines(20), Tally::perfect(20));
    let (_, message) = agent.terminate()?;
    assert_eq!(message["delivered"], 20);
    assert_eq!(operator.requests(), before, "not even a last one");
    Ok(())
}

#[test]
fn an_agent_without_a_token_waits_for_one_and_says_so_once() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let operator = Operator::start(NEVER)?;
    let mut pod = Pod::new()?;
    pod.set_bundle(&operator.bundle(vec![policy("p", http(&server.url())?)], "1")?)?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    let told = "reports do not reach the operator";
    witness.wait_said(told, &[("reason", "the pod has no token for reports")]);
    witness.wait_lines(10);
    assert_eq!(operator.connections(), 0);
    fs::create_dir_all(pod.path("token"))?;
    pod.set_token("a-token")?;
    operator.wait("a report", 0, |report| revision(report) == Some("1"));
    witness.wait_said("reports reach the operator", &[]);
    let seen = witness.seen();
    let told = seen.said.iter().filter(|line| line["message"] == told);
    assert_eq!(told.count(), 1);
    Ok(())
}
