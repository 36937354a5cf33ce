//! What a policy does with lines on their way: joins them, drops, redacts, samples and limits records.

#![expect(
    clippy::unwrap_used,
    reason = "a test's own values are what they are said to be"
)]

use std::{
    collections::HashMap,
    io::Result,
    num::{NonZeroU8, NonZeroU32},
    sync::{Arc, Mutex, PoisonError},
};

use katonic_log_config::{
    Filter, Multiline, MultilineRule, Pattern, Percent, Policy, RateLimit, Redact, Replacement,
    Sample, Sink,
};
use serde_json::Value;

use crate::{
    pod::{Pod, http, key, policy},
    server::{Reply, Server},
    witness::{Tally, Witness, text},
};

/// What no request may hold.
const SECRET: &str = "4111111111111111";

fn pattern(text: &str) -> Pattern {
    Pattern::try_from(text.to_owned()).unwrap()
}

fn redact(found: &str, with: Replacement) -> Filter {
    Filter::Redact(Redact {
        pattern: pattern(found),
        with,
    })
}

fn hash() -> Filter {
    redact(r"\d{16}", Replacement::Hash(key("salt").unwrap()))
}

fn replaced(found: &str) -> Filter {
    redact(found, Replacement::Text("***".into()))
}

fn filtered(url: &str, filters: Vec<Filter>) -> Result<Policy> {
    Ok(Policy {
        filters,
        ..policy("p", http(url)?)
    })
}

fn joined(url: &str, rule: MultilineRule, timeout_ms: u32) -> Result<Policy> {
    Ok(Policy {
        multiline: Some(Multiline {
            rule,
            timeout_ms: NonZeroU32::new(timeout_ms).unwrap(),
            max_bytes: NonZeroU32::new(1 << 18).unwrap(),
        }),
        ..policy("p", http(url)?)
    })
}

/// Lines that each hold a number and the secret.
fn secrets(numbers: impl IntoIterator<Item = usize>) -> Vec<u8> {
    use std::io::Write;
    let mut lines = Vec::new();
    for number in numbers {
        let line = format!("2026-11-23T10:15:07Z stdout F line {number:06} card {SECRET} name Eve");
        writeln!(lines, "{line}").unwrap();
    }
    lines
}

fn cri(stream: &str, lines: &[&str]) -> Vec<u8> {
    lines
        .iter()
        .flat_map(|line| format!("2026-11-23T10:15:07Z {stream} F {line}\n").into_bytes())
        .collect()
}

/// A server, and everything that it was ever sent.
fn listener(witness: &Witness) -> Result<(Server, Arc<Mutex<Vec<u8>>>)> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = Arc::clone(&heard);
    let server = Server::start(witness, move |request| {
        let mut heard = ears.lock().unwrap_or_else(PoisonError::into_inner);
        heard.extend_from_slice(&request.body);
        Reply::Accept
    })?;
    Ok((server, heard))
}

fn is_in(secret: &str, heard: &Mutex<Vec<u8>>) -> bool {
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&heard).contains(secret)
}

fn applied(witness: &Witness, times: usize) {
    witness.wait(&format!("{times} bundles"), |seen| {
        let applied = |line: &&Value| line["message"] == "bundle applied";
        seen.said.iter().filter(applied).count() >= times
    });
}

