//! The XML of S3's answers: elements with their places in the text, so that what is not understood can be kept as it is.

use std::ops::Range;

use quick_xml::{
    Reader,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};

/// An element. Names are without their namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Element {
    /// Its name.
    pub name: String,
    /// Its text, without that of the elements in it.
    pub text: String,
    /// The elements in it.
    pub children: Vec<Self>,
    /// Where it stands, from the first byte of its tag on.
    pub span: Range<usize>,
    /// Where its content ends; none where it is an empty tag.
    pub content_end: Option<usize>,
}

/// Nothing that S3 answers is nested any deeper.
const DEPTH: usize = 16;

/// A text that is no answer of a store.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// It is no XML.
    #[error("it is no XML: {0}")]
    Xml(String),
    /// It is XML of another kind.
    #[error("it is no {0}")]
    Unexpected(&'static str),
    /// It is no JSON, or JSON of another kind.
    #[error("it is not the JSON that is documented: {0}")]
    Json(String),
}

impl Malformed {
    /// Without what the text says: it is nobody's business.
    pub(super) fn of_json(error: &serde_json::Error) -> Self {
        Self::Json(format!("line {}, column {}", error.line(), error.column()))
    }
}

impl Element {
    /// Reads a document.
    ///
    /// # Errors
    /// When it is no XML, has a document type, or is nested deeper than anything that S3 answers.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let mut reader = Reader::from_str(text);
        let mut open: Vec<Self> = Vec::new();
        let mut root = None;
        loop {
            let event = reader
                .read_event()
                .map_err(|error| Malformed::Xml(error.to_string()))?;
            let end = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
            let closed = match event {
                Event::Start(_) if open.len() >= DEPTH => {
                    return Err(Malformed::Xml("it is nested too deeply".to_owned()));
                }
                Event::Start(tag) => {
                    open.push(Self::begin(text, &tag, end));
                    None
                }
                Event::Empty(tag) => {
                    let mut element = Self::begin(text, &tag, end);
                    element.content_end = None;
                    Some(element)
                }
                Event::End(_) => open.pop().map(|mut element| {
                    element.span.end = end;
                    element.content_end = Some(tag_before(text, end));
                    element
                }),
                Event::Text(content) => {
                    push(&mut open, &content.xml10_content());
                    None
                }
                Event::CData(content) => {
                    push(&mut open, &content.xml10_content());
                    None
                }
                Event::GeneralRef(reference) => {
                    let character = reference.resolve_char_ref().ok().flatten();
                    let name = reference.into_inner();
                    match (character, resolve_predefined_entity(&name)) {
                        (Some(character), _) => push(&mut open, character.encode_utf8(&mut [0; 4])),
                        (None, Some(known)) => push(&mut open, known),
                        (None, None) => {
                            return Err(Malformed::Xml(format!("nobody says what &{name}; is")));
                        }
                    }
                    None
                }
                Event::DocType(_) => {
                    return Err(Malformed::Xml("it has a document type".to_owned()));
                }
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => None,
                Event::Eof => break,
            };
            match (closed, open.last_mut()) {
                (Some(element), Some(parent)) => parent.children.push(element),
                (Some(element), None) => root = root.or(Some(element)),
                (None, _) => {}
            }
        }
        match root {
            Some(root) if open.is_empty() => Ok(root),
            _ => Err(Malformed::Xml("it has no end".to_owned())),
        }
    }

    fn begin(text: &str, tag: &BytesStart<'_>, end: usize) -> Self {
        Self {
            name: tag.local_name().into_inner().to_owned(),
            text: String::new(),
            children: Vec::new(),
            span: tag_before(text, end)..end,
            content_end: Some(end),
        }
    }

    /// The elements of this name in it.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first element of this name in it.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first element of this name in it.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.trim())
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty() && self.text.trim().is_empty()
    }
}

fn push(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

/// Where the tag begins that ends here: no other `<` can stand in a tag (XML 1.0 §2.3, `AttValue`).
fn tag_before(text: &str, end: usize) -> usize {
    text.get(..end)
        .and_then(|text| text.rfind('<'))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_know_where_they_stand() {
        let text = "<?xml version='1.0'?>\n<a xmlns=\"urn:x\">\n <b>1 &amp; &#50;<![CDATA[<3]]></b><!-- c --><n:c/>\n</a>\n";
        let root = Element::parse(text).unwrap();
        assert_eq!(root.name, "a");
        assert_eq!(root.text_of("b"), Some("1 & 2<3"));
        let spans: Vec<&str> = root
            .children
            .iter()
            .map(|child| &text[child.span.clone()])
            .collect();
        assert_eq!(spans, ["<b>1 &amp; &#50;<![CDATA[<3]]></b>", "<n:c/>"]);
        assert_eq!(&text[root.content_end.unwrap()..], "</a>\n");
        assert_eq!(root.child("c").unwrap().content_end, None);
        assert!(root.child("c").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in [
            "",
            "no XML",
            "<a>",
            "<a></b>",
            "<a>&unknown;</a>",
            "<!DOCTYPE a [<!ENTITY x 'y'>]><a/>",
            &"<a>".repeat(100_000),
        ] {
            assert!(
                Element::parse(text).is_err(),
                "{}",
                &text[..text.len().min(40)]
            );
        }
    }
}
