//! Where the audit policies of a cluster have their record.

use katonic_logging_crds::AuditPolicy;

use crate::installation::LogStore;

/// An archive of an audit policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Name of the policy.
    pub policy: String,
    /// Name of the sink.
    pub sink: String,
    /// The store; none: that of the installation.
    pub store: Option<LogStore>,
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
    let mut places: Vec<Place> = Vec::new();
    for one in policies {
        let name = name_of(one);
        let archives = one.spec.sinks.iter().flatten().filter_map(|sink| {
            let archive = sink.object_storage.as_ref()?;
            let s3 = || Some(LogStore::S3(Box::new(archive.s3.clone()?)));
            let gcs = || Some(LogStore::Gcs(Box::new(archive.gcs.clone()?)));
            let azure = || Some(LogStore::Azure(Box::new(archive.azure.clone()?)));
            Some(Place {
                policy: name.clone(),
                sink: sink.name.clone(),
                store: s3().or_else(gcs).or_else(azure),
            })
        });
        places.extend(archives);
    }
    places.retain(|place| {
        policy.is_none_or(|policy| place.policy == policy)
            && sink.is_none_or(|sink| place.sink == sink)
    });
    let Some(first) = places.first().cloned() else {
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
    if places.iter().all(|place| place.store == first.store) {
        return Ok(first);
    }
    let names = places
        .iter()
        .map(|place| format!("{}/{}", place.policy, place.sink));
    Err(Unplaced::Several(names.collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    use katonic_logging_crds::AuditPolicySpec;
    use serde_json::json;

    use super::*;

    fn policy(name: &str, sinks: &serde_json::Value) -> AuditPolicy {
        let spec: AuditPolicySpec = serde_json::from_value(json!({"sinks": sinks})).unwrap();
        AuditPolicy::new(name, spec)
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
        assert_eq!((&*found.policy, &*found.sink), ("a", "record"));
        assert!(matches!(found.store, Some(LogStore::S3(_))));
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
        assert_eq!(place(&policies, Some("b"), None).unwrap().sink, "one");
        assert_eq!(place(&policies, None, Some("one")).unwrap().policy, "a");
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
