//! What is decided about a bucket: nothing is deleted that nobody has agreed to, and nobody else's rule is touched.

use std::collections::BTreeMap;

use katonic_logging_crds::{
    LoggingPolicy, LoggingPolicyStatus, Logs, SecretKeyRef, SinkRetention, SinkStatus,
};

use super::*;
use crate::{
    candidate::Candidate,
    condition::Reason,
    credential::{Credential, Fault, Keyring, Lookup},
    installation::Proxies,
    names,
    policy::Policy,
    retention::lifecycle::{Lifecycle, s3::Configuration},
    testing,
};

const STORE: &str = "https://store.example.com:9000/logs/platform";
const APPLICATION: &str = "platform/application/";
const EXECUTIONS: &str = "platform/executions/";

fn days(days: u32) -> Retention {
    Retention::Days(days.try_into().unwrap())
}

/// A policy with an archive below `platform`.
fn policy(name: &str, retention: &str) -> LoggingPolicy {
    let mut policy = testing::policy(name);
    policy.spec.sinks = vec![testing::archive_sink("archive", "platform")];
    policy.spec.retention = Some(retention.to_owned());
    policy
}

fn executions(name: &str, retention: &str) -> LoggingPolicy {
    let mut policy = policy(name, retention);
    policy.spec.logs = Some(Logs::Execution);
    policy
}

fn acknowledging(mut policy: LoggingPolicy, retention: &str) -> LoggingPolicy {
    let annotation = names::ACKNOWLEDGE_RETENTION_ANNOTATION.to_owned();
    policy.metadata.annotations = Some([(annotation, retention.to_owned())].into());
    policy
}

/// With a status that says how long its logs were kept.
fn known(mut policy: LoggingPolicy, kept: &str, location: &str) -> LoggingPolicy {
    policy.status = Some(LoggingPolicyStatus {
        sinks: vec![SinkStatus {
            name: "archive".into(),
            kind: "objectStorage".into(),
            in_force: true,
            reason: "Configured".into(),
            message: None,
            delivery: None,
            losses: None,
            unidentified: None,
            retention: Some(SinkRetention {
                state: "Enforced".into(),
                reason: "Enforced".into(),
                kept: Some(kept.into()),
                location: Some(location.into()),
                message: String::new(),
            }),
        }],
        ..LoggingPolicyStatus::default()
    });
    policy
}

fn gathered_with(policies: &[LoggingPolicy], secrets: &[&str]) -> Custodies {
    let candidates: Vec<Candidate> = policies.iter().map(Candidate::readable).collect();
    let look_up = |name: &str, key: &str| {
        let secret = SecretKeyRef {
            name: name.to_owned(),
            key: key.to_owned(),
        };
        let value = match key {
            "key.json" => testing::SERVICE_ACCOUNT.to_owned(),
            "AZURE_STORAGE_KEY" => format!("{}==", "a".repeat(86)),
            key => format!("{name}-{}", key.replace('_', "-")),
        };
        let value = Credential::new(value.into_bytes());
        let is_there = secrets.contains(&name);
        let found = if is_there {
            Lookup::Found(value)
        } else {
            Lookup::SecretMissing
        };
        (secret, found)
    };
    let keys = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "key.json",
        "AZURE_STORAGE_KEY",
        "AZURE_TENANT_ID",
        "AZURE_CLIENT_ID",
        "AZURE_CLIENT_SECRET",
        "token",
    ];
    let lookups: BTreeMap<SecretKeyRef, Lookup> = ["agents", "management"]
        .iter()
        .flat_map(|name| keys.map(|key| look_up(name, key)))
        .collect();
    let usable = candidates
        .iter()
        .filter_map(|candidate| candidate.policy.as_ref().ok());
    let keyring = Keyring::open(
        usable.flat_map(|policy: &Policy| policy.needs().chain(policy.management_needs())),
        &lookups,
        "katonic-logging",
    );
    gather(&candidates, &keyring, &Proxies::default())
}

/// The custody of the only bucket.
fn custody(policies: &[LoggingPolicy]) -> Custody {
    let custodies = gathered_with(policies, &["agents", "management"]);
    assert_eq!(custodies.faults, BTreeMap::new());
    let mut buckets = custodies.buckets.into_values();
    let custody = buckets.next().unwrap();
    assert_eq!(buckets.next(), None);
    custody
}

fn seen(rules: &str) -> Seen {
    let text = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
    Seen {
        lifecycle: rules_of(&text),
        versioning: Versioning::Never,
        lock: None,
        logs: BTreeMap::new(),
    }
}

fn rules_of(text: &str) -> Lifecycle {
    Lifecycle::S3(Configuration::parse(text).unwrap())
}

fn foreign(id: &str, prefix: &str, action: &str) -> String {
    format!(
        "<Rule><ID>{id}</ID><Filter><Prefix>{prefix}</Prefix></Filter><Status>Enabled</Status>{action}</Rule>"
    )
}

fn after(days: u32) -> String {
    format!("<Expiration><Days>{days}</Days></Expiration>")
}

