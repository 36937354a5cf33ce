//! What is written for sinks, read back by readers that forgive nothing.

use std::{
    collections::BTreeMap,
    num::{NonZeroU16, NonZeroU32},
};

use katonic_log_agent::{
    assemble::{FileNumber, Record, Taken},
    batch::{Limits, Packer},
    cri::Stream,
    encode::{Format, Heads, Origin, object::Dialect, splunk::Event, syslog::Form},
    timestamp::Timestamp,
};
use katonic_log_config::{
    AppName, Compression, Facility, HostName, JsonFormat, OtlpEncoding, Parse, Syslog,
    SyslogTransport,
};
use prost::Message;
use serde_json::{Deserializer, Map, Number, Value};

use crate::{
    input::Input,
    logs_proto::{AnyValue, ExportLogsServiceRequest, KeyValue, any_value::Value as Is},
    rfc5424,
    strict::Object,
};

const FILE: &str = "f00d";

/// Years 0 to 9999, and a day more on each side, which a time zone can make of them.
const TIMES: std::ops::RangeInclusive<i64> = -62_167_305_600..=253_402_387_199;

const MARKERS: [&str; 2] = [
    " [katonic-log-agent: line continues]",
    " [katonic-log-agent: line cut]",
];

/// What is encoded: records of one log file, and everything that goes with them.
struct Case<'a> {
    parse: Parse,
    names: [String; 4],
    labels: BTreeMap<String, String>,
    records: Vec<Record<'a>>,
}

impl<'a> Case<'a> {
    fn new(mut input: Input<'a>) -> Self {
        let flags = input.byte();
        let names = [input.text(), input.text(), input.text(), input.text()]
            .map(|name| as_long_as_names_are(&name));
        let labels = BTreeMap::from([
            (input.text(), input.text()),
            ("app.kubernetes.io/name".to_owned(), "web".to_owned()),
        ]);
        let (offset, seconds, length) = (input.number(), input.number(), input.byte());
        let range = TIMES.end().abs_diff(*TIMES.start());
        let time = Timestamp {
            seconds: TIMES.start().saturating_add_unsigned(seconds % range),
            nanos: u32::try_from(seconds % 1_000_000_000).unwrap(),
        };
        let content = input.rest();
        let (first, second) = content.split_at(content.len().min(length.into()));
        let record = |offset, stream, content, continues| Record {
            time,
            stream,
            file: FileNumber(1),
            offset,
            content,
            continues,
            continued: false,
            audit: None,
        };
        Self {
            parse: if flags & 1 == 0 {
                Parse::Text
            } else {
                Parse::Json
            },
            names,
            labels,
            records: vec![
                record(offset, Stream::Stdout, first, flags & 2 != 0),
                record(offset ^ 1, Stream::Stderr, second, flags & 4 != 0),
            ],
        }
    }

    fn body(&self, format: &Format) -> Vec<u8> {
        let [pod, container, node, execution_id] = &self.names;
        let origin = Origin {
            namespace: "compute",
            pod,
            pod_uid: "0a1b",
            node,
            labels: &self.labels,
            execution_id: Some(execution_id),
            container,
            restart: 2,
            file_id: FILE,
        };
        let heads = Heads::new(format, self.parse, &origin);
        let mut packer = Packer::default();
        packer.begin(format.frame(), Compression::None, Limits::NONE);
        for record in &self.records {
            let taken = packer.add(&heads.group, record.content.len(), |longest, out| {
                heads.write(record, longest, record.time, out);
            });
            assert_eq!(taken, Taken::Yes);
        }
        let body = packer.finish().unwrap();
        assert_eq!((body.records, body.size), (2, body.bytes.len()));
        body.bytes.to_vec()
    }

