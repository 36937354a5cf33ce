//! A storage account as Azure Resource Manager has it: its management policy and its blob service, as strict as Azure documents
//! them.
//!
//! Sources: Storage resource provider REST API 2023-01-01 "Management Policies" (get, create or update, delete), "Blob Services: get
//! service properties"; Azure "Lifecycle management policy definition" (what a rule has, limits); "Troubleshoot common Azure
//! deployment errors". No condition (`If-Match`) is documented, and none is honoured.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Map, Value, json};

use super::super::{Request, Verdict};

/// The versions of the API that are spoken here.
const VERSIONS: [&str; 2] = ["2022-09-01", "2023-01-01"];

/// Most rules of an account, most prefixes of a rule, longest name of one.
const MOST_RULES: usize = 100;
const MOST_PREFIXES: usize = 10;
const LONGEST_NAME: usize = 256;

/// Where an account is managed.
#[derive(Clone, Debug, Default)]
pub struct Managed {
    /// Its subscription.
    pub subscription: String,
    /// Its resource group.
    pub group: String,
    /// Rules of its management policy; without any there is no policy.
    pub rules: Vec<Value>,
    /// Whether it keeps versions of blobs.
    pub versioning: bool,
    /// What is in its containers: `<container>/<blob>` and when each was stored, as HTTP has dates.
    pub stored: std::collections::BTreeMap<String, String>,
    /// Rules that somebody else writes in place of all others just after the next change.
    pub race: Option<Vec<Value>>,
    /// How often the policy was written or deleted by the API.
    pub writes: usize,
}

/// A service principal with its role.
#[derive(Clone, Debug, Default)]
pub struct Principal {
    /// Its tenant.
    pub tenant: String,
    /// Its client id.
    pub client: String,
    /// A secret of it.
    pub secret: String,
    /// What its role allows, without `Microsoft.Storage/storageAccounts/`.
    pub actions: BTreeSet<String>,
}

