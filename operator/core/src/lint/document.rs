//! The documents of a file, read as the API server reads them and each part with its place.

use std::{borrow::Cow, collections::HashMap};

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::{
    finding::Rule,
    scalar,
    tree::{Content, Field, Spot, Tree},
};

/// Most values that the aliases of a document may stand for: more than any manifest has, fewer than fill a memory.
const EXPANDED: usize = 100_000;

/// How deep a document may be once its aliases are followed: as deep as the parser takes one without any.
const DEEPEST: usize = 256;

/// A document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What it holds.
    pub tree: Tree,
    /// How many bytes of the file it takes.
    pub bytes: usize,
}

/// Why a document, or a part of it, cannot be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unreadable {
    /// Where.
    pub at: Spot,
    /// What kind of mistake it is.
    pub rule: Rule,
    /// What is wrong, and what to write. Repeats nothing of the file but names of fields: the lines around a mistake may hold a credential.
    pub message: String,
}

/// The documents of a text that hold anything, and what is wrong with it. A document that cannot be read is left out, those behind it
/// are not.
pub fn documents(text: &str) -> (Vec<Document>, Vec<Unreadable>) {
    let mut reader = Reader {
        lines: text.lines().collect(),
        parser: Parser::new_from_str_with_options(
            text,
            // Another crate may want comments; here they would stand between a field and its value.
            granit_parser::options! { emit_comments: false },
        ),
        unreadable: Vec::new(),
        anchors: HashMap::new(),
        expanded: 0,
        depth: 0,
    };
    let mut documents = Vec::new();
    let mut begin = 0;
    loop {
        match reader.next() {
            Ok(None) => break,
            Ok(Some((Event::DocumentStart(..), span))) => {
                begin = span.byte_range().map_or(begin, |range| range.start);
                reader.anchors.clear();
                reader.expanded = 0;
                reader.depth = 0;
                match reader.document() {
                    Ok((tree, end)) => {
                        if tree.content != Content::Null {
                            let bytes = end.unwrap_or(begin).saturating_sub(begin);
                            documents.push(Document { tree, bytes });
                        }
                    }
                    Err(stopped) => {
                        if !reader.recover(stopped) {
                            break;
                        }
                    }
                }
            }
            Ok(Some(_)) => {}
            Err(stopped) => {
                if !reader.recover(stopped) {
                    break;
                }
            }
        }
    }
    (documents, reader.unreadable)
}

/// Why reading a document ended before its end.
enum Stopped {
    /// It is no YAML.
    Scan(Box<ScanError>),
    /// It is, and cannot be used.
    Told,
}

impl From<ScanError> for Stopped {
    fn from(error: ScanError) -> Self {
        Self::Scan(Box::new(error))
    }
}

