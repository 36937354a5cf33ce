//! Lines reach their sinks, complete and in order, whatever is in them.

use std::{
    io::Result,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    pod::{Pod, http, policy, splunk},
    server::{Reply, Server, closed_port},
    witness::{Tally, Witness, text},
};

#[test]
fn every_line_reaches_splunk_with_its_metadata() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request| {
        let valid = request.line == "POST /services/collector/event HTTP/1.1"
            && request.header("authorization") == "Splunk secret"
            && request.header("content-encoding") == "gzip"
            && request.size <= 1_000_000;
        if valid {
            Reply::Accept
        } else {
            Reply::Refuse(400, "", String::new())
        }
    })?;
    let mut pod = Pod::new()?;
    pod.set("token", Some(b"secret\n"))?;
    pod.set_policies(vec![policy("p", splunk(&server.url())?)])?;
    pod.write("web", "0.log", 1..=5000)?;
    let _agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(5000), Tally::perfect(5000));

    let seen = witness.seen();
    let mut ids: Vec<String> = seen
        .records
        .iter()
        .map(|one| one["fields"]["record_id"].to_string())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5000, "every record has an id of its own");
    let mut first = seen.records[0].clone();
    assert!(first["fields"]["record_id"].take().is_string());
    assert_eq!(first["time"].to_string(), "1795428907.1234567");
    assert_eq!(first["host"], "web-1");
    assert_eq!(first["source"], "/var/log/pods/plane_web-1_uid-1/web/0.log");
    assert_eq!(first["sourcetype"], "kube:container:web");
    let fields = json!({"namespace": "plane", "pod": "web-1", "pod_uid": "uid-1", "container": "web", "node": "node-1",
        "stream": "stdout", "labels.app": "web", "record_id": null});
    assert_eq!(first["fields"], fields);
    Ok(())
}

#[test]
fn every_line_reaches_an_http_server_with_its_metadata() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request| match request.header("content-type") {
        "application/x-ndjson" => Reply::Accept,
        other => Reply::Refuse(415, "", other.to_owned()),
    })?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy(
        "p",
        http(&format!("{}/in?key=hidden", server.url()))?,
    )])?;
    pod.write("web", "0.log", 1..=100)?;
    let _agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(100), Tally::perfect(100));
    witness.wait_said("sink", &[("state", "Delivering")]);
    let seen = witness.seen();
    let mut first = seen.records[0].clone();
    assert!(first["message"].take().is_string() && first["record_id"].take().is_string());
    let expected = json!({"time": "2026-11-23T10:15:07.123456789Z", "namespace": "plane", "pod": "web-1",
        "pod_uid": "uid-1", "container": "web", "node": "node-1", "stream": "stdout", "restart": 0,
        "labels": {"app": "web"}, "record_id": null, "message": null});
    assert_eq!(first, expected);
    let shown: Vec<&Value> = seen
        .said
        .iter()
        .filter(|line| line["message"] == "sink")
        .collect();
    assert!(
        shown
            .iter()
            .all(|line| !line.to_string().contains("hidden")),
        "{shown:?}"
    );
    Ok(())
}

/// Whatever a container writes arrives; what is not UTF-8 as U+FFFD.
#[test]
fn awkward_lines_survive() -> Result<()> {
    let witness = Witness::default();
    // As strict as HEC: a blank event is refused.
    let server = Server::start(&witness, |request| {
        match request.records.iter().position(|one| {
            one["event"]
                .as_str()
                .is_some_and(|text| text.trim().is_empty())
        }) {
            Some(blank) => Reply::Refuse(
                400,
                "",
                json!({"code": 13, "invalid-event-number": blank}).to_string(),
            ),
            None => Reply::Accept,
        }
    })?;
    let mut pod = Pod::new()?;
    pod.set("token", Some(b"secret"))?;
    pod.set_policies(vec![policy("p", splunk(&server.url())?)])?;
    let huge = "x".repeat(1 << 20);
    let mut log = Vec::new();
    let mut add = |tag: char, content: &[u8]| {
        log.extend(format!("2026-11-23T10:15:07.1Z stdout {tag} ").bytes());
        log.extend_from_slice(content);
        log.push(b'\n');
    };
    add('F', b"a\xffb\xc3");
    add('F', b"nul \0 \x1b[31m \"quoted\" \\ tab\t end\r");
    add('F', b"");
    add('F', b"  ");
    // A character that is cut in two by the runtime.
    add('P', &"€".as_bytes()[..2]);
    add('F', &"€".as_bytes()[2..]);
    for part in huge.as_bytes().chunks(16 << 10) {
        add('P', part);
    }
    add('F', b"");
    add('P', b"no newline");
    pod.append("web", "0.log", &log)?;
    let agent = pod.start(&witness)?;
    witness.wait("all whole lines", |seen| seen.records.len() >= 6);
    let (_, message) = agent.terminate()?;
    assert_eq!(
        (&message["rejected"], &message["lost"]),
        (&json!(0), &json!(0))
    );
    let seen = witness.seen();
    let texts: Vec<_> = seen.records.iter().filter_map(text).collect();
    let expected = [
        "a\u{fffd}b\u{fffd}",
        "nul \0 \u{1b}[31m \"quoted\" \\ tab\t end\r",
        "",
        "  ",
        "€",
        &huge,
        "no newline",
    ];
    assert!(texts == expected, "{} records", texts.len());
    Ok(())
}

