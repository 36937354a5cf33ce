//! One record of an archive or of a running pod, and its forms on a terminal and for programs.

use std::borrow::Cow;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What an agent ends a record with whose line goes on in the next one (`docs/sinks.md`).
pub const CONTINUES: &str = " [katonic-log-agent: line continues]";

/// What is read of a record; the rest stays as it is.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// When the line was written.
    pub time: Timestamp,
    /// The same as it is written.
    pub written: Cow<'a, str>,
    /// What it says: of a line that the policy has read as JSON, that JSON.
    pub message: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    fields: Option<&'a RawValue>,
}

/// Why a line of an object is no record.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRecord {
    /// Not JSON, or not an object with these members.
    #[error("{0}")]
    Json(String),
    /// Not the time of a record.
    #[error("`{0}` is not a time")]
    Time(String),
    /// It says nothing.
    #[error("it has neither `message` nor `fields`")]
    Nothing,
    /// It says two things.
    #[error("it has both `message` and `fields`")]
    Both,
}

impl<'a> Record<'a> {
    /// Reads a line of an object.
    ///
    /// # Errors
    /// When it is no record; what the line says is not repeated.
    pub fn read(line: &'a [u8]) -> Result<Self, InvalidRecord> {
        let stored: Stored<'a> = serde_json::from_slice(line).map_err(|error| {
            // Columns are those of the line.
            InvalidRecord::Json(error.to_string().replace("line 1 column", "byte"))
        })?;
        let time = stored.time.parse();
        let time = time.map_err(|_| InvalidRecord::Time(stored.time.chars().take(40).collect()))?;
        let message = match (stored.message, stored.fields) {
            (Some(message), _) => message,
            (None, Some(fields)) => Cow::Borrowed(fields.get()),
            (None, None) => return Err(InvalidRecord::Nothing),
        };
        Ok(Self {
            time,
            written: stored.time,
            message,
        })
    }

    /// Appends it for a person: its time, where it comes from if that is not clear, and what it says. Each of the lines of a
    /// joined record has a line of its own.
    pub fn write_text(&self, origin: Option<&str>, out: &mut Vec<u8>) {
        for line in self.message.split('\n') {
            out.extend_from_slice(self.written.as_bytes());
            out.push(b' ');
            if let Some(origin) = origin {
                out.extend_from_slice(origin.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
    }

    /// Whether its line goes on in the next record.
    pub fn continues(&self) -> bool {
        self.message.ends_with(CONTINUES)
    }
}

/// The labels of a record, which its pod had.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Labelled {
    labels: std::collections::BTreeMap<String, String>,
}

/// A label of the pod that a record comes from, if the record has it.
pub fn label(line: &[u8], name: &str) -> Option<String> {
    let mut labelled: Labelled = serde_json::from_slice(line).ok()?;
    labelled.labels.remove(name)
}

/// A line of a running pod, as a record of the archive has it; Kubernetes says neither its stream nor its place.
#[derive(Clone, Debug, Serialize)]
pub struct Live<'a> {
    /// When the line was written.
    pub time: &'a str,
    /// Name of the container.
    pub container: &'a str,
    /// The execution, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<&'a str>,
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Name of the pod.
    pub pod: &'a str,
    /// UID of the pod.
    pub pod_uid: &'a str,
    /// How often the container had been restarted.
    pub restart: u32,
    /// The line.
    pub message: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str, origin: Option<&str>) -> String {
        let mut out = Vec::new();
        Record::read(line.as_bytes())
            .unwrap()
            .write_text(origin, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_is_its_time_its_origin_and_what_it_says() {
        let line = r#"{"time":"2026-11-23T10:15:07.123456789Z","container":"run","labels":{"a":"b"},"message":"caf\u00e9 \"x\""}"#;
        assert_eq!(
            text(line, None),
            "2026-11-23T10:15:07.123456789Z café \"x\"\n"
        );
        assert_eq!(
            text(line, Some("run-1/run")),
            "2026-11-23T10:15:07.123456789Z run-1/run café \"x\"\n"
        );
        assert_eq!(label(line.as_bytes(), "a").as_deref(), Some("b"));
        assert_eq!(label(line.as_bytes(), "c"), None);
    }

    #[test]
    fn joined_lines_are_lines_again_and_json_is_json() {
        let joined = r#"{"time":"2026-11-23T10:15:07Z","message":"a\nb"}"#;
        assert_eq!(
            text(joined, None),
            "2026-11-23T10:15:07Z a\n2026-11-23T10:15:07Z b\n"
        );
        let fields = r#"{"time":"2026-11-23T10:15:07Z","fields":{"level":"info","n":1e3}}"#;
        assert_eq!(
            text(fields, None),
            "2026-11-23T10:15:07Z {\"level\":\"info\",\"n\":1e3}\n"
        );
    }

    #[test]
    fn what_is_no_record_is_refused_without_repeating_it() {
        let refused = |line: &str| Record::read(line.as_bytes()).unwrap_err().to_string();
        assert!(refused(r#"{"time":"2026-11-23T10:15:07Z","message":"secret"#).contains("EOF"));
        assert!(!refused(r#"{"time":"2026-11-23T10:15:07Z","message":secret}"#).contains("secret"));
        assert_eq!(
            refused(r#"{"time":"today","message":""}"#),
            "`today` is not a time"
        );
        assert_eq!(
            refused(r#"{"time":"2026-11-23T10:15:07Z"}"#),
            "it has neither `message` nor `fields`"
        );
        assert!(Record::read(b"\xff").is_err());
    }
}
