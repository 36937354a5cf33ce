//! Where the audit policies of a cluster have their record.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use katonic_log_config::archive::route;
use katonic_logging_crds::AuditPolicy;

use crate::{audit::retention_of, installation::LogStore, retention::Retention};

/// An archive of audit policies.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The store; none: that of the installation.
    pub store: Option<LogStore>,
    /// What archives there, by what keys have for it.
    pub sinks: BTreeMap<String, Named>,
    /// Whether those alone are meant; otherwise whatever is there, also what policies have left that are there no more.
    pub is_chosen: bool,
    /// The longest of their retentions.
    pub retention: Retention,
}

/// A sink of a policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    /// `<policy>/<sink>`.
    pub name: String,
    /// When the policy was created: it has nothing that is older.
    pub created: Option<Timestamp>,
}

/// Why it is not known which record is meant.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unplaced {
    /// There is no such policy.
    #[error("there is no AuditPolicy {0}: name one that `kubectl get auditpolicies` lists")]
    NoPolicy(String),
    /// No archive is named.
    #[error(
        "{0}, so there is no record: name a store with --bucket, --gcs-bucket or --azure-container"
    )]
    NoArchive(String),
    /// Several are meant.
    #[error("there are several records: name one of them with --policy and --sink: {0}")]
    Several(String),
}

/// A sink of the kind `objectStorage`.
struct Archive {
    policy: String,
    sink: String,
    store: Option<LogStore>,
    route: String,
    created: Option<Timestamp>,
    retention: Retention,
}

