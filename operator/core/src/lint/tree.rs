//! What a document holds, and where in the file each part of it stands.

use serde_json::{Map, Number, Value};

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Spot {
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
}

/// A value, and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// Where it begins.
    pub at: Spot,
    /// What it is.
    pub content: Content,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// An object, in the order of its fields.
    Object(Vec<Field>),
}

/// A field of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Where its name begins.
    pub at: Spot,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Tree,
}

impl Tree {
    /// A field of an object.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let Content::Object(fields) = &self.content else {
            return None;
        };
        fields.iter().find(|field| field.name == name)
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.field(name).map(|field| &field.value)
    }

    /// The text of a field.
    pub fn text(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// As JSON, whose objects have no order.
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => items.iter().map(Self::to_json).collect(),
            Content::Object(fields) => {
                let fields = fields.iter();
                let fields: Map<String, Value> = fields
                    .map(|field| (field.name.clone(), field.value.to_json()))
                    .collect();
                Value::Object(fields)
            }
        }
    }

    /// Where the name of the field stands that a path names.
    pub fn spot_of_name(&self, path: &Path) -> Spot {
        let Some((Step::Field(name), before)) = path.0.split_last() else {
            return self.spot(path);
        };
        let field = self
            .at(&Path(before.to_vec()))
            .and_then(|parent| parent.field(name));
        field.map_or_else(|| self.spot(path), |field| field.at)
    }

    fn at(&self, path: &Path) -> Option<&Self> {
        path.0
            .iter()
            .try_fold(self, |here, step| match (step, &here.content) {
                (Step::Field(name), _) => here.get(name),
                (Step::Item(index), Content::List(items)) => items.get(*index),
                _ => None,
            })
    }

    /// Where the part stands that a path names, or the deepest part on the way there that there is.
    ///
    /// Of a field that holds an object or a list it is the field's name: that is where a reader looks.
    pub fn spot(&self, path: &Path) -> Spot {
        let (mut at, mut here) = (self.at, self);
        for step in &path.0 {
            match (step, &here.content) {
                (Step::Field(name), Content::Object(fields)) => {
                    let Some(field) = fields.iter().find(|field| field.name == *name) else {
                        break;
                    };
                    at = match field.value.content {
                        Content::List(_) | Content::Object(_) | Content::Null => field.at,
                        _ => field.value.at,
                    };
                    here = &field.value;
                }
                (Step::Item(index), Content::List(items)) => {
                    let Some(item) = items.get(*index) else { break };
                    at = item.at;
                    here = item;
                }
                _ => break,
            }
        }
        at
    }
}

/// One step into a value.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Step {
    Field(String),
    Item(usize),
}

/// The way from an object to a part of it, as the API server writes it: `spec.sinks[0].splunk`.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Path(Vec<Step>);

impl Path {
    /// Reads a path as it is written: fields of which none has a dot or a bracket in its name.
    pub fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        for part in text.split('.').filter(|part| !part.is_empty()) {
            let (name, items) = part.split_at(part.find('[').unwrap_or(part.len()));
            if !name.is_empty() {
                steps.push(Step::Field(name.to_owned()));
            }
            for item in items.split('[').skip(1) {
                let inner = item.trim_end_matches(']');
                steps.push(match inner.parse() {
                    Ok(index) => Step::Item(index),
                    Err(_) => Step::Field(inner.trim_matches('"').to_owned()),
                });
            }
        }
        Self(steps)
    }

    /// One field deeper.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        self.deeper(Step::Field(name.to_owned()))
    }

    /// One item deeper.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        self.deeper(Step::Item(index))
    }

    fn deeper(&self, step: Step) -> Self {
        let steps = self.0.iter().cloned();
        Self(steps.chain(std::iter::once(step)).collect())
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if index == 0 => formatter.write_str(name)?,
                Step::Field(name) => write!(formatter, ".{name}")?,
                Step::Item(item) => write!(formatter, "[{item}]")?,
            }
        }
        Ok(())
    }
}
