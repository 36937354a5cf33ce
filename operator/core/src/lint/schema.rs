//! The structural schema of a definition, as the API server applies it to an object that is created.
//!
//! Sources: Kubernetes, "Extend the Kubernetes API with `CustomResourceDefinitions`" (pruning, defaulting, `null`, `fieldValidation=Strict`),
//! and what `k8s.io/kube-openapi/pkg/validation` refuses. Values are not repeated: a field may hold what was pasted into the wrong one.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use regex::Regex;
use serde_json::{Number, Value};

use super::{
    finding::Rule,
    nearest::nearest,
    tree::{Content, Path, Tree},
};

/// Something that the API server refuses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Complaint {
    /// What is broken.
    pub rule: Rule,
    /// The field.
    pub path: Path,
    /// What is wrong, and what to write.
    pub message: String,
    /// Whether the rules of the definition are not looked at because of it (apiextensions-apiserver, `hasBlockingErr`).
    pub blocks: bool,
}

impl Complaint {
    fn new(rule: Rule, path: &Path, message: impl Into<String>) -> Self {
        Self {
            rule,
            path: path.clone(),
            message: message.into(),
            blocks: false,
        }
    }

    fn blocking(self) -> Self {
        Self {
            blocks: true,
            ..self
        }
    }
}

/// The fields of an object's schema.
pub fn properties(schema: &JSONSchemaProps) -> &BTreeMap<String, JSONSchemaProps> {
    static NONE: BTreeMap<String, JSONSchemaProps> = BTreeMap::new();
    schema.properties.as_ref().unwrap_or(&NONE)
}

/// The schema of a list's items.
pub fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(items) => Some(items),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

/// The schema of a map's values.
pub fn values(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.additional_properties.as_ref()? {
        JSONSchemaPropsOrBool::Schema(values) => Some(values),
        JSONSchemaPropsOrBool::Bool(_) => None,
    }
}

/// Fields that the schema does not have, as strict field validation finds them.
pub fn unknown(schema: &JSONSchemaProps, tree: &Tree, path: &Path) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    match &tree.content {
        Content::Object(fields) => {
            let known = properties(schema);
            for field in fields {
                let path = path.field(&field.name);
                match known.get(&field.name).or_else(|| values(schema)) {
                    Some(schema) => complaints.extend(unknown(schema, &field.value, &path)),
                    None if schema.x_kubernetes_preserve_unknown_fields == Some(true) => {}
                    // Of what is no object by its definition that is said, and nothing of its fields.
                    None if schema.type_.as_deref() != Some("object") => {}
                    None => complaints.push(Complaint::new(
                        Rule::UnknownField,
                        &path,
                        no_such_field(&field.name, known.keys().map(String::as_str)),
                    )),
                }
            }
        }
        Content::List(list) => {
            if let Some(schema) = items(schema) {
                for (index, item) in list.iter().enumerate() {
                    complaints.extend(unknown(schema, item, &path.item(index)));
                }
            }
        }
        _ => {}
    }
    complaints
}

/// That there is no such field, and which there are.
pub fn no_such_field<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(meant) = nearest(name, known.clone()) {
        return format!("there is no such field: did you mean `{meant}`?");
    }
    let known: Vec<&str> = known.collect();
    format!(
        "there is no such field: remove it, or write one of {}",
        known.join(", ")
    )
}