fn texts(witness: &Witness) -> Vec<String> {
    let seen = witness.seen();
    seen.records
        .iter()
        .filter_map(text)
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_line_is_delivered_or_dropped_and_counted() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    let sample = Sample {
        pattern: Some(pattern(r"^line \d{5}[1-4] ")),
        percent: Percent::try_from(NonZeroU8::new(50).unwrap()).unwrap(),
    };
    pod.set_policies(vec![filtered(
        &server.url(),
        vec![
            Filter::Drop(pattern("^line .....0 ")),
            Filter::Keep(pattern("^line .....[^9] ")),
            Filter::Sample(sample),
        ],
    )?])?;
    pod.write("web", "0.log", 1..=5000)?;
    let agent = pod.start(&witness)?;
    witness.wait("the last line that is not dropped", |seen| {
        seen.records
            .last()
            .and_then(text)
            .is_some_and(|text| text.starts_with("line 004998 "))
    });
    witness.wait_said("the policy's filters leave records out", &[("policy", "p")]);
    let (_, message) = agent.terminate()?;
    let mut numbers: Vec<usize> = texts(&witness)
        .iter()
        .map(|text| text[5..11].parse().unwrap())
        .collect();
    let delivered = numbers.len();
    assert!(numbers.is_sorted());
    numbers.dedup();
    assert_eq!(numbers.len(), delivered, "none came twice");
    let ending = |digits: std::ops::RangeInclusive<usize>| {
        let of = |number: &&usize| digits.contains(&(**number % 10));
        numbers.iter().filter(of).count()
    };
    assert_eq!((ending(0..=0), ending(9..=9), ending(5..=8)), (0, 0, 2000));
    assert!((800..1200).contains(&ending(1..=4)), "{}", ending(1..=4));
    let counted = [&message["delivered"], &message["dropped"], &message["lost"]];
    assert_eq!(counted, [delivered, 5000 - delivered, 0]);
    Ok(())
}

#[test]
fn what_is_only_dropped_moves_the_cursor_without_a_request() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    let drop = vec![Filter::Drop(pattern("^line "))];
    pod.set_policies(vec![filtered(&server.url(), drop)?])?;
    pod.write("web", "0.log", 1..=50_000)?;
    for _ in 0..2 {
        let own = Witness::default();
        let agent = pod.start(&own)?;
        own.wait_said("bundle applied", &[]);
        let (_, message) = agent.terminate()?;
        let counted = [&message["delivered"], &message["dropped"], &message["lost"]];
        // The second agent begins where the first one ended, and goes on counting.
        assert_eq!(counted, [0, 50_000, 0]);
    }
    assert_eq!(witness.seen().requests, 0);
    Ok(())
}

#[test]
fn what_a_dead_sink_did_not_get_counts_as_lost_only_if_it_was_to_get_it() -> Result<()> {
    let witness = Witness::default();
    let mut pod = Pod::new()?;
    let url = format!("http://{}", crate::server::closed_port()?);
    let drop = vec![Filter::Drop(pattern("^line .....[0-8] "))];
    pod.set_policies(vec![filtered(&url, drop)?])?;
    pod.write("web", "0.log", 1..=1000)?;
    let agent = pod.start_with(&witness, &["--drain-seconds", "1"])?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    let (_, message) = agent.terminate()?;
    assert_eq!([&message["dropped"], &message["lost"]], [900, 100]);
    Ok(())
}

#[test]
fn the_fallback_gets_what_the_sinks_were_to_get() -> Result<()> {
    let witness = Witness::default();
    let (server, heard) = listener(&witness)?;
    let mut pod = Pod::new()?;
    let dead = format!("http://{}", crate::server::closed_port()?);
    let mut policy = filtered(
        &dead,
        vec![
            replaced(r"\d{16}"),
            Filter::Drop(pattern("^line .....[0-8] ")),
        ],
    )?;
    policy.fallback = Some(Sink::new("fallback", http(&server.url())?));
    pod.set_policies(vec![policy])?;
    pod.append("web", "0.log", &secrets(1..=1000))?;
    let agent = pod.start_with(&witness, &["--drain-seconds", "2"])?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    let (_, message) = agent.terminate()?;
    let counted = [&message["dropped"], &message["fallback"], &message["lost"]];
    assert_eq!(counted, [900, 100, 0]);
    assert_eq!(witness.seen().records.len(), 100);
    assert!(!is_in(SECRET, &heard));
    Ok(())
}

