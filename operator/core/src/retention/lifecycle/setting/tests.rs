//! What is read of indexes and accounts, and what is made of it.

use super::*;

fn days(days: u32) -> NonZeroU32 {
    days.try_into().unwrap()
}

fn wanted(number: Option<u32>) -> BTreeMap<String, Option<Rule>> {
    let rule = number.map(|number| Rule {
        prefix: String::new(),
        days: days(number),
        noncurrent_days: None,
    });
    [(ID.to_owned(), rule)].into()
}

fn index(seconds: &str) -> Result<Setting, Malformed> {
    Setting::of_splunk_enterprise(&format!(
        r#"{{"entry": [{{"name": "platform", "content": {{"frozenTimePeriodInSecs": {seconds}, "maxTotalDataSizeMB": 500000}}}}]}}"#
    ))
}

#[test]
fn an_index_of_splunk_enterprise_counts_seconds() {
    for (seconds, expected) in [
        ("2592000", 30),
        ("\"2592000\"", 30),
        ("2592001", 31),
        ("188697600", 2184),
        ("3", 1),
    ] {
        let setting = index(seconds).unwrap();
        assert_eq!(setting.days(), Some(days(expected)), "{seconds}");
        assert_eq!(setting.most_megabytes, Some(500_000));
        assert_eq!(setting.most, Some(days(49_710)));
    }
    assert_eq!(
        index("2592000").unwrap().with(&wanted(Some(30))),
        Merged::Same
    );
    // A second more is not what is asked.
    for seconds in ["2592001", "2592000000", "86400"] {
        let changed = index(seconds).unwrap().with(&wanted(Some(30)));
        let Merged::Changed(changed) = changed else {
            panic!("{changed:?}");
        };
        assert_eq!(changed.days(), Some(days(30)));
        assert_eq!(changed.with(&wanted(Some(30))), Merged::Same);
    }
    assert_eq!(index("2592000").unwrap().with(&wanted(None)), Merged::Same);
}

#[test]
fn an_index_of_splunk_cloud_counts_days() {
    let setting = Setting::of_splunk_cloud(
        r#"{"name": "platform", "searchableDays": 90, "maxDataSizeMB": 0}"#,
    )
    .unwrap();
    assert_eq!(
        (setting.days(), setting.most, setting.most_megabytes),
        (Some(days(90)), None, None)
    );
}

#[test]
fn an_account_of_new_relic_has_a_rule_or_none_and_a_longest_time() {
    let account = |rule: &str| {
        Setting::of_new_relic(
            &format!(
                r#"{{"data": {{"actor": {{"account": {{"dataManagement": {{"eventRetentionRule": {rule}, "customizableRetention": {{"eventNamespaces": [{{"namespace": "APM", "maxRetentionInDays": 8}}, {{"namespace": "Log", "maxRetentionInDays": 395}}]}}}}}}}}}}}}"#
            ),
            "Log",
        )
    };
    let none = account("null").unwrap();
    assert_eq!(
        (none.days(), none.most, none.facts().count()),
        (None, Some(days(395)), 0)
    );
    let some = account(r#"{"namespace": "Log", "retentionInDays": 30}"#).unwrap();
    assert_eq!(some.days(), Some(days(30)));
}

#[test]
fn what_is_no_answer_is_refused() {
    for text in [
        "",
        "{}",
        "<html/>",
        r#"{"entry": []}"#,
        r#"{"data": null}"#,
        r#"{"searchableDays": 0}"#,
    ] {
        assert!(Setting::of_splunk_enterprise(text).is_err(), "{text}");
        assert!(Setting::of_splunk_cloud(text).is_err(), "{text}");
        assert!(Setting::of_new_relic(text, "Log").is_err(), "{text}");
    }
}
