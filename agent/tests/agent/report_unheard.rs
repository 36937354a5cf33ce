//! Operators that cannot be reported to: nothing else is any different for it.

use std::io::Result;

use katonic_log_config::{Bundle, Endpoint, Reporting};
use serde_json::{Value, json};

use crate::{
    operator::Operator,
    pod::{Pod, http, policy},
    server::{Reply, Request, Server, closed_port},
    witness::{Tally, Witness},
};

const TOLD: &str = "reports do not reach the operator";

fn told(witness: &Witness) -> Vec<Value> {
    let seen = witness.seen();
    let told = seen.said.iter().filter(|line| line["message"] == TOLD);
    told.cloned().collect()
}

/// Lines are delivered and the pod ends as if there were no operator, once this many reports were attempted.
fn expect_undisturbed(reporting: Reporting, attempted: impl Fn(&Witness)) -> Result<Vec<Value>> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_token("hunter2")?;
    let bundle = Bundle {
        reporting: Some(reporting),
        policies: vec![policy("p", http(&server.url())?)],
        revisions: vec!["1".to_owned()],
        ..Bundle::default()
    };
    pod.set_bundle(&bundle)?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start(&witness)?;
    attempted(&witness);
    pod.write("web", "0.log", 101..=200)?;
    assert_eq!(witness.wait_lines(200), Tally::perfect(200));
    pod.write("web", "0.log", 201..=300)?;
    let (code, message) = agent.terminate()?;
    assert_eq!(code, Some(0));
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&json!(300), &json!(0))
    );
    assert_eq!(witness.tally(300), Tally::perfect(300));
    witness.wait("the end", |seen| {
        let ended = seen.said.iter().find(|line| line["message"] == "ended");
        // What an attempt may take at any other time; how long the end waits on a quiet machine is measured elsewhere.
        ended.is_some_and(|line| line["milliseconds"].as_u64() < Some(5000))
    });
    let seen = witness.seen();
    for line in &seen.said {
        assert!(!line.to_string().contains("hunter2"), "{line}");
    }
    drop(seen);
    Ok(told(&witness))
}

fn expect_undisturbed_by(
    attempts: usize,
    reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> Result<(Operator, Vec<Value>)> {
    let operator = Operator::start_with(move |request, _| reply(request))?;
    let told = expect_undisturbed(operator.reporting()?, |_| {
        let seen = operator.witness();
        seen.wait("some attempts", |seen| seen.requests >= attempts);
    })?;
    Ok((operator, told))
}

#[test]
fn an_operator_that_is_not_there_disturbs_nothing() -> Result<()> {
    let operator = Operator::start(60)?;
    let nowhere = format!("https://{}", closed_port()?);
    let reporting = Reporting {
        url: Endpoint::try_from(nowhere).map_err(std::io::Error::other)?,
        ..operator.reporting()?
    };
    let told = expect_undisturbed(reporting, |witness| witness.wait_said(TOLD, &[]))?;
    assert_eq!(told.len(), 1, "{told:?}");
    Ok(())
}

#[test]
fn an_operator_that_refuses_the_token_is_asked_again_and_told_of_once() -> Result<()> {
    let (_, told) = expect_undisturbed_by(3, |_| Reply::Refuse(401, "", String::new()))?;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["reason"], "HTTP 401");
    Ok(())
}

#[test]
fn an_operator_that_fails_disturbs_nothing() -> Result<()> {
    let (_, told) = expect_undisturbed_by(2, |_| Reply::Refuse(500, "", "hunter2".into()))?;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["reason"], "HTTP 500");
    Ok(())
}

#[test]
fn an_operator_that_wants_to_be_left_alone_is() -> Result<()> {
    let (operator, told) = expect_undisturbed_by(1, |_| {
        Reply::Refuse(429, "Retry-After: 3600\r\n", String::new())
    })?;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(operator.requests(), 2, "the first report and the last");
    Ok(())
}

#[test]
fn an_operator_that_answers_garbage_has_the_report_and_sets_no_interval() -> Result<()> {
    let (_, told) = expect_undisturbed_by(1, |_| {
        Reply::AcceptAs(200, b"\xff{\"interval\":".to_vec(), Vec::new())
    })?;
    assert_eq!(told, [] as [Value; 0]);
    Ok(())
}

#[test]
fn an_operator_that_never_answers_holds_nothing_up() -> Result<()> {
    expect_undisturbed_by(1, |_| Reply::Stall)?;
    Ok(())
}

