//! Audit events in the log of a platform's event tracker: which of them a policy wants, and the chain that shows whether one is
//! missing, was changed or stands elsewhere.

use std::{borrow::Cow, collections::BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bundle::hex;

/// Of a log its audit events are meant, and nothing else. How they are written is in `docs/audit-events.md`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Audit {
    /// Events by name; none: every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<BTreeSet<String>>,
}

impl Audit {
    /// Whether an event of this name is wanted.
    pub fn wants(&self, event: &str) -> bool {
        self.events
            .as_ref()
            .is_none_or(|events| events.contains(event))
    }
}

/// A record's place in the stream of audit events that one sink of one policy gets of one container: records are numbered from 1
/// without a gap, and each is bound to all before it. The default is the place before the first.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Link {
    /// Its number; 0 before the first.
    pub sequence: u64,
    hash: [u8; 32],
}

/// The text of a record, as a digest that is the same wherever the record goes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Fingerprint([u8; 32]);

/// What a record is bound with, besides to all before it.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// The record's id.
    pub record_id: &'a str,
    /// When its line was written, in whole microseconds since 1970: as fine as syslog has it.
    pub written: i64,
    /// Why it is no event, though it is meant as one.
    pub fault: Option<&'a str>,
    /// Its text.
    pub text: Fingerprint,
}

/// A place as JSON has it.
#[derive(Deserialize, Serialize)]
struct Written {
    sequence: u64,
    chain: String,
}

/// A text that is no chain.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is no chain: it has 64 digits of hex")]
pub struct InvalidChain(String);

impl Fingerprint {
    /// Of the text of a record. White space around it does not count, and a line break counts as a space: sinks differ in both.
    pub fn of(text: &str) -> Self {
        let is_break = |one: char| matches!(one, '\r' | '\n');
        let text = if text.contains(is_break) {
            Cow::Owned(text.replace(is_break, " "))
        } else {
            Cow::Borrowed(text)
        };
        Self(Sha256::digest(text.as_bytes().trim_ascii()).into())
    }
}

impl Link {
    /// The place of the record after this one: SHA-256 over the chain before it, its number, its id, when it was written, its fault
    /// and the fingerprint of its text, each on a line of its own, numbers in decimal and digests in hex; the chain before the first
    /// is empty, and so is the fault of an event. So `sha256sum` is enough to follow it.
    #[must_use]
    pub fn next(self, said: &Said<'_>) -> Self {
        let sequence = self.sequence.saturating_add(1);
        let before = self.chain();
        let Said {
            record_id,
            written,
            fault,
            text,
        } = said;
        let fault = fault.unwrap_or_default();
        let text = hex(&text.0);
        let hash = Sha256::digest(format!(
            "{before}\n{sequence}\n{record_id}\n{written}\n{fault}\n{text}"
        ));
        Self {
            sequence,
            hash: hash.into(),
        }
    }

    /// The chain up to here, in hex; empty before the first record.
    pub fn chain(&self) -> String {
        match self.sequence {
            0 => String::new(),
            _ => hex(&self.hash),
        }
    }

    /// A place as a record has it.
    ///
    /// # Errors
    /// When the chain is none.
    pub fn read(sequence: u64, chain: &str) -> Result<Self, InvalidChain> {
        let invalid = || InvalidChain(chain.chars().take(80).collect());
        if sequence == 0 && chain.is_empty() {
            return Ok(Self::default());
        }
        let digit = |at: usize| {
            let digit = chain.as_bytes().get(at).copied();
            digit.and_then(|digit| char::from(digit).to_digit(16))
        };
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            let (high, low) = digit(2 * at).zip(digit(2 * at + 1)).ok_or_else(invalid)?;
            *byte = u8::try_from(high << 4 | low).map_err(|_| invalid())?;
        }
        if chain.len() != 64 {
            return Err(invalid());
        }
        Ok(Self { sequence, hash })
    }
}

impl From<Link> for Written {
    fn from(link: Link) -> Self {
        Self {
            sequence: link.sequence,
            chain: link.chain(),
        }
    }
}

impl TryFrom<Written> for Link {
    type Error = InvalidChain;

    fn try_from(written: Written) -> Result<Self, InvalidChain> {
        Self::read(written.sequence, &written.chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<'a>(record_id: &'a str, text: &str) -> Said<'a> {
        Said {
            record_id,
            written: 1_796_029_964_120_000,
            fault: None,
            text: Fingerprint::of(text),
        }
    }

    #[test]
    fn a_chain_is_what_sha256sum_makes_of_it() {
        let event = |id| said(id, r#"{"audit":1}"#);
        let one = Link::default().next(&event("f00d-0"));
        // printf '%s' '{"audit":1}' | sha256sum, and printf '\n1\nf00d-0\n1796029964120000\n\n%s' of that | sha256sum
        assert_eq!(
            hex(&event("").text.0),
            "ee79209dcf629eb33a75e51447a617079e9258ace550562a374f7c3bcf519092"
        );
        assert_eq!(one.sequence, 1);
        assert_eq!(
            one.chain(),
            "74b4ca3da759877f7acf7506431f80ac0a280cad272a816958cb7e5b51c7cb3a"
        );
        let faulty = Said {
            written: 1_796_029_964_120_001,
            fault: Some("missing actor"),
            ..event("f00d-20")
        };
        let two = one.next(&faulty);
        assert_eq!(
            two.chain(),
            "2dee5608ed11821a5bd6c0e6fae5d09e091f794a1a5011627ab1c6ea56397f4f"
        );
    }

    #[test]
    fn whatever_is_bound_changes_the_place() {
        let said = said("f00d-0", "x");
        let place = |said: Said<'_>| Link::default().next(&said);
        for other in [
            Said {
                record_id: "f00d-1",
                ..said
            },
            Said {
                written: said.written + 1,
                ..said
            },
            Said {
                fault: Some("missing actor"),
                ..said
            },
            Said {
                text: Fingerprint::of("y"),
                ..said
            },
        ] {
            assert_ne!(place(other), place(said), "{other:?}");
        }
    }

    #[test]
    fn what_sinks_do_to_white_space_is_no_change() {
        let said = Fingerprint::of("{\"a\": 1}");
        assert_eq!(said, Fingerprint::of("\t {\"a\":\r1} \n"));
        assert_ne!(said, Fingerprint::of("{\"a\":  1}"));
    }

    #[test]
    fn a_place_is_read_back_and_what_is_none_is_refused() {
        let one = Link::default().next(&said("f00d-0", "x"));
        for link in [Link::default(), one] {
            let json = serde_json::to_string(&link).unwrap();
            assert_eq!(serde_json::from_str::<Link>(&json).unwrap(), link);
        }
        for chain in ["", "00", &"g".repeat(64), &"a".repeat(65), &"ä".repeat(32)] {
            let error = Link::read(1, chain).unwrap_err().to_string();
            assert!(
                error.ends_with("is no chain: it has 64 digits of hex"),
                "{error}"
            );
        }
    }
}
