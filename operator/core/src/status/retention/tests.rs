//! What a person is told of how long logs are kept.

use katonic_logging_crds::{
    LoggingPolicy, LoggingPolicyStatus, ObjectLock, ObjectLockMode, Plane, SecretKeyRef,
};

use super::*;
use crate::{
    Installation,
    coverage::{Coverage, Mend, State as PodState},
    credential::{Credential, Lookup},
    plan::{Namespace, Observed, Plan, plan},
    retention::{BucketLock, Conflict, lifecycle::Expiry},
    status::{Report, summarize},
    testing,
};

const PREFIX: &str = "platform/application/";

fn archiving(retention: Option<&str>) -> LoggingPolicy {
    let mut policy = testing::policy("p");
    policy.spec.sinks = vec![testing::archive_sink("archive", "platform")];
    policy.spec.retention = retention.map(str::to_owned);
    policy
}

fn without_management(mut policy: LoggingPolicy) -> LoggingPolicy {
    let archive = policy.spec.sinks[0].object_storage.as_mut().unwrap();
    archive.s3.as_mut().unwrap().management_secret_ref = None;
    policy
}

fn planned(policy: &LoggingPolicy, secrets: &[&str]) -> (Candidate, Plan) {
    let candidate = Candidate::readable(policy);
    let look_up = |name: &str, key: &str| {
        let secret = SecretKeyRef {
            name: name.into(),
            key: key.into(),
        };
        let is_there = secrets.contains(&name);
        let found = if is_there {
            Lookup::Found(Credential::new(b"abc".to_vec()))
        } else {
            Lookup::SecretMissing
        };
        (secret, found)
    };
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "token"];
    let observed = Observed {
        candidates: vec![candidate.clone()],
        namespaces: ["katonic-platform", "katonic-compute"]
            .map(|name| (name.to_owned(), Namespace::default()))
            .into(),
        credentials: SECRETS
            .iter()
            .flat_map(|name| keys.map(|key| look_up(name, key)))
            .collect(),
        refusals: BTreeMap::new(),
        last_good: BTreeMap::new(),
        definition: crate::admission::DefinitionUid("uid".into()),
        operator_namespace: "katonic-logging".into(),
        reporting: None,
    };
    let installation: Installation = testing::installation();
    let plan = plan(&installation, &observed).unwrap();
    (candidate, plan)
}

const SECRETS: [&str; 3] = ["agents", "management", "splunk"];

fn status(policy: &LoggingPolicy, outcome: Option<Outcome>) -> LoggingPolicyStatus {
    status_with(policy, outcome, &SECRETS)
}

fn status_with(
    policy: &LoggingPolicy,
    outcome: Option<Outcome>,
    secrets: &[&str],
) -> LoggingPolicyStatus {
    let (candidate, plan) = planned(policy, secrets);
    let bucket = plan.custodies.buckets.keys().next().cloned();
    let bucket = bucket.unwrap_or_else(|| BucketId {
        kind: Kind::S3,
        endpoint: "https://store.example.com:9000".into(),
        name: "logs".into(),
    });
    let outcomes = outcome
        .map(|outcome| (bucket, outcome))
        .into_iter()
        .collect();
    let covered = || Coverage {
        counts: [(PodState::Current, 1)].into_iter().collect(),
        mend: Mend::default(),
        troubled: Vec::new(),
    };
    let coverage = [(Plane::Platform, covered()), (Plane::Compute, covered())].into();
    let (report, restarts) = (Report::default(), BTreeMap::new());
    let facts = Facts {
        plan: Some(&plan),
        report: &report,
        problem: None,
        coverage: &coverage,
        restarts: &restarts,
        retention: &outcomes,
        delivery: None,
    };
    summarize(&candidate, facts, k8s_openapi::jiff::Timestamp::UNIX_EPOCH)
}

fn place(wanted: &str, kept: &str) -> PlaceStanding {
    PlaceStanding {
        wanted: wanted.parse().unwrap(),
        kept: kept.parse().unwrap(),
        rule: "katonic-logging-application-1".into(),
        longest: ["p".to_owned()].into(),
        address: None,
        unacknowledged: None,
        is_full: false,
        is_beyond_reach: false,
        conflicts: Vec::new(),
    }
}