#[test]
fn an_operator_that_answers_a_byte_a_second_holds_nothing_up() -> Result<()> {
    expect_undisturbed_by(1, |_| Reply::Trickle)?;
    Ok(())
}

/// What is lost is worth more of the pod's time, but no more than it has.
#[test]
fn an_operator_that_never_answers_takes_no_more_than_the_grace_period() -> Result<()> {
    let operator = Operator::start_with(|_, _| Reply::Stall)?;
    let witness = Witness::default();
    let mut pod = Pod::new()?;
    pod.set_token("a-token")?;
    let dead = http(&format!("http://{}", closed_port()?))?;
    pod.set_bundle(&operator.bundle(vec![policy("p", dead)], "1")?)?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start_with(&witness, &["--drain-seconds", "2"])?;
    let first = operator.witness();
    first.wait("the first report", |seen| seen.requests == 1);
    let (code, message) = agent.terminate()?;
    assert_eq!((code, &message["lost"]), (Some(0), &json!(100)));
    assert_eq!(operator.requests(), 2, "there was a last one");
    witness.wait("the end", |seen| {
        let ended = seen.said.iter().find(|line| line["message"] == "ended");
        ended.is_some_and(|line| line["milliseconds"].as_u64() < Some(4000))
    });
    Ok(())
}

#[test]
fn an_operator_with_the_certificate_of_another_authority_is_shown_no_token() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let (operator, another) = (Operator::start(60)?, Operator::start(60)?);
    let mut pod = Pod::new()?;
    pod.set_token("hunter2")?;
    let bundle = operator.bundle(vec![policy("p", http(&server.url())?)], "1")?;
    let with = |change: &dyn Fn(&mut Reporting)| -> Result<_> {
        let mut reporting = operator.reporting()?;
        change(&mut reporting);
        let reporting = Some(reporting);
        Ok(Bundle {
            reporting,
            ..bundle.clone()
        })
    };
    let authority = another.reporting()?.certificate_authorities;
    let other_authority = |reporting: &mut Reporting| {
        reporting.certificate_authorities.clone_from(&authority);
    };
    pod.set_bundle(&with(&other_authority)?)?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    witness.wait_said(TOLD, &[]);
    operator.wait_connections(3)?;
    assert_eq!(told(&witness).len(), 1);
    let reason = told(&witness)[0]["reason"].to_string();
    assert!(reason.contains("invalid peer certificate"), "{reason}");
    assert_eq!(operator.requests(), 0);
    // Nor is one of another name, whoever has signed for it.
    pod.set_bundle(&with(&|reporting| {
        reporting.server_name = "another.svc".to_owned();
    })?)?;
    witness.wait("the other name", |seen| {
        let told = seen.said.iter().filter(|line| line["message"] == TOLD);
        told.count() == 2
    });
    // Nor anybody in plain text, nor whose authorities are none.
    pod.set_bundle(&with(&|reporting| {
        reporting.certificate_authorities = "no certificate".to_owned();
    })?)?;
    let authorities = "the certificate authorities are not PEM certificates";
    witness.wait_said(TOLD, &[("reason", authorities)]);
    let plain = Server::start(&witness, |_| Reply::Accept)?;
    let plain_url = Endpoint::try_from(plain.url()).map_err(std::io::Error::other)?;
    pod.set_bundle(&with(&|reporting| reporting.url = plain_url.clone())?)?;
    let scheme = "the operator's address is not an `https://` address";
    witness.wait_said(TOLD, &[("reason", scheme)]);
    assert_eq!((operator.requests(), plain.connections()), (0, 0));
    // What is right is taken up.
    pod.set_bundle(&bundle)?;
    operator.wait("a report", 0, |report| !report.policies.is_empty());
    witness.wait_said("reports reach the operator", &[]);
    assert_eq!(witness.wait_lines(10), Tally::perfect(10));
    Ok(())
}

/// The operator is in the cluster, where no proxy of the environment leads.
#[test]
fn reports_go_past_the_proxy_of_the_environment() -> Result<()> {
    let witness = Witness::default();
    let operator = Operator::start(60)?;
    let mut pod = Pod::new()?;
    pod.set_token("a-token")?;
    pod.set_bundle(&operator.bundle(Vec::new(), "1")?)?;
    let proxy = format!("http://{}", closed_port()?);
    let names = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"];
    let _agent = pod.start_in(&witness, &names.map(|name| (name, proxy.as_str())))?;
    operator.wait("a report", 0, |report| !report.agent.is_empty());
    Ok(())
}