/// The archive that is meant: of the policy and of the sink that are named, where they are; the only one else. Those that are the
/// same store are one.
///
/// # Errors
/// When it is none, or not one.
pub fn place(
    policies: &[AuditPolicy],
    policy: Option<&str>,
    sink: Option<&str>,
) -> Result<Place, Unplaced> {
    let name_of = |one: &AuditPolicy| one.metadata.name.clone().unwrap_or_default();
    if let Some(policy) = policy
        && !policies.iter().any(|one| name_of(one) == policy)
    {
        return Err(Unplaced::NoPolicy(policy.to_owned()));
    }
    let mut places: Vec<Archive> = Vec::new();
    for one in policies {
        let name = name_of(one);
        let uid = one.metadata.uid.as_deref().unwrap_or_default();
        // What cannot be read is not taken for a reason why anything is missing.
        let retention = retention_of(&one.spec).unwrap_or(Retention::Forever);
        let archives = one.spec.sinks.iter().flatten().filter_map(|sink| {
            let archive = sink.object_storage.as_ref()?;
            let s3 = || Some(LogStore::S3(Box::new(archive.s3.clone()?)));
            let gcs = || Some(LogStore::Gcs(Box::new(archive.gcs.clone()?)));
            let azure = || Some(LogStore::Azure(Box::new(archive.azure.clone()?)));
            Some(Archive {
                policy: name.clone(),
                sink: sink.name.clone(),
                store: s3().or_else(gcs).or_else(azure),
                route: route(uid, &sink.name),
                created: one.metadata.creation_timestamp.as_ref().map(|time| time.0),
                retention,
            })
        });
        places.extend(archives);
    }
    places.retain(|place| {
        policy.is_none_or(|policy| place.policy == policy)
            && sink.is_none_or(|sink| place.sink == sink)
    });
    let Some(first) = places.first() else {
        let which = match (policy, sink) {
            (Some(policy), Some(sink)) => {
                format!("AuditPolicy {policy} has no sink {sink} of the kind objectStorage")
            }
            (Some(policy), None) => {
                format!("AuditPolicy {policy} has no sink of the kind objectStorage")
            }
            (None, Some(sink)) => {
                format!("no AuditPolicy has a sink {sink} of the kind objectStorage")
            }
            (None, None) => "no AuditPolicy has a sink of the kind objectStorage".to_owned(),
        };
        return Err(Unplaced::NoArchive(which));
    };
    let named = |place: &Archive| format!("{}/{}", place.policy, place.sink);
    if !places.iter().all(|place| place.store == first.store) {
        let several: Vec<String> = places.iter().map(named).collect();
        return Err(Unplaced::Several(several.join(", ")));
    }
    let retentions = places.iter().map(|place| place.retention);
    Ok(Place {
        store: first.store.clone(),
        retention: retentions.max().unwrap_or(Retention::Forever),
        sinks: places
            .iter()
            .map(|place| {
                let named = Named {
                    name: named(place),
                    created: place.created,
                };
                (place.route.clone(), named)
            })
            .collect(),
        is_chosen: policy.is_some() || sink.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use katonic_logging_crds::AuditPolicySpec;
    use serde_json::json;

    use super::*;

    fn policy(name: &str, sinks: &serde_json::Value) -> AuditPolicy {
        let spec: AuditPolicySpec = serde_json::from_value(json!({"sinks": sinks})).unwrap();
        let mut policy = AuditPolicy::new(name, spec);
        policy.metadata.uid = Some(format!("uid-of-{name}"));
        policy
    }

    fn names(place: &Place) -> Vec<&str> {
        let names = place.sinks.values().map(|named| named.name.as_str());
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn streams_are_those_that_agents_write_and_the_longest_retention_counts() {
        let mut policies = [
            policy("a", &json!([bucket("record", "audit")])),
            policy("b", &json!([bucket("record", "audit")])),
        ];
        policies[0].spec.retention = Some("30d".into());
        let found = place(&policies, None, None).unwrap();
        let keys: Vec<&String> = found.sinks.keys().collect();
        let mut expected = ["uid-of-a", "uid-of-b"].map(|uid| route(uid, "record"));
        expected.sort_unstable();
        assert_eq!(keys, expected.iter().collect::<Vec<_>>());
        assert_eq!(found.retention.to_string(), "365d");
        let found = place(&policies, Some("a"), None).unwrap();
        assert_eq!(found.retention.to_string(), "30d");
        policies[0].spec.retention = Some("a while".into());
        let found = place(&policies, Some("a"), None).unwrap();
        assert_eq!(found.retention, Retention::Forever);
    }

    fn bucket(sink: &str, bucket: &str) -> serde_json::Value {
        json!({"name": sink, "objectStorage": {"s3": {"bucket": bucket, "region": "eu-central-1"}}})
    }

    #[test]
    fn the_only_record_needs_no_name() {
        let siem =
            json!({"name": "siem", "syslog": {"host": "siem.example.com", "transport": "TLS"}});
        let policies = [
            policy("a", &json!([siem, bucket("record", "audit")])),
            policy("b", &json!([bucket("copy", "audit")])),
            AuditPolicy::new("c", AuditPolicySpec::default()),
        ];
        let found = place(&policies, None, None).unwrap();
        assert_eq!(names(&found), ["a/record", "b/copy"]);
        assert!(matches!(found.store, Some(LogStore::S3(_))));
        assert!(!found.is_chosen);
        let of_installation = json!([{"name": "record", "objectStorage": {"installation": true}}]);
        let found = place(&[policy("a", &of_installation)], None, None).unwrap();
        assert_eq!(found.store, None);
    }

    #[test]
    fn which_record_is_meant_is_asked_where_it_is_not_clear() {
        let policies = [
            policy(
                "a",
                &json!([bucket("one", "audit"), bucket("two", "other")]),
            ),
            policy("b", &json!([bucket("one", "audit")])),
        ];
        let refused = |policy, sink| {
            let refused = place(&policies, policy, sink);
            refused.unwrap_err().to_string()
        };
        assert_eq!(
            refused(None, None),
            "there are several records: name one of them with --policy and --sink: a/one, a/two, b/one"
        );
        let found = place(&policies, Some("b"), None).unwrap();
        assert_eq!((names(&found), found.is_chosen), (vec!["b/one"], true));
        let found = place(&policies, None, Some("one")).unwrap();
        assert_eq!(names(&found), ["a/one", "b/one"]);
        assert!(refused(Some("c"), None).starts_with("there is no AuditPolicy c"));
        assert!(
            refused(Some("b"), Some("two"))
                .starts_with("AuditPolicy b has no sink two of the kind")
        );
        let none = place(&[], None, None).unwrap_err().to_string();
        assert!(
            none.starts_with("no AuditPolicy has a sink") && none.contains("--bucket"),
            "{none}"
        );
    }
}
