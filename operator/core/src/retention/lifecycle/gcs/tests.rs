//! Rules of Google's as they are documented, with what nobody has heard of.

use super::*;
use crate::retention::lifecycle::Lifecycle;

const ID: &str = "katonic-logging-application-5c3e9a018a6c1f22";
const PREFIX: &str = "platform/application/";

/// As the service answers it; spaces and unknown members as somebody may have written them.
const BUCKET: &str = r#"{
 "metageneration": "7",
 "versioning": {"enabled": true},
 "retentionPolicy": {"retentionPeriod": "86401", "effectiveTime": "2026-01-01T00:00:00Z", "isLocked": true},
 "lifecycle": {"rule": [
  {"action": {"type": "Delete"},  "condition": {"age": 7, "matchesPrefix": ["tmp/", "scratch/"]}, "invented": 1e2},
  {"condition": {"age": 30}, "action": {"storageClass": "NEARLINE", "type": "SetStorageClass"}}
 ]}
}"#;

fn rule(days: u32) -> Rule {
    Rule {
        prefix: PREFIX.to_owned(),
        days: days.try_into().unwrap(),
        noncurrent_days: None,
    }
}

fn wanted(rule: Option<Rule>) -> BTreeMap<String, Option<Rule>> {
    [(ID.to_owned(), rule)].into()
}

fn changed(rules: &Rules, rule: Option<Rule>) -> Rules {
    match rules.with(&wanted(rule)) {
        Merged::Changed(rules) => rules,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bucket_is_read_and_rules_of_others_go_back_as_they_came() {
    let bucket = Bucket::parse(BUCKET).unwrap();
    assert_eq!(bucket.metageneration, "7");
    assert_eq!(bucket.versioning, Versioning::Enabled);
    let lock = bucket.lock.unwrap();
    assert_eq!((lock.mode.as_deref(), lock.days), (Some("locked"), Some(2)));
    let before: Vec<&str> = bucket.rules.written().collect();
    assert!(before[0].contains(r#""invented": 1e2"#), "{before:?}");
    let with_ours = changed(&bucket.rules, Some(rule(30)));
    let after: Vec<&str> = with_ours.written().collect();
    assert_eq!(after[..2], before[..]);
    assert_eq!(
        serde_json::from_str::<Value>(after[2]).unwrap(),
        json!({
            "action": {"type": "Delete"},
            "condition": {"age": 30, "matchesPrefix": [PREFIX, format!("{PREFIX}{ID}")]},
        })
    );
    let patch = with_ours.patch().unwrap();
    assert!(patch.contains(before[0]) && patch.starts_with(r#"{"lifecycle":{"rule":["#));
    assert_eq!(with_ours.with(&wanted(Some(rule(30)))), Merged::Same);
    assert_eq!(changed(&with_ours, None), bucket.rules);
    let none = Bucket::parse(r#"{"metageneration": "1"}"#).unwrap();
    assert_eq!(none.rules.patch().unwrap(), r#"{"lifecycle":{"rule":[]}}"#);
    assert_eq!((none.versioning, none.lock), (Versioning::Never, None));
}

#[test]
fn ours_is_told_by_its_second_prefix_and_put_right_when_somebody_changes_it() {
    let good = changed(&Rules::default(), Some(rule(30)));
    let text = good.patch().unwrap();
    for (from, to) in [
        ("\"age\":30", "\"age\":3"),
        ("\"age\":30", "\"age\":30,\"isLive\":true"),
        ("[\"platform/application/\",", "[\"platform/\","),
        ("[\"platform/application/\",", "["),
        (
            "\"Delete\"",
            "\"SetStorageClass\",\"storageClass\":\"NEARLINE\"",
        ),
    ] {
        let bucket = text
            .replacen('{', "{\"metageneration\":\"1\",", 1)
            .replace(from, to);
        let rules = Bucket::parse(&bucket).unwrap().rules;
        assert_ne!(rules, good, "{to}");
        assert_eq!(changed(&rules, Some(rule(30))), good, "{to}");
    }
    // The same without it is somebody else's.
    let theirs = format!(
        r#"{{"metageneration":"1","lifecycle":{{"rule":[{{"action":{{"type":"Delete"}},"condition":{{"age":30,"matchesPrefix":["{PREFIX}"]}}}}]}}}}"#
    );
    let rules = Bucket::parse(&theirs).unwrap().rules;
    assert_eq!(changed(&rules, Some(rule(30))).facts().count(), 2);
    assert_eq!(rules.with(&wanted(None)), Merged::Same);
}

#[test]
fn what_is_understood_of_a_rule() {
    let delete =
        |condition: Value| facts(&json!({"action": {"type": "Delete"}, "condition": condition}));
    for (condition, expiry) in [
        (json!({"age": 7}), Some(Expiry::Days(7))),
        (
            json!({"age": 7, "createdBefore": "2026-01-01"}),
            Some(Expiry::Days(7)),
        ),
        (
            json!({"createdBefore": "2026-01-01"}),
            Some(Expiry::Before("2026-01-01".into())),
        ),
        (json!({"matchesSuffix": [".gz"]}), Some(Expiry::Days(0))),
        (
            json!({"isLive": true, "age": 1, "invented": 2}),
            Some(Expiry::Days(1)),
        ),
        (json!({"age": "soon"}), Some(Expiry::Unknown)),
        (json!({"age": 7, "isLive": false}), None),
        (json!({"numNewerVersions": 2}), None),
        (json!({"daysSinceNoncurrentTime": 0}), None),
        (json!({"noncurrentTimeBefore": "2026-01-01"}), None),
    ] {
        assert_eq!(delete(condition.clone()).expiry, expiry, "{condition}");
    }
    assert!(delete(json!({"daysSinceCustomTime": 1})).is_elsewhere);
    let moves = facts(&json!({"action": {"type": "SetStorageClass"}, "condition": {"age": 1}}));
    assert_eq!(moves.expiry, None);
    let invented = facts(&json!({"action": {"type": "Burn"}, "condition": {"age": 1}}));
    assert_eq!(invented.expiry, Some(Expiry::Unknown));
}

#[test]
fn a_bucket_takes_a_hundred_rules() {
    let one = r#"{"action":{"type":"Delete"},"condition":{"age":1}}"#;
    let text = format!(
        r#"{{"metageneration":"1","lifecycle":{{"rule":[{}]}}}}"#,
        vec![one; MOST_RULES].join(",")
    );
    let full = Lifecycle::Gcs(Bucket::parse(&text).unwrap().rules);
    assert_eq!(full.with(&wanted(Some(rule(30)))).unwrap(), Merged::TooMany);
}

#[test]
fn what_is_no_bucket_is_refused() {
    for text in [
        "",
        "<html/>",
        "{}",
        r#"{"metageneration": 7}"#,
        r#"{"metageneration": "7", "lifecycle": {"rule": 1}}"#,
    ] {
        let error = Bucket::parse(text).unwrap_err().to_string();
        assert!(
            error.contains("it is not the JSON that is documented"),
            "{error}"
        );
    }
}
