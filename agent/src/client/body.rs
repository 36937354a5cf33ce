//! What is sent as the body of a request: bytes, or a part of a file that is read while it is sent.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// A file is read in pieces of this size.
const PIECE: usize = 64 << 10;

/// A network that is slower than this would be of no use: 64 KiB a second.
const SLOWEST: u64 = 64 << 10;

/// The body of a request, which may have to be sent again.
#[derive(Clone, Debug)]
pub struct Outgoing(Content);

#[derive(Clone, Debug)]
enum Content {
    Whole(Bytes),
    File {
        file: Arc<File>,
        offset: u64,
        left: u64,
    },
}

impl Outgoing {
    /// The first bytes of a file; only a piece of them is in memory at a time.
    pub fn beginning_of(file: File, length: u64) -> Self {
        Self(Content::File {
            file: Arc::new(file),
            offset: 0,
            left: length,
        })
    }

    /// How much longer than a request without a body this may take: a file may be large.
    pub(super) fn longer(&self) -> Duration {
        match &self.0 {
            Content::Whole(_) => Duration::ZERO,
            Content::File { left, .. } => Duration::from_secs(left / SLOWEST),
        }
    }

    fn left(&self) -> u64 {
        match &self.0 {
            Content::Whole(bytes) => bytes.len() as u64,
            Content::File { left, .. } => *left,
        }
    }
}

impl From<Bytes> for Outgoing {
    fn from(bytes: Bytes) -> Self {
        Self(Content::Whole(bytes))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        let piece = match &mut self.0 {
            Content::Whole(bytes) => Ok(std::mem::take(bytes)),
            Content::File { file, offset, left } => read(file, *offset, *left).inspect(|piece| {
                *offset += piece.len() as u64;
                *left -= piece.len() as u64;
            }),
        };
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

fn read(file: &File, offset: u64, left: u64) -> io::Result<Bytes> {
    let size = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
    let mut buffer = vec![0; size];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer.into())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_file_is_sent_as_far_as_it_was_said_and_again_from_its_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("object");
        let content: Vec<u8> = b"0123456789a"
            .iter()
            .copied()
            .cycle()
            .take(3 * PIECE)
            .collect();
        std::fs::write(&path, &content).unwrap();
        let length = content.len() - 7;
        let body = Outgoing::beginning_of(File::open(&path).unwrap(), length as u64);
        for _ in 0..2 {
            assert_eq!(body.size_hint().exact(), Some(length as u64));
            let sent = body.clone().collect().await.unwrap().to_bytes();
            assert!(sent == content[..length]);
        }
        let longer = Outgoing::beginning_of(File::open(&path).unwrap(), u64::MAX);
        assert!(longer.collect().await.is_err(), "a file that is too short");
    }
}
