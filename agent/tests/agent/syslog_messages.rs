//! What the encoder of syslog messages writes, read by a parser that forgives nothing.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot make its fixtures has failed"
)]

use std::collections::BTreeMap;

use katonic_log_agent::{
    assemble::{FileNumber, Record},
    cri::Stream,
    encode::{
        Origin,
        syslog::{Form, Head},
    },
    timestamp::Timestamp,
};
use katonic_log_config::{AppName, Facility, HostName, Syslog, SyslogTransport};
use proptest::prelude::*;

use crate::rfc5424::{Message, frames, parse};

fn form(longest: u32, app_name: Option<&str>) -> Form {
    Form::from(&Syslog {
        host: HostName::try_from("siem.example".to_owned()).unwrap(),
        port: 514.try_into().unwrap(),
        transport: SyslogTransport::Tcp,
        facility: Facility::Local0,
        app_name: app_name.map(|name| AppName::try_from(name.to_owned()).unwrap()),
        enterprise_id: 32473.try_into().unwrap(),
        max_message_bytes: longest.try_into().unwrap(),
    })
}

const LABELS: &BTreeMap<String, String> = &BTreeMap::new();

fn origin() -> Origin<'static> {
    Origin {
        namespace: "plane",
        pod: "web-1",
        pod_uid: "uid-1",
        node: "node-1",
        labels: LABELS,
        execution_id: None,
        container: "web",
        restart: 2,
        file_id: "0123abcd",
    }
}

fn record(content: &[u8]) -> Record<'_> {
    Record {
        time: Timestamp {
            seconds: 1_795_428_907,
            nanos: 123_456_789,
        },
        stream: Stream::Stdout,
        file: FileNumber::default(),
        offset: 4711,
        content,
        continues: false,
        continued: false,
        audit: None,
    }
}

fn written(head: &Head, record: &Record<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    head.write(record, &mut out);
    out
}

fn parsed(written: &[u8]) -> Vec<Message> {
    let (frames, rest) = frames(written).unwrap();
    assert_eq!(rest, b"");
    frames
        .into_iter()
        .map(|frame| parse(frame).unwrap())
        .collect()
}

#[test]
fn a_message_is_byte_for_byte_what_rfc_5424_asks_for() {
    let head = Head::new(&form(2048, None), &origin(), Stream::Stdout);
    let expected = "<134>1 2026-11-23T10:15:07.123456Z web-1 web 2 stdout [k8s@32473 namespace=\"plane\" pod=\"web-1\" \
        pod_uid=\"uid-1\" container=\"web\" stream=\"stdout\" node=\"node-1\" record_id=\"0123abcd-4711\"] größe\t5\n6";
    let expected = format!("{} {expected}", expected.len());
    let written = written(&head, &record("größe\t5\n6".as_bytes()));
    assert_eq!(String::from_utf8(written).unwrap(), expected);
    let head = Head::new(&form(2048, Some("audit")), &origin(), Stream::Stderr);
    let mut out = Vec::new();
    head.write(&record(b""), &mut out);
    let message = &parsed(&out)[0];
    assert_eq!(message.priority, 16 * 8 + 3);
    assert_eq!(message.app_name.as_deref(), Some("audit"));
    assert_eq!(
        (message.id.as_deref(), message.text.as_str()),
        (Some("stderr"), "")
    );
}

/// Other agents quote parameters as their language does; only three characters are escaped here, each by one backslash.
#[test]
fn exactly_three_characters_are_escaped_and_the_order_is_always_the_same() {
    let mut origin = origin();
    origin.execution_id = Some("a\"b\\c]d\n\u{7f}ä");
    let head = Head::new(&form(2048, None), &origin, Stream::Stdout);
    let out = written(&head, &record(b"x"));
    let raw = String::from_utf8(out.clone()).unwrap();
    assert!(
        raw.contains("execution_id=\"a\\\"b\\\\c\\]d\n\u{7f}ä\""),
        "{raw}"
    );
    let message = &parsed(&out)[0];
    assert_eq!(message.parameter("execution_id"), origin.execution_id);
    let names: Vec<&str> = message.data[0]
        .1
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let expected = [
        "namespace",
        "pod",
        "pod_uid",
        "container",
        "stream",
        "node",
        "execution_id",
        "record_id",
    ];
    assert_eq!(names, expected);
}

/// A blank in APP-NAME would shift every field behind it.
#[test]
fn fields_of_the_header_are_cleaned_cut_and_never_empty() {
    let mut origin = origin();
    let long = "ü ".repeat(200);
    (origin.pod, origin.container) = (&long, "a b\n");
    let message = &parsed(&written(
        &Head::new(&form(8192, None), &origin, Stream::Stdout),
        &record(b"x"),
    ))[0];
    assert_eq!(message.host_name.as_deref(), Some("_".repeat(255).as_str()));
    assert_eq!(message.app_name.as_deref(), Some("a_b_"));
    (origin.pod, origin.container) = ("", "");
    let message = &parsed(&written(
        &Head::new(&form(8192, None), &origin, Stream::Stdout),
        &record(b"x"),
    ))[0];
    assert_eq!((&message.host_name, &message.app_name), (&None, &None));
}

