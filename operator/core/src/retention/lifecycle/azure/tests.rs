//! Management policies as they are documented, with what nobody has heard of.

use super::*;
use crate::retention::lifecycle::Lifecycle;

const ID: &str = "katonicloggingapplication5c3e9a018a6c1f22";
const PREFIX: &str = "logs/platform/application/";

const POLICY: &str = r#"{"id": "x", "name": "DefaultManagementPolicy", "properties": {"lastModifiedTime": "2026-01-01T00:00:00Z", "policy": {"rules": [
 {"enabled": true, "name": "clean", "type": "Lifecycle", "definition": {"actions": {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": 7.0}}}, "filters": {"blobTypes": ["blockBlob"], "prefixMatch": ["tmp/"]}}},
 {"name": "cool",  "type": "Lifecycle", "definition": {"invented": 1e2, "actions": {"baseBlob": {"tierToCool": {"daysAfterModificationGreaterThan": 30}}}, "filters": {"blobTypes": ["blockBlob"]}}}
]}}}"#;

fn rule(days: u32, noncurrent_days: Option<u32>) -> Rule {
    Rule {
        prefix: PREFIX.to_owned(),
        days: days.try_into().unwrap(),
        noncurrent_days: noncurrent_days.map(|days| days.try_into().unwrap()),
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
fn rules_of_others_go_back_as_they_came() {
    let rules = Rules::parse(POLICY).unwrap();
    let before: Vec<&str> = rules.written().collect();
    assert!(before[1].contains(r#""invented": 1e2"#), "{before:?}");
    let with_ours = changed(&rules, Some(rule(30, Some(30))));
    let after: Vec<&str> = with_ours.written().collect();
    assert_eq!(after[..2], before[..]);
    assert_eq!(
        serde_json::from_str::<Value>(after[2]).unwrap(),
        json!({
            "enabled": true,
            "name": ID,
            "type": "Lifecycle",
            "definition": {
                "actions": {
                    "baseBlob": {"delete": {"daysAfterModificationGreaterThan": 30}},
                    "version": {"delete": {"daysAfterCreationGreaterThan": 30}},
                },
                "filters": {"blobTypes": ["blockBlob"], "prefixMatch": [PREFIX]},
            },
        })
    );
    let policy = with_ours.policy().unwrap().unwrap();
    assert!(
        policy.contains(before[1]) && policy.starts_with(r#"{"properties":{"policy":{"rules":["#)
    );
    assert_eq!(Rules::parse(&policy).unwrap(), with_ours);
    assert_eq!(
        with_ours.with(&wanted(Some(rule(30, Some(30))))),
        Merged::Same
    );
    assert_eq!(changed(&with_ours, None), rules);
    assert_eq!(Rules::default().policy().unwrap(), None);
}

#[test]
fn ours_is_put_right_when_somebody_changes_it() {
    let good = changed(&Rules::default(), Some(rule(30, None)));
    let text = good.policy().unwrap().unwrap();
    for (from, to) in [
        (":30", ":3"),
        ("\"enabled\":true", "\"enabled\":false"),
        (PREFIX, "logs/"),
        ("blockBlob\"", "blockBlob\",\"appendBlob\""),
        (
            "\"daysAfterModificationGreaterThan\"",
            "\"daysAfterCreationGreaterThan\"",
        ),
        (
            "\"filters\":{",
            "\"filters\":{\"blobIndexMatch\":[{\"name\":\"a\",\"op\":\"==\",\"value\":\"b\"}],",
        ),
    ] {
        let rules = Rules::parse(&text.replace(from, to)).unwrap();
        assert_ne!(rules, good, "{to}");
        assert_eq!(changed(&rules, Some(rule(30, None))), good, "{to}");
    }
    // The service may write numbers otherwise.
    let rules = Rules::parse(&text.replace(":30", ":30.0")).unwrap();
    assert_eq!(rules.with(&wanted(Some(rule(30, None)))), Merged::Same);
    // What says nothing changes nothing.
    let more = text.replace(
        "\"filters\":{",
        "\"filters\":{\"blobIndexMatch\":[],\"x\":null,",
    );
    let rules = Rules::parse(&more).unwrap();
    assert_eq!(rules.with(&wanted(Some(rule(30, None)))), Merged::Same);
}

#[test]
fn what_is_understood_of_a_rule() {
    let of = |actions: Value, filters: Value| {
        facts(
            &json!({"name": "a", "type": "Lifecycle", "definition": {"actions": actions, "filters": filters}}),
        )
    };
    let block = || json!({"blobTypes": ["blockBlob"]});
    for (delete, expiry) in [
        (
            json!({"daysAfterModificationGreaterThan": 7}),
            Expiry::Days(7),
        ),
        (
            json!({"daysAfterCreationGreaterThan": 7.5}),
            Expiry::Days(7),
        ),
        (
            json!({"daysAfterLastAccessTimeGreaterThan": 9, "daysAfterLastTierChangeGreaterThan": 3}),
            Expiry::Days(3),
        ),
        (json!({}), Expiry::Unknown),
    ] {
        let facts = of(json!({"baseBlob": {"delete": delete}}), block());
        assert_eq!(facts.expiry, Some(expiry), "{delete}");
        assert!(facts.enabled && !facts.is_elsewhere && facts.prefixes.is_empty());
    }
    assert_eq!(
        of(
            json!({"version": {"delete": {"daysAfterCreationGreaterThan": 1}}}),
            block()
        )
        .expiry,
        None
    );
    let delete = json!({"baseBlob": {"delete": {"daysAfterModificationGreaterThan": 7}}});
    assert!(of(delete.clone(), json!({"blobTypes": ["appendBlob"]})).is_elsewhere);
    let tagged = json!({"blobTypes": ["blockBlob"], "blobIndexMatch": [{"name": "a", "op": "==", "value": "b"}]});
    assert!(of(delete, tagged).is_elsewhere);
}

#[test]
fn an_account_takes_a_hundred_rules() {
    let one = r#"{"name":"a","type":"Lifecycle","definition":{}}"#;
    let text = format!(
        r#"{{"properties":{{"policy":{{"rules":[{}]}}}}}}"#,
        vec![one; MOST_RULES].join(",")
    );
    let full = Lifecycle::Azure(Rules::parse(&text).unwrap());
    assert_eq!(
        full.with(&wanted(Some(rule(30, None)))).unwrap(),
        Merged::TooMany
    );
}

#[test]
fn what_is_no_policy_is_refused() {
    for text in [
        "",
        "<html/>",
        "{}",
        r#"{"properties": {}}"#,
        r#"{"properties": {"policy": {"rules": {}}}}"#,
    ] {
        assert!(Rules::parse(text).is_err(), "{text}");
    }
    assert_eq!(
        versioning(r#"{"properties": {"isVersioningEnabled": true}}"#),
        Ok(Versioning::Enabled)
    );
    assert_eq!(versioning(r#"{"properties": {}}"#), Ok(Versioning::Never));
    assert!(versioning("{}").is_err() && versioning("").is_err());
}
