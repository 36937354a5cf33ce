mod logs_proto;

use std::io::Read;

use katonic_log_config::{
    Compression, Facility, HostName, JsonFormat, Syslog, SyslogTransport, audit::Link,
};
use proptest::prelude::*;
use prost::Message;
use serde_json::json;

use super::*;
use crate::{
    assemble::{FileNumber, Taken},
    batch::{Body, Limits, Packer},
    process::audit::{Audited, Fault, Member, Verdict},
};
use logs_proto::{AnyValue, ExportLogsServiceRequest, KeyValue, LogRecord, any_value::Value as Is};

const NOW: Timestamp = Timestamp {
    seconds: 1_795_428_999,
    nanos: 1,
};

fn time() -> Timestamp {
    Timestamp {
        seconds: 1_795_428_907,
        nanos: 123_456_789,
    }
}

fn labels() -> BTreeMap<String, String> {
    [("app", "web"), ("empty", "")]
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .into()
}

fn origin<'a>(labels: &'a BTreeMap<String, String>, container: &'a str) -> Origin<'a> {
    Origin {
        namespace: "compute",
        pod: "web-1",
        pod_uid: "0a1b",
        node: "node-1",
        labels,
        execution_id: Some("run-7"),
        container,
        restart: 2,
        file_id: "f00d",
    }
}

fn record(stream: Stream, offset: u64, content: &[u8]) -> Record<'_> {
    Record {
        time: time(),
        stream,
        file: FileNumber::default(),
        offset,
        content,
        continues: false,
        continued: false,
        audit: None,
    }
}

fn splunk() -> Format {
    Format::Splunk(splunk::Event {
        index: None,
        host: None,
        source: None,
        sourcetype: None,
    })
}

fn syslog() -> Format {
    Format::Syslog(syslog_form(8192))
}

fn syslog_form(longest: u32) -> syslog::Form {
    syslog::Form::from(&Syslog {
        host: HostName::try_from("siem.example".to_owned()).unwrap(),
        port: 6514.try_into().unwrap(),
        transport: SyslogTransport::Tcp,
        facility: Facility::Local0,
        app_name: None,
        enterprise_id: 32473.try_into().unwrap(),
        max_message_bytes: longest.try_into().unwrap(),
    })
}

const LINES: Format = Format::Object(object::Dialect::Any(JsonFormat::Lines));
const ARRAY: Format = Format::Object(object::Dialect::Any(JsonFormat::Array));
const LOGGLY: Format = Format::Object(object::Dialect::Loggly);
const OTLP_JSON: Format = Format::Otlp(OtlpEncoding::Json);
const OTLP_PROTOBUF: Format = Format::Otlp(OtlpEncoding::Protobuf);

