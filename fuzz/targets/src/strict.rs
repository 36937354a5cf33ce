//! JSON as a reader takes it that forgives nothing: no name stands twice in an object.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

/// An object whose members have different names.
#[derive(Debug)]
pub(crate) struct Object(BTreeMap<String, Box<RawValue>>);

impl Object {
    /// A member.
    pub(crate) fn get<T: for<'de> Deserialize<'de>>(&self, name: &str) -> T {
        let Some(value) = self.0.get(name) else {
            panic!("no {name:?} in {self:?}");
        };
        serde_json::from_str(value.get()).unwrap()
    }

    /// The text of a member.
    pub(crate) fn text(&self, name: &str) -> String {
        self.get(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Names and values; nothing in them has members of its own.
    pub(crate) fn flat(&self) -> impl Iterator<Item = (&str, Value)> {
        self.0.iter().map(|(name, value)| {
            let value: Value = serde_json::from_str(value.get()).unwrap();
            assert!(!value.is_object() && !value.is_array(), "{name}: {value}");
            (name.as_str(), value)
        })
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if members.insert(name.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("{name:?} stands twice")));
                    }
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
