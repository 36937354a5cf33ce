//! The lifecycle rules of a bucket of Google's (Cloud Storage: "Object Lifecycle Management", JSON API "Buckets").
//!
//! Such a rule has no id. Ours have a second prefix within their first, which no object has and which is their id: it changes
//! nothing of what the rule does, and nobody writes it by chance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::{
    Expiry, Facts, Merged, OURS, Rule,
    json::{Dialect, Texts, has_only, texts},
};
use crate::retention::{BucketLock, Versioning, xml::Malformed};

/// Most rules of a bucket (Cloud Storage: "Quotas and limits").
pub const MOST_RULES: usize = 100;

/// Seconds of a day, in which retention policies are not counted but logs are.
const DAY: u64 = 24 * 60 * 60;

const DIALECT: Dialect = Dialect {
    facts,
    written,
    most: MOST_RULES,
};

/// The rules of a bucket.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rules(Texts);

/// What of a bucket matters for retention.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bucket {
    /// Its rules.
    pub rules: Rules,
    /// The version of its settings: they are changed only if nobody has changed them since.
    pub metageneration: String,
    /// Whether it keeps versions.
    pub versioning: Versioning,
    /// How long it holds each object (Cloud Storage: "Bucket Lock").
    pub lock: Option<BucketLock>,
}

#[derive(Deserialize)]
struct Form {
    metageneration: String,
    #[serde(default)]
    lifecycle: LifecycleForm,
    #[serde(default)]
    versioning: VersioningForm,
    #[serde(default, rename = "retentionPolicy")]
    retention_policy: Option<RetentionPolicyForm>,
}

#[derive(Default, Deserialize, Serialize)]
struct LifecycleForm {
    #[serde(default)]
    rule: Vec<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
struct VersioningForm {
    #[serde(default)]
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RetentionPolicyForm {
    retention_period: String,
    #[serde(default)]
    is_locked: bool,
}

impl Bucket {
    /// What is asked of a bucket, as the parameter `fields`.
    pub const FIELDS: &str = "metageneration,lifecycle,versioning,retentionPolicy";

    /// Reads what the service answers.
    ///
    /// # Errors
    /// When it is no bucket. A rule that is not understood is no error.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let form: Form = serde_json::from_str(text).map_err(|error| Malformed::of_json(&error))?;
        let lock = form.retention_policy.map(|policy| {
            let seconds: Option<u64> = policy.retention_period.parse().ok();
            let days = seconds.and_then(|seconds| u32::try_from(seconds.div_ceil(DAY)).ok());
            let mode = if policy.is_locked {
                "locked"
            } else {
                "not locked"
            };
            BucketLock {
                mode: Some(mode.to_owned()),
                days,
            }
        });
        Ok(Self {
            rules: Rules(Texts::read(&form.lifecycle.rule, DIALECT)),
            metageneration: form.metageneration,
            versioning: if form.versioning.enabled {
                Versioning::Enabled
            } else {
                Versioning::Never
            },
            lock,
        })
    }
}

impl Rules {
    /// What they say, in their order.
    pub fn facts(&self) -> impl Iterator<Item = &Facts> {
        self.0.facts()
    }

    /// As they are written, in their order.
    pub fn written(&self) -> impl Iterator<Item = &str> {
        self.0.written()
    }

    /// The change that puts them in place of those that are there.
    ///
    /// # Errors
    /// When they are no JSON, which none that was read is.
    pub fn patch(&self) -> Result<String, Malformed> {
        #[derive(Serialize)]
        struct Patch {
            lifecycle: LifecycleForm,
        }
        let lifecycle = LifecycleForm {
            rule: self.0.raw()?,
        };
        serde_json::to_string(&Patch { lifecycle }).map_err(|error| Malformed::of_json(&error))
    }

    pub(super) fn with(&self, wanted: &BTreeMap<String, Option<Rule>>) -> Merged<Self> {
        self.0.with(wanted, DIALECT).map(Self)
    }
}

/// The id in a prefix of ours.
fn id_in(prefix: &str) -> Option<&str> {
    let (_, last) = prefix.rsplit_once('/')?;
    last.starts_with(OURS).then_some(last)
}

fn facts(rule: &Value) -> Facts {
    let condition = &rule["condition"];
    let has = |name: &str| !condition[name].is_null();
    let prefixes = texts(&condition["matchesPrefix"]);
    let id = prefixes.iter().find_map(|prefix| id_in(prefix));
    Facts {
        id: id.map(str::to_owned),
        enabled: true,
        is_elsewhere: has("daysSinceCustomTime") || has("customTimeBefore"),
        expiry: expiry(&rule["action"], condition),
        plain: plain(rule, &prefixes),
        prefixes,
    }
}

/// All conditions of a rule have to hold. Those that are not known here may hold for any object.
fn expiry(action: &Value, condition: &Value) -> Option<Expiry> {
    match action["type"].as_str() {
        Some("Delete") => {}
        Some("SetStorageClass" | "AbortIncompleteMultipartUpload") => return None,
        _ => return Some(Expiry::Unknown),
    }
    let is_about_old_versions = condition["isLive"] == false
        || !condition["daysSinceNoncurrentTime"].is_null()
        || !condition["noncurrentTimeBefore"].is_null()
        || condition["numNewerVersions"]
            .as_u64()
            .is_some_and(|number| number > 0);
    if is_about_old_versions {
        return None;
    }
    let expiry = match (&condition["age"], &condition["createdBefore"]) {
        (Value::Null, Value::Null) => Expiry::Days(0),
        (Value::Null, before) => before
            .as_str()
            .map_or(Expiry::Unknown, |date| Expiry::Before(date.to_owned())),
        (age, _) => {
            let days = age.as_u64().and_then(|days| u32::try_from(days).ok());
            days.map_or(Expiry::Unknown, Expiry::Days)
        }
    };
    Some(expiry)
}

/// The rule, if it has nothing but what ours have.
fn plain(rule: &Value, prefixes: &[String]) -> Option<Rule> {
    let (action, condition) = (&rule["action"], &rule["condition"]);
    let is_plain = has_only(rule, &["action", "condition"])
        && has_only(action, &["type"])
        && action["type"] == "Delete"
        && has_only(condition, &["age", "matchesPrefix"]);
    let [prefix, marked] = prefixes else {
        return None;
    };
    let is_marked = marked.strip_prefix(prefix.as_str()) == id_in(marked);
    let days = u32::try_from(condition["age"].as_u64()?).ok()?;
    (is_plain && is_marked).then_some(Rule {
        prefix: prefix.clone(),
        days: days.try_into().ok()?,
        noncurrent_days: None,
    })
}

/// Where the bucket keeps versions the same rule deletes those, too: `age` counts from when each was stored.
fn written(id: &str, rule: &Rule) -> Value {
    let prefix = &rule.prefix;
    json!({
        "action": {"type": "Delete"},
        "condition": {"age": rule.days, "matchesPrefix": [prefix, format!("{prefix}{id}")]},
    })
}

#[cfg(test)]
mod tests;
