//! Logs of OTLP (OpenTelemetry: "OpenTelemetry Protocol Specification", `opentelemetry/proto/logs/v1/logs.proto`), and
//! what both of its encodings say. Each log file is a resource.

pub mod json;
pub mod protobuf;

use std::borrow::Cow;

use super::{CHAIN, FAULT, Origin, SEQUENCE};
use crate::{assemble::Record, timestamp::Timestamp};

/// Who made the records: the name of the scope.
const SCOPE: &str = "katonic-log-agent";

/// Name of the attribute with the record's stream (OpenTelemetry: "General logs attributes").
const STREAM: &str = "log.iostream";

/// Name of the attribute with the record's id (OpenTelemetry: "General logs attributes").
const RECORD_ID: &str = "log.record.uid";

/// Labels that name a service, in the order in which they are asked (OpenTelemetry: "Kubernetes attributes", service
/// attributes).
const SERVICE_LABELS: [&str; 2] = ["app.kubernetes.io/instance", "app.kubernetes.io/name"];

/// The value of an attribute.
enum Attribute<'a> {
    Text(Cow<'a, str>),
    Number(u64),
}

/// The attributes of a log file (OpenTelemetry: "Kubernetes resource attributes", "Service").
fn resource<'a>(origin: &Origin<'a>) -> Vec<(String, Attribute<'a>)> {
    let service = SERVICE_LABELS
        .iter()
        .find_map(|label| origin.labels.get(*label))
        .map_or(origin.container, String::as_str);
    let mut all: Vec<(String, Attribute<'_>)> = [
        ("k8s.namespace.name", origin.namespace),
        ("k8s.pod.name", origin.pod),
        ("k8s.pod.uid", origin.pod_uid),
        ("k8s.container.name", origin.container),
        ("k8s.node.name", origin.node),
        ("service.name", service),
        (
            "katonic.execution_id",
            origin.execution_id.unwrap_or_default(),
        ),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name.to_owned(), Attribute::Text(value.into())))
    .collect();
    all.push((
        "k8s.container.restart_count".to_owned(),
        Attribute::Number(origin.restart.into()),
    ));
    for (label, value) in origin.labels {
        all.push((
            format!("k8s.pod.label.{label}"),
            Attribute::Text(value.into()),
        ));
    }
    all
}

/// What an audit policy adds to a record: its place among the events of its container, and why it is none, if it is meant as one.
fn of_audit(record: &Record<'_>) -> Vec<(&'static str, Attribute<'static>)> {
    let Some(audited) = record.audit else {
        return Vec::new();
    };
    let mut added = vec![
        (SEQUENCE, Attribute::Number(audited.link.sequence)),
        (CHAIN, Attribute::Text(audited.link.chain().into())),
    ];
    let fault = record.fault();
    added.extend(fault.map(|fault| (FAULT, Attribute::Text(fault.as_str().into()))));
    added
}

/// Nanoseconds since 1970, as OTLP has them; 0, which means unknown, for what was before.
fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.seconds).map_or(0, |seconds| {
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(time.nanos.into())
    })
}
