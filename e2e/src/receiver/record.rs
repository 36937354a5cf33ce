//! A record as a receiver took it. Holds what was sent and adds nothing.

use std::fmt;

use serde_json::{Map, Value};

/// One record: a log line with what was said about it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Record {
    /// The log line.
    pub line: String,
    /// What is said of the line: HEC's `fields`, or the members of a JSON line but for the message.
    pub fields: Map<String, Value>,
    /// The members that HEC knows beside `event` and `fields`: `host`, `source`, `sourcetype`, `index`, and `time` as
    /// the text that was sent.
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

    /// The id that stays the same when the record is sent again.
    pub fn id(&self) -> &str {
        self.field("record_id")
    }

    /// Who wrote the line.
    pub fn source(&self) -> Source {
        Source {
            namespace: self.field("namespace").to_owned(),
            pod: self.field("pod").to_owned(),
            container: self.field("container").to_owned(),
            stream: self.field("stream").to_owned(),
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