#[test]
fn no_time_is_no_time_and_not_1970() {
    let head = Head::new(&form(2048, None), &origin(), Stream::Stdout);
    let mut record = record(b"x");
    for seconds in [0, 253_402_300_800, -62_167_219_201] {
        record.time = Timestamp { seconds, nanos: 0 };
        assert_eq!(parsed(&written(&head, &record))[0].time, None, "{seconds}");
    }
    record.time = Timestamp {
        seconds: 0,
        nanos: 1000,
    };
    let message = &parsed(&written(&head, &record))[0];
    assert_eq!(message.time.as_deref(), Some("1970-01-01T00:00:00.000001Z"));
}

/// Nothing behind the text is part of a message: no newline, which would be counted and sent in datagrams too.
#[test]
fn nothing_stands_behind_the_text() {
    let head = Head::new(&form(2048, None), &origin(), Stream::Stdout);
    assert!(written(&head, &record(b"text")).ends_with(b" text"));
}

#[test]
fn a_long_line_goes_on_in_the_next_message_and_nothing_is_lost() {
    let head = Head::new(&form(480, None), &origin(), Stream::Stdout);
    let content = "€".repeat(1000);
    let mut long = record(content.as_bytes());
    long.continues = true;
    let out = written(&head, &long);
    let (frames, _) = frames(&out).unwrap();
    assert!(frames.iter().all(|frame| frame.len() <= 480));
    let messages = parsed(&out);
    let count = messages.len().to_string();
    for (number, message) in (1..).zip(&messages) {
        assert_eq!(message.parameter("record_id"), Some("0123abcd-4711"));
        assert_eq!(message.parameter("part"), Some(number.to_string().as_str()));
        assert_eq!(message.parameter("parts"), Some(count.as_str()));
    }
    let text: String = messages
        .iter()
        .map(|message| message.text.as_str())
        .collect();
    assert_eq!(
        text,
        format!("{content} [katonic-log-agent: line continues]")
    );
}

#[test]
fn where_a_message_is_short_the_fields_that_say_least_are_left_out() {
    let mut origin = origin();
    let long = "x".repeat(200);
    origin.node = &long;
    let message = &parsed(&written(
        &Head::new(&form(480, None), &origin, Stream::Stdout),
        &record(b"x"),
    ))[0];
    assert_eq!(message.parameter("node"), None);
    assert_eq!(message.parameter("pod_uid"), Some("uid-1"));
    origin.pod = &long;
    let head = Head::new(&form(480, None), &origin, Stream::Stdout);
    let message = &parsed(&written(&head, &record(b"x")))[0];
    assert_eq!(message.parameter("pod"), None);
    assert_eq!(message.host_name.as_deref(), Some(long.as_str()));
    assert_eq!(message.parameter("record_id"), Some("0123abcd-4711"));
}

proptest! {
    /// Whatever is in a line and in the names around it, a strict reader gets the same out.
    #[test]
    fn any_bytes_are_read_back(
        content in proptest::collection::vec(any::<u8>(), 0..3000),
        names in proptest::collection::vec("\\PC{0,70}", 5),
        execution in proptest::option::of("(?s).{0,70}"),
        longest in 480_u32..4000,
        stderr: bool, continues: bool, seconds in -70_000_000_000_i64..260_000_000_000, offset: u64,
    ) {
        let origin = Origin {
            namespace: &names[0],
            pod: &names[1],
            pod_uid: &names[2],
            node: &names[3],
            execution_id: execution.as_deref(),
            container: &names[4],
            ..origin()
        };
        let stream = Stream::ALL[usize::from(stderr)];
        let head = Head::new(&form(longest, None), &origin, stream);
        let time = Timestamp { seconds, nanos: 999_999_999 };
        let record = Record { time, stream, file: FileNumber::default(), offset, content: &content, continues, continued: false, audit: None };
        let out = written(&head, &record);
        let messages = parsed(&out);
        let marker = if continues { " [katonic-log-agent: line continues]" } else { "" };
        let text: String = messages.iter().map(|message| message.text.as_str()).collect();
        prop_assert_eq!(text, format!("{}{marker}", String::from_utf8_lossy(&content)));
        for message in &messages {
            prop_assert_eq!(message.priority, if stderr { 131 } else { 134 });
            let id = format!("0123abcd-{offset}");
            prop_assert_eq!(message.parameter("record_id"), Some(id.as_str()));
            for (name, value) in [("namespace", &names[0]), ("pod_uid", &names[2]), ("node", &names[3])] {
                let value = Some(value.as_str()).filter(|value| !value.is_empty());
                let found = message.parameter(name);
                prop_assert!(found == value || (found.is_none() && longest < 1500), "{name}");
            }
        }
        prop_assert_eq!(messages.len() > 1, messages[0].parameter("parts").is_some());
    }

    #[test]
    fn garbage_never_panics_the_parser(garbage in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = frames(&garbage);
        let _ = parse(&garbage);
    }
}
