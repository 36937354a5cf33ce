//! Stores of objects: one PUT an object, what its answers mean. What differs by the vendor is in `azure`, `gcs` and `s3`.

use std::{fmt, path::Path, time::SystemTime};

use http::{HeaderMap, HeaderValue, Uri, header};
use katonic_log_config::{Azure, Endpoint, Gcs, LockMode, S3, Store};

use super::{Answer, Cause, Request, Verdict, azure, gcs, header as headers, s3, without_query};
use crate::{credential::CredentialError, signature::encode};

/// Longest code of an error that is told.
const LONGEST_CODE: usize = 64;

/// An object that is to be put.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// Its key, below the sink's prefix.
    pub key: &'a str,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
    /// How many bytes it has.
    pub length: u64,
    /// What it is.
    pub content_type: &'static str,
    /// Only if there is nothing under this key.
    pub once: bool,
    /// Who can lift its lock, and until when it is locked; none: it is not. S3 alone has such locks.
    pub lock: Option<(LockMode, SystemTime)>,
}

/// A request that is ready to be sent.
#[derive(Clone)]
pub struct Prepared {
    /// Address of the object; its query may be a credential.
    pub uri: Uri,
    /// Headers; what is a credential is marked as sensitive.
    pub headers: HeaderMap,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Prepared")
            .field("address", &without_query(&self.uri))
            .field("headers", &self.headers)
            .finish()
    }
}

/// What an answer to a PUT means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// The object is there.
    Stored,
    /// Something is there under this key, and it stays. The key says which bytes of which log: what is there was put by an
    /// attempt whose answer was lost.
    There,
    /// The request has another time than the store.
    Skewed,
    /// The store knows no conditions: without one it would take the object.
    Unconditional,
    /// What was given for a while is good no more; this is so if what is given next is not better.
    Expired(Verdict),
    /// The object is not there.
    Not(Verdict),
}

/// A store with what it wants to see.
#[derive(Debug)]
pub enum Authorized<'a> {
    /// Amazon S3, or what speaks its protocol.
    S3(&'a S3, s3::AccessKey),
    /// Google Cloud Storage; with `Bearer` and a token, marked as sensitive.
    Gcs(&'a Gcs, HeaderValue),
    /// Azure Blob Storage.
    Azure(&'a Azure, azure::Credential),
}

impl Authorized<'_> {
    /// The request that puts an object at this time.
    ///
    /// # Errors
    /// When the store's address cannot be used, or what it wants to see not be sent.
    pub fn prepare(&self, put: &Put<'_>, now: SystemTime) -> Result<Prepared, CredentialError> {
        match self {
            Self::S3(s3, key) => s3::prepare(s3, key, put, now),
            Self::Gcs(gcs, token) => gcs::prepare(gcs, token, put),
            Self::Azure(azure, credential) => azure::prepare(azure, credential, put, now),
        }
    }

    /// What an answer to a PUT means. `locked`: it asked for a lock.
    pub fn judge(&self, answer: &Answer<'_>, locked: bool) -> Reply {
        match self {
            Self::S3(s3, _) => s3::judge(answer, s3, locked),
            Self::Gcs(gcs, _) => gcs::judge(answer, gcs),
            Self::Azure(azure, _) => azure::judge(answer, azure),
        }
    }
}

/// What all requests to a store have in common.
pub(super) fn request(store: &Store, credentials: &Path) -> Result<Request, CredentialError> {
    match store {
        Store::S3(s3) => s3::request(s3, credentials),
        Store::Gcs(gcs) => gcs::request(gcs),
        Store::Azure(azure) => azure::request(azure, credentials),
    }
}

/// `<endpoint>/<bucket>/<key>`, encoded.
pub(super) fn address(
    endpoint: &Endpoint,
    bucket: &str,
    key: &str,
) -> Result<Uri, CredentialError> {
    let path = encode(&format!("/{bucket}/{key}"));
    let joined = endpoint.join(path.trim_end_matches('/'));
    joined.map_err(|_| CredentialError::Address)
}

/// The headers that an object has in every store.
pub(super) fn common(put: &Put<'_>) -> HeaderMap {
    let mut common = HeaderMap::new();
    common.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(put.content_type),
    );
    common.insert(header::USER_AGENT, headers::user_agent());
    common
}

/// An answer for people: its status, and the error's code where there is one.
pub(super) fn named(answer: &Answer<'_>) -> String {
    let (status, code) = (answer.status, answer.quote(code(answer.body)));
    if code.is_empty() {
        format!("HTTP {status}")
    } else {
        format!("HTTP {status} {code}")
    }
}

/// Not before a credential or the configuration changes.
pub(super) fn hold(answer: &Answer<'_>, cause: Cause, what: &str) -> Verdict {
    Verdict::Hold {
        cause,
        reason: format!("{}: {what}", named(answer)),
    }
}

/// Later again.
pub(super) fn retry(answer: &Answer<'_>) -> Reply {
    Reply::Not(Verdict::Retry {
        reason: named(answer),
        after: answer.retry_after,
    })
}

/// The text of the first element of this name.
pub(crate) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text)
}

/// The code in an error's XML, which all these stores have in common; empty where there is none.
pub(crate) fn code(body: &[u8]) -> &str {
    let found = || {
        let code = element(str::from_utf8(body).ok()?, "Code")?;
        let is_word = (1..=LONGEST_CODE).contains(&code.len())
            && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_word.then_some(code)
    };
    found().unwrap_or_default()
}

/// An answer with this code, which repeats a credential; for tests.
#[cfg(test)]
pub(super) fn refusal(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{code} hunter2</Message></Error>"
    )
}
