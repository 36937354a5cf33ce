//! The settings of a bucket, by the JSON API, as strict as Google documents it.
//!
//! Sources: Cloud Storage JSON API "Buckets: get", "Buckets: patch", "Objects: list", "Request preconditions", "Quotas and limits",
//! "Object Lifecycle Management", "OAuth 2.0 scopes", "IAM permissions for JSON methods". Where Google says nothing, the stricter
//! reading is taken.

use std::collections::BTreeMap;

use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::super::{Request, Verdict};

/// Below what the API is.
pub(super) const PATH: &str = "/storage/v1/b/";

/// Most rules of a bucket, and most prefixes and suffixes in all of them.
const MOST_RULES: usize = 100;
const MOST_AFFIXES: usize = 1_000;

/// Conditions of a rule, and whether they are counted in days or versions.
const CONDITIONS: [(&str, Form); 12] = [
    ("age", Form::Number),
    ("createdBefore", Form::Date),
    ("customTimeBefore", Form::Date),
    ("daysSinceCustomTime", Form::Number),
    ("daysSinceNoncurrentTime", Form::Number),
    ("isLive", Form::Flag),
    ("matchesPattern", Form::Text),
    ("matchesPrefix", Form::Affixes),
    ("matchesStorageClass", Form::Affixes),
    ("matchesSuffix", Form::Affixes),
    ("noncurrentTimeBefore", Form::Date),
    ("numNewerVersions", Form::Number),
];

#[derive(Clone, Copy)]
enum Form {
    Number,
    Date,
    Flag,
    Text,
    Affixes,
}

/// What of a bucket is no object.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Its lifecycle rules.
    pub rules: Vec<Value>,
    /// Whether it keeps versions.
    pub versioning: bool,
    /// For how many seconds it holds each object.
    pub retention_period: Option<u64>,
    /// What is in it: names and when each was stored.
    pub stored: BTreeMap<String, String>,
    /// A rule that somebody else adds just before the next change is judged.
    pub race: Option<Value>,
    /// How often it was changed by the API.
    pub writes: usize,
    /// How often it was changed by anybody.
    changes: u64,
}

/// Who asks.
pub(super) struct Caller<'a> {
    pub(super) email: &'a str,
    pub(super) scope: &'a str,
    pub(super) permissions: &'a std::collections::BTreeSet<String>,
}

type Refusal = (u16, &'static str, String);

impl Settings {
    /// Changes the rules as another tool does.
    pub fn set_rules(&mut self, rules: Vec<Value>) {
        self.rules = rules;
        self.changes += 1;
    }

    pub(super) fn judge(
        &mut self,
        request: &Request<'_>,
        rest: &str,
        caller: &Caller<'_>,
    ) -> Verdict {
        let query = query(request.uri.query().unwrap_or_default());
        let answer = match (request.method, rest) {
            (&Method::GET, "") => caller
                .may(
                    "storage.buckets.get",
                    &["read_only", "read_write", "full_control"],
                )
                .and_then(|()| fields(self.resource(), &query)),
            (&Method::PATCH, "") => caller
                .may("storage.buckets.update", &["full_control"])
                .and_then(|()| self.patch(request, &query))
                .and_then(|()| fields(self.resource(), &query)),
            (&Method::GET, "/o") => caller
                .may(
                    "storage.objects.list",
                    &["read_only", "read_write", "full_control"],
                )
                .and_then(|()| self.list(&query)),
            _ => Err((404, "notFound", "Not Found".to_owned())),
        };
        match answer {
            Ok(answer) => Verdict::refused(200, answer.to_string()),
            Err((status, reason, message)) => refused(status, reason, &message),
        }
    }

    fn metageneration(&self) -> String {
        (self.changes + 1).to_string()
    }

    fn resource(&self) -> Value {
        let mut resource = json!({
            "kind": "storage#bucket",
            "metageneration": self.metageneration(),
            "versioning": {"enabled": self.versioning},
        });
        if !self.rules.is_empty() {
            resource["lifecycle"] = json!({"rule": self.rules});
        }
        if let Some(period) = self.retention_period {
            resource["retentionPolicy"] =
                json!({"retentionPeriod": period.to_string(), "isLocked": false});
        }
        resource
    }

    fn patch(
        &mut self,
        request: &Request<'_>,
        query: &BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        let invalid = |what: &str| (400, "invalid", what.to_owned());
        if request.content_type() != Some("application/json") {
            return Err(invalid("Content-Type"));
        }
        if let Some(rule) = self.race.take() {
            self.rules.push(rule);
            self.changes += 1;
        }
        if let Some(expected) = query.get("ifMetagenerationMatch") {
            let expected: u64 = expected
                .parse()
                .map_err(|_| invalid("ifMetagenerationMatch"))?;
            if expected.to_string() != self.metageneration() {
                let message = "At least one of the pre-conditions you specified did not hold.";
                return Err((412, "conditionNotMet", message.to_owned()));
            }
        }
        let body: Map<String, Value> =
            serde_json::from_slice(request.body).map_err(|_| invalid("Parse Error"))?;
        let lifecycle = match body.get("lifecycle") {
            Some(Value::Object(lifecycle)) if body.len() == 1 && lifecycle.len() == 1 => lifecycle,
            _ => return Err(invalid("only lifecycle here")),
        };
        let rules = lifecycle.get("rule").and_then(Value::as_array);
        let rules = rules.ok_or_else(|| invalid("lifecycle.rule"))?;
        if rules.len() > MOST_RULES {
            return Err(invalid("more than 100 rules"));
        }
        let affixes: usize = rules
            .iter()
            .map(check)
            .sum::<Result<_, _>>()
            .map_err(|what| invalid(&what))?;
        if affixes > MOST_AFFIXES {
            return Err(invalid("more than 1,000 prefixes and suffixes"));
        }
        self.rules.clone_from(rules);
        self.changes += 1;
        self.writes += 1;
        Ok(())
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Result<Value, Refusal> {
        let prefix = query.get("prefix").map(String::as_str).unwrap_or_default();
        if query.get("fields").map(String::as_str) != Some("nextPageToken,items(timeCreated)") {
            return Err((400, "invalidParameter", "fields".to_owned()));
        }
        let items = self
            .stored
            .iter()
            .filter(|(key, _)| key.starts_with(prefix));
        let items: Vec<Value> = items
            .map(|(_, time)| json!({"timeCreated": time}))
            .collect();
        Ok(json!({"items": items}))
    }
}

impl Caller<'_> {
    fn may(&self, permission: &str, scopes: &[&str]) -> Result<(), Refusal> {
        let of_storage = "https://www.googleapis.com/auth/devstorage.";
        let has_scope = self.scope.split(' ').any(|scope| {
            scope
                .strip_prefix(of_storage)
                .is_some_and(|right| scopes.contains(&right))
        });
        if !has_scope {
            let message = "Request had insufficient authentication scopes.";
            return Err((403, "insufficientPermissions", message.to_owned()));
        }
        if !self.permissions.contains(permission) {
            let message = format!("{} does not have {permission} access.", self.email);
            return Err((403, "forbidden", message));
        }
        Ok(())
    }
}

/// A refusal as the JSON API has it.
pub(super) fn refused(status: u16, reason: &str, message: &str) -> Verdict {
    let body = json!({"error": {
        "code": status,
        "message": message,
        "errors": [{"domain": "global", "reason": reason, "message": message}],
    }});
    Verdict::refused(status, body.to_string())
}

fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value).decode_utf8().ok()?;
        Some((name.to_owned(), value.into_owned()))
    });
    pairs.collect()
}

