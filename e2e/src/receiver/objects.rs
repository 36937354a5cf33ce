//! What stores of objects have in common: what they keep, and the form of their refusals. Allows nobody anything.

use std::collections::BTreeMap;

use anyhow::Result;
use bytes::Bytes;
use http::HeaderValue;
use percent_encoding::percent_decode_str;

use super::{Archived, Verdict};

/// Longest key, in bytes: S3, Google and Azure agree.
pub(super) const LONGEST_KEY: usize = 1024;

/// What is in a bucket, by key.
#[derive(Clone, Debug, Default)]
pub struct Bucket {
    objects: BTreeMap<String, Bytes>,
    /// Objects that were sent again with other content: an archive is to send the same.
    changed: Vec<String>,
}

impl Bucket {
    /// The objects.
    pub fn objects(&self) -> &BTreeMap<String, Bytes> {
        &self.objects
    }

    /// Keys of objects that were sent once more and differently, whatever became of that; completeness records are not among
    /// them.
    pub fn changed(&self) -> &[String] {
        &self.changed
    }

    /// The archive in it.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn archived(&self) -> Result<Archived> {
        Archived::read(self.objects.clone())
    }

    /// Whether there is an object; remembers where it is not the one that is sent.
    pub(super) fn has(&mut self, key: &str, sent: &[u8]) -> bool {
        let Some(kept) = self.objects.get(key) else {
            return false;
        };
        if kept != sent && !key.ends_with("-complete.json") {
            self.changed.push(key.to_owned());
        }
        true
    }

    pub(super) fn put(&mut self, key: &str, content: &[u8]) {
        self.objects
            .insert(key.to_owned(), Bytes::copy_from_slice(content));
    }
}

/// Bucket and key of `/<bucket>/<key>`, decoded.
pub(super) fn read_path(path: &str) -> Option<(String, String)> {
    let (bucket, key) = path.strip_prefix('/')?.split_once('/')?;
    let decode = |text| percent_decode_str(text).decode_utf8().ok();
    Some((decode(bucket)?.into_owned(), decode(key)?.into_owned()))
}

/// A refusal in XML, as all of them have it.
pub(super) fn refused(status: u16, code: &str, message: &str) -> Verdict {
    let body = format!(
        "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    Verdict {
        content_type: HeaderValue::from_static("application/xml; charset=UTF-8"),
        ..Verdict::refused(status, body)
    }
}

/// An object was put; nothing is said of it.
pub(super) fn stored(status: u16) -> Verdict {
    Verdict::refused(status, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_bucket_and_a_key() {
        let read = |path| read_path(path).map(|(bucket, key)| format!("{bucket} {key}"));
        assert_eq!(read("/b/a/c%212F").as_deref(), Some("b a/c!2F"));
        assert_eq!(read("/b"), None);
        assert_eq!(read("/b/%ff"), None);
    }

    #[test]
    fn an_object_that_comes_again_otherwise_is_remembered() {
        let mut bucket = Bucket::default();
        assert!(!bucket.has("a", b"1"));
        bucket.put("a", b"1");
        assert!(bucket.has("a", b"1") && bucket.changed().is_empty());
        assert!(bucket.has("a", b"2"));
        assert_eq!(bucket.changed(), ["a"]);
    }
}
