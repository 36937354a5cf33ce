//! Content codings of a request's body (RFC 9110 §8.4). Knows nothing of what is inside.

use std::{borrow::Cow, io::Read};

use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};
use ruzstd::decoding::StreamingDecoder;

/// How much a body may unpack to, in bytes: a bound on the receiver's own memory.
const MAX_UNPACKED: u64 = 256 << 20;

/// A content coding that a receiver may take; no coding at all is always taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Coding {
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

/// Why a body cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unreadable {
    /// A coding that is not taken here.
    Coding,
    /// Not what its header says, or cut short.
    Content,
}

/// The content of a body, if its coding is one of `taken`.
pub(super) fn unpack<'a>(
    headers: &HeaderMap,
    body: &'a [u8],
    taken: &[Coding],
) -> Result<Cow<'a, [u8]>, Unreadable> {
    let Some(coding) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(Cow::Borrowed(body));
    };
    let coding = match coding.as_bytes() {
        b"gzip" => Coding::Gzip,
        b"zstd" => Coding::Zstd,
        _ => return Err(Unreadable::Coding),
    };
    if !taken.contains(&coding) {
        return Err(Unreadable::Coding);
    }
    let content = match coding {
        Coding::Gzip => read(MultiGzDecoder::new(body)),
        Coding::Zstd => StreamingDecoder::new(body).ok().and_then(read),
    };
    content.map(Cow::Owned).ok_or(Unreadable::Content)
}

fn read(content: impl Read) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    content.take(MAX_UNPACKED).read_to_end(&mut whole).ok()?;
    Some(whole)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use http::HeaderValue;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    const BOTH: [Coding; 2] = [Coding::Gzip, Coding::Zstd];

    fn unpacked(
        coding: &'static str,
        body: &[u8],
        taken: &[Coding],
    ) -> Result<Vec<u8>, Unreadable> {
        let headers =
            HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(coding))]);
        unpack(&headers, body, taken).map(Cow::into_owned)
    }

    #[test]
    fn a_coding_is_undone_where_it_is_taken_and_a_broken_body_is_refused() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"text").unwrap();
        let gzip = encoder.finish().unwrap();
        let zstd = compress_to_vec(&b"text"[..], CompressionLevel::Fastest);
        assert_eq!(unpacked("gzip", &gzip, &BOTH), Ok(b"text".to_vec()));
        assert_eq!(unpacked("zstd", &zstd, &BOTH), Ok(b"text".to_vec()));
        assert_eq!(
            unpack(&HeaderMap::new(), b"text", &[]).as_deref(),
            Ok(&b"text"[..])
        );
        assert_eq!(
            unpacked("zstd", &zstd, &[Coding::Gzip]),
            Err(Unreadable::Coding)
        );
        assert_eq!(unpacked("br", b"", &BOTH), Err(Unreadable::Coding));
        for (coding, body) in [("gzip", &gzip), ("zstd", &zstd)] {
            for broken in [&body[..body.len() - 5], b"text"] {
                assert_eq!(
                    unpacked(coding, broken, &BOTH),
                    Err(Unreadable::Content),
                    "{coding}"
                );
            }
        }
    }
}
