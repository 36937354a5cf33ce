//! One rule of a lifecycle configuration: what is understood of any, and ours.

use std::num::NonZeroU32;

use quick_xml::escape::escape;

use super::super::xml::Element;

/// A rule of ours: objects below a prefix expire after some days.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// What the keys begin with.
    pub prefix: String,
    /// After so many days.
    pub days: NonZeroU32,
    /// Where a bucket keeps versions an object that has expired is only hidden; it is deleted after so many days more.
    pub noncurrent_days: Option<NonZeroU32>,
}

/// How a rule says which objects it is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// By a `Filter`.
    Filter,
    /// By a `Prefix` of its own: the form of before 2016, which is still there in old buckets.
    Prefix,
}

/// When a rule deletes objects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expiry {
    /// So many days after they were stored.
    Days(u32),
    /// On a day, and every day after it, however old they are.
    Date(String),
    /// In a way that is not understood.
    Unknown,
}

/// What is understood of a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Its id.
    pub id: Option<String>,
    /// Whether it is in effect.
    pub enabled: bool,
    /// What the keys of its objects begin with; empty: all.
    pub prefix: String,
    /// Whether it is about objects with a tag alone. Agents set none.
    pub tagged: bool,
    /// When it deletes the current version of its objects.
    pub expiry: Option<Expiry>,
    /// How it says which objects it is about.
    pub form: Form,
    /// What it is, if it is one that could be ours.
    plain: Option<Rule>,
}

impl Facts {
    /// What a rule says.
    pub fn of(element: &Element) -> Self {
        let filter = element.child("Filter");
        let and = filter.and_then(|filter| filter.child("And"));
        let prefix = filter.and_then(|filter| filter.text_of("Prefix"));
        let prefix = prefix
            .or_else(|| and?.text_of("Prefix"))
            .or_else(|| element.text_of("Prefix"));
        let is_tagged = |element: &Element| element.child("Tag").is_some();
        Self {
            id: element.text_of("ID").map(str::to_owned),
            enabled: element.text_of("Status") == Some("Enabled"),
            prefix: prefix.unwrap_or_default().to_owned(),
            tagged: filter.is_some_and(is_tagged) || and.is_some_and(is_tagged),
            expiry: element.child("Expiration").and_then(expiry),
            form: if filter.is_none() && element.child("Prefix").is_some() {
                Form::Prefix
            } else {
                Form::Filter
            },
            plain: plain(element),
        }
    }

    /// Whether it does what that rule does, and nothing else.
    pub fn is(&self, rule: &Rule) -> bool {
        self.enabled && self.plain.as_ref() == Some(rule)
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

impl Rule {
    /// As it is written in a configuration.
    pub(super) fn written(&self, id: &str, form: Form) -> String {
        let Self {
            prefix,
            days,
            noncurrent_days,
        } = self;
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
}
