//! Each vendor is spoken to as it documents itself: address, headers, coding, body, answers. Lines are counted.

use std::{
    io::{Error, Result},
    num::NonZeroU32,
};

use katonic_log_config::{
    Batching, Compression, Connection, Endpoint, Http, HttpMethod, JsonFormat, Loggly, LogglyTag,
    NewRelic, NewRelicRegion, Otlp, OtlpEncoding, Parse, Policy, Sink, Target,
};
use serde_json::{Value, json};

use crate::{
    pod::{Pod, key, policy},
    server::{Reply, Request, Server},
    witness::{Tally, Witness, text},
};

fn endpoint(url: &str) -> Result<Endpoint> {
    Endpoint::try_from(url.to_owned()).map_err(Error::other)
}

fn loggly(url: &str) -> Result<Target> {
    Ok(Target::Loggly(Loggly {
        endpoint: endpoint(url)?,
        token: key("token")?,
        tags: vec![LogglyTag::try_from("platform".to_owned()).map_err(Error::other)?],
        connection: Connection::default(),
    }))
}

fn new_relic(url: &str) -> Result<Target> {
    Ok(Target::NewRelic(NewRelic {
        region: NewRelicRegion::Eu,
        endpoint: Some(endpoint(url)?),
        license_key: key("token")?,
        connection: Connection::default(),
    }))
}

fn otlp(url: &str, encoding: OtlpEncoding, compression: Compression) -> Result<Target> {
    Ok(Target::Otlp(Otlp {
        endpoint: endpoint(url)?,
        encoding,
        headers: Vec::new(),
        connection: Connection {
            compression,
            ..Connection::default()
        },
    }))
}

/// A policy whose requests are small, so that there are many.
fn small(target: Target, max_bytes: u32) -> Policy {
    let mut sink = Sink::new("sink", target);
    sink.batch = Batching {
        max_bytes: NonZeroU32::new(max_bytes),
        ..Batching::default()
    };
    Policy::of_everything("p", "uid-of-p", vec![sink])
}

/// Delivers 2,000 lines of two containers and gives what the agent said at its end.
fn deliver(policy: Policy, witness: &Witness) -> Result<Value> {
    let mut pod = Pod::new()?;
    pod.set("token", Some(b"0a1b-2c3d"))?;
    pod.set_policies(vec![policy])?;
    pod.write("web", "0.log", 1..=1000)?;
    pod.write("proxy", "0.log", 1001..=2000)?;
    let agent = pod.start(witness)?;
    witness.wait_lines(2000);
    let (code, message) = agent.terminate()?;
    assert_eq!(code, Some(0));
    let tally = witness.tally(2000);
    assert_eq!((tally.missing, tally.duplicates), (0, 0));
    let told = format!("{:?}", witness.seen().said);
    assert!(!told.contains("0a1b-2c3d"), "{told}");
    Ok(message)
}

#[test]
fn loggly_gets_every_line_at_its_address() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request| {
        let as_documented = request.line == "POST /bulk/0a1b-2c3d/tag/platform/ HTTP/1.1"
            && request.header("content-type") == "text/plain"
            && request.header("content-encoding").is_empty()
            && request.size <= 50_000;
        if as_documented {
            let answer = br#"{"response" : "ok"}"#.to_vec();
            Reply::AcceptAs(200, answer, request.records.clone())
        } else {
            Reply::Refuse(400, "", String::new())
        }
    })?;
    let message = deliver(small(loggly(&server.url())?, 50_000), &witness)?;
    assert_eq!(message["delivered"], 2000);
    assert_eq!(message["rejected"], 0);
    Ok(())
}

/// The records of a body of New Relic's, with what is common to them.
fn logs(body: &[u8]) -> Vec<Value> {
    let blocks: Vec<Value> = serde_json::from_slice(body).unwrap_or_default();
    let mut records = Vec::new();
    for block in blocks {
        let container = &block["common"]["attributes"]["container"];
        for log in block["logs"].as_array().into_iter().flatten() {
            let mut log = log.clone();
            log["container"] = container.clone();
            records.push(log);
        }
    }
    records
}

#[test]
fn new_relic_gets_every_line_of_each_file_in_a_block() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request| {
        let as_documented = request.line == "POST /log/v1 HTTP/1.1"
            && request.header("api-key") == "0a1b-2c3d"
            && request.header("content-type") == "application/json"
            && request.header("content-encoding") == "gzip"
            && request.size <= 50_000;
        if as_documented {
            let answer = br#"{"requestId":"1"}"#.to_vec();
            Reply::AcceptAs(202, answer, logs(&request.body))
        } else {
            Reply::Refuse(400, "", String::new())
        }
    })?;
    let message = deliver(small(new_relic(&server.url())?, 50_000), &witness)?;
    assert_eq!(message["delivered"], 2000);
    let seen = witness.seen();
    for record in &seen.records {
        let first = text(record).is_some_and(|text| text <= "line 001001");
        assert_eq!(record["container"], if first { "web" } else { "proxy" });
    }
    Ok(())
}

