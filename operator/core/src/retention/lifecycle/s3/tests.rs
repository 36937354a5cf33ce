//! Whatever a bucket's rules are, those of others come out as they went in, and ours as they are wanted.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::{super::OURS, *};
use crate::retention::lifecycle::Expiry;

const AMAZON: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule><ID>clean up</ID><Filter><And><Prefix>tmp/</Prefix><Tag><Key>a</Key><Value>&lt;b&gt;</Value></Tag></And></Filter><Status>Enabled</Status><Expiration><Days>7</Days></Expiration></Rule><!-- of the data team -->
<Rule><ID>later</ID><Filter/><Status>Disabled</Status><Invented><By>Amazon</By></Invented><Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition><Transition><Days>90</Days><StorageClass>DEEP_ARCHIVE</StorageClass></Transition></Rule></LifecycleConfiguration>"#;

fn rule(prefix: &str, days: u32) -> Rule {
    Rule {
        prefix: prefix.to_owned(),
        days: NonZeroU32::new(days).unwrap(),
        noncurrent_days: None,
    }
}

fn wanted(rules: &[(&str, Option<Rule>)]) -> BTreeMap<String, Option<Rule>> {
    let rules = rules.iter().cloned();
    rules.map(|(id, rule)| (id.to_owned(), rule)).collect()
}

