//! The lifecycle configuration of a bucket (Amazon S3: `PutBucketLifecycleConfiguration`). It is replaced as a whole or not at
//! all; so what is not ours goes back byte for byte as it came, understood or not.

mod rule;

use std::{collections::BTreeMap, ops::Range};

use super::{Facts, Merged, Rule};
use crate::retention::xml::{Element, Malformed};
use rule::Form;

/// Most rules of a bucket (Amazon S3: `PutBucketLifecycleConfiguration`; the limit cannot be raised).
pub const MOST_RULES: usize = 1_000;

const ROOT: &str = "LifecycleConfiguration";
const RULE: &str = "Rule";

/// A configuration without any rule: S3 has none then.
const EMPTY: &str = "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"></LifecycleConfiguration>";

/// The lifecycle configuration of a bucket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Configuration {
    text: String,
    rules: Vec<(Range<usize>, Facts, Form)>,
    /// Where another rule would stand.
    end: usize,
}

impl Default for Configuration {
    /// That of a bucket which has none.
    fn default() -> Self {
        Self {
            text: EMPTY.to_owned(),
            rules: Vec::new(),
            end: EMPTY.len() - "</LifecycleConfiguration>".len(),
        }
    }
}

impl Configuration {
    /// Reads what a store answers.
    ///
    /// # Errors
    /// When it is no lifecycle configuration. A rule that is not understood is no error.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let root = Element::parse(text)?;
        let tag = text.get(root.span.start..).unwrap_or_default();
        // Our rules would be of another namespace than those with a prefix.
        if root.name != ROOT || !tag.starts_with("<LifecycleConfiguration") {
            return Err(Malformed::Unexpected("lifecycle configuration"));
        }
        let rules: Vec<_> = root
            .all(RULE)
            .map(|element| {
                (
                    element.span.clone(),
                    rule::facts(element),
                    Form::of(element),
                )
            })
            .collect();
        match root.content_end {
            Some(end) => Ok(Self {
                text: text.to_owned(),
                rules,
                end,
            }),
            None => Ok(Self::default()),
        }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What its rules say, in their order.
    pub fn rules(&self) -> impl Iterator<Item = &Facts> {
        self.rules.iter().map(|(_, facts, _)| facts)
    }

    /// The rules as they are written, in their order.
    pub fn written(&self) -> impl Iterator<Item = &str> {
        let spans = self.rules.iter().map(|(span, ..)| span.clone());
        spans.filter_map(|span| self.text.get(span))
    }

    /// The first rule with this id.
    pub fn rule(&self, id: &str) -> Option<&Facts> {
        self.rules().find(|facts| facts.id.as_deref() == Some(id))
    }

    /// With these rules and without those of their ids that are not to be, each by its id.
    ///
    /// # Guarantees
    /// Every other rule, and what stands between rules, is there as it was, in its order. What is there as it is wanted
    /// stays as it is written.
    ///
    /// # Errors
    /// When the result is no configuration, which no input is known to cause.
    pub fn with(&self, wanted: &BTreeMap<String, Option<Rule>>) -> Result<Merged<Self>, Malformed> {
        let form = self.form(wanted);
        let mut text = String::with_capacity(self.text.len());
        let mut copied = 0;
        let mut seen: Vec<&str> = Vec::new();
        let mut changed = false;
        for (span, facts, _) in &self.rules {
            let Some((id, rule)) = facts.id.as_ref().and_then(|id| wanted.get_key_value(id)) else {
                continue;
            };
            let again = seen.contains(&id.as_str());
            seen.push(id);
            let rule = rule.as_ref().filter(|_| !again);
            if rule.is_some_and(|rule| facts.is(rule)) {
                continue;
            }
            changed = true;
            text.push_str(self.text.get(copied..span.start).unwrap_or_default());
            text.extend(rule.map(|rule| rule::written(rule, id, form)));
            copied = span.end;
        }
        text.push_str(self.text.get(copied..self.end).unwrap_or_default());
        for (id, rule) in wanted {
            if let Some(rule) = rule
                && !seen.contains(&id.as_str())
            {
                changed = true;
                text.push_str(&rule::written(rule, id, form));
            }
        }
        text.push_str(self.text.get(self.end..).unwrap_or_default());
        if !changed {
            return Ok(Merged::Same);
        }
        let merged = Self::parse(&text)?;
        if merged.rules.len() > MOST_RULES {
            return Ok(Merged::TooMany);
        }
        Ok(Merged::Changed(merged))
    }

    /// How a rule has to be written so that it can stand beside the others: Amazon takes prefixes of the older form or
    /// filters, and refuses both in one configuration.
    fn form(&self, wanted: &BTreeMap<String, Option<Rule>>) -> Form {
        let is_ours = |facts: &Facts| {
            let id = facts.id.as_ref();
            id.is_some_and(|id| wanted.contains_key(id))
        };
        let others = self.rules.iter().filter(|(_, facts, _)| !is_ours(facts));
        let mut forms = others.map(|(.., form)| *form);
        if forms.any(|form| form == Form::Prefix) {
            Form::Prefix
        } else {
            Form::Filter
        }
    }
}

#[cfg(test)]
mod tests;