#[test]
fn new_relic_gets_old_records_too_and_it_is_said_that_it_may_drop_them() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request| {
        Reply::AcceptAs(202, b"{}".to_vec(), logs(&request.body))
    })?;
    let mut pod = Pod::new()?;
    pod.set("token", Some(b"key"))?;
    pod.set_policies(vec![policy("p", new_relic(&server.url())?)])?;
    let of_2020 = |line| format!("2020-11-23T10:15:07Z stdout F line {line:06}\n");
    let log: String = (1..=5).map(of_2020).collect();
    pod.append("web", "0.log", log.as_bytes())?;
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(5), Tally::perfect(5));
    assert_eq!(agent.terminate()?.1["delivered"], 5);
    let seen = witness.seen();
    let warning = "the sink has taken records that it may drop, because they are too old";
    let told: Vec<_> = seen
        .said
        .iter()
        .filter(|line| line["message"] == warning)
        .collect();
    assert_eq!((told.len(), &told[0]["records"]), (1, &json!(5)));
    Ok(())
}

/// The records of an OTLP request in JSON.
fn log_records(body: &[u8]) -> Vec<Value> {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let resources = request["resourceLogs"].as_array().into_iter().flatten();
    resources
        .flat_map(|logs| logs["scopeLogs"][0]["logRecords"].as_array().into_iter())
        .flatten()
        .map(|record| json!({"message": record["body"]["stringValue"]}))
        .collect()
}

#[test]
fn otlp_in_json_gets_every_line() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request| {
        let as_documented = request.line == "POST /v1/logs HTTP/1.1"
            && request.header("content-type") == "application/json"
            && request.header("content-encoding") == "zstd";
        if as_documented {
            Reply::AcceptAs(200, b"{}".to_vec(), log_records(&request.body))
        } else {
            Reply::Refuse(400, "", String::new())
        }
    })?;
    let target = otlp(&server.url(), OtlpEncoding::Json, Compression::Zstd)?;
    assert_eq!(deliver(small(target, 50_000), &witness)?["delivered"], 2000);
    Ok(())
}

/// Lines as they stand in a request that is not JSON: each once.
fn lines(body: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(body);
    let found = text
        .match_indices("line 00")
        .filter_map(|(at, _)| text.get(at..at + 11));
    found.map(|line| json!({"message": line})).collect()
}

#[test]
fn what_otlp_refuses_in_part_is_counted_and_not_sent_again() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request| {
        if request.header("content-type") != "application/x-protobuf" {
            return Reply::Refuse(400, "", String::new());
        }
        // `partial_success` with three rejected records, once.
        let answer = if request.number == 0 {
            b"\x0a\x0b\x08\x03\x12\x07too old".to_vec()
        } else {
            Vec::new()
        };
        Reply::AcceptAs(200, answer, lines(&request.body))
    })?;
    let target = otlp(&server.url(), OtlpEncoding::Protobuf, Compression::Gzip)?;
    let message = deliver(small(target, 50_000), &witness)?;
    assert_eq!(
        (&message["delivered"], &message["rejected"]),
        (&json!(1997), &json!(3))
    );
    witness.wait_said(
        "the sink refuses records for their content",
        &[("reason", "too old")],
    );
    Ok(())
}

#[test]
fn a_server_may_want_arrays_by_put() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |request: &Request| {
        let records: std::result::Result<Vec<Value>, _> = serde_json::from_slice(&request.body);
        match records {
            Ok(records) if request.line.starts_with("PUT /in HTTP") && records.len() <= 100 => {
                Reply::AcceptAs(204, Vec::new(), records)
            }
            _ => Reply::Refuse(400, "", String::new()),
        }
    })?;
    let mut http = Http::to(endpoint(&format!("{}/in", server.url()))?);
    http.method = HttpMethod::Put;
    http.format = JsonFormat::Array;
    http.connection.compression = Compression::None;
    let mut policy = policy("p", Target::Http(http));
    policy.sinks[0].batch.max_records = NonZeroU32::new(100);
    assert_eq!(deliver(policy, &witness)?["delivered"], 2000);
    assert!(witness.seen().requests >= 20);
    Ok(())
}

#[test]
fn lines_that_are_objects_become_fields_and_labels_are_those_that_are_wanted() -> Result<()> {
    let witness = Witness::default();
    let server = Server::start(&witness, |_| Reply::Accept)?;
    let mut policy = policy("p", Target::Http(Http::to(endpoint(&server.url())?)));
    policy.parse = Parse::Json;
    policy.pod_labels = Some(["app".to_owned()].into());
    let mut pod = Pod::new()?;
    std::fs::write(pod.path("labels"), "app=\"web\"\nsecret=\"x\"\n")?;
    pod.set_policies(vec![policy])?;
    pod.append(
        "web",
        "0.log",
        b"2026-11-23T10:15:07Z stdout F {\"level\":\"info\"}\n",
    )?;
    pod.write("web", "0.log", 1..=1)?;
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(1), Tally::perfect(1));
    agent.terminate()?;
    let seen = witness.seen();
    let [object, line] = &seen.records[..] else {
        return Err(Error::other(format!("{:?}", seen.records)));
    };
    assert_eq!(object["fields"], json!({"level": "info"}));
    assert_eq!(object.get("message"), None);
    assert_eq!(line.get("fields"), None);
    assert_eq!(line["labels"], json!({"app": "web"}));
    Ok(())
}