#[test]
fn without_the_key_of_a_hash_nothing_is_sent() -> Result<()> {
    let witness = Witness::default();
    let (server, heard) = listener(&witness)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![filtered(&server.url(), vec![hash()])?])?;
    pod.append("web", "0.log", &secrets(1..=100))?;
    let agent = pod.start(&witness)?;
    let held = ("state", "Misconfigured");
    let missing = ("reason", "the credential `salt` is missing");
    witness.wait_said("sink", &[held, missing]);
    pod.set("salt", Some(b" \n"))?;
    let empty = ("reason", "the credential `salt` is empty");
    witness.wait_said("sink", &[held, empty]);
    assert_eq!(witness.seen().requests, 0);
    pod.set("salt", Some(b"a key that is long enough\n"))?;
    assert_eq!(witness.wait_lines(100), Tally::perfect(100));
    let first = texts(&witness);
    assert!(first[0].contains("card hmac:"), "{}", first[0]);
    // Equal before and equal after; another key, another hash.
    let hashes = |texts: &[String]| texts.iter().map(|text| text[12..33].to_owned()).collect();
    let one: std::collections::BTreeSet<String> = hashes(&first);
    assert_eq!(one.len(), 1);
    let times = |seen: &crate::witness::Seen| {
        let is_missed = |line: &&Value| line["reason"] == missing.1;
        seen.said.iter().filter(is_missed).count()
    };
    let before = witness.seen().said.len();
    pod.set("salt", None)?;
    witness.wait("the key's absence", |seen| {
        let applied = |line: &Value| line["message"] == "bundle applied";
        seen.said[before..].iter().any(applied)
    });
    pod.append("web", "0.log", &secrets(101..=200))?;
    witness.wait("the key is missed again", |seen| times(seen) == 2);
    pod.set("salt", Some(b"another key of this length\n"))?;
    assert_eq!(witness.wait_lines(200), Tally::perfect(200));
    let both: std::collections::BTreeSet<String> = hashes(&texts(&witness));
    assert_eq!(both.len(), 2);
    let (_, message) = agent.terminate()?;
    assert_eq!([&message["delivered"], &message["lost"]], [200, 0]);
    assert!(!is_in(SECRET, &heard));
    for line in &witness.seen().said {
        assert!(!line.to_string().contains("key "), "{line}");
    }
    Ok(())
}

#[test]
fn what_is_redacted_never_leaves_whatever_happens_to_the_agent() -> Result<()> {
    let witness = Witness::default();
    let (server, heard) = listener(&witness)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![filtered(&server.url(), vec![replaced(r"\d{16}")])?])?;
    let mut written = 0;
    for round in 1..=5 {
        pod.append("web", "0.log", &secrets(written + 1..=written + 2000))?;
        written += 2000;
        let agent = pod.start(&witness)?;
        // Somewhere in the middle.
        witness.wait("something new", |seen| seen.records.len() > round * 1000);
        agent.kill()?;
    }
    let agent = pod.start(&witness)?;
    let Tally { missing, .. } = witness.wait_lines(written);
    assert_eq!(missing, 0);
    agent.terminate()?;
    assert!(!is_in(SECRET, &heard));
    assert!(is_in("card *** name Eve", &heard));
    Ok(())
}

#[test]
fn a_change_of_filters_in_the_middle_of_a_batch_counts_for_all_of_it() -> Result<()> {
    let witness = Witness::default();
    let mut pod = Pod::new()?;
    // It takes nothing that has the name in it, so a batch that was sent again as it was would never arrive.
    let server = Server::start(&witness, |request| {
        if String::from_utf8_lossy(&request.body).contains("Eve") {
            Reply::Refuse(503, "", String::new())
        } else {
            Reply::Accept
        }
    })?;
    let both = vec![replaced(r"\d{16}"), replaced("Eve")];
    pod.set_policies(vec![filtered(&server.url(), both[..1].to_vec())?])?;
    pod.append("web", "0.log", &secrets(1..=3000))?;
    let agent = pod.start(&witness)?;
    // A batch is on its way that has the name in it.
    witness.wait("a refused batch", |seen| seen.requests > 0);
    pod.set_policies(vec![filtered(&server.url(), both)?])?;
    applied(&witness, 2);
    assert_eq!(witness.wait_lines(3000), Tally::perfect(3000));
    let (_, message) = agent.terminate()?;
    assert_eq!(message["delivered"], 3000, "{message}");
    Ok(())
}

