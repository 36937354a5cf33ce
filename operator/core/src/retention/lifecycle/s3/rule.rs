//! One rule of a lifecycle configuration as S3 has it: read, and written.

use quick_xml::escape::escape;

use crate::retention::{
    lifecycle::{Expiry, Facts, Rule},
    xml::Element,
};

/// How a rule says which objects it is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// By a `Filter`.
    Filter,
    /// By a `Prefix` of its own: the form of before 2016, which is still there in old buckets.
    Prefix,
}

impl Form {
    /// That of a rule.
    pub(super) fn of(element: &Element) -> Self {
        if element.child("Filter").is_none() && element.child("Prefix").is_some() {
            Self::Prefix
        } else {
            Self::Filter
        }
    }
}

/// What a rule says.
pub(super) fn facts(element: &Element) -> Facts {
    let filter = element.child("Filter");
    let and = filter.and_then(|filter| filter.child("And"));
    let prefix = filter.and_then(|filter| filter.text_of("Prefix"));
    let prefix = prefix
        .or_else(|| and?.text_of("Prefix"))
        .or_else(|| element.text_of("Prefix"));
    let is_tagged = |element: &Element| element.child("Tag").is_some();
    Facts {
        id: element.text_of("ID").map(str::to_owned),
        enabled: element.text_of("Status") == Some("Enabled"),
        prefixes: prefix.into_iter().map(str::to_owned).collect(),
        is_elsewhere: filter.is_some_and(is_tagged) || and.is_some_and(is_tagged),
        expiry: element.child("Expiration").and_then(expiry),
        plain: plain(element),
    }
}

/// `Days` or `Date`; `ExpiredObjectDeleteMarker` alone deletes no object (Amazon S3: `LifecycleExpiration`).
fn expiry(expiration: &Element) -> Option<Expiry> {
    if let Some(days) = expiration.text_of("Days").filter(|text| !text.is_empty()) {
        return Some(days.parse().map_or(Expiry::Unknown, Expiry::Days));
    }
    if let Some(date) = expiration.text_of("Date").filter(|text| !text.is_empty()) {
        return Some(Expiry::Date(date.to_owned()));
    }
    let is_known = |child: &Element| child.name == "ExpiredObjectDeleteMarker" || child.is_empty();
    let is_known = expiration.children.iter().all(is_known) && expiration.text.trim().is_empty();
    (!is_known).then_some(Expiry::Unknown)
}

/// The rule, if it has nothing but what ours have. Some stores write what is not there as empty elements.
fn plain(element: &Element) -> Option<Rule> {
    let only = |element: &Element, names: &[&str]| {
        let mut children = element.children.iter();
        children.all(|child| names.contains(&child.name.as_str()) || child.is_empty())
    };
    let known = [
        "ID",
        "Status",
        "Filter",
        "Prefix",
        "Expiration",
        "NoncurrentVersionExpiration",
    ];
    let filter = element.child("Filter");
    let expiration = element.child("Expiration")?;
    let noncurrent = element.child("NoncurrentVersionExpiration");
    let noncurrent = noncurrent.filter(|noncurrent| !noncurrent.is_empty());
    let is_plain = only(element, &known)
        && filter.is_none_or(|filter| only(filter, &["Prefix"]))
        && only(expiration, &["Days"])
        && noncurrent.is_none_or(|noncurrent| only(noncurrent, &["NoncurrentDays"]));
    let prefix = filter.and_then(|filter| filter.text_of("Prefix"));
    let prefix = prefix.or_else(|| element.text_of("Prefix"));
    let noncurrent_days = match noncurrent {
        Some(noncurrent) => Some(noncurrent.text_of("NoncurrentDays")?.parse().ok()?),
        None => None,
    };
    let rule = Rule {
        prefix: prefix?.to_owned(),
        days: expiration.text_of("Days")?.parse().ok()?,
        noncurrent_days,
    };
    is_plain.then_some(rule)
}

/// A rule of ours as it is written in a configuration.
pub(super) fn written(rule: &Rule, id: &str, form: Form) -> String {
    let Rule {
        prefix,
        days,
        noncurrent_days,
    } = rule;
    let prefix = format!("<Prefix>{}</Prefix>", escape(prefix));
    let prefix = match form {
        Form::Filter => format!("<Filter>{prefix}</Filter>"),
        Form::Prefix => prefix,
    };
    let noncurrent = noncurrent_days.map_or_else(String::new, |days| {
        format!("<NoncurrentVersionExpiration><NoncurrentDays>{days}</NoncurrentDays></NoncurrentVersionExpiration>")
    });
    format!(
        "<Rule><ID>{}</ID>{prefix}<Status>Enabled</Status><Expiration><Days>{days}</Days></Expiration>{noncurrent}</Rule>",
        escape(id)
    )
}