    /// Checks what became of a record's content: its text, or what it means as JSON where that was asked for.
    fn check(&self, record: &Record<'_>, text: Option<&str>, value: Option<&Value>) {
        if let Some(text) = text {
            let marker = if record.continues { MARKERS[0] } else { "" };
            assert_eq!(text, said(record) + marker);
        }
        if let Some(value) = value {
            assert_eq!(self.parse, Parse::Json);
            let meant: Value = serde_json::from_slice(record.content).unwrap();
            assert!(meant.is_object());
            assert_eq!(&normal(meant), &normal(value.clone()));
        }
        assert!(text.is_some() || value.is_some());
    }
}

/// The API server has no longer name for a pod, a container or a node, and no longer label (RFC 1123 subdomain).
fn as_long_as_names_are(name: &str) -> String {
    name.chars().take(253).collect()
}

fn said(record: &Record<'_>) -> String {
    String::from_utf8_lossy(record.content).into_owned()
}

fn id(record: &Record<'_>) -> String {
    format!("{FILE}-{}", record.offset)
}

/// A value as every sink can say it: integers beyond 64 bits with a sign are text in OTLP, and a number is one of its
/// forms.
fn normal(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_i64() => number.into(),
        Value::Number(number) if number.is_u64() => number.to_string().into(),
        Value::Number(number) => Number::from_f64(number.as_f64().unwrap()).into(),
        Value::Array(values) => values.into_iter().map(normal).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, normal(value)))
            .collect::<Map<_, _>>()
            .into(),
        other => other,
    }
}

/// Splunk: JSON objects one after the other, flat fields, no blank event.
pub fn splunk(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let named = |text: String| (!text.is_empty()).then_some(text);
    let format = Format::Splunk(Event {
        index: named(input.text()),
        host: named(input.text()),
        source: named(input.text()),
        sourcetype: named(input.text()),
    });
    let case = Case::new(input);
    let body = case.body(&format);
    let events: Vec<Object> = Deserializer::from_slice(&body)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(events.len(), 2);
    for (event, record) in events.iter().zip(&case.records) {
        let fields: Object = event.get("fields");
        assert_eq!(fields.text("record_id"), id(record));
        assert_eq!(fields.text("stream"), record.stream.as_str());
        assert!(fields.flat().all(|(_, value)| value.is_string()));
        let time: f64 = event.get("time");
        #[expect(clippy::cast_precision_loss, reason = "a double is what is compared")]
        let seconds = record.time.seconds as f64;
        assert!((time - seconds).abs() <= 1.0, "{time} for {seconds}");
        match event.get("event") {
            Value::String(text) => {
                assert!(!text.trim_ascii().is_empty(), "code 13");
                case.check(record, Some(&text), None);
            }
            Value::Object(object) if said(record).trim_ascii().is_empty() => {
                assert_eq!(object["message"], said(record));
            }
            value => case.check(record, None, Some(&value)),
        }
    }
}

/// JSON for any server, and for Loggly: an object a line, or all in one array.
pub fn objects(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let dialect = [
        Dialect::Any(JsonFormat::Lines),
        Dialect::Any(JsonFormat::Array),
        Dialect::Loggly,
    ][usize::from(input.byte() % 3)];
    let case = Case::new(input);
    let body = case.body(&Format::Object(dialect));
    let objects: Vec<Object> = if dialect == Dialect::Any(JsonFormat::Array) {
        serde_json::from_slice(&body).unwrap()
    } else {
        let lines = body
            .strip_suffix(b"\n")
            .unwrap()
            .split(|byte| *byte == b'\n');
        lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    };
    assert_eq!(objects.len(), 2);
    for (object, record) in objects.iter().zip(&case.records) {
        assert_eq!(object.text("record_id"), id(record));
        assert_eq!(object.text("stream"), record.stream.as_str());
        let labels: BTreeMap<String, String> = object.get("labels");
        assert_eq!(labels, case.labels);
        assert_ne!(object.has("message"), object.has("fields"));
        if object.has("message") {
            case.check(record, Some(&object.text("message")), None);
        } else {
            case.check(record, None, Some(&object.get("fields")));
        }
    }
}