fn known(place: PlaceStanding) -> Outcome {
    Outcome::Known(Standing {
        places: [(PREFIX.to_owned(), place)].into(),
        versioning: Versioning::Never,
        lock: None,
        limits: crate::retention::Limits::default(),
    })
}

fn trouble(reason: Reason) -> Outcome {
    Outcome::Trouble(Trouble {
        reason,
        message: "this and that".into(),
    })
}

/// The state of the first sink and the condition, as `state condition reason`, and all that is said.
fn told(status: &LoggingPolicyStatus) -> (String, String) {
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "RetentionEnforced")
        .unwrap();
    let sink = status.sinks[0].retention.as_ref().unwrap();
    let short = format!("{} {} {}", sink.state, condition.status, condition.reason);
    (short, condition.message.clone())
}

#[test]
fn what_is_enforced_says_by_what() {
    let status = status(&archiving(Some("30d")), Some(known(place("30d", "30d"))));
    let (short, message) = told(&status);
    assert_eq!(short, "Enforced True Enforced");
    assert!(
        message.contains("sink archive: bucket logs keeps the logs for 30 days by its lifecycle rule katonic-logging-application-1"),
        "{message}"
    );
    assert_eq!(status.retention.as_deref(), Some("30d"));
    let retention = status.sinks[0].retention.as_ref().unwrap();
    assert_eq!(retention.kept.as_deref(), Some("30d"));
    assert_eq!(
        retention.location.as_deref(),
        Some("https://store.example.com:9000/logs/platform")
    );
}

#[test]
fn a_longer_retention_of_another_policy_is_told() {
    let other = PlaceStanding {
        longest: ["audit".to_owned()].into(),
        ..place("90d", "90d")
    };
    let (candidate, mut plan) = planned(&archiving(Some("30d")), &SECRETS);
    let custody = plan.custodies.buckets.values_mut().next().unwrap();
    let claims = &mut custody.places.get_mut(PREFIX).unwrap().claims;
    let mut claim = claims[0].clone();
    claim.retention = "90d".parse().unwrap();
    claims.push(claim);
    let custody = custody.clone();
    let Outcome::Known(standing) = known(other) else {
        panic!("it is known");
    };
    let policy = candidate.policy.as_ref().unwrap();
    let Target::ObjectStorage(storage) = &policy.sinks[0].config.target else {
        panic!("it is an archive");
    };
    let looked = Looked::at(&storage.store, storage.layout);
    let places = places(&custody, &standing, &looked).unwrap();
    let told = stands(policy, &policy.sinks[0], &looked.id, &standing, &places);
    assert!(
        told.status.message.contains("longer than the 30d of this policy, because policy audit asks for 90d in the same place"),
        "{}",
        told.status.message
    );
}

#[test]
fn what_would_delete_logs_says_how_to_agree() {
    let waiting = PlaceStanding {
        unacknowledged: Some(Unacknowledged::Nobody),
        ..place("7d", "Forever")
    };
    let status = status(&archiving(Some("7d")), Some(known(waiting)));
    let (short, message) = told(&status);
    assert_eq!(short, "Drifted False AcknowledgementNeeded");
    assert!(
        message.contains("what begins with platform/application/ in bucket logs is kept for ever, and 7d would delete all of it that is older: if that is meant, annotate policy p with logging.katonic.ai/acknowledge-retention=7d"),
        "{message}"
    );
    let last = status.conditions.last().unwrap();
    assert_eq!(
        (last.type_.as_str(), last.reason.as_str()),
        ("Stalled", "AcknowledgementNeeded")
    );
    assert_eq!(
        status.sinks[0].retention.as_ref().unwrap().kept.as_deref(),
        Some("Forever")
    );
}

