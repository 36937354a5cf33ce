//! A record as a receiver took it. Holds what was sent and adds nothing.

use std::fmt;

use serde_json::{Map, Value};

/// One record: a log line with what was said about it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Record {
    /// The log line.
    pub line: String,
    /// What is said of the line: HEC's `fields`, the members of a JSON line but for the message, the parameters of
    /// syslog's structured data, or the attributes of an OTLP record.
    pub fields: Map<String, Value>,
    /// What the protocol itself has a place for: HEC's `host`, `source`, `sourcetype`, `index` and `time` as the text
    /// that was sent, syslog's header, OTLP's resource (the object `resource`), times and severity.
    pub envelope: Map<String, Value>,
}

/// One writer of lines: a stream of one container of a pod.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Source {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// `stdout` or `stderr`.
    pub stream: String,
}

impl Record {
    /// A member of [`Self::fields`] as text, empty when it is missing.
    pub fn field(&self, name: &str) -> &str {
        text(&self.fields, name)
    }

    /// A member of [`Self::envelope`] as text, empty when it is missing.
    pub fn about(&self, name: &str) -> &str {
        text(&self.envelope, name)
    }

    /// An attribute of the resource, for OTLP, as text, empty when it is missing.
    pub fn resource(&self, name: &str) -> &str {
        self.envelope
            .get("resource")
            .and_then(Value::as_object)
            .map_or("", |resource| text(resource, name))
    }

    /// The id that stays the same when the record is sent again.
    pub fn id(&self) -> &str {
        match self.field("record_id") {
            // OpenTelemetry: "General logs attributes".
            "" => self.field("log.record.uid"),
            id => id,
        }
    }

    /// Who wrote the line.
    pub fn source(&self) -> Source {
        Source {
            namespace: self.origin("namespace", "k8s.namespace.name").to_owned(),
            pod: self.origin("pod", "k8s.pod.name").to_owned(),
            container: self.origin("container", "k8s.container.name").to_owned(),
            stream: match self.field("stream") {
                "" => self.field("log.iostream").to_owned(),
                stream => stream.to_owned(),
            },
        }
    }

    /// A field, or the attribute of an OTLP resource that means the same.
    fn origin(&self, field: &str, attribute: &str) -> &str {
        match self.field(field) {
            "" => self.resource(attribute),
            value => value,
        }
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> &'a str {
    members
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

impl fmt::Display for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, pod) = (self.field("namespace"), self.field("pod"));
        let (container, stream) = (self.field("container"), self.field("stream"));
        write!(
            formatter,
            "{namespace}/{pod} {container} {stream}: {}",
            self.line
        )
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            namespace,
            pod,
            container,
            stream,
        } = self;
        write!(formatter, "{namespace}/{pod} {container} {stream}")
    }
}