/// New Relic: blocks, attributes that it takes, the whole line as the message.
pub fn new_relic(bytes: &[u8]) {
    let case = Case::new(Input::new(bytes));
    let body = case.body(&Format::NewRelic);
    let blocks: Vec<Object> = serde_json::from_slice(&body).unwrap();
    let [block] = &blocks[..] else {
        panic!("one file, {} blocks", blocks.len());
    };
    let common: Object = block.get("common");
    let common: Object = common.get("attributes");
    let logs: Vec<Object> = block.get("logs");
    assert_eq!(logs.len(), 2);
    for (log, record) in logs.iter().zip(&case.records) {
        let attributes: Object = log.get("attributes");
        assert_eq!(attributes.text("record_id"), id(record));
        assert_eq!(attributes.text("stream"), record.stream.as_str());
        assert!(common.len() + attributes.len() + 2 <= 255);
        for (name, value) in common.flat().chain(attributes.flat()) {
            assert!(name.chars().count() <= 255, "{name:?}");
            assert!(!name.is_empty() || case.labels.contains_key(""), "{name:?}");
            let short = |text: &str| (1..=4094).contains(&text.chars().count());
            assert!(
                value.is_number() || value.as_str().is_some_and(short),
                "{name:?}: {value}"
            );
        }
        for (name, _) in attributes.flat() {
            assert!(!common.has(name), "{name:?} stands twice");
        }
        let message = log.text("message");
        if attributes.len() > 2 {
            assert_eq!(case.parse, Parse::Json);
            assert_eq!(message.trim_ascii(), said(record).trim_ascii());
        } else if case.parse == Parse::Json && !record.continues {
            assert_eq!(message.trim_ascii(), said(record).trim_ascii());
        } else {
            case.check(record, Some(&message), None);
        }
    }
}

/// OTLP: both encodings say the same.
pub fn otlp(bytes: &[u8]) {
    let case = Case::new(Input::new(bytes));
    let binary = case.body(&Format::Otlp(OtlpEncoding::Protobuf));
    let request = ExportLogsServiceRequest::decode(&binary[..]).unwrap();
    let [resource] = &request.resource_logs[..] else {
        panic!("one file, {} resources", request.resource_logs.len());
    };
    let [scope] = &resource.scope_logs[..] else {
        panic!("{} scopes", resource.scope_logs.len());
    };
    assert_eq!(scope.log_records.len(), 2);
    let json = case.body(&Format::Otlp(OtlpEncoding::Json));
    let json: Object = serde_json::from_slice(&json).unwrap();
    let [in_json]: [Object; 1] = json.get("resourceLogs");
    let of_resource = in_json.get::<Object>("resource").get("attributes");
    let [in_json]: [Object; 1] = in_json.get("scopeLogs");
    let in_json: Vec<Object> = in_json.get("logRecords");
    assert_eq!(in_json.len(), 2);
    let attributes = resource.resource.as_ref().map(|one| &one.attributes[..]);
    assert_eq!(
        pairs(attributes.unwrap_or_default()),
        json_pairs(&of_resource)
    );
    for ((log, in_json), record) in scope.log_records.iter().zip(&in_json).zip(&case.records) {
        let attributes = pairs(&log.attributes);
        assert_eq!(attributes, json_pairs(&in_json.get("attributes")));
        assert_eq!(attributes["log.record.uid"], id(record));
        assert_eq!(attributes["log.iostream"], record.stream.as_str());
        assert_eq!(log.time_unix_nano.to_string(), in_json.text("timeUnixNano"));
        let body = value(log.body.as_ref().unwrap());
        assert_eq!(body, json_value(&in_json.get("body")));
        match body {
            Value::String(text) => case.check(record, Some(&text), None),
            body => case.check(record, None, Some(&body)),
        }
    }
}

fn pairs(pairs: &[KeyValue]) -> Map<String, Value> {
    let members: Map<String, Value> = pairs
        .iter()
        .map(|pair| {
            (
                pair.key.clone(),
                pair.value.as_ref().map_or(Value::Null, value),
            )
        })
        .collect();
    assert_eq!(members.len(), pairs.len(), "no key stands twice");
    members
}