#[test]
fn a_rule_of_others_is_named() {
    let conflict = Conflict {
        rule: "clean up".into(),
        prefix: "platform/".into(),
        expiry: Expiry::Days(7),
    };
    let expired = PlaceStanding {
        conflicts: vec![conflict],
        ..place("Forever", "Forever")
    };
    let (short, message) = told(&status(&archiving(Some("Forever")), Some(known(expired))));
    assert_eq!(short, "Drifted False ExpiredByOthers");
    assert!(
        message.contains("is to be kept for ever, and lifecycle rule clean up deletes what begins with platform/ after 7 days: disable the rule"),
        "{message}"
    );
}

#[test]
fn a_bucket_that_is_full_says_what_to_remove() {
    let full = PlaceStanding {
        is_full: true,
        ..place("30d", "Forever")
    };
    let (short, message) = told(&status(&archiving(Some("30d")), Some(known(full))));
    assert_eq!(short, "Drifted False RulesFull");
    assert!(message.contains("remove a rule"), "{message}");
}

#[test]
fn a_store_that_cannot_be_asked_leaves_it_open_and_what_was_known_stays() {
    let mut policy = archiving(Some("30d"));
    policy.status = Some(status(&policy, Some(known(place("30d", "30d")))));
    for (reason, expected) in [
        (Reason::StoreUnreachable, "Unknown Unknown StoreUnreachable"),
        (Reason::RulesDenied, "Unknown Unknown RulesDenied"),
        (Reason::NoSuchBucket, "Unknown Unknown NoSuchBucket"),
        (Reason::RulesContested, "Drifted False RulesContested"),
        (
            Reason::RulesUnsupported,
            "Unsupported False RulesUnsupported",
        ),
    ] {
        let status = status(&policy, Some(trouble(reason)));
        assert_eq!(told(&status).0, expected);
        let retention = status.sinks[0].retention.as_ref().unwrap();
        assert_eq!(retention.kept.as_deref(), Some("30d"), "{reason:?}");
    }
}

#[test]
fn an_operator_that_starts_anew_says_what_the_one_before_said() {
    let mut policy = archiving(Some("30d"));
    assert_eq!(
        told(&status(&policy, None)).0,
        "Unknown Unknown RetentionPending"
    );
    for outcome in [
        known(place("30d", "30d")),
        trouble(Reason::RulesDenied),
        known(PlaceStanding {
            unacknowledged: Some(Unacknowledged::Nobody),
            ..place("30d", "Forever")
        }),
    ] {
        let before = status(&policy, Some(outcome));
        policy.status = Some(before.clone());
        assert_eq!(status(&policy, None).conditions, before.conditions);
    }
    // Not of another spec, nor of what was looked at for another one.
    policy.metadata.generation = Some(2);
    assert_eq!(
        told(&status(&policy, None)).0,
        "Unknown Unknown RetentionPending"
    );
    let other = Some(known(place("31d", "31d")));
    assert_eq!(
        told(&status(&policy, other)).0,
        "Unknown Unknown RetentionPending"
    );
}

#[test]
fn only_who_asks_is_told_that_nobody_sees_to_it() {
    let (short, message) = told(&status(&without_management(archiving(Some("30d"))), None));
    assert_eq!(short, "Unsupported False NotManaged");
    let ready = |status: &LoggingPolicyStatus| {
        let mut conditions = status.conditions.iter();
        let ready = conditions.find(|condition| condition.type_ == "Ready");
        ready.map(|ready| (ready.status.clone(), ready.reason.clone()))
    };
    assert!(
        message.contains("name an access key for its lifecycle rules in managementSecretRef"),
        "{message}"
    );
    // Who has asked for nothing is told that nobody has looked, and is not kept waiting for it.
    let unasked = status(&without_management(archiving(None)), None);
    let (short, message) = told(&unasked);
    assert_eq!(short, "Unknown Unknown NotManaged");
    assert!(
        message.contains("nobody sees to it, or has looked, that bucket logs keeps the logs for 30 days: name an access key"),
        "{message}"
    );
    let managed = status(&archiving(None), Some(known(place("30d", "30d"))));
    assert_eq!(ready(&unasked), ready(&managed));
}