#[test]
fn a_pattern_that_cannot_be_used_leaves_the_last_good_form_in_force() -> Result<()> {
    let witness = Witness::default();
    let (server, heard) = listener(&witness)?;
    let mut pod = Pod::new()?;
    let good = vec![replaced(r"\d{16}")];
    let bad = vec![replaced("("), replaced(r"\d{16}")];
    pod.set_policies(vec![filtered(&server.url(), good)?])?;
    pod.append("web", "0.log", &secrets(1..=100))?;
    let agent = pod.start(&witness)?;
    witness.wait_lines(100);
    let mut other = policy("other", http(&server.url())?);
    other.components.insert("another".to_owned());
    pod.set_policies(vec![filtered(&server.url(), bad)?, other])?;
    let left_out = "a policy cannot be applied; its last good form stays in force";
    witness.wait_said(left_out, &[("policy", "p")]);
    applied(&witness, 2);
    pod.append("web", "0.log", &secrets(101..=200))?;
    assert_eq!(witness.wait_lines(200), Tally::perfect(200));
    agent.terminate()?;
    // An agent that has no good form of it sends nothing of it, and harms no other policy.
    let later = Witness::default();
    pod.append("web", "0.log", &secrets(201..=300))?;
    pod.write("another", "0.log", 1..=10)?;
    let agent = pod.start(&later)?;
    later.wait_said(left_out, &[("policy", "p")]);
    witness.wait("the other policy's lines", |seen| seen.records.len() >= 210);
    agent.terminate()?;
    assert_eq!(witness.seen().records.len(), 210);
    assert!(!is_in(SECRET, &heard));
    Ok(())
}

#[test]
fn a_rate_limit_is_kept_and_told_and_a_restart_costs_one_second_of_it() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    let limit = RateLimit {
        records_per_second: NonZeroU32::new(100).unwrap(),
    };
    pod.set_policies(vec![filtered(
        &server.url(),
        vec![Filter::RateLimit(limit)],
    )?])?;
    pod.write("web", "0.log", 1..=5000)?;
    pod.write("small", "0.log", 5001..=5050)?;
    let agent = pod.start(&witness)?;
    let told = "a container writes more than the policy's rate limit; the rest is dropped";
    witness.wait_said(told, &[("container", "web")]);
    let (_, message) = agent.terminate()?;
    assert_eq!([&message["delivered"], &message["dropped"]], [150, 4900]);
    let told_of = |container: &str| {
        let of = |line: &&Value| line["message"] == told && line["container"] == container;
        witness.seen().said.iter().filter(of).count()
    };
    assert_eq!((told_of("web"), told_of("small")), (1, 0));
    pod.write("web", "0.log", 5051..=6050)?;
    let later = Witness::default();
    let agent = pod.start(&later)?;
    later.wait_said("bundle applied", &[]);
    let (_, message) = agent.terminate()?;
    assert_eq!([&message["delivered"], &message["dropped"]], [250, 5800]);
    Ok(())
}

const TRACE: [&str; 4] = [
    "java.lang.IllegalStateException: no",
    "\tat ai.example.App.run(App.java:6)",
    "Caused by: java.lang.Error: deeper",
    "\t... 1 more",
];