struct Reader<'a> {
    /// Of the text: each mistake looks at some.
    lines: Vec<&'a str>,
    parser: Parser<'a, StrInput<'a>>,
    unreadable: Vec<Unreadable>,
    anchors: HashMap<usize, Tree>,
    /// Values that aliases of this document stand for.
    expanded: usize,
    /// How deep in the document the reader is.
    depth: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Stopped> {
        match self.parser.next_event().transpose()? {
            None | Some((Event::StreamEnd, _)) => Ok(None),
            some => Ok(some),
        }
    }

    /// Says why, and goes to the next document; whether there is one.
    fn recover(&mut self, stopped: Stopped) -> bool {
        if let Stopped::Scan(error) = stopped {
            let told = self.explained(&error);
            self.unreadable.push(told);
        }
        // Where even that fails, nothing can be read any more.
        self.parser.proceed_next_document().unwrap_or_default()
    }

    /// The root of a document, and where it ends.
    fn document(&mut self) -> Result<(Tree, Option<usize>), Stopped> {
        let mut root = None;
        let mut end = None;
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::DocumentEnd) {
                end = end.max(span.byte_range().map(|range| range.end));
                break;
            }
            root = Some(self.value(event, span)?);
            end = span.byte_range().map(|range| range.end);
        }
        let nothing = Tree {
            at: Spot { line: 1, column: 1 },
            content: Content::Null,
        };
        Ok((root.unwrap_or(nothing), end))
    }

    fn value(&mut self, event: Event<'a>, span: Span) -> Result<Tree, Stopped> {
        self.depth += 1;
        let value = self.value_here(event, span);
        self.depth -= 1;
        value
    }

    fn value_here(&mut self, event: Event<'a>, span: Span) -> Result<Tree, Stopped> {
        let at = spot(&span);
        let anchor = event.anchor_id();
        let content = match event {
            Event::Alias(id) => return self.alias(id, at),
            Event::Scalar(text, style, _, tag) => {
                let is_text = tag
                    .as_ref()
                    .is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                if style == ScalarStyle::Plain && !is_text {
                    scalar::plain(&text)
                } else {
                    Content::Text(text.into_owned())
                }
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.must_have()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.value(event, span)?),
                    }
                }
                Content::List(items)
            }
            Event::MappingStart(..) => Content::Object(self.fields()?),
            _ => Content::Null,
        };
        let tree = Tree { at, content };
        if let Some(id) = anchor {
            self.anchors.insert(id, tree.clone());
        }
        Ok(tree)
    }

    fn must_have(&mut self) -> Result<(Event<'a>, Span), Stopped> {
        self.next()?.ok_or(Stopped::Told)
    }

    fn fields(&mut self) -> Result<Vec<Field>, Stopped> {
        let mut fields: Vec<Field> = Vec::new();
        let mut merged = Vec::new();
        let mut seen: HashMap<String, Spot> = HashMap::new();
        loop {
            let (event, span) = match self.must_have()? {
                (Event::MappingEnd, _) => break,
                other => other,
            };
            let is_merge =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.value(event, span)?;
            let (event, span) = self.must_have()?;
            let value = self.value(event, span)?;
            if is_merge {
                merged.push(value);
                continue;
            }
            let Some(name) = name(&key.content) else {
                if self.is_template(key.at.line) {
                    self.tell(key.at, Rule::Yaml, TEMPLATE);
                    return Err(Stopped::Told);
                }
                self.tell(
                    key.at,
                    Rule::Yaml,
                    "the name of this field is a list or an object: write it as text",
                );
                continue;
            };
            if let Some(first) = seen.get(name.as_ref()) {
                let message = format!(
                    "field `{name}` stands here a second time, first in line {}: keep one of them",
                    first.line
                );
                self.tell(key.at, Rule::DuplicateField, message);
                continue;
            }
            seen.insert(name.clone().into_owned(), key.at);
            fields.push(Field {
                at: key.at,
                name: name.into_owned(),
                value,
            });
        }
        for value in merged {
            self.merge(value, &mut fields, &mut seen);
        }
        Ok(fields)
    }

    /// What `<<` adds (YAML 1.1, "Merge Key Language-Independent Type"): what is there already stays, as kubectl has it, which merges
    /// before it sends.
    fn merge(&mut self, value: Tree, fields: &mut Vec<Field>, seen: &mut HashMap<String, Spot>) {
        match value.content {
            Content::Object(more) => {
                for field in more {
                    if !seen.contains_key(&field.name) {
                        seen.insert(field.name.clone(), field.at);
                        fields.push(field);
                    }
                }
            }
            Content::List(items) => {
                for item in items {
                    self.merge(item, fields, seen);
                }
            }
            _ => self.tell(
                value.at,
                Rule::Yaml,
                "`<<` takes an object or a list of objects: write an alias of one behind it",
            ),
        }
    }

    fn alias(&mut self, id: usize, at: Spot) -> Result<Tree, Stopped> {
        let Some(target) = self.anchors.get(&id) else {
            self.tell(
                at,
                Rule::Yaml,
                "this alias stands inside of what it names: write the value out",
            );
            return Err(Stopped::Told);
        };
        self.expanded += size(target);
        if self.expanded > EXPANDED {
            let message = format!(
                "the aliases of this document stand for more than {EXPANDED} values: write out what they name"
            );
            self.tell(at, Rule::Yaml, message);
            return Err(Stopped::Told);
        }
        if self.depth + depth(target) > DEEPEST {
            let message = format!(
                "with this alias the document is more than {DEEPEST} values deep: write out what it names"
            );
            self.tell(at, Rule::Yaml, message);
            return Err(Stopped::Told);
        }
        let target = target.clone();
        Ok(Tree { at, ..target })
    }

    fn tell(&mut self, at: Spot, rule: Rule, message: impl Into<String>) {
        self.unreadable.push(Unreadable {
            at,
            rule,
            message: message.into(),
        });
    }

    fn line(&self, line: usize) -> &'a str {
        let line = self.lines.get(line.saturating_sub(1));
        line.copied().unwrap_or_default()
    }

    fn is_template(&self, line: usize) -> bool {
        self.line(line).contains("{{")
    }

    fn explained(&self, error: &ScanError) -> Unreadable {
        let mark = error.marker();
        let at = Spot {
            line: mark.line().max(1),
            column: mark.col() + 1,
        };
        // What is wrong in a line may be noticed in the next one, or where what it belongs to begins.
        let near = [at.line, at.line.saturating_sub(1).max(1), at.line + 1];
        let tabbed = near.into_iter().find_map(|line| {
            let text = self.line(line);
            let indent = text.len() - text.trim_start_matches([' ', '\t']).len();
            let column = text[..indent].find('\t')? + 1;
            Some(Spot { line, column })
        });
        let (at, message) = match tabbed {
            Some(at) => (
                at,
                "a tab stands in the indentation, which YAML does not take: write blanks instead"
                    .to_owned(),
            ),
            None if near.into_iter().any(|line| self.is_template(line)) => {
                (at, TEMPLATE.to_owned())
            }
            None => (at, format!("this is not YAML: {}", error.info())),
        };
        Unreadable {
            at,
            rule: Rule::Yaml,
            message,
        }
    }
}

/// What to do with a file of a chart.
const TEMPLATE: &str = "this is a template and no YAML yet: lint what it becomes, for example `helm template CHART | katonic-logging lint -`";

/// A field's name as JSON has it.
fn name(key: &Content) -> Option<Cow<'_, str>> {
    match key {
        Content::Text(text) => Some(Cow::Borrowed(text)),
        Content::Null => Some(Cow::Borrowed("null")),
        Content::Bool(value) => Some(Cow::Owned(value.to_string())),
        Content::Number(number) => Some(Cow::Owned(number.to_string())),
        Content::List(_) | Content::Object(_) => None,
    }
}

fn size(tree: &Tree) -> usize {
    match &tree.content {
        Content::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Content::Object(fields) => 1 + fields.iter().map(|field| size(&field.value)).sum::<usize>(),
        _ => 1,
    }
}

fn depth(tree: &Tree) -> usize {
    let below = match &tree.content {
        Content::List(items) => items.iter().map(depth).max(),
        Content::Object(fields) => fields.iter().map(|field| depth(&field.value)).max(),
        _ => None,
    };
    1 + below.unwrap_or_default()
}

fn spot(span: &Span) -> Spot {
    Spot {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

#[cfg(test)]
mod tests;