/// The bucket once this has been decided and written.
fn settled(custody: &Custody, seen: &Seen) -> (Seen, Decision) {
    let decision = decide(custody, seen).unwrap();
    let mut next = seen.clone();
    // There may be logs by then.
    next.logs.clear();
    if let Some(lifecycle) = &decision.write {
        next.lifecycle = lifecycle.clone();
    }
    let again = decide(custody, &next).unwrap();
    assert_eq!(again.write, None, "a second pass changes nothing");
    (next, decision)
}

/// The rules of a bucket of S3 as they are written.
fn written(seen: &Seen) -> &str {
    let Lifecycle::S3(configuration) = &seen.lifecycle else {
        panic!("it is not of S3");
    };
    configuration.as_str()
}

fn empty(mut seen: Seen, custody: &Custody) -> Seen {
    let asked = questions(custody, &seen.lifecycle);
    seen.logs = asked.into_iter().map(|prefix| (prefix, false)).collect();
    seen
}

#[test]
fn a_retention_is_days_or_for_ever() {
    for (text, retention) in [
        ("1d", days(1)),
        ("99999d", days(99_999)),
        ("Forever", Retention::Forever),
    ] {
        assert_eq!(text.parse(), Ok(retention));
        assert_eq!(retention.to_string(), text);
    }
    for text in [
        "", "0d", "030d", "30", "d", "-1d", "1h", "100000d", "forever", "30 d", "3٠d",
    ] {
        assert!(text.parse::<Retention>().is_err(), "{text}");
    }
    assert!(days(99_999) < Retention::Forever && days(7) < days(30));
}

#[test]
fn the_kinds_of_logs_have_retentions_of_their_own() {
    let mut application = policy("a", "30d");
    application.spec.retention = None;
    let mut execution = executions("e", "30d");
    execution.spec.retention = None;
    let custody = custody(&[application, execution]);
    assert_eq!(custody.wanted(APPLICATION), Some(days(30)));
    assert_eq!(custody.wanted(EXECUTIONS), Some(Retention::Forever));
    assert_eq!(
        custody.wanted("platform/unidentified/"),
        Some(Retention::Forever)
    );
}

#[test]
fn a_rule_is_written_where_there_are_no_logs_yet() {
    let custody = custody(&[policy("a", "30d")]);
    let bucket = empty(seen(&foreign("others", "tmp/", &after(1))), &custody);
    let (after, decision) = settled(&custody, &bucket);
    let place = &decision.standing.places[APPLICATION];
    assert_eq!((place.wanted, place.kept), (days(30), days(30)));
    assert_eq!(place.unacknowledged, None);
    assert_eq!(place.conflicts, []);
    let ours = after.lifecycle.rule(&place.rule).unwrap();
    assert_eq!(ours.prefixes, [APPLICATION]);
    assert!(
        place.rule.starts_with("katonic-logging-application-"),
        "{}",
        place.rule
    );
    assert_eq!(
        after.lifecycle.rules().next(),
        bucket.lifecycle.rules().next()
    );
}

#[test]
fn what_would_delete_logs_waits_until_somebody_says_that_it_may() {
    let asking = policy("a", "7d");
    let bucket = seen("");
    let waiting = custody(std::slice::from_ref(&asking));
    assert_eq!(questions(&waiting, &bucket.lifecycle), [APPLICATION]);
    let (_, decision) = settled(&waiting, &bucket);
    assert_eq!(decision.write, None);
    let place = &decision.standing.places[APPLICATION];
    assert_eq!((place.wanted, place.kept), (days(7), Retention::Forever));
    assert_eq!(place.unacknowledged, Some(Unacknowledged::Nobody));
    // Another number of days is no agreement to this one.
    let other = custody(&[acknowledging(asking.clone(), "30d")]);
    assert_eq!(settled(&other, &bucket).1.write, None);
    let agreed = custody(&[acknowledging(asking, "7d")]);
    assert_eq!(questions(&agreed, &bucket.lifecycle), [""; 0]);
    let (_, decision) = settled(&agreed, &bucket);
    assert_eq!(decision.standing.places[APPLICATION].kept, days(7));
}

#[test]
fn to_keep_longer_needs_no_agreement() {
    let month = custody(&[policy("a", "30d")]);
    let (bucket, _) = settled(&month, &empty(seen(""), &month));
    let year = custody(&[policy("a", "365d")]);
    assert_eq!(questions(&year, &bucket.lifecycle), [""; 0]);
    let (bucket, decision) = settled(&year, &bucket);
    assert_eq!(decision.standing.places[APPLICATION].kept, days(365));
    let forever = custody(&[policy("a", "Forever")]);
    let (bucket, decision) = settled(&forever, &bucket);
    assert_eq!(
        decision.standing.places[APPLICATION].kept,
        Retention::Forever
    );
    assert_eq!(bucket.lifecycle.rules().count(), 0);
    // And back again it does.
    let (_, decision) = settled(&month, &bucket);
    assert_eq!(
        decision.standing.places[APPLICATION].kept,
        Retention::Forever
    );
}

