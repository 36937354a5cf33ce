//! How long an account keeps what is in a namespace, by NerdGraph, as strict as New Relic documents it.
//!
//! Sources: New Relic "Manage data retention" (queries and mutations), "Introduction to NerdGraph" (the header, refusals with 200).

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use super::super::{Request, Verdict};

/// An account as NerdGraph has it.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    /// Its user key.
    pub user_key: String,
    /// Its id.
    pub account: u64,
    /// Days, by namespace.
    pub rules: BTreeMap<String, u64>,
    /// The longest that the plan allows, by namespace.
    pub most: BTreeMap<String, u64>,
    /// Whether the user may change it.
    pub may_edit: bool,
    /// How often it was changed.
    pub writes: usize,
}

impl Retention {
    pub(super) fn judge(&mut self, request: &Request<'_>) -> Verdict {
        let key = request.headers.get("api-key");
        let key = key.and_then(|key| key.to_str().ok()).unwrap_or_default();
        if self.user_key.is_empty() || key != self.user_key {
            let body = json!({"errors": [{"message": "Api-Key header required", "extensions": {"errorClass": "UNAUTHORIZED"}}]});
            return Verdict::refused(401, body.to_string());
        }
        if *request.method != Method::POST || request.content_type() != Some("application/json") {
            return Verdict::refused(400, "{}".to_owned());
        }
        let body: Value = serde_json::from_slice(request.body).unwrap_or_default();
        let answer = self.answer(&body).unwrap_or_else(|(class, message)| {
            json!({"data": null, "errors": [{"message": message, "extensions": {"errorClass": class}}]})
        });
        Verdict::refused(200, answer.to_string())
    }

    fn answer(&mut self, body: &Value) -> Result<Value, (&'static str, &'static str)> {
        let query = body["query"].as_str().unwrap_or_default();
        let variables = &body["variables"];
        if variables["account"].as_u64() != Some(self.account) {
            return Err(("ACCESS_DENIED", "account"));
        }
        let namespace = variables["namespace"].as_str().unwrap_or_default();
        let most = *self
            .most
            .get(namespace)
            .ok_or(("INVALID_INPUT", "namespace"))?;
        let words: Vec<&str> = query
            .split(|one: char| !(one.is_ascii_alphanumeric() || one == '$'))
            .filter(|word| !word.is_empty())
            .collect();
        let asks = |path: &[&str]| {
            let mut words = words.iter();
            path.iter().all(|word| words.any(|other| other == word))
        };
        let rule = |rules: &BTreeMap<String, u64>| {
            rules
                .get(namespace)
                .map(|days| json!({"namespace": namespace, "retentionInDays": days}))
        };
        if words.first() == Some(&"mutation") {
            let documented = asks(&[
                "dataManagementCreateEventRetentionRule",
                "accountId",
                "$account",
                "namespace",
                "$namespace",
                "retentionInDays",
                "$days",
            ]);
            let days = variables["days"].as_u64().filter(|_| documented);
            let days = days.ok_or(("INVALID_INPUT", "no such mutation"))?;
            if !self.may_edit {
                return Err(("ACCESS_DENIED", "capability"));
            }
            if !(1..=most).contains(&days) {
                return Err(("INVALID_INPUT", "retentionInDays"));
            }
            self.rules.insert(namespace.to_owned(), days);
            self.writes += 1;
            return Ok(
                json!({"data": {"dataManagementCreateEventRetentionRule": rule(&self.rules)}}),
            );
        }
        let documented = asks(&[
            "actor",
            "account",
            "id",
            "$account",
            "dataManagement",
            "eventRetentionRule",
            "namespace",
            "$namespace",
            "retentionInDays",
            "customizableRetention",
            "eventNamespaces",
            "namespace",
            "maxRetentionInDays",
        ]);
        if !documented {
            return Err(("INVALID_INPUT", "no such query"));
        }
        let namespaces: Vec<Value> = self
            .most
            .iter()
            .map(|(namespace, most)| json!({"namespace": namespace, "maxRetentionInDays": most}))
            .collect();
        Ok(json!({"data": {"actor": {"account": {"dataManagement": {
            "eventRetentionRule": rule(&self.rules),
            "customizableRetention": {"eventNamespaces": namespaces},
        }}}}}))
    }
}
