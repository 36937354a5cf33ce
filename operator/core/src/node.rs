//! JSON whose fields keep the order in which they were written, so that a manifest is changed where it is changed and
//! nowhere else.

use std::fmt;

use json_patch::{AddOperation, Patch, PatchOperation, jsonptr::Token};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Number, Value};

/// A value of a YAML or JSON document.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// An object, in the order of its fields.
    Object(Vec<(String, Self)>),
}

/// An operation that does not fit the value: not one that only adds, or into something that is not there.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("failed to add {0}")]
pub struct Misfit(String);

impl Node {
    /// A field of an object.
    pub fn get(&self, field: &str) -> Option<&Self> {
        let Self::Object(fields) = self else {
            return None;
        };
        fields
            .iter()
            .find_map(|(name, value)| (name == field).then_some(value))
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, field: &str) -> Option<&mut Self> {
        let Self::Object(fields) = self else {
            return None;
        };
        fields
            .iter_mut()
            .find_map(|(name, value)| (name == field).then_some(value))
    }

    /// What is below these fields.
    pub fn below(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, field| node.get(field))
    }

    /// The text of a field.
    pub fn text(&self, field: &str) -> Option<&str> {
        match self.get(field)? {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Applies a patch whose operations only add (RFC 6902, section 4.1).
    ///
    /// # Errors
    /// When an operation does not fit; those before it have been applied.
    pub fn apply(&mut self, patch: &Patch) -> Result<(), Misfit> {
        for operation in &patch.0 {
            let misfit = || Misfit(operation.path().to_string());
            let PatchOperation::Add(AddOperation { path, value }) = operation else {
                return Err(misfit());
            };
            let (parent, last) = path.split_back().ok_or_else(misfit)?;
            let mut target = &mut *self;
            for token in parent.tokens() {
                target = target.child(&token).ok_or_else(misfit)?;
            }
            target.add(&last, value.into()).ok_or_else(misfit)?;
        }
        Ok(())
    }

    fn child(&mut self, token: &Token<'_>) -> Option<&mut Self> {
        match self {
            Self::List(items) => {
                let index = token.to_index().ok()?.for_len(items.len()).ok()?;
                items.get_mut(index)
            }
            _ => self.get_mut(&token.decoded()),
        }
    }

    fn add(&mut self, token: &Token<'_>, value: Self) -> Option<()> {
        let name = token.decoded();
        match self {
            Self::List(items) => {
                let index = token.to_index().ok()?.for_len_incl(items.len()).ok()?;
                items.insert(index, value);
            }
            Self::Object(_) => match self.get_mut(&name) {
                Some(field) => *field = value,
                None => self.push(name.into_owned(), value),
            },
            _ => return None,
        }
        Some(())
    }

    fn push(&mut self, name: String, value: Self) {
        if let Self::Object(fields) = self {
            fields.push((name, value));
        }
    }
}

impl From<&Value> for Node {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(value) => Self::Number(value.clone()),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(fields) => {
                let fields = fields.iter();
                Self::Object(
                    fields
                        .map(|(name, value)| (name.clone(), value.into()))
                        .collect(),
                )
            }
        }
    }
}

impl From<&Node> for Value {
    fn from(node: &Node) -> Self {
        match node {
            Node::Null => Self::Null,
            Node::Bool(value) => Self::Bool(*value),
            Node::Number(value) => Self::Number(value.clone()),
            Node::Text(text) => Self::String(text.clone()),
            Node::List(items) => items.iter().map(Self::from).collect(),
            Node::Object(fields) => {
                let fields = fields.iter();
                fields
                    .map(|(name, value)| (name.clone(), Self::from(value)))
                    .collect()
            }
        }
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(value) => value.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(fields) => {
                serializer.collect_map(fields.iter().map(|(name, value)| (name, value)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value that JSON has too")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        Number::from_f64(value)
            .map(Node::Number)
            .ok_or_else(|| E::custom("JSON has no number that is infinite or none"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Node, E> {
        Ok(Node::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = access.next_entry()? {
            fields.push(field);
        }
        Ok(Node::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patch(operations: Value) -> Patch {
        serde_json::from_value(operations).unwrap()
    }

    #[test]
    fn what_is_not_added_stays_where_it_was() {
        let mut node: Node =
            serde_json::from_str(r#"{"z": 1, "a": [2, 3], "m": {"y": null}}"#).unwrap();
        node.apply(&patch(json!([
            {"op": "add", "path": "/a/0", "value": 1},
            {"op": "add", "path": "/a/-", "value": 4},
            {"op": "add", "path": "/m/b~1c", "value": "new"},
            {"op": "add", "path": "/m/y", "value": false},
        ])))
        .unwrap();
        assert_eq!(
            serde_json::to_string(&node).unwrap(),
            r#"{"z":1,"a":[1,2,3,4],"m":{"y":false,"b/c":"new"}}"#
        );
    }

    #[test]
    fn an_operation_that_does_not_fit_is_named() {
        let mut node = Node::from(&json!({"a": []}));
        for (operation, says) in [
            (json!([{"op": "add", "path": "/b/c", "value": 1}]), "/b/c"),
            (json!([{"op": "add", "path": "/a/1", "value": 1}]), "/a/1"),
            (json!([{"op": "remove", "path": "/a"}]), "/a"),
            (
                json!([{"op": "add", "path": "", "value": 1}]),
                "failed to add",
            ),
        ] {
            let error = node.apply(&patch(operation)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
