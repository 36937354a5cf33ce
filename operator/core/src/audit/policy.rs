//! An audit policy after validation.

use std::collections::BTreeSet;

use katonic_log_config as config;
use katonic_logging_crds::{AuditPolicy, AuditPolicySpec, LoggingPolicySpec, Parse, Plane};

use super::{EventName, Vocabulary};
use crate::{
    names,
    policy::{self, Violation},
    retention::{InvalidRetention, Retention},
};

/// How long audit events are kept where a policy does not say it.
const RETENTION: &str = "365d";

/// A policy that can be planned with.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Events that it names, never none; none given: every event of the platform.
    pub named: Option<BTreeSet<EventName>>,
    /// Whether it is taken out of force for the time being.
    pub suspend: bool,
    /// What is sent where; none: the events are in the tracker's log, and that is all.
    pub shipping: Option<policy::Policy>,
}

impl Policy {
    /// The events that it is about.
    pub fn events<'a>(&'a self, vocabulary: &'a Vocabulary) -> &'a BTreeSet<EventName> {
        self.named.as_ref().unwrap_or_else(|| vocabulary.all())
    }

    /// Those of its events that the platform does not have.
    pub fn unknown(&self, vocabulary: &Vocabulary) -> BTreeSet<EventName> {
        let named = self.named.as_ref();
        named
            .map(|events| vocabulary.unknown(events))
            .unwrap_or_default()
    }
}

/// Turns a custom resource into a policy. Whether the platform has the events is not known here: the installation says so.
///
/// # Errors
/// Everything that is wrong, not only the first. The API server refuses all of it; this is for objects that were stored under
/// another definition.
pub fn validate(resource: &AuditPolicy) -> Result<Policy, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut violation = |message: String| {
        violations.push(Violation {
            path: "spec.events".to_owned(),
            message,
        });
    };
    let named = resource.spec.events.as_ref().map(|events| {
        if events.is_empty() {
            violation("is empty: name an event, or leave the field out for all".to_owned());
        }
        let mut named = BTreeSet::new();
        for event in events {
            match EventName::try_from(event.clone()) {
                Ok(event) => {
                    named.insert(event);
                }
                Err(error) => violation(error.to_string()),
            }
        }
        named
    });
    let shipping = match shipping(&resource.spec, named.clone()).transpose() {
        Ok(shipping) => shipping,
        Err(more) => {
            violations.extend(more);
            None
        }
    };
    if violations.is_empty() {
        Ok(Policy {
            named,
            suspend: resource.spec.suspend.unwrap_or(false),
            shipping,
        })
    } else {
        Err(violations)
    }
}

fn kept(spec: &AuditPolicySpec) -> &str {
    spec.retention.as_deref().unwrap_or(RETENTION)
}

/// How long the sinks of a policy keep events.
///
/// # Errors
/// When it is written in no way that is known.
pub fn retention_of(spec: &AuditPolicySpec) -> Result<Retention, InvalidRetention> {
    kept(spec).parse()
}

/// What is sent is a log of the platform plane of which the audit events are meant.
fn shipping(
    spec: &AuditPolicySpec,
    named: Option<BTreeSet<EventName>>,
) -> Option<Result<policy::Policy, Vec<Violation>>> {
    let components = spec
        .source
        .as_ref()
        .and_then(|source| source.components.clone());
    let retention = kept(spec);
    let log = LoggingPolicySpec {
        planes: Some(vec![Plane::Platform]),
        components: Some(components.unwrap_or_else(|| vec![names::EVENT_TRACKER.to_owned()])),
        parse: Some(Parse::Json),
        retention: Some(retention.to_owned()),
        suspend: spec.suspend,
        sinks: spec.sinks.clone()?,
        ..LoggingPolicySpec::default()
    };
    let events = named.map(|events| events.into_iter().map(String::from).collect());
    Some(policy::read(&log, Some(config::Audit { events })))
}
