//! What is done to a record before it is sent: typed steps, no language of their own.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{SecretKeyRef, rule::Period};

/// How long a record may wait for its next line.
pub const MULTILINE_TIMEOUT: Period = Period {
    least: "100ms",
    most: "1m",
};

/// Which lines make one record. Each stream of a container is looked at by itself.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.rule) != has(self.firstLine)", "multiline has exactly one of rule and firstLine: write for example rule: Java, or a regular expression of your own in firstLine"),
    validation = ("!has(self.rule) || self.rule != 'None' || (!has(self.timeout) && !has(self.maxBytes))", "with rule: None each line is a record: remove timeout and maxBytes")
)]
pub struct Multiline {
    /// Lines that a language's runtime writes for one error belong together: `Java` (stack traces with their causes),
    /// `Python` (tracebacks), `Go` (panics with their goroutines), `Node` (errors of Node.js). `None`: each line is a
    /// record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MultilineRule")]
    pub rule: Option<MultilineRule>,
    /// Regular expression that the first line of every record matches, and no other line: whatever does not match belongs
    /// to the line before. Syntax of Rust's `regex`: no look-around, no back-references.
    /// Example: `^\d{4}-\d\d-\d\d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub first_line: Option<String>,
    /// How long a record may wait for its next line, 100ms to 1m. Default: `1s`. Example: `500ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 24))]
    #[x_kube(validation = MULTILINE_TIMEOUT.rule())]
    pub timeout: Option<String>,
    /// How long a record may become, 1024 to 1048576 bytes; what comes after begins another. Default: `262144`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub max_bytes: Option<i32>,
}

/// Lines that belong together.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum MultilineRule {
    /// None: each line is a record.
    None,
    /// Frames and causes of a Java exception.
    Java,
    /// Frames and the message of a Python traceback.
    Python,
    /// Goroutines of a Go panic.
    Go,
    /// Frames and causes of a Node.js error.
    Node,
}

/// A step: exactly one of `drop`, `keep`, `redact`, `sample` and `rateLimit`.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.drop), has(self.keep), has(self.redact), has(self.sample), has(self.rateLimit)].filter(set, set).size() == 1",
    "a filter is exactly one step: set one of drop, keep, redact, sample, rateLimit, and move a second step into a filter of its own"
))]
pub struct Filter {
    /// Records that match are not sent. Example: `{pattern: 'GET /healthz'}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop: Option<Match>,
    /// Records that do not match are not sent. Example: `{pattern: 'WARN|ERROR'}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Match>,
    /// What matches is replaced before it leaves the pod. Example: `{pattern: '\b\d{3}-\d{2}-\d{4}\b', replacement: '***'}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redact: Option<Redact>,
    /// Of the records only a part is sent, chosen by their ids: the same ones however often they are read.
    /// Example: `{pattern: 'DEBUG', percent: 10}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    /// Of each container only so many records a second are sent; the others are counted and told.
    /// Example: `{recordsPerSecond: 500}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// Records by what stands in them.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// Regular expression that is looked for anywhere in the record. Syntax of Rust's `regex`: no look-around, no
    /// back-references. Example: `GET /healthz`.
    #[schemars(length(min = 1, max = 1024))]
    pub pattern: String,
}

/// Replaces each match of a pattern.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!(has(self.replacement) && has(self.hashKeySecretRef))", "redact puts either a text or a digest in place of a match: keep one of replacement and hashKeySecretRef"))]
pub struct Redact {
    /// Regular expression; each match of it is replaced. Syntax of Rust's `regex`: no look-around, no back-references.
    /// Example: `\b\d{3}-\d{2}-\d{4}\b`.
    #[schemars(length(min = 1, max = 1024))]
    pub pattern: String,
    /// What stands there instead, as it is: `$1` means nothing in it, and an empty text removes the match.
    /// Default: `***`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub replacement: Option<String>,
    /// Instead of a text, the beginning of the match's HMAC-SHA-256 under this key: equal matches stay recognisable as equal,
    /// and tell no more. At least 16 bytes, for example from `openssl rand -hex 32`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_key_secret_ref: Option<SecretKeyRef>,
}

/// Sends a part of the records.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Regular expression: which records are meant; the others are sent. Default: all records. Example: `DEBUG`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub pattern: Option<String>,
    /// How many of a hundred are sent, 1 to 100. Example: `10`.
    #[schemars(range(min = 1, max = 100))]
    pub percent: i32,
}

/// Sends at most so many records.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Records of one container that are sent for each second of its log, 1 to 1000000. Example: `500`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub records_per_second: i32,
}

/// What a record's text is taken for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Parse {
    /// Text.
    Text,
    /// A JSON object, where it is one.
    #[serde(rename = "JSON")]
    Json,
}
