//! The lifecycle rules of a storage account of Azure's: its management policy (Azure: "Azure Blob Storage lifecycle management
//! overview"; Storage resource provider, "Management Policies"). It is replaced as a whole; prefixes begin with a container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::{
    Expiry, Facts, Merged, Rule,
    json::{Dialect, Texts, has_only, texts},
};
use crate::retention::{Versioning, xml::Malformed};

/// Most rules of an account.
pub const MOST_RULES: usize = 100;

const DIALECT: Dialect = Dialect {
    facts,
    written,
    most: MOST_RULES,
};

/// The rules of an account.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rules(Texts);

#[derive(Deserialize, Serialize)]
struct Form {
    properties: Properties,
}

#[derive(Deserialize, Serialize)]
struct Properties {
    policy: Policy,
}

#[derive(Deserialize, Serialize)]
struct Policy {
    #[serde(default)]
    rules: Vec<Box<RawValue>>,
}

impl Rules {
    /// Reads what the service answers.
    ///
    /// # Errors
    /// When it is no management policy. A rule that is not understood is no error.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let form: Form = serde_json::from_str(text).map_err(|error| Malformed::of_json(&error))?;
        Ok(Self(Texts::read(&form.properties.policy.rules, DIALECT)))
    }

    /// What they say, in their order.
    pub fn facts(&self) -> impl Iterator<Item = &Facts> {
        self.0.facts()
    }

    /// As they are written, in their order.
    pub fn written(&self) -> impl Iterator<Item = &str> {
        self.0.written()
    }

    /// The policy that puts them in place of those that are there; none where there are none, for a policy has at least one.
    ///
    /// # Errors
    /// When they are no JSON, which none that was read is.
    pub fn policy(&self) -> Result<Option<String>, Malformed> {
        let rules = self.0.raw()?;
        if rules.is_empty() {
            return Ok(None);
        }
        let form = Form {
            properties: Properties {
                policy: Policy { rules },
            },
        };
        let text = serde_json::to_string(&form).map_err(|error| Malformed::of_json(&error))?;
        Ok(Some(text))
    }

    pub(super) fn with(&self, wanted: &BTreeMap<String, Option<Rule>>) -> Merged<Self> {
        self.0.with(wanted, DIALECT).map(Self)
    }
}

/// Whether the account keeps versions of its blobs, from the properties of its blob service.
///
/// # Errors
/// When it is no such answer.
pub fn versioning(text: &str) -> Result<Versioning, Malformed> {
    let service: Value = serde_json::from_str(text).map_err(|error| Malformed::of_json(&error))?;
    let properties = &service["properties"];
    if !properties.is_object() {
        return Err(Malformed::Unexpected("blob service"));
    }
    Ok(if properties["isVersioningEnabled"] == true {
        Versioning::Enabled
    } else {
        Versioning::Never
    })
}

fn facts(rule: &Value) -> Facts {
    let filters = &rule["definition"]["filters"];
    let types = texts(&filters["blobTypes"]);
    let is_block = |kind: &String| kind.eq_ignore_ascii_case("blockBlob");
    let is_tagged = filters["blobIndexMatch"]
        .as_array()
        .is_some_and(|tags| !tags.is_empty());
    Facts {
        id: rule["name"].as_str().map(str::to_owned),
        enabled: rule["enabled"].as_bool().unwrap_or(true),
        prefixes: texts(&filters["prefixMatch"]),
        is_elsewhere: is_tagged || (!types.is_empty() && !types.iter().any(is_block)),
        expiry: expiry(&rule["definition"]["actions"]["baseBlob"]["delete"]),
        plain: plain(rule),
    }
}

/// Of a blob that nobody reads or moves all conditions count from when it was stored; the soonest is told.
fn expiry(delete: &Value) -> Option<Expiry> {
    if delete.is_null() {
        return None;
    }
    let conditions = delete.as_object().into_iter().flatten();
    let days = conditions
        .filter_map(|(_, days)| days.as_f64())
        .reduce(f64::min);
    let days = days.and_then(|days| whole(&days.floor().into()));
    Some(days.map_or(Expiry::Unknown, Expiry::Days))
}

/// A number without a fraction, which the service may write as one with a fraction: `30.0`.
fn whole(number: &Value) -> Option<u32> {
    let number = number.as_f64()?;
    let is_whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    is_whole
        .then(|| format!("{number:.0}").parse().ok())
        .flatten()
}

/// The rule, if it has nothing but what ours have.
fn plain(rule: &Value) -> Option<Rule> {
    let definition = &rule["definition"];
    let (actions, filters) = (&definition["actions"], &definition["filters"]);
    let (base, version) = (&actions["baseBlob"], &actions["version"]);
    let days_in = |delete: &Value, name: &str| {
        let days = whole(&delete[name])?;
        days.try_into().ok().filter(|_| has_only(delete, &[name]))
    };
    let is_plain = has_only(rule, &["enabled", "name", "type", "definition"])
        && rule["type"] == "Lifecycle"
        && has_only(definition, &["actions", "filters"])
        && has_only(filters, &["blobTypes", "prefixMatch"])
        && texts(&filters["blobTypes"]) == ["blockBlob"]
        && has_only(actions, &["baseBlob", "version"])
        && has_only(base, &["delete"])
        && (version.is_null() || has_only(version, &["delete"]));
    let prefixes = texts(&filters["prefixMatch"]);
    let [prefix] = prefixes.as_slice() else {
        return None;
    };
    let noncurrent_days = if version.is_null() {
        None
    } else {
        Some(days_in(&version["delete"], "daysAfterCreationGreaterThan")?)
    };
    let rule = Rule {
        prefix: prefix.clone(),
        days: days_in(&base["delete"], "daysAfterModificationGreaterThan")?,
        noncurrent_days,
    };
    is_plain.then_some(rule)
}

fn written(id: &str, rule: &Rule) -> Value {
    let mut actions =
        json!({"baseBlob": {"delete": {"daysAfterModificationGreaterThan": rule.days}}});
    if let Some(days) = rule.noncurrent_days {
        actions["version"] = json!({"delete": {"daysAfterCreationGreaterThan": days}});
    }
    json!({
        "enabled": true,
        "name": id,
        "type": "Lifecycle",
        "definition": {
            "actions": actions,
            "filters": {"blobTypes": ["blockBlob"], "prefixMatch": [rule.prefix]},
        },
    })
}

#[cfg(test)]
mod tests;
