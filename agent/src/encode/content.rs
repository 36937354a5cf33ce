//! What a record says: text, or one JSON object where the policy asks for that. Writes nothing.

use std::{fmt, str::Utf8Chunk};

use katonic_log_config::Parse;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

use super::{CONTINUES, CUT};
use crate::assemble::Record;

/// What a record says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content<'a> {
    /// Bytes, most often UTF-8, and what is appended to them.
    Text(&'a [u8], &'static str),
    /// A JSON object that has members. It may have line breaks, outside of its strings.
    Object(&'a str),
}

impl<'a> Content<'a> {
    /// The content of a record, cut to `longest` bytes.
    ///
    /// What is not exactly one JSON object (cut, going on elsewhere, followed by anything, nested too deeply, with a
    /// number that no double holds) is text.
    pub fn of(record: &Record<'a>, parse: Parse, longest: usize) -> Self {
        let content = record.content;
        if content.len() > longest {
            return Self::Text(&content[..boundary(content, longest)], CUT);
        }
        if record.continues {
            return Self::Text(content, CONTINUES);
        }
        match parse {
            Parse::Text => Self::Text(content, ""),
            Parse::Json => object(content).map_or(Self::Text(content, ""), Self::Object),
        }
    }
}

/// What stands for bytes that are not UTF-8.
pub(super) const REPLACEMENT: &str = "\u{fffd}";

/// How many bytes a text has once what is not UTF-8 is replaced.
pub(super) fn utf8_length(text: &[u8]) -> usize {
    if str::from_utf8(text).is_ok() {
        return text.len();
    }
    text.utf8_chunks().map(|chunk| utf8_chunk(&chunk)).sum()
}

fn utf8_chunk(chunk: &Utf8Chunk<'_>) -> usize {
    let replaced = if chunk.invalid().is_empty() {
        0
    } else {
        REPLACEMENT.len()
    };
    chunk.valid().len() + replaced
}

/// The beginning of a text that has at most so many bytes once what is not UTF-8 is replaced.
pub(super) fn utf8_prefix(text: &[u8], longest: usize) -> &[u8] {
    // Nothing becomes longer than three times its length.
    if text.len() <= longest / REPLACEMENT.len() || utf8_length(text) <= longest {
        return text;
    }
    let (mut kept, mut room) = (0, longest);
    for chunk in text.utf8_chunks() {
        let bytes = utf8_chunk(&chunk);
        if bytes > room {
            return &text[..boundary(text, kept + room.min(chunk.valid().len()))];
        }
        room -= bytes;
        kept += chunk.valid().len() + chunk.invalid().len();
    }
    text
}

/// The last place up to `longest` that is not inside a character; `longest` itself in what is not UTF-8.
fn boundary(content: &[u8], longest: usize) -> usize {
    let continues = |at: usize| content.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (longest.saturating_sub(3)..=longest)
        .rev()
        .find(|at| !continues(*at))
        .unwrap_or(longest)
}

/// Without the white space of JSON around it (RFC 8259 §2): a form feed is none.
fn trim(mut content: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = content {
        content = rest;
    }
    while let [rest @ .., b' ' | b'\t' | b'\n' | b'\r'] = content {
        content = rest;
    }
    content
}

fn object(content: &[u8]) -> Option<&str> {
    let content = trim(content);
    // Most lines that are no object end here.
    if content.first() != Some(&b'{') || content.last() != Some(&b'}') {
        return None;
    }
    let text = str::from_utf8(content).ok()?;
    let Checked { members } = serde_json::from_str(text).ok()?;
    (members > 0).then_some(text)
}

/// Reads JSON and keeps nothing of it. Unlike `IgnoredAny` it refuses what other readers would: numbers out of range,
/// halves of surrogate pairs, more than 128 levels.
#[derive(Default)]
struct Checked {
    members: usize,
}

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Check)
    }
}

struct Check;