#[test]
fn drift_is_repaired_without_asking_again() {
    let location = STORE;
    let custody = custody(&[known(policy("a", "30d"), "30d", location)]);
    let (good, _) = settled(&custody, &seen(""));
    let id = custody.places[APPLICATION].rule.clone();
    for (from, to) in [
        ("<Days>30<", "<Days>365<"),
        ("<Days>30<", "<Days>1<"),
        ("Enabled", "Disabled"),
    ] {
        let text = written(&good).replace(from, to);
        let bad = Seen {
            lifecycle: rules_of(&text),
            ..good.clone()
        };
        let (repaired, decision) = settled(&custody, &bad);
        assert_eq!(repaired.lifecycle, good.lifecycle, "{to}");
        assert_eq!(decision.standing.places[APPLICATION].rule, id);
    }
    // What was known of another bucket says nothing of this one.
    let elsewhere = "https://store.example.com:9000/logs/other";
    let moved = super::tests::custody(&[known(policy("a", "30d"), "30d", elsewhere)]);
    assert_eq!(settled(&moved, &seen("")).1.write, None);
}

#[test]
fn of_two_policies_of_one_place_the_longer_holds() {
    let both = custody(&[policy("a", "30d"), policy("b", "90d")]);
    let (bucket, decision) = settled(&both, &empty(seen(""), &both));
    let place = &decision.standing.places[APPLICATION];
    assert_eq!(place.kept, days(90));
    assert_eq!(place.longest, ["b".to_owned()].into());
    assert_eq!(bucket.lifecycle.rules().count(), 1);
    // The longer one is deleted: that alone deletes nothing.
    let alone = custody(&[known(policy("a", "30d"), "90d", STORE)]);
    let (bucket, decision) = settled(&alone, &bucket);
    let place = &decision.standing.places[APPLICATION];
    assert_eq!((place.kept, place.wanted), (days(90), days(30)));
    assert_eq!(place.unacknowledged, Some(Unacknowledged::Nobody));
    let agreed = custody(&[acknowledging(
        known(policy("a", "30d"), "90d", STORE),
        "30d",
    )]);
    let (_, decision) = settled(&agreed, &bucket);
    assert_eq!(decision.standing.places[APPLICATION].kept, days(30));
}

/// The same bucket at another address.
fn at(mut policy: LoggingPolicy, endpoint: &str) -> LoggingPolicy {
    let store = policy.spec.sinks[0].object_storage.as_mut();
    let s3 = store.and_then(|store| store.s3.as_mut()).unwrap();
    s3.endpoint = Some(endpoint.to_owned());
    policy
}

#[test]
fn an_address_is_the_same_in_each_of_its_forms() {
    for endpoint in [
        "https://store.example.com:9000/",
        "https://Store.Example.COM:9000",
        "https://store.example.com.:9000",
    ] {
        let policies = [policy("a", "30d"), at(policy("b", "90d"), endpoint)];
        let custody = custody(&policies);
        assert_eq!(custody.wanted(APPLICATION), Some(days(90)), "{endpoint}");
        assert!(custody.namesakes.is_empty(), "{endpoint}");
    }
    let own_port = [("https://s.example.com", 443), ("http://s.example.com", 80)];
    for (endpoint, port) in own_port {
        let policies = [
            at(policy("a", "30d"), endpoint),
            at(policy("b", "90d"), &format!("{endpoint}:{port}")),
        ];
        let buckets = gathered_with(&policies, &["agents", "management"]).buckets;
        assert_eq!(buckets.len(), 1, "{endpoint}");
    }
}

#[test]
fn of_a_bucket_under_two_addresses_the_longer_holds_at_both() {
    for endpoint in [
        "http://store.example.com:9000",
        "https://store.example.com",
        "https://10.0.0.1:9000",
        "https://logs.s3.eu-central-1.amazonaws.com",
    ] {
        let policies = [policy("short", "30d"), at(policy("long", "90d"), endpoint)];
        let gathered = gathered_with(&policies, &["agents", "management"]);
        assert_eq!(gathered.buckets.len(), 2, "{endpoint}");
        for custody in gathered.buckets.values() {
            let (_, decision) = settled(custody, &empty(seen(""), custody));
            let place = &decision.standing.places[APPLICATION];
            assert_eq!(place.kept, days(90), "{endpoint}");
            assert_eq!(place.longest, ["long".to_owned()].into());
        }
        let of_short = &gathered.buckets[&BucketId {
            kind: Kind::S3,
            endpoint: "https://store.example.com:9000".into(),
            name: "logs".into(),
        }];
        let (_, decision) = settled(of_short, &empty(seen(""), of_short));
        let place = &decision.standing.places[APPLICATION];
        assert_eq!(place.address.as_deref(), Some(endpoint));
    }
}

#[test]
fn what_is_asked_at_another_address_lengthens_and_makes_no_rule_of_its_own() {
    let elsewhere = "https://10.0.0.1:9000";
    let custody_here = |policies: &[LoggingPolicy]| {
        let buckets = gathered_with(policies, &["agents", "management"]).buckets;
        let mut here = buckets.into_values();
        here.find(|custody| custody.id.endpoint.starts_with("https://store."))
            .unwrap()
    };
    // Executions are kept there, and nobody archives them here.
    let here = custody_here(&[policy("a", "30d"), at(executions("b", "7d"), elsewhere)]);
    let (_, decision) = settled(&here, &empty(seen(""), &here));
    assert_eq!(
        decision.standing.places.keys().collect::<Vec<_>>(),
        [APPLICATION]
    );
    assert_eq!(decision.standing.places[APPLICATION].kept, days(30));
    // Another prefix is another place.
    let mut other = at(policy("b", "90d"), elsewhere);
    other.spec.sinks = vec![testing::archive_sink("archive", "other")];
    let here = custody_here(&[policy("a", "30d"), at(other, elsewhere)]);
    assert_eq!(here.wanted(APPLICATION), Some(days(30)));
    // Nor does who looks after nothing there ask for nothing.
    let mut unmanaged = at(policy("b", "Forever"), elsewhere);
    let store = unmanaged.spec.sinks[0].object_storage.as_mut();
    let s3 = store.and_then(|store| store.s3.as_mut()).unwrap();
    s3.management_secret_ref = None;
    let here = custody_here(&[policy("a", "30d"), unmanaged]);
    assert_eq!(here.wanted(APPLICATION), Some(Retention::Forever));
}

