//! Lines reach their sinks, complete and in order.

use std::io::Result;

use serde_json::json;

use crate::{
    pod::{Pod, policy, splunk},
    server::{Reply, Server},
    witness::{Tally, Witness},
};

#[test]
fn every_line_reaches_splunk_with_its_metadata_and_the_end_is_quick() -> Result<()> {
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
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(5000), Tally::perfect(5000));
    pod.write("web", "0.log", 5001..=5010)?;
    let (code, message) = agent.terminate()?;
    assert_eq!(witness.tally(5010), Tally::perfect(5010));
    assert_eq!(code, Some(0));
    let sink = json!({"policy": "p", "sink": "sink", "delivered": 5010, "rejected": 0, "lost": 0});
    assert_eq!(
        message,
        json!({"delivered": 5010, "rejected": 0, "lost": 0, "sinks": [sink]})
    );

    let seen = witness.seen();
    let mut first = seen.records[0].clone();
    let mut ids: Vec<String> = seen
        .records
        .iter()
        .map(|one| one["fields"]["record_id"].to_string())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5010, "every record has an id of its own");
    assert!(first["fields"]["record_id"].take().is_string());
    assert_eq!(first["time"], 1_795_428_907.123_456_789_f64);
    assert_eq!(first["source"], "/var/log/pods/plane_web-1_uid-1/web/0.log");
    let fields = json!({"namespace": "plane", "pod": "web-1", "pod_uid": "uid-1", "container": "web", "node": "node-1",
        "stream": "stdout", "labels.app": "web", "record_id": null});
    assert_eq!(first["fields"], fields);
    let ended = seen.said.iter().find(|line| line["message"] == "ended");
    let took = ended.and_then(|line| line["milliseconds"].as_u64());
    assert!(
        took.is_some_and(|milliseconds| milliseconds < 300),
        "{took:?}"
    );
    Ok(())
}