#[test]
fn a_sink_that_was_away_gets_everything_when_it_is_back() -> Result<()> {
    let witness = Witness::default();
    let address = closed_port()?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&format!("http://{address}"))?)])?;
    pod.write("web", "0.log", 1..=5000)?;
    let _agent = pod.start(&witness)?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    let _server = Server::start_on(&address.to_string(), &witness, |_| Reply::Accept)?;
    assert_eq!(witness.wait_lines(5000), Tally::perfect(5000));
    Ok(())
}

#[test]
fn a_busy_sink_is_asked_again_not_before_it_says() -> Result<()> {
    let witness = Witness::default();
    let begun = Instant::now();
    let second = Arc::new(AtomicUsize::new(0));
    let at = Arc::clone(&second);
    let server = Server::start(&witness, move |request| {
        if request.number == 0 {
            return Reply::Refuse(
                503,
                "Retry-After: 2\r\n",
                r#"{"text":"Server is busy","code":9}"#.into(),
            );
        }
        let milliseconds = usize::try_from(begun.elapsed().as_millis()).unwrap_or(usize::MAX);
        let _ = at.compare_exchange(0, milliseconds, Ordering::SeqCst, Ordering::SeqCst);
        Reply::Accept
    })?;
    let mut pod = Pod::new()?;
    pod.set("token", Some(b"secret"))?;
    pod.set_policies(vec![policy("p", splunk(&server.url())?)])?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(10), Tally::perfect(10));
    assert!(second.load(Ordering::SeqCst) >= 2000);
    Ok(())
}

/// Its own credential may be what it waits for; somebody else's policy is not.
#[test]
fn a_busy_sink_is_left_alone_until_its_own_credential_changes() -> Result<()> {
    const TIMES: usize = 4;
    let (witness, elsewhere) = (Witness::default(), Witness::default());
    let busy = Server::start(&witness, |request| {
        if request.number < TIMES {
            return Reply::Refuse(503, "Retry-After: 300\r\n", String::new());
        }
        Reply::Accept
    })?;
    let other = Server::start(&elsewhere, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    let mut policies = vec![policy("p", splunk(&busy.url())?)];
    pod.set("token", Some(b"0"))?;
    pod.set_policies(policies.clone())?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    for time in 1..=TIMES {
        witness.wait("one more request", |seen| seen.requests == time);
        policies.push(policy(&format!("q{time}"), http(&other.url())?));
        pod.set_policies(policies.clone())?;
        elsewhere.wait("the other policy", |seen| seen.records.len() == 10 * time);
        assert_eq!(witness.seen().requests, time);
        pod.set("token", Some(time.to_string().as_bytes()))?;
    }
    assert_eq!(witness.wait_lines(10), Tally::perfect(10));
    Ok(())
}

#[test]
fn a_dead_sink_delays_no_other() -> Result<()> {
    let witness = Witness::default();
    let elsewhere = Witness::default();
    let stalled = Server::start(&elsewhere, |_| Reply::Stall)?;
    let healthy = Server::start(&witness, |_| Reply::Accept)?;
    let closed = closed_port()?;
    let mut pod = Pod::new()?;
    let mut both = policy("p", http(&stalled.url())?);
    both.sinks.extend(
        policy("p", http(&healthy.url())?)
            .sinks
            .into_iter()
            .map(|mut sink| {
                "healthy".clone_into(&mut sink.name);
                sink
            }),
    );
    pod.set_policies(vec![both, policy("q", http(&format!("http://{closed}"))?)])?;
    pod.write("web", "0.log", 1..=10)?;
    let _agent = pod.start(&witness)?;
    elsewhere.wait("a request that is never answered", |seen| seen.requests > 0);
    pod.write("web", "0.log", 11..=20_000)?;
    assert_eq!(witness.wait_lines(20_000), Tally::perfect(20_000));
    assert_eq!(elsewhere.seen().requests, 1);
    Ok(())
}

#[test]
fn a_connection_is_used_again() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![policy("p", http(&server.url())?)])?;
    let _agent = pod.start(&witness)?;
    for batch in 0..5 {
        pod.write("web", "0.log", batch * 10 + 1..=batch * 10 + 10)?;
        assert_eq!(
            witness.wait_lines(batch * 10 + 10),
            Tally::perfect(batch * 10 + 10)
        );
    }
    assert_eq!(server.connections(), 1);
    Ok(())
}