/// A body of these records, each of a container.
fn body(format: &Format, parse: Parse, limits: Limits, records: &[(&str, Record<'_>)]) -> Body {
    let labels = labels();
    let heads: BTreeMap<&str, Heads> = records
        .iter()
        .map(|(container, _)| {
            let heads = Heads::new(format, parse, &origin(&labels, container));
            (*container, heads)
        })
        .collect();
    let mut packer = Packer::default();
    packer.begin(format.frame(), Compression::None, limits);
    for (container, record) in records {
        let heads = &heads[container];
        let taken = packer.add(&heads.group, record.content.len(), |longest, out| {
            heads.write(record, longest, NOW, out);
        });
        assert_eq!(taken, Taken::Yes);
    }
    let body = packer.finish().unwrap();
    assert_eq!(body.size, body.bytes.len(), "sizes are exact");
    body
}

fn text(format: &Format, parse: Parse, records: &[(&str, Record<'_>)]) -> String {
    let body = body(format, parse, Limits::NONE, records);
    String::from_utf8(body.bytes.to_vec()).unwrap()
}

/// Two records of one file and one of another.
fn three() -> [(&'static str, Record<'static>); 3] {
    [
        ("main", record(Stream::Stdout, 0, b"one \"1\"")),
        ("main", record(Stream::Stderr, 40, b"two\n2 \xff")),
        ("side", record(Stream::Stdout, 0, b"")),
    ]
}

const JSON_LINE: &[u8] = br#"{"level":"warn","n":-1,"http":{"code":200,"deep":{"a":[]}},"tags":["x"],"ok":true,"none":null,"pod":"spoofed"}"#;

fn one_object() -> [(&'static str, Record<'static>); 1] {
    [("main", record(Stream::Stdout, 9, JSON_LINE))]
}

#[test]
fn splunk_gets_events_one_after_the_other() {
    let expected = concat!(
        r#"{"time":1795428907.123456789,"host":"web-1","source":"/var/log/pods/compute_web-1_0a1b/main/2.log","#,
        r#""sourcetype":"kube:container:main","fields":{"container":"main","execution_id":"run-7","labels.app":"web","#,
        r#""namespace":"compute","node":"node-1","pod":"web-1","pod_uid":"0a1b","stream":"stdout","record_id":"f00d-0"},"#,
        r#""event":"one \"1\""}"#,
        r#"{"time":1795428907.123456789,"host":"web-1","source":"/var/log/pods/compute_web-1_0a1b/main/2.log","#,
        r#""sourcetype":"kube:container:main","fields":{"container":"main","execution_id":"run-7","labels.app":"web","#,
        r#""namespace":"compute","node":"node-1","pod":"web-1","pod_uid":"0a1b","stream":"stderr","record_id":"f00d-40"},"#,
        r#""event":"two\n2 "#,
        "\u{fffd}",
        r#""}"#,
        r#"{"time":1795428907.123456789,"host":"web-1","source":"/var/log/pods/compute_web-1_0a1b/side/2.log","#,
        r#""sourcetype":"kube:container:side","fields":{"container":"side","execution_id":"run-7","labels.app":"web","#,
        r#""namespace":"compute","node":"node-1","pod":"web-1","pod_uid":"0a1b","stream":"stdout","record_id":"f00d-0"},"#,
        r#""event":{"message":""}}"#,
    );
    assert_eq!(text(&splunk(), Parse::Text, &three()), expected);
}

#[test]
fn splunk_gets_index_host_source_and_sourcetype_of_the_policy() {
    let format = Format::Splunk(splunk::Event {
        index: Some("platform".into()),
        host: Some("cluster-1".into()),
        source: Some("katonic".into()),
        sourcetype: Some("_json".into()),
    });
    let expected = concat!(
        r#"{"time":1795428907.123456789,"host":"cluster-1","index":"platform","source":"katonic","sourcetype":"_json","#,
        r#""fields":{"container":"main","execution_id":"run-7","labels.app":"web","namespace":"compute","#,
        r#""node":"node-1","pod":"web-1","pod_uid":"0a1b","stream":"stdout","record_id":"f00d-9"},"event":"#,
    );
    let made = text(&format, Parse::Json, &one_object());
    let event = made.strip_prefix(expected).unwrap();
    assert_eq!(
        event.strip_suffix('}').unwrap().as_bytes(),
        JSON_LINE,
        "as it is"
    );
}

#[test]
fn a_server_gets_a_line_for_each_record() {
    let head = |time: &str, stream: &str, container: &str| {
        format!(
            r#"{{{time},"container":"{container}","execution_id":"run-7","labels":{{"app":"web","empty":""}},"namespace":"compute","node":"node-1","pod":"web-1","pod_uid":"0a1b","restart":2,"stream":"{stream}","record_id":"f00d-"#
        )
    };
    let nanos = r#""time":"2026-11-23T10:15:07.123456789Z""#;
    let objects = [
        format!(
            r#"{}0","message":"one \"1\""}}"#,
            head(nanos, "stdout", "main")
        ),
        format!(
            "{}40\",\"message\":\"two\\n2 \u{fffd}\"}}",
            head(nanos, "stderr", "main")
        ),
        format!(r#"{}0","message":""}}"#, head(nanos, "stdout", "side")),
    ];
    assert_eq!(
        text(&LINES, Parse::Text, &three()),
        format!("{}\n{}\n{}\n", objects[0], objects[1], objects[2])
    );
    assert_eq!(
        text(&ARRAY, Parse::Text, &three()),
        format!("[{},{},{}]", objects[0], objects[1], objects[2])
    );
    // Loggly knows `timestamp`.
    let micros = r#""timestamp":"2026-11-23T10:15:07.123456Z""#;
    let object = str::from_utf8(JSON_LINE).unwrap();
    let expected = format!(
        "{}9\",\"fields\":{object}}}\n",
        head(micros, "stdout", "main")
    );
    assert_eq!(text(&LOGGLY, Parse::Json, &one_object()), expected);
}

#[test]
fn new_relic_gets_a_block_for_each_file() {
    let common = |container: &str| {
        format!(
            r#"{{"common":{{"attributes":{{"container":"{container}","execution_id":"run-7","labels.app":"web","namespace":"compute","node":"node-1","pod":"web-1","pod_uid":"0a1b","restart":2}}}},"logs":["#
        )
    };
    let expected = [
        "[".to_owned(),
        common("main"),
        r#"{"timestamp":1795428907123,"attributes":{"stream":"stdout","record_id":"f00d-0"},"message":"one \"1\""},"#.to_owned(),
        "{\"timestamp\":1795428907123,\"attributes\":{\"stream\":\"stderr\",\"record_id\":\"f00d-40\"},\"message\":\"two\\n2 \u{fffd}\"}".to_owned(),
        "]},".to_owned(),
        common("side"),
        r#"{"timestamp":1795428907123,"attributes":{"stream":"stdout","record_id":"f00d-0"},"message":""}"#.to_owned(),
        "]}]".to_owned(),
    ]
    .concat();
    assert_eq!(text(&Format::NewRelic, Parse::Text, &three()), expected);
}

#[test]
fn new_relic_gets_members_as_attributes_and_the_line_as_message() {
    let made = text(&Format::NewRelic, Parse::Json, &one_object());
    let made: Value = serde_json::from_str(&made).unwrap();
    let log = &made[0]["logs"][0];
    assert_eq!(log["message"], str::from_utf8(JSON_LINE).unwrap());
    let expected = json!({
        "stream": "stdout", "record_id": "f00d-9", "level": "warn", "n": -1, "http.code": 200,
        "http.deep": r#"{"a":[]}"#, "tags": r#"["x"]"#, "ok": "true",
    });
    assert_eq!(log["attributes"], expected);
}

#[test]
fn new_relic_gets_no_more_attributes_than_it_takes() {
    let members: Map<String, Value> = (0..400)
        .map(|number| (format!("member {number:03}"), "v".repeat(5000).into()))
        .chain([("x".repeat(300), 1.into()), ("accountId".into(), 1.into())])
        .collect();
    let line = Value::Object(members).to_string();
    let records = [("main", record(Stream::Stdout, 9, line.as_bytes()))];
    let made = text(&Format::NewRelic, Parse::Json, &records);
    let made: Value = serde_json::from_str(&made).unwrap();
    let common = made[0]["common"]["attributes"].as_object().unwrap();
    let attributes = made[0]["logs"][0]["attributes"].as_object().unwrap();
    assert_eq!(
        common.len() + attributes.len() + 2,
        252,
        "with time and message, and room for those of audit events"
    );
    assert_eq!(attributes["member_000"].as_str().unwrap().len(), 4094);
    assert!(!attributes.contains_key("accountId"));

    let long = BTreeMap::from([("l".repeat(300), "value".to_owned())]);
    let group = new_relic::group(&origin(&long, "main"));
    let group = format!("{}]}}", String::from_utf8(group).unwrap());
    let group: Value = serde_json::from_str(&group).unwrap();
    let attributes = group["common"]["attributes"].as_object().unwrap();
    assert!(attributes.keys().any(|name| name.len() == 255));
}

#[test]
fn new_relic_gets_no_longer_message_than_it_keeps() {
    let longest = |content: &[u8]| {
        let limits = Limits {
            content: new_relic::MAX_MESSAGE,
            ..Limits::NONE
        };
        let records = [("main", record(Stream::Stdout, 9, content))];
        let made = body(&Format::NewRelic, Parse::Text, limits, &records);
        let made: Value = serde_json::from_slice(&made.bytes).unwrap();
        let message = made[0]["logs"][0]["message"].as_str().unwrap();
        (message.len(), message.ends_with(CUT))
    };
    let most = 4094 + 128_000;
    assert_eq!(longest(&vec![b'x'; 200_000]), (most, true));
    let (length, cut) = longest(&vec![0xff; 100_000]);
    assert!((most - 3..=most).contains(&length) && cut, "{length}");
    assert_eq!(longest(&vec![0xff; 40_000]), (120_000, false));
}

#[test]
fn otlp_in_json_is_a_resource_for_each_file() {
    let resource = |container: &str| {
        format!(
            r#"{{"resource":{{"attributes":[{{"key":"k8s.namespace.name","value":{{"stringValue":"compute"}}}},{{"key":"k8s.pod.name","value":{{"stringValue":"web-1"}}}},{{"key":"k8s.pod.uid","value":{{"stringValue":"0a1b"}}}},{{"key":"k8s.container.name","value":{{"stringValue":"{container}"}}}},{{"key":"k8s.node.name","value":{{"stringValue":"node-1"}}}},{{"key":"service.name","value":{{"stringValue":"{container}"}}}},{{"key":"katonic.execution_id","value":{{"stringValue":"run-7"}}}},{{"key":"k8s.container.restart_count","value":{{"intValue":"2"}}}},{{"key":"k8s.pod.label.app","value":{{"stringValue":"web"}}}},{{"key":"k8s.pod.label.empty","value":{{"stringValue":""}}}}]}},"scopeLogs":[{{"scope":{{"name":"katonic-log-agent"}},"logRecords":["#
        )
    };
    let log = |stream: &str, offset: u64, body: &str| {
        format!(
            r#"{{"timeUnixNano":"1795428907123456789","observedTimeUnixNano":"1795428999000000001","attributes":[{{"key":"log.iostream","value":{{"stringValue":"{stream}"}}}},{{"key":"log.record.uid","value":{{"stringValue":"f00d-{offset}"}}}}],"body":{body}}}"#
        )
    };
    let expected = [
        r#"{"resourceLogs":["#.to_owned(),
        resource("main"),
        log("stdout", 0, r#"{"stringValue":"one \"1\""}"#),
        ",".to_owned(),
        log("stderr", 40, "{\"stringValue\":\"two\\n2 \u{fffd}\"}"),
        "]}]},".to_owned(),
        resource("side"),
        log("stdout", 0, r#"{"stringValue":""}"#),
        "]}]}]}".to_owned(),
    ]
    .concat();
    assert_eq!(text(&OTLP_JSON, Parse::Text, &three()), expected);
}

#[test]
fn otlp_in_json_has_every_type_of_value() {
    let line = br#"{"a":[1,-2.5,18446744073709551615,"t",true,null,{}]}"#;
    let made = text(
        &OTLP_JSON,
        Parse::Json,
        &[("main", record(Stream::Stdout, 0, line))],
    );
    let made: Value = serde_json::from_str(&made).unwrap();
    let body = &made["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["body"];
    let expected = json!({"kvlistValue": {"values": [{"key": "a", "value": {"arrayValue": {"values": [
        {"intValue": "1"}, {"doubleValue": -2.5}, {"stringValue": "18446744073709551615"}, {"stringValue": "t"},
        {"boolValue": true}, {}, {"kvlistValue": {"values": []}},
    ]}}}]}});
    assert_eq!(*body, expected);
}

#[test]
fn a_service_is_named_by_its_labels() {
    let named = |labels: &[(&str, &str)]| {
        let labels = labels
            .iter()
            .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
            .collect();
        let made = otlp::json::group(&origin(&labels, "main"));
        let made = String::from_utf8(made).unwrap();
        let (_, rest) = made
            .split_once(r#""service.name","value":{"stringValue":""#)
            .unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let (name, instance) = ("app.kubernetes.io/name", "app.kubernetes.io/instance");
    assert_eq!(named(&[(name, "keycloak"), (instance, "sso")]), "sso");
    assert_eq!(named(&[(name, "keycloak")]), "keycloak");
    assert_eq!(named(&[]), "main");
}

fn string(text: &str) -> AnyValue {
    AnyValue {
        value: Some(Is::String(text.to_owned())),
    }
}

fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(value),
    }
}

fn log(stream: &str, id: &str, body: &str) -> LogRecord {
    LogRecord {
        time_unix_nano: 1_795_428_907_123_456_789,
        observed_time_unix_nano: 1_795_428_999_000_000_001,
        body: Some(string(body)),
        attributes: vec![
            pair("log.iostream", string(stream)),
            pair("log.record.uid", string(id)),
        ],
    }
}

#[test]
fn otlp_in_protobuf_says_the_same() {
    let body = body(&OTLP_PROTOBUF, Parse::Text, Limits::NONE, &three());
    let request = ExportLogsServiceRequest::decode(body.bytes.clone()).unwrap();
    assert_eq!(request.encoded_len(), body.bytes.len(), "and nothing more");
    let [main, side] = &request.resource_logs[..] else {
        panic!("{request:?}");
    };
    let restarts = AnyValue {
        value: Some(Is::Int(2)),
    };
    let expected = [
        pair("k8s.namespace.name", string("compute")),
        pair("k8s.pod.name", string("web-1")),
        pair("k8s.pod.uid", string("0a1b")),
        pair("k8s.container.name", string("main")),
        pair("k8s.node.name", string("node-1")),
        pair("service.name", string("main")),
        pair("katonic.execution_id", string("run-7")),
        pair("k8s.container.restart_count", restarts),
        pair("k8s.pod.label.app", string("web")),
        pair("k8s.pod.label.empty", string("")),
    ];
    assert_eq!(main.resource.as_ref().unwrap().attributes, expected);
    let [scope] = &main.scope_logs[..] else {
        panic!("{main:?}");
    };
    assert_eq!(scope.scope.as_ref().unwrap().name, "katonic-log-agent");
    let expected = [
        log("stdout", "f00d-0", "one \"1\""),
        log("stderr", "f00d-40", "two\n2 \u{fffd}"),
    ];
    assert_eq!(scope.log_records, expected);
    let expected = [log("stdout", "f00d-0", "")];
    assert_eq!(side.scope_logs[0].log_records, expected);
}

#[test]
fn otlp_in_protobuf_is_these_bytes() {
    let labels = BTreeMap::new();
    let origin = Origin {
        namespace: "n",
        pod: "",
        pod_uid: "",
        node: "",
        execution_id: None,
        restart: 300,
        ..origin(&labels, "c")
    };
    let heads = Heads::new(&OTLP_PROTOBUF, Parse::Text, &origin);
    let record = record(Stream::Stdout, 7, b"hi");
    let mut packer = Packer::default();
    packer.begin(OTLP_PROTOBUF.frame(), Compression::None, Limits::NONE);
    let taken = packer.add(&heads.group, 2, |longest, out| {
        heads.write(&record, longest, NOW, out);
    });
    assert_eq!(taken, Taken::Yes);
    let bytes = packer.finish().unwrap().bytes;
    let hex = katonic_log_config::bundle::hex(&bytes);
    // Made from the field numbers of `opentelemetry/proto/logs/v1/logs.proto`, by no code of this crate.
    let expected: String = include_str!("tests/otlp.hex").split_whitespace().collect();
    assert_eq!(hex, expected);
}

#[test]
fn otlp_in_protobuf_has_every_type_of_value() {
    let line = br#"{"a":[1,-2.5,18446744073709551615,"t",true,null,{}],"b":-9}"#;
    let made = body(
        &OTLP_PROTOBUF,
        Parse::Json,
        Limits::NONE,
        &[("main", record(Stream::Stdout, 0, line))],
    );
    let request = ExportLogsServiceRequest::decode(made.bytes).unwrap();
    let body = request.resource_logs[0].scope_logs[0].log_records[0]
        .body
        .as_ref();
    assert_eq!(
        plain(body.unwrap()),
        serde_json::from_str::<Value>(
            r#"{"a":[1,-2.5,"18446744073709551615","t",true,null,{}],"b":-9}"#
        )
        .unwrap()
    );
}

/// An `AnyValue` as JSON means it.
fn plain(value: &AnyValue) -> Value {
    match &value.value {
        None => Value::Null,
        Some(Is::String(text)) => text.as_str().into(),
        Some(Is::Bool(value)) => (*value).into(),
        Some(Is::Int(value)) => (*value).into(),
        Some(Is::Double(value)) => (*value).into(),
        Some(Is::Array(array)) => array.values.iter().map(plain).collect(),
        Some(Is::Kvlist(list)) => {
            let members = list.values.iter().map(|pair| {
                let value = pair.value.as_ref().map_or(Value::Null, plain);
                (pair.key.clone(), value)
            });
            Value::Object(members.collect())
        }
    }
}

#[test]
fn an_object_stays_on_one_line_and_what_is_none_is_text() {
    let pretty = b"{\n  \"a\": \"b\\n\",\r\n\t\"c\": 1\n}";
    for format in [splunk(), LINES, LOGGLY] {
        let made = text(
            &format,
            Parse::Json,
            &[("main", record(Stream::Stdout, 0, pretty))],
        );
        assert!(!made.trim_end().contains(['\n', '\r']), "{made}");
        let made: Value = serde_json::from_str(&made).unwrap();
        let object = if format == splunk() {
            &made["event"]
        } else {
            &made["fields"]
        };
        assert_eq!(*object, json!({"a": "b\n", "c": 1}));
        let made = text(
            &format,
            Parse::Json,
            &[("main", record(Stream::Stdout, 0, b"{\"a\":1} trailing"))],
        );
        assert!(made.contains(r#""{\"a\":1} trailing""#), "{made}");
    }
}

/// The id and the text of each record of a body.
fn said(format: &Format, body: &[u8]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of_object = |object: &Value| (text(&object["record_id"]), text(&object["message"]));
    match format {
        Format::Splunk(_) => serde_json::Deserializer::from_slice(body)
            .into_iter::<Value>()
            .map(|event| {
                let event = event.unwrap();
                let line = event["event"]
                    .as_str()
                    .or_else(|| event["event"]["message"].as_str());
                (
                    text(&event["fields"]["record_id"]),
                    line.unwrap().to_owned(),
                )
            })
            .collect(),
        Format::Object(object::Dialect::Any(JsonFormat::Array)) => {
            let objects: Vec<Value> = serde_json::from_slice(body).unwrap();
            objects.iter().map(of_object).collect()
        }
        Format::Object(_) => {
            let body = str::from_utf8(body).unwrap();
            let lines = body.strip_suffix('\n').unwrap().split('\n');
            lines
                .map(|line| of_object(&serde_json::from_str(line).unwrap()))
                .collect()
        }
        Format::NewRelic => {
            let blocks: Vec<Value> = serde_json::from_slice(body).unwrap();
            let logs = blocks
                .iter()
                .flat_map(|block| block["logs"].as_array().unwrap());
            logs.map(|log| (text(&log["attributes"]["record_id"]), text(&log["message"])))
                .collect()
        }
        Format::Otlp(OtlpEncoding::Json) => {
            let request: Value = serde_json::from_slice(body).unwrap();
            let resources = request["resourceLogs"].as_array().unwrap();
            let records = resources
                .iter()
                .flat_map(|logs| logs["scopeLogs"][0]["logRecords"].as_array().unwrap());
            records
                .map(|record| {
                    let id = &record["attributes"][1]["value"]["stringValue"];
                    (text(id), text(&record["body"]["stringValue"]))
                })
                .collect()
        }
        Format::Otlp(OtlpEncoding::Protobuf) => {
            let request = ExportLogsServiceRequest::decode(body).unwrap();
            let records = request
                .resource_logs
                .into_iter()
                .flat_map(|logs| logs.scope_logs)
                .flat_map(|logs| logs.log_records);
            let string = |value: Option<AnyValue>| text(&plain(&value.unwrap()));
            records
                .map(|mut record| {
                    let id = record.attributes.remove(1).value;
                    (string(id), string(record.body))
                })
                .collect()
        }
        Format::Syslog(_) | Format::Mixpanel => Vec::new(),
    }
}

fn formats() -> [Format; 7] {
    [
        splunk(),
        LINES,
        ARRAY,
        LOGGLY,
        Format::NewRelic,
        OTLP_JSON,
        OTLP_PROTOBUF,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_read_back_from_every_format(
        records in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40_000)), 1..8),
        parse in proptest::sample::select(&[Parse::Text, Parse::Json][..]),
    ) {
        let records: Vec<(&str, Record<'_>)> = (0..)
            .zip(&records)
            .map(|(offset, (main, content))| {
                (if *main { "main" } else { "side" }, record(Stream::Stdout, offset, content))
            })
            .collect();
        let expected: Vec<(String, String)> = records
            .iter()
            .map(|(_, record)| {
                let text = String::from_utf8_lossy(record.content).into_owned();
                (format!("f00d-{}", record.offset), text)
            })
            .collect();
        for format in formats() {
            let body = body(&format, parse, Limits::NONE, &records);
            prop_assert_eq!(&said(&format, &body.bytes), &expected);
        }
    }

    #[test]
    fn any_text_that_is_too_long_is_cut_to_what_fits(
        content in proptest::collection::vec(any::<u8>(), 2000..6000),
        single in 1500_usize..3000,
    ) {
        let records = [("main", record(Stream::Stdout, 0, &content))];
        for format in formats() {
            let limits = Limits { single, ..Limits::NONE };
            let body = body(&format, Parse::Text, limits, &records);
            prop_assert!(body.size <= single, "{} {format:?}", body.size);
            let said = said(&format, &body.bytes);
            let text = said[0].1.strip_suffix(CUT).unwrap();
            let text = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
            prop_assert!(String::from_utf8_lossy(&content).starts_with(text));
        }
    }
}

#[test]
fn a_compressed_body_holds_the_same() {
    let labels = labels();
    let heads = Heads::new(&OTLP_PROTOBUF, Parse::Text, &origin(&labels, "main"));
    let mut packer = Packer::default();
    packer.begin(OTLP_PROTOBUF.frame(), Compression::Gzip, Limits::NONE);
    for offset in 0..2000 {
        let record = record(Stream::Stdout, offset, b"a line of some length");
        let taken = packer.add(&heads.group, 21, |longest, out| {
            heads.write(&record, longest, NOW, out);
        });
        assert_eq!(taken, Taken::Yes);
    }
    let body = packer.finish().unwrap();
    let mut plain = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(&body.bytes[..]);
    decoder.read_to_end(&mut plain).unwrap();
    assert_eq!(plain.len(), body.size);
    let said = said(&OTLP_PROTOBUF, &plain);
    assert_eq!((said.len(), said[1999].0.as_str()), (2000, "f00d-1999"));
}

/// The place of a record that is the fourth.
fn audited(verdict: Verdict) -> Audited {
    let link = Link::read(4, &"0123456789abcdef".repeat(4)).unwrap();
    Audited { verdict, link }
}

const EVENT: &[u8] = br#"{"audit":1,"event":"ModelCreated","time":"2026-11-30T09:12:44Z","id":"e-1","actor":"ada \"A\" [x]","target":"churn","project":"forecast"}"#;

#[test]
fn an_audit_event_says_by_syslog_who_did_what() {
    let event = Record {
        audit: Some(audited(Verdict::Event)),
        ..record(Stream::Stdout, 0, EVENT)
    };
    let text = text(&syslog(), Parse::Text, &[("tracker", event)]);
    let message = text.split_once(' ').unwrap().1;
    let expected = concat!(
        r#"<133>1 2026-11-23T10:15:07.123456Z web-1 tracker 2 ModelCreated "#,
        r#"[audit@32473 event="ModelCreated" id="e-1" actor="ada \"A\" [x\]" target="churn" project="forecast" sequence="4" "#,
        r#"chain="0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]"#,
        r#"[k8s@32473 namespace="compute""#
    );
    assert!(message.starts_with(expected), "{message}");
    assert!(message.ends_with(std::str::from_utf8(EVENT).unwrap()));
    let length: usize = text.split_once(' ').unwrap().0.parse().unwrap();
    assert_eq!(length, message.len());
}

#[test]
fn what_is_meant_as_an_audit_event_is_marked_wherever_it_goes() {
    let faulty = Record {
        audit: Some(audited(Verdict::Faulty(Fault::Missing(Member::Actor)))),
        ..record(Stream::Stdout, 3, br#"{"audit":1,"event":"ModelCreated"}"#)
    };
    for (format, mark) in [
        (
            splunk(),
            r#""chain":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","audit_fault":"missing actor"}"#,
        ),
        (
            LINES,
            r#""chain":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","audit_fault":"missing actor","#,
        ),
        (
            ARRAY,
            r#""chain":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","audit_fault":"missing actor","#,
        ),
        (
            LOGGLY,
            r#""chain":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","audit_fault":"missing actor","#,
        ),
        (
            Format::NewRelic,
            r#""chain":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","audit_fault":"missing actor","#,
        ),
        (
            OTLP_JSON,
            r#"{"key":"sequence","value":{"intValue":"4"}},{"key":"chain","value":{"stringValue":"0123456789"#,
        ),
        (
            syslog(),
            r#" stdout [audit@32473 audit_fault="missing actor" sequence="4" chain="0123456789"#,
        ),
    ] {
        let text = text(&format, Parse::Json, &[("tracker", faulty)]);
        assert!(text.contains(mark), "{text}");
        if !matches!(
            format,
            Format::Syslog(_) | Format::Object(_) | Format::Splunk(_)
        ) {
            serde_json::from_str::<Value>(&text).unwrap();
        }
    }
    let body = body(
        &OTLP_PROTOBUF,
        Parse::Json,
        Limits::NONE,
        &[("tracker", faulty)],
    );
    let request = ExportLogsServiceRequest::decode(&body.bytes[..]).unwrap();
    let record = &request.resource_logs[0].scope_logs[0].log_records[0];
    let marked = record
        .attributes
        .iter()
        .find(|one| one.key == "audit_fault");
    assert_eq!(
        marked
            .and_then(|one| one.value.clone())
            .and_then(|one| one.value),
        Some(Is::String("missing actor".to_owned()))
    );
}

#[test]
fn mixpanel_is_told_when_and_by_whom_and_what_it_would_refuse_goes_as_text() {
    let read = |content: &[u8]| -> Value {
        let record = Record {
            audit: Some(audited(Verdict::Event)),
            ..record(Stream::Stdout, 7, content)
        };
        serde_json::from_str(&text(
            &Format::Mixpanel,
            Parse::Json,
            &[("tracker", record)],
        ))
        .unwrap()
    };
    let events = read(EVENT);
    let event = &events[0];
    assert_eq!(event["event"], "ModelCreated");
    let properties = &event["properties"];
    // The event's time, and not that of the line.
    assert_eq!(properties["time"], 1_796_029_964_000_u64);
    assert_eq!(properties["distinct_id"], r#"ada "A" [x]"#);
    assert_eq!(
        (&properties["ip"], &properties["event_id"]),
        (&json!(0), &json!("e-1"))
    );
    assert_eq!(
        (&properties["pod"], &properties["record_id"]),
        (&json!("web-1"), &json!("f00d-7"))
    );
    let insert_id = properties["$insert_id"].as_str().unwrap();
    assert!(insert_id.len() == 36 && insert_id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let changed = |from: &str, to: &str| {
        let event = std::str::from_utf8(EVENT).unwrap().replace(from, to);
        read(event.as_bytes())[0]["properties"].clone()
    };
    let nobody = changed(r#"ada \"A\" [x]"#, "Anonymous");
    assert_eq!(
        (&nobody["distinct_id"], &nobody["actor"]),
        (&json!(""), &json!("Anonymous"))
    );
    let shallow = changed("}", r#","details":{"from":["a"],"to":{"b":1}}}"#);
    assert_eq!(shallow["details"], json!({"from": ["a"], "to": {"b": 1}}));
    let deep = changed("}", r#","details":{"a":{"b":{"c":1}}}}"#);
    assert_eq!(deep["details"], r#"{"a":{"b":{"c":1}}}"#);

    let faulty = Record {
        audit: Some(audited(Verdict::Faulty(Fault::Missing(Member::Actor)))),
        ..record(Stream::Stdout, 3, br#"{"audit":1,"event":"ModelCreated"}"#)
    };
    let told: Value = serde_json::from_str(&text(
        &Format::Mixpanel,
        Parse::Json,
        &[("tracker", faulty)],
    ))
    .unwrap();
    assert_eq!(told[0]["event"], "AuditEventFaulty");
    assert_eq!(told[0]["properties"]["audit_fault"], "missing actor");
    assert_eq!(
        told[0]["properties"]["line"],
        r#"{"audit":1,"event":"ModelCreated"}"#
    );
}

#[test]
fn what_a_user_has_chosen_forges_no_message_of_syslog_and_leaves_room_for_the_text() {
    let event = |actor: &str| {
        json!({
            "audit": 1, "event": "ModelCreated", "time": "2026-11-30T09:12:44Z", "id": "e-1", "actor": actor,
            "target": "t".repeat(255), "project": "p".repeat(255),
        })
        .to_string()
    };
    let messages = |longest: u32, content: &str| {
        let mut format = syslog();
        if let Format::Syslog(form) = &mut format {
            *form = syslog_form(longest);
        }
        let event = Record {
            audit: Some(audited(Verdict::Event)),
            ..record(Stream::Stdout, 0, content.as_bytes())
        };
        text(&format, Parse::Json, &[("tracker", event)])
    };
    let forged = messages(
        8192,
        &event("eve\n<133>1 - web-1 tracker 2 ModelArchived -\u{0}"),
    );
    let header = forged.split(r#" actor=""#).nth(1).unwrap();
    assert!(
        header.starts_with("eve\u{fffd}<133>1 - web-1 tracker 2 ModelArchived -\u{fffd}\""),
        "{forged}"
    );
    let long = messages(1024, &event(&"a".repeat(255)));
    let parts = long.matches("[audit@32473 ").count();
    assert!(parts <= 3, "{parts} parts: {long}");
}