#[test]
fn nothing_is_kept_shorter_while_a_policy_cannot_be_used() {
    let mut broken = policy("b", "30d");
    broken.spec.sinks.clear();
    let agreed = acknowledging(policy("a", "7d"), "7d");
    let custody = custody(&[agreed, broken]);
    let (_, decision) = settled(&custody, &seen(""));
    let place = &decision.standing.places[APPLICATION];
    assert_eq!(place.kept, Retention::Forever);
    assert_eq!(
        place.unacknowledged,
        Some(Unacknowledged::Unusable("b".into()))
    );
    // Where there is nothing that could be deleted, it is no obstacle.
    let (_, decision) = settled(&custody, &empty(seen(""), &custody));
    assert_eq!(decision.standing.places[APPLICATION].kept, days(7));
}

/// S3 deletes what any rule says, also below a deeper prefix.
#[test]
fn a_place_is_kept_as_long_as_those_in_it() {
    let mut outer = policy("outer", "7d");
    outer.spec.sinks = vec![testing::archive_sink("archive", "")];
    let mut inner = executions("inner", "Forever");
    inner.spec.sinks = vec![testing::archive_sink("archive", "application")];
    let custody = custody(&[outer, inner]);
    assert_eq!(custody.wanted("application/"), Some(Retention::Forever));
    let (_, decision) = settled(&custody, &empty(seen(""), &custody));
    assert_eq!(decision.write, None);
    assert_eq!(
        decision.standing.places["application/"].longest,
        ["inner".to_owned()].into()
    );
}

#[test]
fn rules_of_others_that_delete_sooner_are_named_and_left_alone() {
    let custody = custody(&[executions("e", "Forever")]);
    for (rule, expected) in [
        (foreign("all", "", &after(400)), Some("all deletes all that is there after 400 days")),
        (foreign("above", "plat", &after(1)), Some("above deletes what begins with plat after 1 day")),
        (foreign("part", "platform/executions/63", &after(9)), Some("part deletes what begins with platform/executions/63 after 9 days")),
        (foreign("then", "", "<Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration>"), Some("then deletes all that is there from 2030-01-01T00:00:00Z on")),
        (foreign("odd", "", "<Expiration><Weeks>1</Weeks></Expiration>"), Some("odd deletes all that is there, and it cannot be read when")),
        (foreign("", "", &after(1)), Some("number 1 (it has no id)")),
        ("<Rule><Prefix/><Status>Enabled</Status><Expiration><Days>5</Days></Expiration></Rule>".into(), Some("number 1 (it has no id)")),
        ("<Rule><ID>big</ID><Filter><ObjectSizeGreaterThan>500</ObjectSizeGreaterThan></Filter><Status>Enabled</Status><Expiration><Days>5</Days></Expiration></Rule>".into(), Some("big deletes")),
        ("<Rule><ID>and</ID><Filter><And><Prefix>platform/</Prefix><ObjectSizeLessThan>500</ObjectSizeLessThan></And></Filter><Status>Enabled</Status><Expiration><Days>5</Days></Expiration></Rule>".into(), Some("and deletes what begins with platform/")),
        (foreign("katonic-logging-of-another-cluster", "platform/", &after(5)), Some("katonic-logging-of-another-cluster deletes")),
        (foreign("elsewhere", "platform/application/", &after(1)), None),
        (foreign("colder", "", "<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>"), None),
        (foreign("markers", "", "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"), None),
        (foreign("old versions", "", "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>"), None),
        (foreign("off", "", &after(1)).replace("Enabled", "Disabled"), None),
        ("<Rule><ID>tagged</ID><Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter><Status>Enabled</Status><Expiration><Days>5</Days></Expiration></Rule>".into(), None),
    ] {
        let (_, decision) = settled(&custody, &seen(&rule));
        assert_eq!(decision.write, None, "{rule}");
        let conflicts = &decision.standing.places[EXECUTIONS].conflicts;
        let told: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
        match expected {
            Some(expected) => assert!(told.len() == 1 && told[0].contains(expected), "{told:?}"),
            None => assert_eq!(told, [""; 0], "{rule}"),
        }
    }
}

#[test]
fn rules_of_others_that_delete_later_are_no_conflict() {
    let custody = custody(&[policy("a", "30d")]);
    let conflicts = |days: u32| {
        let seen = empty(seen(&foreign("others", "", &after(days))), &custody);
        let (_, decision) = settled(&custody, &seen);
        decision.standing.places[APPLICATION].conflicts.len()
    };
    assert_eq!((conflicts(29), conflicts(30), conflicts(31)), (1, 0, 0));
}