/// Of a resource what is asked for ("Partial responses").
fn fields(resource: Value, query: &BTreeMap<String, String>) -> Result<Value, Refusal> {
    const KNOWN: [&str; 4] = [
        "metageneration",
        "lifecycle",
        "versioning",
        "retentionPolicy",
    ];
    let Some(fields) = query.get("fields") else {
        return Ok(resource);
    };
    let mut answer = Map::new();
    for field in fields.split(',') {
        if !KNOWN.contains(&field) {
            return Err((
                400,
                "invalidParameter",
                format!("Invalid field selection {field}"),
            ));
        }
        if let Some(value) = resource.get(field) {
            answer.insert(field.to_owned(), value.clone());
        }
    }
    Ok(answer.into())
}

/// How many prefixes and suffixes a rule has, if it is one.
fn check(rule: &Value) -> Result<usize, String> {
    let members = rule.as_object().ok_or("a rule is an object")?;
    if members
        .keys()
        .any(|name| name != "action" && name != "condition")
    {
        return Err("a rule has an action and a condition".to_owned());
    }
    let action = rule["action"]["type"].as_str().unwrap_or_default();
    let size = rule["action"].as_object().map_or(0, Map::len);
    match (action, size) {
        ("Delete" | "AbortIncompleteMultipartUpload", 1) | ("SetStorageClass", 2) => {}
        _ => return Err(format!("no action: {}", rule["action"])),
    }
    let condition = rule["condition"]
        .as_object()
        .filter(|condition| !condition.is_empty());
    let condition = condition.ok_or("a rule has a condition")?;
    let mut affixes = 0;
    for (name, value) in condition {
        let form = CONDITIONS.iter().find(|(known, _)| known == name);
        let (_, form) = form.ok_or_else(|| format!("no condition: {name}"))?;
        let is_good = match form {
            Form::Number => value.is_u64(),
            Form::Flag => value.is_boolean(),
            Form::Text => value.is_string(),
            Form::Date => value
                .as_str()
                .is_some_and(|date| date.len() == "2026-01-01".len()),
            Form::Affixes => value.as_array().is_some_and(|list| {
                let is_affix = |text: &Value| {
                    text.as_str()
                        .is_some_and(|text| (1..=1024).contains(&text.len()))
                };
                affixes += if name == "matchesStorageClass" {
                    0
                } else {
                    list.len()
                };
                !list.is_empty() && list.iter().all(is_affix)
            }),
        };
        if !is_good {
            return Err(format!("{name}: {value}"));
        }
    }
    Ok(affixes)
}
