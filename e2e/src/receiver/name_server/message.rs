//! Messages of the domain name system (RFC 1035 §4), as far as somebody who asks for an address needs them.

use std::net::Ipv4Addr;

const HEADER: usize = 12;

/// The longest name with the lengths of its labels, and the longest label (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 255;
const LONGEST_LABEL: usize = 63;

/// `A` and `IN` (RFC 1035 §3.2.2, §3.2.4).
const ADDRESS: u16 = 1;
const INTERNET: u16 = 1;

/// Where every question's name stands: behind the header (RFC 1035 §4.1.4).
const POINTER_TO_NAME: [u8; 2] = [0xc0, HEADER.to_le_bytes()[0]];

/// A question for everything that there is of one kind about a name.
#[derive(Debug)]
pub(super) struct Question<'a> {
    id: [u8; 2],
    is_recursion_desired: bool,
    /// As it came, which is how it is repeated.
    bytes: &'a [u8],
    name: String,
    kind: u16,
    class: u16,
}

/// What is said to it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    Address(Ipv4Addr),
    /// The name is there, and nothing of this kind.
    NoData,
    NoSuchName,
    Failure,
}

/// A message that is no such question.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Unreadable {
    /// None for what is no question at all, or an answer: nobody waits for one.
    id: Option<[u8; 2]>,
    /// What it is refused with.
    code: u8,
}

/// The codes of RFC 1035 §4.1.1.
mod code {
    pub(super) const NO_ERROR: u8 = 0;
    pub(super) const FORMAT_ERROR: u8 = 1;
    pub(super) const SERVER_FAILURE: u8 = 2;
    pub(super) const NAME_ERROR: u8 = 3;
    pub(super) const NOT_IMPLEMENTED: u8 = 4;
}

impl<'a> Question<'a> {
    /// Reads the one question of a message; what follows it, such as EDNS, is not read.
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, Unreadable> {
        let silence = Unreadable {
            id: None,
            code: code::FORMAT_ERROR,
        };
        let Some((header, rest)) = message.split_first_chunk::<HEADER>() else {
            return Err(silence);
        };
        let [id, other_id, flags, _, questions, more_questions, ..] = *header;
        let id = [id, other_id];
        let refuse = |code| Unreadable { id: Some(id), code };
        if flags & 0x80 != 0 {
            return Err(silence);
        }
        // Only standard queries, each alone: nobody sends others.
        if flags & 0x78 != 0 || [questions, more_questions] != [0, 1] {
            return Err(refuse(code::NOT_IMPLEMENTED));
        }
        let malformed = || refuse(code::FORMAT_ERROR);
        let (name, length) = name(rest).ok_or_else(malformed)?;
        let (fixed, _) = rest[length..]
            .split_first_chunk::<4>()
            .ok_or_else(malformed)?;
        let [kind, of_kind, class, of_class] = *fixed;
        Ok(Self {
            id,
            is_recursion_desired: flags & 1 != 0,
            bytes: &rest[..length + fixed.len()],
            name,
            kind: u16::from_be_bytes([kind, of_kind]),
            class: u16::from_be_bytes([class, of_class]),
        })
    }

    /// Names are the same whatever their case (RFC 1035 §2.3.3).
    pub(super) fn is_about(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Whether it is for the IPv4 address.
    pub(super) fn wants_address(&self) -> bool {
        (self.kind, self.class) == (ADDRESS, INTERNET)
    }

    /// The answer of the authority for the name.
    pub(super) fn reply(&self, reply: Reply) -> Vec<u8> {
        let code = match reply {
            Reply::Address(_) | Reply::NoData => code::NO_ERROR,
            Reply::NoSuchName => code::NAME_ERROR,
            Reply::Failure => code::SERVER_FAILURE,
        };
        let answers = u8::from(matches!(reply, Reply::Address(_)));
        let mut bytes = header(self.id, self.is_recursion_desired, code, [1, answers]);
        bytes.extend_from_slice(self.bytes);
        if let Reply::Address(address) = reply {
            bytes.extend(POINTER_TO_NAME);
            bytes.extend(ADDRESS.to_be_bytes());
            bytes.extend(INTERNET.to_be_bytes());
            // For how long it may be remembered: not at all.
            bytes.extend(0_u32.to_be_bytes());
            bytes.extend(4_u16.to_be_bytes());
            bytes.extend(address.octets());
        }
        bytes
    }
}

impl Unreadable {
    /// Tells who asked, if somebody did.
    pub(super) fn reply(&self) -> Option<Vec<u8>> {
        Some(header(self.id?, false, self.code, [0, 0]))
    }
}

/// The header of an answer: with authority, by somebody who also asks others, to so many questions with so many answers.
fn header(id: [u8; 2], is_recursion_desired: bool, code: u8, counts: [u8; 2]) -> Vec<u8> {
    let flags = [0x84 | u8::from(is_recursion_desired), 0x80 | code];
    let [questions, answers] = counts;
    [&id[..], &flags, &[0, questions, 0, answers, 0, 0, 0, 0]].concat()
}

/// A name with dots, and how many bytes it takes; none when it is none, or refers to another one.
fn name(bytes: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length > LONGEST_LABEL || at + length > LONGEST_NAME {
            return None;
        }
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(std::str::from_utf8(bytes.get(at..at + length)?).ok()?);
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: [u8; HEADER] = [7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];

    fn message(question: &[u8]) -> Vec<u8> {
        [&HEAD[..], question].concat()
    }

    #[test]
    fn a_question_is_read_with_what_follows_it() {
        let edns = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";
        let message = message(&[&b"\x04Logs\x02io\0\0\x1c\0\x01"[..], edns].concat());
        let question = Question::parse(&message).unwrap();
        assert!(question.is_about("logs.io") && !question.is_about("logs"));
        assert!(!question.wants_address(), "it is for AAAA");
        let reply = question.reply(Reply::NoData);
        assert_eq!(reply[..HEADER], [7, 8, 0x85, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(reply[HEADER..], message[HEADER..message.len() - edns.len()]);
    }

    #[test]
    fn what_is_no_question_is_refused_or_left_alone() {
        let refused = |code| Unreadable {
            id: Some([7, 8]),
            code,
        };
        let long = [b"\x3f".repeat(64 * 4), b"\0\0\x01\0\x01".to_vec()].concat();
        for malformed in [
            &b""[..],
            b"\x04log",
            b"\x04logs\0\0\x01\0",
            b"\xc0\x0c\0\x01\0\x01",
            b"\x01\xff\0\0\x01\0\x01",
            &long,
        ] {
            let unreadable = Question::parse(&message(malformed)).unwrap_err();
            assert_eq!(unreadable, refused(code::FORMAT_ERROR), "{malformed:?}");
            assert_eq!(unreadable.reply().unwrap()[..4], [7, 8, 0x84, 0x81]);
        }
        let question = b"\x01a\0\0\x01\0\x01";
        for (at, byte) in [(2, 0x28), (5, 0), (5, 2), (4, 1)] {
            let mut message = message(question);
            message[at] = byte;
            let unreadable = Question::parse(&message).unwrap_err();
            assert_eq!(unreadable, refused(code::NOT_IMPLEMENTED), "{at}");
        }
        // An answer, which must not be answered, and half a header.
        let mut answer = message(question);
        answer[2] |= 0x80;
        for silent in [&answer[..], &HEAD[..11]] {
            assert_eq!(Question::parse(silent).unwrap_err().reply(), None);
        }
    }
}
