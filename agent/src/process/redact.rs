//! Replaces what a pattern matches. Everything else of a record stays as it is, byte for byte.

use std::ops::ControlFlow;

use ring::hmac;

use super::pattern::Matcher;
use crate::{assemble::MAX_RECORD, encode::CUT};

/// Most bytes that a record grows to; the rest of it is cut away, marked.
const LONGEST: usize = 2 * MAX_RECORD;

/// Said before the digest of a match, so that it is not taken for what was written.
const HASHED: &[u8] = b"hmac:";

/// So many bytes of the digest are shown: equal ones are equal matches, for all that one will ever see.
const SHOWN: usize = 8;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// What is seen instead of a match.
#[derive(Debug)]
pub(super) enum With {
    /// This, as it is.
    Text(Vec<u8>),
    /// Its digest under the key of this number.
    Hash(usize),
}

/// Writes a text with all matches replaced into `out`; says whether there were any, and leaves `out` alone otherwise.
///
/// The pattern is matched against `shown`, which is as long as `text`.
pub(super) fn redact(
    pattern: &Matcher,
    with: &With,
    keys: &[hmac::Key],
    text: &[u8],
    shown: &[u8],
    out: &mut Vec<u8>,
) -> bool {
    let mut any = false;
    let mut kept = 0;
    pattern.each_match(shown, |found| {
        // Between all characters there is nothing, and nothing to hide.
        if found.is_empty() {
            return ControlFlow::Continue(());
        }
        if !any {
            any = true;
            out.clear();
        }
        out.extend_from_slice(&text[kept..found.start]);
        with.write(&text[found.clone()], keys, out);
        kept = found.end;
        if out.len() + (text.len() - kept) > LONGEST {
            out.extend_from_slice(CUT.as_bytes());
            kept = text.len();
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    if any {
        out.extend_from_slice(&text[kept..]);
    }
    any
}

impl With {
    fn write(&self, found: &[u8], keys: &[hmac::Key], out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text),
            Self::Hash(number) => {
                out.extend_from_slice(HASHED);
                if let Some(key) = keys.get(*number) {
                    let digest = hmac::sign(key, found);
                    for byte in digest.as_ref().iter().take(SHOWN) {
                        out.push(HEX[usize::from(byte >> 4)]);
                        out.push(HEX[usize::from(byte & 15)]);
                    }
                }
            }
        }
    }
}
