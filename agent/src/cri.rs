//! One line of a container's log as the runtime writes it. Knows neither files nor other lines.
//!
//! The format is `<time> <stream> <tags> <content>`; the first tag is `F` for a whole line and `P` for a part
//! (Kubernetes: `pkg/kubelet/cri/logs`).

use crate::timestamp::{TimeParser, Timestamp};

/// Which output of the container a line comes from.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both, in the order of [`Stream::index`].
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// As the log format and our records write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// Place in an array with one entry for each stream.
    pub fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }
}

/// A line, or a part of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Line<'a> {
    /// When the runtime wrote it.
    pub time: Timestamp,
    /// Where it comes from.
    pub stream: Stream,
    /// Whether more of the same line follows.
    pub partial: bool,
    /// What the container wrote, byte for byte.
    pub content: &'a [u8],
}

/// Longest time that the format has: `2026-11-23T10:15:07.000000001+01:00`.
const LONGEST_TIME: usize = 35;

/// Reads a line without its newline; none when it does not have the format.
pub fn parse<'a>(raw: &'a [u8], times: &mut TimeParser) -> Option<Line<'a>> {
    let space = memchr::memchr(b' ', &raw[..raw.len().min(LONGEST_TIME + 1)])?;
    let time = times.parse(&raw[..space])?;
    let rest = &raw[space + 1..];
    let (stream, rest) = match rest.split_first_chunk::<7>()? {
        (b"stdout ", rest) => (Stream::Stdout, rest),
        (b"stderr ", rest) => (Stream::Stderr, rest),
        _ => return None,
    };
    let (tags, content) = match rest {
        [b'F', b' ', content @ ..] => (&rest[..1], content),
        _ => match memchr::memchr(b' ', rest) {
            Some(space) => (&rest[..space], &rest[space + 1..]),
            None => (rest, &rest[rest.len()..]),
        },
    };
    let partial = match tags {
        b"F" | [b'F', b':', ..] => false,
        b"P" | [b'P', b':', ..] => true,
        _ => return None,
    };
    Some(Line {
        time,
        stream,
        partial,
        content,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(raw: &[u8]) -> Option<Line<'_>> {
        parse(raw, &mut TimeParser::default())
    }

    #[test]
    fn a_line_is_taken_apart() {
        let line = line(b"2026-11-23T10:15:07.25Z stderr F a  b ").unwrap();
        assert_eq!(line.stream, Stream::Stderr);
        assert!(!line.partial);
        assert_eq!(line.content, b"a  b ");
        assert_eq!(line.time.nanos, 250_000_000);
    }

    #[test]
    fn an_empty_line_has_empty_content() {
        assert_eq!(
            line(b"2026-11-23T10:15:07Z stdout F ").unwrap().content,
            b""
        );
        assert_eq!(line(b"2026-11-23T10:15:07Z stdout F").unwrap().content, b"");
    }

    #[test]
    fn tags_beyond_the_first_change_nothing() {
        assert!(
            line(b"2026-11-23T10:15:07Z stdout P:later x")
                .unwrap()
                .partial
        );
        assert!(
            !line(b"2026-11-23T10:15:07Z stdout F:later x")
                .unwrap()
                .partial
        );
    }

    #[test]
    fn every_byte_of_the_content_survives() {
        let mut raw = b"2026-11-23T10:15:07Z stdout F ".to_vec();
        raw.extend([0, 0xff, b'\r', 0x1b]);
        assert_eq!(line(&raw).unwrap().content, [0, 0xff, b'\r', 0x1b]);
    }

    #[test]
    fn what_has_another_format_is_no_line() {
        for raw in [
            &b""[..],
            b"hello",
            b"2026-11-23T10:15:07Z stdwhat F x",
            b"2026-11-23T10:15:07Z stdout Q x",
            b"2026-11-23T10:15:07Z stdout",
            b"{\"log\":\"docker\"}",
        ] {
            assert_eq!(line(raw), None, "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(raw in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = line(&raw);
        }

        #[test]
        fn what_is_written_is_read(content in proptest::collection::vec(any::<u8>(), 0..96), partial: bool) {
            let mut raw = b"2026-11-23T10:15:07.123456789Z stdout ".to_vec();
            raw.extend_from_slice(if partial { b"P " } else { b"F " });
            raw.extend_from_slice(&content);
            let line = line(&raw).unwrap();
            prop_assert_eq!((line.partial, line.content), (partial, &content[..]));
        }
    }
}