fn value(value: &AnyValue) -> Value {
    match &value.value {
        None => Value::Null,
        Some(Is::String(text)) => text.as_str().into(),
        Some(Is::Bool(value)) => (*value).into(),
        Some(Is::Int(value)) => (*value).into(),
        Some(Is::Double(value)) => (*value).into(),
        Some(Is::Array(array)) => array.values.iter().map(self::value).collect(),
        Some(Is::Kvlist(list)) => pairs(&list.values).into(),
    }
}

fn json_pairs(pairs: &Value) -> Map<String, Value> {
    let pairs = pairs.as_array().unwrap();
    let members: Map<String, Value> = pairs
        .iter()
        .map(|pair| {
            (
                pair["key"].as_str().unwrap().to_owned(),
                json_value(&pair["value"]),
            )
        })
        .collect();
    assert_eq!(members.len(), pairs.len(), "no key stands twice");
    members
}

fn json_value(value: &Value) -> Value {
    let fields = value.as_object().unwrap();
    assert!(fields.len() <= 1, "{value}");
    match fields
        .iter()
        .next()
        .map(|(name, value)| (name.as_str(), value))
    {
        None => Value::Null,
        Some(("stringValue", text)) => text.as_str().unwrap().into(),
        Some(("boolValue", value)) => value.as_bool().unwrap().into(),
        Some(("intValue", text)) => text.as_str().unwrap().parse::<i64>().unwrap().into(),
        Some(("doubleValue", value)) => value.as_f64().unwrap().into(),
        Some(("arrayValue", array)) => {
            let values = array["values"].as_array().unwrap();
            values.iter().map(json_value).collect()
        }
        Some(("kvlistValue", list)) => json_pairs(&list["values"]).into(),
        Some((other, _)) => panic!("no AnyValue has {other:?}"),
    }
}

/// Syslog: messages that a parser of RFC 5424 takes, none longer than allowed, whose parts are the line.
pub fn syslog(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let longest = 480 + u32::from(input.byte()) * 8;
    let sink = Syslog {
        host: HostName::try_from("siem".to_owned()).unwrap(),
        port: NonZeroU16::MIN,
        transport: SyslogTransport::Tcp,
        facility: Facility::Local0,
        app_name: AppName::try_from(input.text()).ok(),
        enterprise_id: NonZeroU32::MIN,
        max_message_bytes: NonZeroU32::new(longest).unwrap(),
    };
    let case = Case::new(input);
    let body = case.body(&Format::Syslog(Form::from(&sink)));
    let (frames, rest) = rfc5424::frames(&body).unwrap();
    assert_eq!(rest, b"");
    let mut messages = frames
        .iter()
        .map(|frame| (frame.len(), rfc5424::parse(frame).unwrap()))
        .peekable();
    for record in &case.records {
        let is_of_record =
            |message: &rfc5424::Message| message.parameter("record_id") == Some(&id(record));
        let mut text = String::new();
        let mut parts = 0;
        let mut all = None;
        while let Some((length, message)) = messages.next_if(|(_, one)| is_of_record(one)) {
            parts += 1;
            assert_eq!(message.id.as_deref(), Some(record.stream.as_str()));
            assert_eq!(message.time.is_some(), is_time(record.time), "{message:?}");
            let number = message.parameter("part").map(|part| part.parse().unwrap());
            assert_eq!(number.unwrap_or(1), parts);
            all = message.parameter("parts").map(|all| all.parse().unwrap());
            // Room for some text there is always, however long the names are.
            assert!(length <= longest as usize || message.text.len() <= 64);
            text.push_str(&message.text);
        }
        assert_eq!(all.unwrap_or(1), parts);
        case.check(record, Some(&text), None);
    }
    assert!(messages.next().is_none());
}

/// Whether a TIMESTAMP can say it: years 0 to 9999.
fn is_time(time: Timestamp) -> bool {
    time != Timestamp::default() && (-62_167_219_200..=253_402_300_799).contains(&time.seconds)
}