impl<'de> Visitor<'de> for Check {
    type Value = Checked;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, _value: bool) -> Result<Checked, E> {
        Ok(Checked::default())
    }

    fn visit_i64<E>(self, _value: i64) -> Result<Checked, E> {
        Ok(Checked::default())
    }

    fn visit_u64<E>(self, _value: u64) -> Result<Checked, E> {
        Ok(Checked::default())
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Checked, E> {
        Ok(Checked::default())
    }

    fn visit_str<E>(self, _value: &str) -> Result<Checked, E> {
        Ok(Checked::default())
    }

    fn visit_unit<E>(self) -> Result<Checked, E> {
        Ok(Checked::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Checked, A::Error> {
        while elements.next_element::<Checked>()?.is_some() {}
        Ok(Checked::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Checked, A::Error> {
        let mut members = 0;
        while entries.next_entry::<Checked, Checked>()?.is_some() {
            members += 1;
        }
        Ok(Checked { members })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{assemble::FileNumber, cri::Stream, timestamp::Timestamp};

    fn record(content: &[u8]) -> Record<'_> {
        Record {
            time: Timestamp::default(),
            stream: Stream::Stdout,
            file: FileNumber::default(),
            offset: 0,
            content,
            continues: false,
            continued: false,
            audit: None,
        }
    }

    fn of(content: &[u8]) -> Content<'_> {
        Content::of(&record(content), Parse::Json, usize::MAX)
    }

    #[test]
    fn exactly_one_object_is_an_object() {
        for (text, object) in [
            (r#"{"a":1}"#, r#"{"a":1}"#),
            (" {\"a\":\n[1,{}]}\r\n", "{\"a\":\n[1,{}]}"),
            (
                r#"{"a":{"b":null},"a":"\ud83d\ude00"}"#,
                r#"{"a":{"b":null},"a":"\ud83d\ude00"}"#,
            ),
        ] {
            assert_eq!(of(text.as_bytes()), Content::Object(object));
        }
    }

    #[test]
    fn everything_else_is_text() {
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
        for text in [
            "",
            "{}",
            "{",
            "[1]",
            "\"a\"",
            r#"{"a":1} x"#,
            "{\"a\":1}\x0c",
            r#"{"a":1}{"b":2}"#,
            r#"{"a":1,}"#,
            r#"{"a":1e999}"#,
            r#"{"a":"\ud800"}"#,
            "{\"a\":\"\n\"}",
            &deep,
        ] {
            assert_eq!(of(text.as_bytes()), Content::Text(text.as_bytes(), ""));
        }
        let broken = b"{\"a\":\"\xff\"}";
        assert_eq!(of(broken), Content::Text(broken, ""));
    }

    #[test]
    fn a_part_of_an_object_is_text_and_says_so() {
        let content = br#"{"a":1}"#;
        let cut = Content::of(&record(content), Parse::Json, 3);
        assert_eq!(cut, Content::Text(b"{\"a", CUT));
        let continued = Record {
            continues: true,
            ..record(content)
        };
        let continued = Content::of(&continued, Parse::Json, usize::MAX);
        assert_eq!(continued, Content::Text(content, CONTINUES));
    }

    #[test]
    fn a_prefix_is_measured_as_it_is_written() {
        let prefix = |text: &'static [u8], longest| utf8_prefix(text, longest);
        assert_eq!(prefix(b"abcdef", 4), b"abcd");
        assert_eq!(prefix(b"abcd", 4), b"abcd");
        assert_eq!(prefix(b"a\xffb\xff", 7), b"a\xffb");
        assert_eq!(prefix(b"a\xffb\xff", 8), b"a\xffb\xff");
        assert_eq!(prefix(b"\xff\xff\xff", 6), b"\xff\xff");
        assert_eq!(prefix("a€b€".as_bytes(), 6), "a€b".as_bytes());
    }

    #[test]
    fn nothing_is_cut_inside_a_character() {
        let cut = |content: &[u8], longest| {
            let record = record(content);
            match Content::of(&record, Parse::Text, longest) {
                Content::Text(text, CUT) => text.len(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(cut("a€b".as_bytes(), 3), 1);
        assert_eq!(cut("a€b".as_bytes(), 4), 4);
        assert_eq!(cut("😀".as_bytes(), 3), 0);
        assert_eq!(cut(b"\x80\x80\x80\x80\x80\x80", 5), 5);
        assert_eq!(cut(b"ab", 0), 0);
    }
}
