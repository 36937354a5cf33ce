//! What stores of objects have in common: what they keep, and the form of their refusals. Allows nobody anything.

use std::{
    collections::BTreeMap,
    ops::{Bound, Range},
    time::SystemTime,
};

use anyhow::Result;
use base64::{Engine as _, prelude::BASE64_URL_SAFE};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use httpdate::fmt_http_date;
use katonic_log_config::bundle::hex_digest;
use percent_encoding::percent_decode_str;

use super::{Archived, Verdict};

/// Longest key, in bytes: S3, Google and Azure agree.
pub(super) const LONGEST_KEY: usize = 1024;

/// What is in a bucket, by key.
#[derive(Clone, Debug, Default)]
pub struct Bucket {
    objects: BTreeMap<String, Bytes>,
    stored: BTreeMap<String, SystemTime>,
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

    /// Puts an object there, whatever was there.
    pub fn put(&mut self, key: &str, content: &[u8]) {
        self.objects
            .insert(key.to_owned(), Bytes::copy_from_slice(content));
        self.stored.insert(key.to_owned(), SystemTime::now());
    }

    /// Takes an object away, as somebody does who may.
    pub fn delete(&mut self, key: &str) {
        self.objects.remove(key);
        self.stored.remove(key);
    }

    /// What a listing says of the objects whose keys begin with `prefix` and come after `after`, at most so many, and whether there
    /// are more.
    pub(super) fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> (Vec<Listed<'_>>, bool) {
        let begin = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut found = self
            .objects
            .range::<str, _>((begin, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, content)| Listed {
                key,
                size: content.len(),
                tag: tag(content),
                stored: self.stored(key),
            });
        let listed = found.by_ref().take(most).collect();
        (listed, found.next().is_some())
    }

    fn stored(&self, key: &str) -> SystemTime {
        self.stored
            .get(key)
            .copied()
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// An object, or the part of it that is asked for (RFC 9110 §14); none where there is no such object. A range that is none is
    /// passed over.
    pub(super) fn get(
        &self,
        key: &str,
        range: Option<&str>,
    ) -> Option<Result<Verdict, Unsatisfiable>> {
        let content = self.objects.get(key)?;
        let mut headers = HeaderMap::new();
        let values = [
            (header::ETAG, format!("\"{}\"", tag(content))),
            (header::LAST_MODIFIED, fmt_http_date(self.stored(key))),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
        ];
        for (name, value) in values {
            headers.extend(HeaderValue::try_from(value).map(|value| (name, value)));
        }
        let (status, body) = match range.and_then(|range| read_range(range, content.len())) {
            None => (200, content.clone()),
            Some(range) if range.is_empty() => return Some(Err(Unsatisfiable)),
            Some(range) => {
                let size = content.len();
                let said = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                let said = HeaderValue::try_from(said).map(|said| (header::CONTENT_RANGE, said));
                headers.extend(said);
                (206, content.slice(range))
            }
        };
        Some(Ok(Verdict {
            content_type: HeaderValue::from_static("application/octet-stream"),
            body,
            headers,
            ..Verdict::refused(status, String::new())
        }))
    }
}

/// What a listing says of an object.
#[derive(Debug)]
pub(super) struct Listed<'b> {
    pub(super) key: &'b str,
    pub(super) size: usize,
    pub(super) tag: String,
    pub(super) stored: SystemTime,
}

/// A range of which the object has nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unsatisfiable;

fn tag(content: &[u8]) -> String {
    hex_digest(content)[..32].to_owned()
}

/// The bytes that `bytes=<first>-<last>` or `bytes=<first>-` asks for; empty where there are none of them.
fn read_range(range: &str, size: usize) -> Option<Range<usize>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let end = match last {
        "" => size,
        last => last.parse::<usize>().ok()?.checked_add(1)?.min(size),
    };
    Some(first.min(end)..end)
}

/// Where a listing goes on, as only the store understands it.
pub(super) fn mark(key: &str) -> String {
    BASE64_URL_SAFE.encode(format!("after {key}"))
}

/// The key after which it goes on; none where the store has never said so.
pub(super) fn read_mark(mark: &str) -> Option<String> {
    let text = String::from_utf8(BASE64_URL_SAFE.decode(mark).ok()?).ok()?;
    text.strip_prefix("after ").map(str::to_owned)
}

/// Names and values of a query, decoded.
pub(super) fn read_query(query: Option<&str>) -> Option<Vec<(String, String)>> {
    let pairs = query.unwrap_or_default().split('&');
    let pairs = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            Some(percent_decode_str(&text).decode_utf8().ok()?.into_owned())
        };
        Some((decode(name)?, decode(value)?))
    });
    pairs.collect()
}

/// Text as XML has it.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A listing.
pub(super) fn listing(xml: String) -> Verdict {
    Verdict {
        content_type: HeaderValue::from_static("application/xml; charset=UTF-8"),
        ..Verdict::refused(200, xml)
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
    fn a_listing_is_read_page_by_page() {
        let mut bucket = Bucket::default();
        for key in ["a/1", "a/2", "a/3", "b/1"] {
            bucket.put(key, key.as_bytes());
        }
        let page = |after: Option<&str>, most| {
            let (listed, has_more) = bucket.page("a/", after, most);
            let keys: Vec<&str> = listed.iter().map(|listed| listed.key).collect();
            (keys.join(" "), has_more)
        };
        assert_eq!(page(None, 2), ("a/1 a/2".to_owned(), true));
        assert_eq!(page(Some("a/2"), 2), ("a/3".to_owned(), false));
        assert_eq!(page(Some(""), 9), ("a/1 a/2 a/3".to_owned(), false));
        assert_eq!(read_mark(&mark("a/2")).as_deref(), Some("a/2"));
        assert_eq!(read_mark("a/2"), None);
    }

    #[test]
    fn a_part_of_an_object_is_what_was_asked_for() {
        let mut bucket = Bucket::default();
        bucket.put("a", b"0123456789");
        let get = |range| {
            let answer = bucket.get("a", range).unwrap().unwrap();
            let said = answer.headers.get("content-range").cloned();
            (answer.status, answer.body, said)
        };
        let (status, body, said) = get(Some("bytes=2-4"));
        assert_eq!((status, &body[..]), (206, &b"234"[..]));
        assert_eq!(said.unwrap(), "bytes 2-4/10");
        assert_eq!(get(Some("bytes=8-99")).1, "89");
        assert_eq!(get(Some("bytes=8-")).1, "89");
        assert_eq!(get(Some("lines=1-2")).0, 200);
        assert_eq!(get(None).1, "0123456789");
        assert!(matches!(
            bucket.get("a", Some("bytes=10-11")),
            Some(Err(Unsatisfiable))
        ));
        assert!(bucket.get("b", None).is_none());
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