#[test]
fn where_a_bucket_keeps_versions_the_rule_deletes_them_too() {
    let custody = custody(&[policy("a", "30d")]);
    for versioning in [Versioning::Enabled, Versioning::Suspended] {
        let bucket = Seen {
            versioning,
            ..empty(seen(""), &custody)
        };
        let (bucket, _) = settled(&custody, &bucket);
        assert!(written(&bucket).contains("<NoncurrentDays>1</NoncurrentDays>"));
    }
}

/// Whoever may write can put a marker or another version in front of an object on its first day.
#[test]
fn versions_of_what_proves_something_are_kept_for_as_long_as_it_was_to_be() {
    let custody = custody(&[policy("a", "30d"), executions("e", "90d")]);
    let bucket = Seen {
        versioning: Versioning::Enabled,
        ..empty(seen(""), &custody)
    };
    let (bucket, _) = settled(&custody, &bucket);
    let Lifecycle::S3(configuration) = &bucket.lifecycle else {
        panic!("a bucket of S3");
    };
    let days = |folder: &str| {
        let mut rules = configuration.written();
        let rule = rules
            .find(|rule| rule.contains(&format!("{folder}/</Prefix>")))
            .unwrap();
        let (_, rest) = rule.split_once("<NoncurrentDays>").unwrap();
        rest.split('<').next().unwrap().to_owned()
    };
    assert_eq!(days("application"), "1");
    assert_eq!(days("executions"), "90");
    assert_eq!(days("unidentified"), "90");
    // What is kept for ever has no rule at all.
    let custody = self::custody(&[executions("e", "Forever")]);
    let bucket = Seen {
        versioning: Versioning::Enabled,
        ..empty(seen(""), &custody)
    };
    let (bucket, _) = settled(&custody, &bucket);
    assert!(!written(&bucket).contains("Noncurrent"));
}

#[test]
fn a_bucket_that_is_full_keeps_its_rules_and_ours_says_so() {
    let rules: String = (0..1_000)
        .map(|number| foreign(&number.to_string(), "tmp/", &after(1)))
        .collect();
    let custody = custody(&[policy("a", "30d"), executions("e", "Forever")]);
    let (_, decision) = settled(&custody, &empty(seen(&rules), &custody));
    assert_eq!(decision.write, None);
    let place = &decision.standing.places[APPLICATION];
    assert!(place.is_full && place.kept == Retention::Forever);
    assert!(!decision.standing.places[EXECUTIONS].is_full);
}

#[test]
fn a_bucket_is_looked_after_with_the_key_of_the_operator_and_for_all_who_archive_there() {
    let mut silent = policy("b", "90d");
    let store = silent.spec.sinks[0].object_storage.as_mut().unwrap();
    store.s3.as_mut().unwrap().management_secret_ref = None;
    let custody = custody(&[policy("a", "30d"), silent.clone()]);
    assert_eq!(custody.wanted(APPLICATION), Some(days(90)));
    let Identity::AccessKey { id, .. } = &custody.access.identity else {
        panic!("it is not of S3");
    };
    assert_eq!(id.expose(), b"management-AWS-ACCESS-KEY-ID");
    assert!(!format!("{custody:?}").contains("management-AWS"));
    assert_eq!(gathered_with(&[silent], &["agents"]), Custodies::default());
}

#[test]
fn a_key_that_is_missing_is_told_of_the_sink_that_names_it() {
    let custodies = gathered_with(&[policy("a", "30d")], &["agents"]);
    assert!(custodies.buckets.is_empty());
    let (fault, message) = &custodies.faults[&("a".to_owned(), "archive".to_owned())];
    assert_eq!(*fault, Fault::SecretMissing);
    assert!(
        message.contains("Secret katonic-logging/management does not exist"),
        "{message}"
    );
    // That of the agents is not needed for it.
    assert!(
        gathered_with(&[policy("a", "30d")], &["management"])
            .faults
            .is_empty()
    );
}

#[test]
fn what_was_known_before_is_no_change_of_what_is_asked() {
    let before = custody(&[policy("a", "30d")]);
    let told = custody(&[known(policy("a", "30d"), "30d", STORE)]);
    assert!(before != told && before.asks_the_same(&told));
    assert!(!before.asks_the_same(&custody(&[policy("a", "31d")])));
}