/// What of a value does not have the form that its schema says.
pub fn check(schema: &JSONSchemaProps, tree: &Tree, path: &Path) -> Vec<Complaint> {
    let type_ = schema.type_.as_deref().unwrap_or_default();
    if !has_type(type_, &tree.content) {
        let message = wrong_type(schema, type_, &tree.content);
        return vec![Complaint::new(Rule::Schema, path, message).blocking()];
    }
    let mut complaints = Vec::new();
    let mut say = |message: String| complaints.push(Complaint::new(Rule::Schema, path, message));
    match &tree.content {
        Content::Number(number) => check_number(schema, number, &mut say),
        Content::Text(text) => complaints.extend(check_text(schema, text, path)),
        Content::List(list) => {
            let count = i64::try_from(list.len()).unwrap_or(i64::MAX);
            if let Some(least) = schema.min_items.filter(|least| count < *least) {
                say(format!(
                    "has too few items: write at least {least}{}",
                    example(schema)
                ));
            }
            if let Some(most) = schema.max_items.filter(|most| count > *most) {
                let message = format!("has {count} items: write at most {most}");
                complaints.push(Complaint::new(Rule::Schema, path, message).blocking());
            }
            if let Some(schema) = items(schema) {
                for (index, item) in list.iter().enumerate() {
                    complaints.extend(check(schema, item, &path.item(index)));
                }
            }
            complaints.extend(duplicates(schema, list, path));
        }
        Content::Object(fields) => {
            let count = i64::try_from(fields.len()).unwrap_or(i64::MAX);
            if let Some(most) = schema.max_properties.filter(|most| count > *most) {
                let message = format!("has {count} fields: write at most {most}");
                complaints.push(Complaint::new(Rule::Schema, path, message).blocking());
            }
            for name in schema.required.iter().flatten() {
                // A `null` is pruned before.
                let is_there = fields
                    .iter()
                    .any(|field| field.name == *name && field.value.content != Content::Null);
                if !is_there {
                    let example = properties(schema).get(name).map(example);
                    let message = format!("is missing: write it{}", example.unwrap_or_default());
                    let path = path.field(name);
                    complaints.push(Complaint::new(Rule::RequiredField, &path, message).blocking());
                }
            }
            for field in fields {
                let schema = properties(schema)
                    .get(&field.name)
                    .or_else(|| values(schema));
                if let Some(schema) = schema.filter(|_| field.value.content != Content::Null) {
                    complaints.extend(check(schema, &field.value, &path.field(&field.name)));
                }
            }
        }
        Content::Null | Content::Bool(_) => {}
    }
    complaints
}

fn has_type(type_: &str, content: &Content) -> bool {
    match type_ {
        "object" => matches!(content, Content::Object(_)),
        "array" => matches!(content, Content::List(_)),
        "string" => matches!(content, Content::Text(_)),
        "boolean" => matches!(content, Content::Bool(_)),
        "number" => matches!(content, Content::Number(_)),
        "integer" => matches!(content, Content::Number(number) if is_whole(number)),
        _ => true,
    }
}

fn is_whole(number: &Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|value| value.fract() == 0.0)
}

fn wrong_type(schema: &JSONSchemaProps, type_: &str, content: &Content) -> String {
    let wanted = match type_ {
        "object" => "an object with fields",
        "array" => "a list",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        _ => "text",
    };
    let found = match content {
        Content::Null => "nothing",
        Content::Bool(_) => "true or false",
        Content::Number(number) if is_whole(number) => "a number",
        Content::Number(_) => "a number with a fraction",
        Content::Text(_) => "text",
        Content::List(_) => "a list",
        Content::Object(_) => "an object",
    };
    let mend = match (type_, content) {
        ("string", Content::Bool(_)) => {
            ": put it in quotes; without them YAML takes yes, no, on, off, true and false for something else".to_owned()
        }
        ("string", Content::Number(_)) => ": put it in quotes".to_owned(),
        ("integer" | "number" | "boolean", Content::Text(_)) => {
            format!(": write it without quotes{}", example(schema))
        }
        ("array", _) => format!(": write each item behind `- `, or all of them in [ ]{}", example(schema)),
        _ => match example(schema).strip_prefix(',') {
            Some(example) => format!(": write{example}"),
            None => String::new(),
        },
    };
    format!("must be {wanted} and is {found}{mend}")
}

fn check_number(schema: &JSONSchemaProps, number: &Number, say: &mut impl FnMut(String)) {
    let value = number.as_f64().unwrap_or(f64::MAX);
    if schema.format.as_deref() == Some("int32") {
        let fits = f64::from(i32::MIN) <= value && value <= f64::from(i32::MAX);
        if !fits {
            say(format!(
                "{number} is too large or too small for any use{}",
                example(schema)
            ));
            return;
        }
    }
    match (schema.minimum, schema.maximum) {
        (Some(least), Some(most)) if value < least || value > most => {
            say(format!("{number} is out of range: write {least} to {most}"));
        }
        (Some(least), None) if value < least => {
            say(format!("{number} is too small: write at least {least}"));
        }
        (None, Some(most)) if value > most => {
            say(format!("{number} is too large: write at most {most}"));
        }
        _ => {}
    }
}