#[test]
fn a_stack_trace_is_one_record_also_between_lines_of_the_other_stream() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![joined(&server.url(), MultilineRule::Java, 60_000)?])?;
    for (number, line) in TRACE.iter().enumerate() {
        pod.append("web", "0.log", &cri("stderr", &[line]))?;
        pod.append(
            "web",
            "0.log",
            &cri("stdout", &[&format!("{{\"number\":{number}}}")]),
        )?;
    }
    let agent = pod.start(&witness)?;
    witness.wait("the other stream", |seen| seen.records.len() >= 4);
    // The trace may go on, so it is not sent yet; the end of the pod does not wait for it.
    assert_eq!(witness.seen().records.len(), 4);
    let (_, message) = agent.terminate()?;
    assert_eq!(message["delivered"], 5);
    assert_eq!(texts(&witness)[4], TRACE.join("\n"));
    let seen = witness.seen();
    let id = seen.records[4]["record_id"].as_str().unwrap();
    assert!(
        id.ends_with("-0"),
        "the place of its first line, not of its last: {id}"
    );
    Ok(())
}

#[test]
fn a_record_that_nothing_follows_is_sent_after_the_time_that_the_policy_says() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![joined(&server.url(), MultilineRule::Java, 300)?])?;
    let _agent = pod.start(&witness)?;
    for (number, line) in TRACE.iter().enumerate().take(2) {
        pod.append("web", "0.log", &cri("stderr", &[line]))?;
        witness.wait("the line alone", |seen| seen.records.len() > number);
    }
    assert_eq!(texts(&witness), TRACE[..2]);
    Ok(())
}

#[test]
fn an_open_record_is_read_again_after_a_kill_and_goes_on_after_a_rotation() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set_policies(vec![joined(&server.url(), MultilineRule::Java, 60_000)?])?;
    pod.append("web", "0.log", &cri("stdout", &["before"]))?;
    pod.append("web", "0.log", &cri("stdout", &TRACE[..2]))?;
    let agent = pod.start(&witness)?;
    witness.wait("what is before", |seen| seen.records.len() == 1);
    agent.kill()?;
    let agent = pod.start(&witness)?;
    agent.wait_open("0.log", 1)?;
    pod.rotate("web", "20261123-101507", [])?;
    pod.append("web", "0.log", &cri("stdout", &TRACE[2..]))?;
    pod.append("web", "0.log", &cri("stdout", &["after"]))?;
    witness.wait("what is after", |seen| {
        seen.records.last().and_then(text) == Some("after")
    });
    let (_, message) = agent.terminate()?;
    assert_eq!(message["lost"], 0);
    let mut texts = texts(&witness);
    // The kill may have come before the cursor was saved.
    texts.dedup();
    assert_eq!(texts, ["before", &TRACE.join("\n"), "after"]);
    let seen = witness.seen();
    let mut said: HashMap<&str, &str> = HashMap::new();
    for record in &seen.records {
        let id = record["record_id"].as_str().unwrap();
        let before = said.insert(id, text(record).unwrap());
        assert!(before.is_none_or(|before| Some(before) == text(record)));
    }
    Ok(())
}

#[test]
fn redaction_sees_the_joined_record() -> Result<()> {
    let witness = Witness::default();
    let (server, heard) = listener(&witness)?;
    let mut pod = Pod::new()?;
    let first_line = MultilineRule::FirstLine(pattern("^ERROR"));
    let mut policy = joined(&server.url(), first_line, 60_000)?;
    policy.filters = vec![replaced(r"(?s)BEGIN PRIVATE KEY.*?END PRIVATE KEY")];
    pod.set_policies(vec![policy])?;
    let lines = [
        "ERROR -----BEGIN PRIVATE KEY-----",
        "c2VjcmV0",
        "-----END PRIVATE KEY----- in use",
        "ERROR next",
    ];
    pod.append("web", "0.log", &cri("stdout", &lines))?;
    let agent = pod.start(&witness)?;
    witness.wait_said("bundle applied", &[]);
    agent.terminate()?;
    assert_eq!(
        texts(&witness),
        ["ERROR -----***----- in use", "ERROR next"]
    );
    assert!(!is_in("c2VjcmV0", &heard));
    Ok(())
}