type Refusal = (u16, &'static str, String);

impl Managed {
    pub(super) fn judge(
        &mut self,
        request: &Request<'_>,
        account: &str,
        actions: &BTreeSet<String>,
    ) -> Verdict {
        match self.answer(request, account, actions) {
            Ok(Some(answer)) => Verdict::refused(200, answer.to_string()),
            Ok(None) => Verdict::refused(204, String::new()),
            Err((status, code, message)) => refused(status, code, &message),
        }
    }

    fn answer(
        &mut self,
        request: &Request<'_>,
        account: &str,
        actions: &BTreeSet<String>,
    ) -> Result<Option<Value>, Refusal> {
        let query = request.uri.query().unwrap_or_default();
        match query.strip_prefix("api-version=") {
            None => {
                return Err((400, "MissingApiVersionParameter", "api-version".to_owned()));
            }
            Some(version) if !VERSIONS.contains(&version) => {
                return Err((400, "InvalidResourceType", format!("no version {version}")));
            }
            Some(_) => {}
        }
        let parts: Vec<&str> = request.uri.path().split('/').collect();
        let [
            "",
            "subscriptions",
            subscription,
            "resourceGroups",
            group,
            "providers",
            "Microsoft.Storage",
            "storageAccounts",
            name,
            what,
            "default",
        ] = parts[..]
        else {
            return Err((404, "ResourceNotFound", "no such path".to_owned()));
        };
        if subscription != self.subscription {
            return Err((404, "SubscriptionNotFound", subscription.to_owned()));
        }
        if !group.eq_ignore_ascii_case(&self.group) {
            return Err((404, "ResourceGroupNotFound", group.to_owned()));
        }
        let may = |action: &str| {
            if actions.contains(&format!("{what}/{action}")) {
                return Ok(());
            }
            let message = format!(
                "The client does not have authorization to perform action 'Microsoft.Storage/storageAccounts/{what}/{action}'."
            );
            Err((403, "AuthorizationFailed", message))
        };
        match (request.method, what) {
            (&Method::GET, _) => may("read")?,
            (&Method::PUT, _) => may("write")?,
            (&Method::DELETE, _) => may("delete")?,
            _ => return Err((405, "MethodNotAllowed", String::new())),
        }
        if name != account {
            return Err((404, "ResourceNotFound", name.to_owned()));
        }
        match (request.method, what) {
            (&Method::GET, "blobServices") => Ok(Some(
                json!({"name": "default", "properties": {"isVersioningEnabled": self.versioning}}),
            )),
            (&Method::GET, "managementPolicies") if self.rules.is_empty() => Err((
                404,
                "ManagementPolicyNotFound",
                format!("No ManagementPolicy found for account {account}"),
            )),
            (&Method::GET, "managementPolicies") => Ok(Some(self.policy())),
            (&Method::PUT, "managementPolicies") => {
                self.rules = read(request)?;
                let answer = self.policy();
                self.after_write();
                Ok(Some(answer))
            }
            (&Method::DELETE, "managementPolicies") => {
                self.rules.clear();
                self.after_write();
                Ok(None)
            }
            _ => Err((405, "MethodNotAllowed", String::new())),
        }
    }

    fn after_write(&mut self) {
        self.writes += 1;
        if let Some(rules) = self.race.take() {
            self.rules = rules;
        }
    }

    fn policy(&self) -> Value {
        json!({
            "name": "DefaultManagementPolicy",
            "type": "Microsoft.Storage/storageAccounts/managementPolicies",
            "properties": {"lastModifiedTime": "2026-01-01T00:00:00Z", "policy": {"rules": self.rules}},
        })
    }

    /// The blobs below a prefix of a container, and when each was stored.
    pub(super) fn stored(&self, container: &str, prefix: &str) -> Vec<(String, String)> {
        let blobs = self.stored.iter().filter_map(|(key, time)| {
            let blob = key.strip_prefix(container)?.strip_prefix('/')?;
            let is_below = blob.starts_with(prefix);
            is_below.then(|| (blob.to_owned(), time.clone()))
        });
        blobs.collect()
    }
}

/// A refusal as Resource Manager has it.
pub(super) fn refused(status: u16, code: &str, message: &str) -> Verdict {
    let body = json!({"error": {"code": code, "message": message}});
    Verdict::refused(status, body.to_string())
}

/// The rules in a policy that can be taken, in the service's own form.
fn read(request: &Request<'_>) -> Result<Vec<Value>, Refusal> {
    let invalid = |what: &str| (400, "InvalidRequestPropertyValue", what.to_owned());
    if request.content_type() != Some("application/json") {
        return Err((415, "UnsupportedMediaType", String::new()));
    }
    let body: Value = serde_json::from_slice(request.body)
        .map_err(|_| (400, "InvalidRequestContent", String::new()))?;
    let rules = body["properties"]["policy"]["rules"].as_array();
    let rules = rules.ok_or_else(|| invalid("properties.policy.rules"))?;
    if rules.is_empty() || rules.len() > MOST_RULES {
        return Err(invalid("a policy has 1 to 100 rules"));
    }
    let mut names = BTreeSet::new();
    for rule in rules {
        let name = check(rule).map_err(|what| invalid(&what))?;
        if !names.insert(name.to_owned()) {
            return Err(invalid(&format!("{name} twice")));
        }
    }
    let mut rules = rules.clone();
    rules.iter_mut().for_each(in_own_form);
    Ok(rules)
}

/// The service answers every number as one with a fraction.
fn in_own_form(value: &mut Value) {
    match value {
        Value::Number(number) => {
            *value = number.as_f64().map_or(Value::Null, Value::from);
        }
        Value::Array(list) => list.iter_mut().for_each(in_own_form),
        Value::Object(members) => members.values_mut().for_each(in_own_form),
        _ => {}
    }
}

/// The name of a rule, if it is one.
fn check(rule: &Value) -> Result<&str, String> {
    let only = |value: &Value, known: &[&str]| {
        let members = value.as_object().ok_or("not an object")?;
        match members.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(format!("{name} is not known")),
            None => Ok(()),
        }
    };
    only(rule, &["enabled", "name", "type", "definition"])?;
    let name = rule["name"].as_str().unwrap_or_default();
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric();
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(is_letter) {
        return Err(format!(
            "`{name}` is no name: letters and digits, at most 256"
        ));
    }
    if rule["type"] != "Lifecycle" {
        return Err("type is Lifecycle".to_owned());
    }
    let definition = &rule["definition"];
    only(definition, &["actions", "filters"])?;
    let filters = &definition["filters"];
    only(filters, &["blobTypes", "prefixMatch", "blobIndexMatch"])?;
    let types = filters["blobTypes"]
        .as_array()
        .filter(|types| !types.is_empty());
    let is_type = |kind: &Value| kind == "blockBlob" || kind == "appendBlob";
    if !types.is_some_and(|types| types.iter().all(is_type)) {
        return Err("blobTypes is required".to_owned());
    }
    let prefixes = filters["prefixMatch"].as_array().map_or(0, Vec::len);
    if prefixes > MOST_PREFIXES {
        return Err("a rule has at most 10 prefixes".to_owned());
    }
    let actions = &definition["actions"];
    only(actions, &["baseBlob", "snapshot", "version"])?;
    let of = |what: &Value| what.as_object().map_or(0, Map::len);
    if of(&actions["baseBlob"]) + of(&actions["snapshot"]) + of(&actions["version"]) == 0 {
        return Err("a rule has at least one action".to_owned());
    }
    for what in ["baseBlob", "snapshot", "version"] {
        for (action, conditions) in actions[what].as_object().into_iter().flatten() {
            let is_condition = |(name, days): (&String, &Value)| {
                name.starts_with("daysAfter")
                    && !(what == "version" && name == "daysAfterModificationGreaterThan")
                    && days
                        .as_f64()
                        .is_some_and(|days| days >= 0.0 && days.fract() == 0.0)
            };
            let conditions = conditions
                .as_object()
                .filter(|conditions| !conditions.is_empty());
            if !conditions.is_some_and(|conditions| conditions.iter().all(is_condition)) {
                return Err(format!("{what}.{action}"));
            }
        }
    }
    Ok(name)
}