#[test]
fn a_key_that_is_missing_holds_up_the_retention_alone() {
    let status = status_with(&archiving(None), None, &["agents"]);
    let (short, message) = told(&status);
    assert_eq!(short, "Unsupported False SecretMissing");
    assert!(
        message.contains("Secret katonic-logging/management does not exist"),
        "{message}"
    );
    let resolved = &status.conditions[1];
    assert_eq!(
        (resolved.type_.as_str(), resolved.status.as_str()),
        ("SecretsResolved", "True")
    );
}

#[test]
fn versions_and_locks_are_told() {
    let outcome = Outcome::Known(Standing {
        places: [(PREFIX.to_owned(), place("30d", "30d"))].into(),
        versioning: Versioning::Enabled,
        lock: Some(BucketLock {
            mode: Some("COMPLIANCE".into()),
            days: Some(365),
        }),
        limits: crate::retention::Limits::default(),
    });
    let (_, message) = told(&status(&archiving(Some("30d")), Some(outcome)));
    assert!(
        message.contains("what has expired is hidden, and deleted a day later"),
        "{message}"
    );
    assert!(
        message.contains("Object Lock (COMPLIANCE) holds each object for 365 days"),
        "{message}"
    );
}

#[test]
fn providers_that_are_known_to_keep_less_are_warned_about() {
    let sinks = |yaml: &str, retention: &str| {
        let mut policy = testing::policy("p");
        policy.spec.sinks = serde_saphyr::from_str(yaml).unwrap();
        policy.spec.retention = Some(retention.into());
        told(&status(&policy, None))
    };
    let loggly = "[{name: l, loggly: {tokenSecretRef: {name: splunk, key: token}}}]";
    let relic =
        "[{name: n, newRelic: {region: EU, licenseKeySecretRef: {name: splunk, key: token}}}]";
    let cloud = "[{name: s, splunk: {endpoint: 'https://http-inputs-a.splunkcloud.com', tokenSecretRef: {name: splunk, key: token}}}]";
    let splunk = "[{name: s, splunk: {endpoint: 'https://hec:8088', tokenSecretRef: {name: splunk, key: token}}}]";
    let http = "[{name: h, http: {url: 'https://h'}}]";
    for (yaml, retention, warns) in [
        (loggly, "7d", None),
        (
            loggly,
            "30d",
            Some("Lite and Standard keep 7 days, less than the 30d"),
        ),
        (relic, "365d", None),
        (
            relic,
            "Forever",
            Some("at most 7 years, less than the Forever"),
        ),
        (cloud, "90d", None),
        (cloud, "91d", Some("less than the 91d")),
        (splunk, "Forever", None),
        (http, "Forever", None),
    ] {
        let (short, message) = sinks(yaml, retention);
        assert_eq!(short, "ProviderManaged True ProviderManaged");
        match warns {
            Some(words) => assert!(message.contains(words), "{message}"),
            None => assert!(!message.contains("less than"), "{message}"),
        }
    }
}

#[test]
fn a_bucket_without_locks_is_told_where_the_policy_asks_for_them() {
    let mut policy = archiving(Some("30d"));
    let archive = policy.spec.sinks[0].object_storage.as_mut().unwrap();
    archive.s3.as_mut().unwrap().object_lock = Some(ObjectLock {
        mode: ObjectLockMode::Compliance,
        days: 7,
    });
    let (short, message) = told(&status(&policy, Some(known(place("30d", "30d")))));
    assert_eq!(short, "Drifted False LockUnsupported");
    assert!(
        message.contains("make it anew with Object Lock, or remove objectLock"),
        "{message}"
    );
    let locking = Outcome::Known(Standing {
        places: [(PREFIX.to_owned(), place("30d", "30d"))].into(),
        versioning: Versioning::Enabled,
        lock: Some(BucketLock {
            mode: Some("GOVERNANCE".into()),
            days: Some(3),
        }),
        limits: crate::retention::Limits::default(),
    });
    let (_, message) = told(&status(&policy, Some(locking)));
    assert!(
        message.contains("Object Lock (COMPLIANCE) holds each object for 7 days"),
        "{message}"
    );
}