fn check_text(schema: &JSONSchemaProps, text: &str, path: &Path) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut say = |message: String| complaints.push(Complaint::new(Rule::Schema, path, message));
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(least) = schema.min_length.filter(|least| length < *least) {
        if text.is_empty() {
            say(format!("is empty{}", write(schema)));
        } else {
            say(format!(
                "is too short: write at least {least} characters{}",
                example(schema)
            ));
        }
    }
    if let Some(pattern) = &schema.pattern {
        let fits = Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text));
        if !fits {
            say(format!("does not match {pattern}{}", write(schema)));
        }
    }
    let allowed: Vec<&str> = schema
        .enum_
        .iter()
        .flatten()
        .filter_map(|one| one.0.as_str())
        .collect();
    if schema.enum_.is_some() && !allowed.contains(&text) {
        let message = match nearest(text, allowed.iter().copied()) {
            Some(meant) => format!("is none of {}: did you mean `{meant}`?", allowed.join(", ")),
            None => format!(
                "is none of the values that there are: write {}",
                alternatives(&allowed)
            ),
        };
        complaints.push(Complaint::new(Rule::Schema, path, message).blocking());
    }
    if let Some(most) = schema.max_length.filter(|most| length > *most) {
        let message = format!("has {length} characters: write at most {most}");
        complaints.push(Complaint::new(Rule::Schema, path, message).blocking());
    }
    complaints
}

/// `a, b or c`.
fn alternatives(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [all @ .., last] => format!("{} or {last}", all.join(", ")),
    }
}

/// Items that are the same where none may be: in a set, or by their keys in a map.
fn duplicates(schema: &JSONSchemaProps, list: &[Tree], path: &Path) -> Vec<Complaint> {
    let keys: Vec<&str> = schema
        .x_kubernetes_list_map_keys
        .iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let identity = |item: &Tree| -> Option<String> {
        match schema.x_kubernetes_list_type.as_deref()? {
            "set" => Some(item.to_json().to_string()),
            "map" => {
                let parts = keys
                    .iter()
                    .map(|key| item.get(key).map_or(Value::Null, Tree::to_json));
                Some(Value::from(parts.collect::<Vec<_>>()).to_string())
            }
            _ => None,
        }
    };
    let mut seen = BTreeSet::new();
    let again = list
        .iter()
        .enumerate()
        .filter(|(_, item)| identity(item).is_some_and(|identity| !seen.insert(identity)));
    again
        .map(|(index, _)| {
            let message = if keys.is_empty() {
                "stands in the list before: remove one of them".to_owned()
            } else {
                format!(
                    "has the same {} as an item before: give each its own",
                    keys.join(" and ")
                )
            };
            Complaint::new(Rule::DuplicateItem, &path.item(index), message)
        })
        .collect()
}

fn write(schema: &JSONSchemaProps) -> String {
    match example(schema).strip_prefix(',') {
        Some(example) => format!(": write{example}"),
        None => ": write something".to_owned(),
    }
}

/// The example of a field's description: `, for example 30d`.
fn example(schema: &JSONSchemaProps) -> String {
    let description = schema.description.as_deref().unwrap_or_default();
    let example = description.rsplit_once("Example: `").map(|(_, rest)| rest);
    let example = example
        .and_then(|rest| rest.split_once('`'))
        .map(|(text, _)| text);
    example.map_or_else(String::new, |text| format!(", for example {text}"))
}

/// The object as the rules of its definition see it: without `null` where that means nothing, and with the defaults.
pub fn defaulted(schema: &JSONSchemaProps, value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let inner = |name: &str| properties(schema).get(name).or_else(|| values(schema));
            let mut whole = serde_json::Map::new();
            for (name, value) in fields {
                match inner(name) {
                    Some(schema) if value.is_null() && schema.nullable != Some(true) => {}
                    Some(schema) => {
                        whole.insert(name.clone(), defaulted(schema, value));
                    }
                    None => {}
                }
            }
            for (name, schema) in properties(schema) {
                if let Some(default) = schema
                    .default
                    .as_ref()
                    .filter(|_| !whole.contains_key(name))
                {
                    whole.insert(name.clone(), defaulted(schema, &default.0));
                }
            }
            Value::Object(whole)
        }
        Value::Array(list) => match items(schema) {
            Some(schema) => list.iter().map(|item| defaulted(schema, item)).collect(),
            None => value.clone(),
        },
        scalar => scalar.clone(),
    }
}