#[test]
fn each_refusal_of_a_store_says_what_to_do() {
    let bucket = BucketId {
        kind: Kind::S3,
        endpoint: "https://store.example.com".into(),
        name: "logs".into(),
    };
    for (action, status, code, says) in [
        (
            Action::ReadRules,
            404,
            "NoSuchBucket",
            "there is no bucket logs: create it",
        ),
        (
            Action::ReadRules,
            403,
            "AccessDenied",
            "s3:GetLifecycleConfiguration on arn:aws:s3:::logs",
        ),
        (
            Action::WriteRules,
            403,
            "AccessDenied",
            "s3:PutLifecycleConfiguration on arn:aws:s3:::logs",
        ),
        (Action::List, 403, "", "they allow s3:ListBucket"),
        (
            Action::ReadRules,
            403,
            "RequestTimeTooSkewed",
            "set the node's clock",
        ),
        (
            Action::ReadRules,
            403,
            "SignatureDoesNotMatch",
            "correct the Secret of managementSecretRef",
        ),
        (
            Action::ReadRules,
            301,
            "PermanentRedirect",
            "not in the region eu-central-1",
        ),
        (
            Action::WriteRules,
            501,
            "NotImplemented",
            "this store has no lifecycle rules",
        ),
        (
            Action::WriteRules,
            400,
            "MalformedXML",
            "only another store understands",
        ),
        (Action::ReadRules, 503, "SlowDown", "it is asked again"),
        (Action::ReadRules, 404, "", "no store that speaks S3"),
    ] {
        let refusal = Refusal {
            status,
            code,
            region: "eu-central-1",
        };
        let trouble = Trouble::of(action, &bucket, refusal);
        assert!(trouble.message.contains(says), "{trouble:?}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn each_refusal_of_google_and_azure_says_what_to_do() {
    for (kind, action, status, code, reason, says) in [
        (
            Kind::Gcs,
            Action::ReadRules,
            404,
            "notFound",
            Reason::NoSuchBucket,
            "there is no bucket logs",
        ),
        (
            Kind::Gcs,
            Action::ReadRules,
            403,
            "forbidden",
            Reason::RulesDenied,
            "storage.buckets.get on gs://logs",
        ),
        (
            Kind::Gcs,
            Action::WriteRules,
            403,
            "forbidden",
            Reason::RulesDenied,
            "storage.buckets.update on gs://logs",
        ),
        (
            Kind::Gcs,
            Action::List,
            403,
            "forbidden",
            Reason::RulesDenied,
            "storage.objects.list on gs://logs",
        ),
        (
            Kind::Gcs,
            Action::ReadRules,
            401,
            "authError",
            Reason::RulesDenied,
            "correct the Secret",
        ),
        (
            Kind::Gcs,
            Action::WriteRules,
            400,
            "invalid",
            Reason::RulesRefused,
            "not valid any more",
        ),
        (
            Kind::Gcs,
            Action::WriteRules,
            429,
            "rateLimitExceeded",
            Reason::StoreUnreachable,
            "asked again",
        ),
        (
            Kind::Gcs,
            Action::ReadRules,
            302,
            "",
            Reason::StoreMisconfigured,
            "is not Google Cloud Storage",
        ),
        (
            Kind::Azure,
            Action::ReadRules,
            404,
            "ResourceNotFound",
            Reason::NoSuchBucket,
            "correct account, subscriptionId or resourceGroup",
        ),
        (
            Kind::Azure,
            Action::List,
            404,
            "ContainerNotFound",
            Reason::NoSuchBucket,
            "correct container",
        ),
        (
            Kind::Azure,
            Action::ReadRules,
            403,
            "AuthorizationFailed",
            Reason::RulesDenied,
            "managementPolicies/read on storage account logs",
        ),
        (
            Kind::Azure,
            Action::WriteRules,
            403,
            "AuthorizationFailed",
            Reason::RulesDenied,
            "managementPolicies/write and delete",
        ),
        (
            Kind::Azure,
            Action::ReadVersioning,
            403,
            "AuthorizationFailed",
            Reason::RulesDenied,
            "blobServices/read",
        ),
        (
            Kind::Azure,
            Action::List,
            403,
            "AuthorizationPermissionMismatch",
            Reason::RulesDenied,
            "containers/blobs/read",
        ),
        (
            Kind::Azure,
            Action::ReadRules,
            401,
            "InvalidAuthenticationToken",
            Reason::RulesDenied,
            "authorityHost",
        ),
        (
            Kind::Azure,
            Action::WriteRules,
            400,
            "InvalidRequestPropertyValue",
            Reason::RulesRefused,
            "not valid any more",
        ),
        (
            Kind::Azure,
            Action::WriteRules,
            409,
            "Conflict",
            Reason::StoreUnreachable,
            "asked again",
        ),
        (
            Kind::Azure,
            Action::ReadRules,
            400,
            "",
            Reason::StoreMisconfigured,
            "is not Azure",
        ),
        (
            Kind::SplunkEnterprise,
            Action::ReadRules,
            401,
            "",
            Reason::RulesDenied,
            "correct the Secret",
        ),
        (
            Kind::SplunkEnterprise,
            Action::WriteRules,
            403,
            "",
            Reason::RulesDenied,
            "indexes_edit",
        ),
        (
            Kind::SplunkEnterprise,
            Action::ReadRules,
            404,
            "",
            Reason::NoSuchIndex,
            "there is no index logs there",
        ),
        (
            Kind::SplunkCloud,
            Action::WriteRules,
            400,
            "400-bad-request",
            Reason::RulesRefused,
            "set it by hand",
        ),
        (
            Kind::SplunkCloud,
            Action::WriteRules,
            424,
            "",
            Reason::StoreUnreachable,
            "asked again",
        ),
        (
            Kind::SplunkCloud,
            Action::ReadRules,
            301,
            "",
            Reason::StoreMisconfigured,
            "does not manage Splunk",
        ),
        (
            Kind::NewRelic,
            Action::ReadRules,
            401,
            "",
            Reason::RulesDenied,
            "store a user key, not a license key",
        ),
        (
            Kind::NewRelic,
            Action::WriteRules,
            200,
            "ACCESS_DENIED",
            Reason::RulesDenied,
            "correct accountId",
        ),
        (
            Kind::NewRelic,
            Action::WriteRules,
            200,
            "INVALID_INPUT",
            Reason::RulesRefused,
            "set it by hand",
        ),
        (
            Kind::NewRelic,
            Action::ReadRules,
            200,
            "SERVER_ERROR",
            Reason::StoreUnreachable,
            "asked again",
        ),
        (
            Kind::NewRelic,
            Action::ReadRules,
            404,
            "",
            Reason::StoreMisconfigured,
            "is not NerdGraph",
        ),
    ] {
        let bucket = BucketId {
            kind,
            endpoint: "https://store.example.com".into(),
            name: "logs".into(),
        };
        let refusal = Refusal {
            status,
            code,
            region: "",
        };
        let trouble = Trouble::of(action, &bucket, refusal);
        assert_eq!(trouble.reason, reason, "{trouble:?}");
        assert!(trouble.message.contains(says), "{trouble:?}");
        let refused = Trouble::no_token(
            &bucket,
            Refusal {
                status: 400,
                code: "invalid_grant",
                region: "",
            },
        );
        assert!(
            refused.message.contains("HTTP 400 invalid_grant"),
            "{refused:?}"
        );
        let busy = Trouble::no_token(
            &bucket,
            Refusal {
                status: 503,
                code: "",
                region: "",
            },
        );
        assert_eq!(busy.reason, Reason::StoreUnreachable, "{busy:?}");
    }
}

/// A policy with an archive of each kind below `platform`, in one bucket and one account.
fn of_clouds(name: &str, retention: &str) -> LoggingPolicy {
    let mut policy = policy(name, retention);
    policy.spec.sinks = vec![
        testing::gcs_sink("google", "platform"),
        testing::azure_sink("azure", "platform"),
    ];
    policy
}

/// The custodies of Google's bucket and of Azure's account.
fn clouds(policies: &[LoggingPolicy]) -> [Custody; 2] {
    let custodies = gathered_with(policies, &["agents", "management"]);
    assert_eq!(custodies.faults, BTreeMap::new());
    let custodies: Vec<Custody> = custodies.buckets.into_values().collect();
    custodies.try_into().unwrap()
}

fn without_rules(custody: &Custody) -> Seen {
    Seen {
        lifecycle: match custody.id.kind {
            Kind::S3 => Lifecycle::S3(Configuration::default()),
            Kind::Gcs => Lifecycle::Gcs(lifecycle::gcs::Rules::default()),
            Kind::Azure => Lifecycle::Azure(lifecycle::azure::Rules::default()),
            _ => panic!("it has no rules"),
        },
        versioning: Versioning::Enabled,
        lock: None,
        logs: BTreeMap::new(),
    }
}

#[test]
fn a_cloud_is_decided_about_as_a_bucket_of_s3_is() {
    for (custody, place) in clouds(&[of_clouds("a", "30d"), of_clouds("b", "90d")])
        .iter()
        .zip([APPLICATION, "container/platform/application/"])
    {
        let bucket = without_rules(custody);
        // Logs that are there are not deleted without a word.
        let (_, decision) = settled(custody, &bucket);
        let standing = &decision.standing.places[place];
        assert_eq!(
            (standing.wanted, standing.kept),
            (days(90), Retention::Forever)
        );
        assert_eq!(standing.unacknowledged, Some(Unacknowledged::Nobody));
        let (after, decision) = settled(custody, &empty(bucket, custody));
        let standing = &decision.standing.places[place];
        assert_eq!(
            (standing.kept, standing.unacknowledged.as_ref()),
            (days(90), None)
        );
        assert_eq!(standing.longest, ["b".to_owned()].into());
        let ours = after.lifecycle.rule(&standing.rule).unwrap();
        assert!(ours.covers(place) && !ours.covers("container/other/"));
        assert_eq!(ours.expiry, Some(lifecycle::Expiry::Days(90)));
        assert!(standing.rule.starts_with("katonic"), "{}", standing.rule);
    }
}

#[test]
fn a_rule_of_anyone_in_a_cloud_that_would_delete_what_is_kept_for_ever_is_named() {
    let [google, azure] = clouds(&[of_clouds("a", "Forever")]);
    let mut bucket = without_rules(&google);
    let theirs = r#"{"metageneration": "1", "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 7, "matchesPrefix": ["tmp/", "plat"]}}]}}"#;
    bucket.lifecycle = Lifecycle::Gcs(lifecycle::gcs::Bucket::parse(theirs).unwrap().rules);
    let decision = decide(&google, &bucket).unwrap();
    assert_eq!(decision.write, None);
    let conflict = decision.standing.places[APPLICATION].conflicts[0].to_string();
    assert_eq!(
        conflict,
        "lifecycle rule number 1 (it has no id) deletes what begins with plat after 7 days"
    );
    let mut account = without_rules(&azure);
    let theirs = r#"{"properties": {"policy": {"rules": [{"enabled": true, "name": "clean", "type": "Lifecycle", "definition": {"actions": {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": 7}}}, "filters": {"blobTypes": ["blockBlob"]}}}]}}}"#;
    account.lifecycle = Lifecycle::Azure(lifecycle::azure::Rules::parse(theirs).unwrap());
    let decision = decide(&azure, &account).unwrap();
    let conflict =
        decision.standing.places["container/platform/application/"].conflicts[0].to_string();
    assert_eq!(
        conflict,
        "lifecycle rule clean deletes all that is there after 7 days"
    );
}

/// Every container of an account has its rules in the one policy of the account.
#[test]
fn containers_of_one_account_are_looked_after_together() {
    let mut other = of_clouds("b", "7d");
    let azure = other.spec.sinks[1].object_storage.as_mut().unwrap();
    azure.azure.as_mut().unwrap().container = "other".into();
    let [_, account] = clouds(&[of_clouds("a", "30d"), other]);
    let places: Vec<&String> = account.places.keys().collect();
    assert_eq!(
        places,
        [
            "container/platform/application/",
            "other/platform/application/"
        ]
    );
    assert_eq!(account.wanted("other/platform/application/"), Some(days(7)));
}

#[test]
fn credentials_for_a_cloud_are_not_shown() {
    for custody in clouds(&[of_clouds("a", "30d")]) {
        let shown = format!("{custody:?}");
        assert!(
            !shown.contains("PRIVATE KEY") && !shown.contains("management-AZURE"),
            "{shown}"
        );
    }
}

/// A policy that sends to the index `platform`, which the operator looks after with the Secret `management`.
fn to_index(name: &str, retention: &str) -> LoggingPolicy {
    let mut policy = policy(name, retention);
    let mut sink = testing::splunk_sink("https://hec.example.com:8088");
    sink.name = "archive".into();
    let splunk = sink.splunk.as_mut().unwrap();
    splunk.token_secret_ref.name = "agents".into();
    splunk.index = Some("platform".into());
    splunk.management_secret_ref = Some(SecretKeyRef {
        name: "management".into(),
        key: "token".into(),
    });
    splunk.management_endpoint = Some("https://splunk.example.com:8089".into());
    policy.spec.sinks = vec![sink];
    policy
}

fn index(days: u32) -> Seen {
    let text = format!(
        r#"{{"entry": [{{"content": {{"frozenTimePeriodInSecs": {}}}}}]}}"#,
        u64::from(days) * 24 * 60 * 60
    );
    Seen {
        lifecycle: Lifecycle::Setting(
            lifecycle::setting::Setting::of_splunk_enterprise(&text).unwrap(),
        ),
        versioning: Versioning::Never,
        lock: None,
        logs: BTreeMap::new(),
    }
}

fn written_days(decision: &Decision) -> Option<u32> {
    let Some(Lifecycle::Setting(setting)) = &decision.write else {
        return None;
    };
    setting.days().map(std::num::NonZeroU32::get)
}

#[test]
fn a_setting_is_raised_without_a_word_and_lowered_with_one() {
    let custody = custody(&[to_index("a", "90d")]);
    assert!(!format!("{custody:?}").contains("management-token"));
    let (_, decision) = settled(&custody, &index(30));
    assert_eq!(written_days(&decision), Some(90));
    let (_, decision) = settled(&custody, &index(2184));
    let place = &decision.standing.places[""];
    assert_eq!((decision.write.is_none(), place.kept), (true, days(2184)));
    assert_eq!(place.unacknowledged, Some(Unacknowledged::Nobody));
}

#[test]
fn a_setting_is_lowered_once_somebody_has_agreed_or_it_was_so_before() {
    let agreed = custody(&[acknowledging(to_index("a", "90d"), "90d")]);
    assert_eq!(written_days(&settled(&agreed, &index(2184)).1), Some(90));
    let location = "https://splunk.example.com:8089/platform/";
    let before = custody(&[known(to_index("a", "90d"), "90d", location)]);
    assert_eq!(written_days(&settled(&before, &index(2184)).1), Some(90));
}

#[test]
fn what_a_setting_cannot_be_is_told_and_left() {
    for (retention, kept) in [("Forever", 30), ("50000d", 30)] {
        let custody = custody(&[to_index("a", retention)]);
        let (_, decision) = settled(&custody, &index(30));
        let place = &decision.standing.places[""];
        assert!(decision.write.is_none() && place.is_beyond_reach);
        assert_eq!(
            (place.kept, place.unacknowledged.as_ref()),
            (days(kept), None)
        );
        assert_eq!(
            decision.standing.limits.days.map(std::num::NonZeroU32::get),
            Some(49_710)
        );
    }
}

#[test]
fn an_index_keeps_what_the_longest_asks_also_of_those_who_do_not_look_after_it() {
    let mut silent = to_index("b", "365d");
    let splunk = silent.spec.sinks[0].splunk.as_mut().unwrap();
    splunk.management_secret_ref = None;
    splunk.management_endpoint = None;
    let custody = custody(&[to_index("a", "30d"), silent.clone()]);
    assert_eq!(custody.wanted(""), Some(days(365)));
    let mut elsewhere = silent;
    elsewhere.spec.sinks[0].splunk.as_mut().unwrap().index = Some("other".into());
    let custody = super::tests::custody(&[to_index("a", "30d"), elsewhere]);
    assert_eq!(custody.wanted(""), Some(days(30)));
}