fn changed(configuration: &Configuration, rules: &[(&str, Option<Rule>)]) -> Configuration {
    match configuration.with(&wanted(rules)).unwrap() {
        Merged::Changed(changed) => changed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rule_is_added_behind_those_that_are_there_and_nothing_else_changes() {
    let before = Configuration::parse(AMAZON).unwrap();
    let ours = ("katonic-logging-a", Some(rule("logs/application/", 30)));
    let after = changed(&before, std::slice::from_ref(&ours));
    let added = "<Rule><ID>katonic-logging-a</ID><Filter><Prefix>logs/application/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>30</Days></Expiration></Rule>";
    let expected = AMAZON.replace(
        "</LifecycleConfiguration>",
        &format!("{added}</LifecycleConfiguration>"),
    );
    assert_eq!(after.as_str(), expected);
    assert_eq!(after.with(&wanted(&[ours])).unwrap(), Merged::Same);
    let without = changed(&after, &[("katonic-logging-a", None)]);
    assert_eq!(without.as_str(), AMAZON);
}

#[test]
fn a_bucket_without_rules_gets_the_first_and_loses_the_last() {
    let none = Configuration::default();
    assert_eq!(none.with(&wanted(&[("a", None)])).unwrap(), Merged::Same);
    let one = changed(&none, &[("a", Some(rule("p/", 1)))]);
    assert_eq!(one.rules().count(), 1);
    let emptied = changed(&one, &[("a", None)]);
    assert_eq!(emptied.rules().count(), 0);
    for empty in [
        "<LifecycleConfiguration/>",
        "<LifecycleConfiguration></LifecycleConfiguration>",
    ] {
        let empty = Configuration::parse(empty).unwrap();
        assert_eq!(
            changed(&empty, &[("a", Some(rule("p/", 1)))])
                .rules()
                .count(),
            1
        );
    }
}

#[test]
fn what_is_understood_of_a_rule() {
    let configuration = Configuration::parse(AMAZON).unwrap();
    let rules: Vec<&Facts> = configuration.rules().collect();
    assert_eq!(rules[0].id.as_deref(), Some("clean up"));
    assert_eq!(
        (&rules[0].prefixes, rules[0].is_elsewhere, rules[0].enabled),
        (&vec!["tmp/".to_owned()], true, true)
    );
    assert_eq!(rules[0].expiry, Some(Expiry::Days(7)));
    assert_eq!((rules[1].prefixes.len(), rules[1].enabled), (0, false));
    assert_eq!(rules[1].expiry, None);
    for (expiration, expiry) in [
        (
            "<Date>2030-01-01T00:00:00Z</Date>",
            Some(Expiry::Date("2030-01-01T00:00:00Z".into())),
        ),
        (
            "<ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker>",
            None,
        ),
        ("<Days/>", None),
        ("<Days>soon</Days>", Some(Expiry::Unknown)),
        ("<Weeks>2</Weeks>", Some(Expiry::Unknown)),
        ("", None),
    ] {
        let text = format!(
            "<LifecycleConfiguration><Rule><Prefix>a</Prefix><Status>Enabled</Status><Expiration>{expiration}</Expiration></Rule></LifecycleConfiguration>"
        );
        let configuration = Configuration::parse(&text).unwrap();
        let facts = configuration.rules().next().unwrap();
        assert_eq!(facts.expiry, expiry, "{expiration}");
        assert_eq!(facts.prefixes, ["a"]);
        assert_eq!(configuration.rules[0].2, Form::Prefix);
    }
}

#[test]
fn a_rule_of_ours_that_somebody_has_changed_is_put_right() {
    let wanted_rule = Rule {
        noncurrent_days: Some(NonZeroU32::MIN),
        ..rule("p/", 30)
    };
    let ours = [("katonic-logging-a", Some(wanted_rule.clone()))];
    let good = changed(&Configuration::default(), &ours);
    for (from, to) in [
        ("<Days>30</Days>", "<Days>3</Days>"),
        ("Enabled", "Disabled"),
        ("<Prefix>p/</Prefix>", "<Prefix>p/q/</Prefix>"),
        ("<Filter><Prefix>p/</Prefix></Filter>", "<Filter/>"),
        (
            "<NoncurrentDays>1</NoncurrentDays>",
            "<NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>5</NewerNoncurrentVersions>",
        ),
        (
            "</Rule>",
            "<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition></Rule>",
        ),
        (
            "<Prefix>p/</Prefix>",
            "<And><Prefix>p/</Prefix><Tag><Key>a</Key><Value>b</Value></Tag></And>",
        ),
        (
            "</Rule>",
            "</Rule><Rule><ID>katonic-logging-a</ID><Status>Disabled</Status></Rule>",
        ),
    ] {
        let text = good.as_str().replacen(from, to, 1);
        let bad = Configuration::parse(&text).unwrap();
        assert_eq!(changed(&bad, &ours), good, "{text}");
    }
    // As some stores write the same.
    for (from, to) in [
        (
            "</Rule>",
            "<Transition/><AbortIncompleteMultipartUpload></AbortIncompleteMultipartUpload></Rule>",
        ),
        (
            "<Filter><Prefix>p/</Prefix></Filter>",
            "<Prefix>p/</Prefix>",
        ),
        ("<Days>30</Days>", "<Days> 30 </Days>"),
        ("<Filter>", "\n  <Filter>\n    "),
    ] {
        let text = good.as_str().replacen(from, to, 1);
        let same = Configuration::parse(&text).unwrap();
        assert_eq!(same.with(&wanted(&ours)).unwrap(), Merged::Same, "{text}");
    }
}

/// Amazon refuses both forms in one configuration: "Filter element can only be used in Lifecycle V2".
#[test]
fn among_rules_of_the_older_form_ours_has_it_too() {
    let old = Configuration::parse("<LifecycleConfiguration><Rule><ID>x</ID><Prefix>a/</Prefix><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>").unwrap();
    let ours = [("katonic-logging-a", Some(rule("p/", 30)))];
    let merged = changed(&old, &ours);
    assert!(!merged.as_str().contains("Filter"), "{}", merged.as_str());
    assert_eq!(merged.with(&wanted(&ours)).unwrap(), Merged::Same);
}

#[test]
fn a_bucket_takes_a_thousand_rules() {
    let rule_of =
        |number: usize| format!("<Rule><ID>{number}</ID><Filter/><Status>Disabled</Status></Rule>");
    let rules: Vec<String> = (0..MOST_RULES).map(rule_of).collect();
    let text = format!(
        "<LifecycleConfiguration>{}</LifecycleConfiguration>",
        rules.concat()
    );
    let full = Configuration::parse(&text).unwrap();
    let ours = wanted(&[("katonic-logging-a", Some(rule("p/", 30)))]);
    assert_eq!(full.with(&ours).unwrap(), Merged::TooMany);
    let instead = wanted(&[("7", Some(rule("p/", 30)))]);
    assert!(matches!(full.with(&instead).unwrap(), Merged::Changed(_)));
}

#[test]
fn what_is_no_configuration_is_refused() {
    for text in [
        "",
        "<html><body>hello</body></html>",
        "<Error><Code>AccessDenied</Code></Error>",
        "<LifecycleConfiguration><Rule>",
        "<x:LifecycleConfiguration xmlns:x='y'/>",
    ] {
        assert!(Configuration::parse(text).is_err(), "{text}");
    }
}

/// Rules as others may write them, with what nobody has heard of.
fn foreign() -> impl Strategy<Value = String> {
    let id = "[a-z &]{0,12}";
    let filter = prop_oneof![
        Just("<Filter/>".to_owned()),
        "[a-z/]{0,8}".prop_map(|prefix| format!("<Filter><Prefix>{prefix}</Prefix></Filter>")),
        Just("<Filter>\n <Tag><Key>k</Key><Value>v</Value></Tag></Filter>".to_owned()),
        Just("<Prefix>old/</Prefix>".to_owned()),
    ];
    let rest = prop_oneof![
        Just(String::new()),
        "[a-z]{1,6}"
            .prop_map(|text| format!("<Unknown a='&lt;{text}'><![CDATA[<Rule>{text}]]></Unknown>")),
        (0..400u32).prop_map(|days| format!("<Expiration><Days>{days}</Days></Expiration>")),
        Just(
            "<Transition><Days>0</Days></Transition><Transition><Days>9</Days></Transition>"
                .to_owned()
        ),
    ];
    (id, filter, any::<bool>(), rest).prop_map(|(id, filter, enabled, rest)| {
        let id = quick_xml::escape::escape(id);
        let status = if enabled { "Enabled" } else { "Disabled" };
        format!("<Rule><ID>{id}</ID>{filter}<Status>{status}</Status>{rest}</Rule>")
    })
}

fn ours() -> impl Strategy<Value = BTreeMap<String, Option<Rule>>> {
    let rule =
        ("[a-z]{1,4}/", 1..500u32, any::<bool>()).prop_map(|(prefix, days, versions)| Rule {
            noncurrent_days: versions.then_some(NonZeroU32::MIN),
            ..rule(&prefix, days)
        });
    let id = "[abc]".prop_map(|id| format!("{OURS}{id}"));
    proptest::collection::btree_map(id, proptest::option::of(rule), 0..4)
}

fn after(configuration: &Configuration, wanted: &BTreeMap<String, Option<Rule>>) -> Configuration {
    match configuration.with(wanted).unwrap() {
        Merged::Same => configuration.clone(),
        Merged::Changed(changed) => changed,
        Merged::TooMany => panic!("there are few"),
    }
}

proptest! {
    #[test]
    fn rules_of_others_come_out_as_they_went_in(
        rules in proptest::collection::vec(foreign(), 0..6),
        between in "[ \n]{0,3}",
        first in ours(),
        second in ours(),
    ) {
        let text = format!(
            "<?xml version='1.0'?><LifecycleConfiguration>{between}{}</LifecycleConfiguration>\n",
            rules.join(&between)
        );
        let mut configuration = Configuration::parse(&text).unwrap();
        for wanted in [&first, &second] {
            let merged = after(&configuration, wanted);
            let is_foreign = |facts: &&Facts| !facts.id.as_deref().unwrap_or_default().starts_with(OURS);
            let kept: Vec<&str> = merged
                .written()
                .zip(merged.rules())
                .filter(|(_, facts)| is_foreign(facts))
                .map(|(written, _)| written)
                .collect();
            prop_assert_eq!(&kept, &rules);
            for (id, rule) in wanted {
                let found: Vec<&Facts> = merged.rules().filter(|facts| facts.id.as_ref() == Some(id)).collect();
                match rule {
                    Some(rule) => prop_assert!(found.len() == 1 && found[0].is(rule)),
                    None => prop_assert!(found.is_empty()),
                }
            }
            prop_assert_eq!(merged.with(wanted).unwrap(), Merged::Same);
            configuration = merged;
        }
        // What others have is left exactly as it was once ours are gone.
        let none = first.keys().chain(second.keys()).map(|id| (id.clone(), None)).collect();
        let without = after(&configuration, &none);
        prop_assert_eq!(without.as_str(), text);
    }

    #[test]
    fn no_answer_makes_it_panic(text in ".{0,200}", inner in "[<>/a-zA-Z&; ]{0,80}") {
        let _ = Configuration::parse(&text);
        let _ = Configuration::parse(&format!("<LifecycleConfiguration><Rule>{inner}</Rule></LifecycleConfiguration>"));
    }
}
