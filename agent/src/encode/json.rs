//! Pieces of JSON: the inside of a string from bytes of any kind, the inside of an object.

use serde_json::{Map, Value};

use super::{CHAIN, FAULT, SEQUENCE};
use crate::assemble::Record;

/// How many bytes are looked at together: what the compiler turns into vector instructions.
const BLOCK: usize = 16;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends bytes as the inside of a JSON string; what is not UTF-8 becomes U+FFFD.
pub fn write_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        write_text(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Appends behind the last text of an object, before its closing quotation mark, what an audit policy adds to a record: its place
/// among the events of its container, and why it is none, if it is meant as one.
pub fn write_audit(record: &Record<'_>, out: &mut Vec<u8>) {
    let Some(audited) = record.audit else {
        return;
    };
    out.extend_from_slice(format!("\",\"{SEQUENCE}\":{}", audited.link.sequence).as_bytes());
    out.extend_from_slice(format!(",\"{CHAIN}\":\"{}", audited.link.chain()).as_bytes());
    if let Some(fault) = record.fault() {
        out.extend_from_slice(format!("\",\"{FAULT}\":\"{}", fault.as_str()).as_bytes());
    }
}

/// A JSON object without its braces.
pub fn inside(object: &Map<String, Value>) -> Vec<u8> {
    let json = Value::Object(object.clone()).to_string();
    json.as_bytes()[1..json.len() - 1].to_vec()
}

/// Appends JSON without the line breaks that it may have between its tokens; inside its strings there are none.
pub fn write_on_one_line(json: &str, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(json.as_bytes());
    for byte in &mut out[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// Whether all bytes are ASCII that a JSON string holds as it is.
fn is_plain(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    blocks.iter().all(|block| !has_special(block)) && !has_special(rest)
}

/// Looks at every byte instead of stopping at the first: this is what becomes vector instructions.
fn has_special(block: &[u8]) -> bool {
    let special = |found: u8, byte: &u8| found | u8::from(is_special(*byte)) | (byte & 0x80);
    block.iter().fold(0, special) != 0
}

/// RFC 8259 §7: quotation mark, reverse solidus and the control characters.
const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn write_text(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| is_special(*byte)) {
        out.extend_from_slice(&rest[..at]);
        let byte = rest[at];
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_back(bytes: &[u8]) -> String {
        let mut json = vec![b'"'];
        write_escaped(bytes, &mut json);
        json.push(b'"');
        serde_json::from_slice(&json).unwrap()
    }

    #[test]
    fn what_is_not_utf8_is_replaced_and_the_rest_survives() {
        assert_eq!(
            read_back(b"a\xffb\x00c\r\"\\\x1b"),
            "a\u{fffd}b\0c\r\"\\\u{1b}"
        );
        assert_eq!(read_back("größe €".as_bytes()), "größe €");
        assert_eq!(read_back(&"€".as_bytes()[..2]), "\u{fffd}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_valid_json_and_mean_what_lossy_decoding_says(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(read_back(&bytes), String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn any_text_is_read_back(text in "[ -~\\PC\\n\\t\"\\\\]{0,80}") {
            prop_assert_eq!(read_back(text.as_bytes()), text);
        }
    }
}
