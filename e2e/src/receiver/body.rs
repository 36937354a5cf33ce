//! The content coding of a request's body; gzip is the only one.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;

/// How much a body may unpack to, in bytes: a bound on the receiver's own memory.
const MAX_UNPACKED: u64 = 256 << 20;

/// The content of a gzip body; nothing when it is not gzip or cut short.
pub(super) fn gunzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let mut decoder = MultiGzDecoder::new(bytes).take(MAX_UNPACKED);
    decoder.read_to_end(&mut body).ok()?;
    Some(body)
}
