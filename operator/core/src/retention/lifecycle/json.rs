//! Rules in JSON, as Google and Azure have them: each is kept as the text that came.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, value::RawValue};

use super::{Facts, Merged, Rule};
use crate::retention::xml::Malformed;

/// Rules with what is understood of each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Texts(Vec<(String, Facts)>);

/// How a vendor writes a rule.
#[derive(Clone, Copy)]
pub(super) struct Dialect {
    /// What is understood of one.
    pub facts: fn(&Value) -> Facts,
    /// One of ours with this id.
    pub written: fn(&str, &Rule) -> Value,
    /// Most rules that there can be.
    pub most: usize,
}

impl Texts {
    /// Rules as they came.
    pub(super) fn read(rules: &[Box<RawValue>], dialect: Dialect) -> Self {
        let texts = rules.iter().map(|rule| rule.get());
        let read = |text: &str| {
            // A part of a document that was read is JSON.
            let value: Value = serde_json::from_str(text).unwrap_or_default();
            (text.to_owned(), (dialect.facts)(&value))
        };
        Self(texts.map(read).collect())
    }

    pub(super) fn facts(&self) -> impl Iterator<Item = &Facts> {
        self.0.iter().map(|(_, facts)| facts)
    }

    pub(super) fn written(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(text, _)| text.as_str())
    }

    /// For a document around them.
    pub(super) fn raw(&self) -> Result<Vec<Box<RawValue>>, Malformed> {
        let raw = |text: &str| {
            RawValue::from_string(text.to_owned()).map_err(|error| Malformed::of_json(&error))
        };
        self.written().map(raw).collect()
    }

    /// See [`super::Lifecycle::with`].
    pub(super) fn with(
        &self,
        wanted: &BTreeMap<String, Option<Rule>>,
        dialect: Dialect,
    ) -> Merged<Self> {
        let make = |id: &str, rule: &Rule| {
            let value = (dialect.written)(id, rule);
            (value.to_string(), (dialect.facts)(&value))
        };
        let mut rules = Vec::with_capacity(self.0.len());
        let mut seen = BTreeSet::new();
        let mut changed = false;
        for (text, facts) in &self.0 {
            let ours = facts.id.as_ref().and_then(|id| wanted.get_key_value(id));
            let Some((id, rule)) = ours else {
                rules.push((text.clone(), facts.clone()));
                continue;
            };
            let is_first = seen.insert(id);
            match rule.as_ref().filter(|_| is_first) {
                Some(rule) if facts.is(rule) => rules.push((text.clone(), facts.clone())),
                Some(rule) => {
                    changed = true;
                    rules.push(make(id, rule));
                }
                None => changed = true,
            }
        }
        for (id, rule) in wanted {
            if let Some(rule) = rule
                && !seen.contains(id)
            {
                changed = true;
                rules.push(make(id, rule));
            }
        }
        if !changed {
            Merged::Same
        } else if rules.len() > dialect.most {
            Merged::TooMany
        } else {
            Merged::Changed(Self(rules))
        }
    }
}

/// The texts of a list.
pub(super) fn texts(list: &Value) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten();
    texts
        .filter_map(|text| text.as_str().map(str::to_owned))
        .collect()
}

/// Whether an object has no members but these; what is empty says nothing.
pub(super) fn has_only(object: &Value, names: &[&str]) -> bool {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    object.as_object().is_some_and(|members| {
        let mut members = members.iter();
        members.all(|(name, value)| names.contains(&name.as_str()) || is_empty(value))
    })
}
