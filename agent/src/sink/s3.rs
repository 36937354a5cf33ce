//! Amazon S3 and what speaks its protocol: one PUT an object, what its answers mean.

use std::{collections::BTreeMap, path::Path, time::SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use katonic_log_config::{LockMode, S3, bundle::hex};

use super::{Answer, Cause, Request, Verdict, header as headers};
use crate::{
    credential::{self, CredentialError},
    signature::{Date, Signer, Unsigned, encode},
    timestamp::Timestamp,
};

/// Longest code of an error that is told.
const LONGEST_CODE: usize = 64;

/// An object that is to be put.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// Its key, below the sink's prefix.
    pub key: &'a str,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
    /// What it is.
    pub content_type: &'static str,
    /// Only if there is nothing under this key: then what is there is this object, put earlier.
    pub once: bool,
    /// Who can lift its lock, and until when it is locked; none: it is not.
    pub lock: Option<(LockMode, SystemTime)>,
}

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Address of the object.
    pub uri: Uri,
    /// Headers; the signature is marked as sensitive.
    pub headers: HeaderMap,
}

/// What an answer to a PUT means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// The object is there.
    Stored,
    /// The request has another time than the store.
    Skewed,
    /// The store knows no conditions: without one it would take the object.
    Unconditional,
    /// The object is not there.
    Not(Verdict),
}

/// What all requests have in common.
pub(super) fn request(s3: &S3, credentials: &Path) -> Result<Request, CredentialError> {
    let keys = [&s3.access_key_id, &s3.secret_access_key];
    let keys = keys.map(|key| credential::read(credentials, key));
    Ok(Request {
        uri: address(s3, "")?,
        address: None,
        headers: HeaderMap::new(),
        elsewhere: keys.into_iter().collect::<Result<_, _>>()?,
    })
}

fn address(s3: &S3, key: &str) -> Result<Uri, CredentialError> {
    let path = encode(&format!("/{}/{key}", s3.bucket.as_str()));
    let joined = s3.endpoint.join(path.trim_end_matches('/'));
    joined.map_err(|_| CredentialError::Address)
}

/// Signs a PUT with the credentials as they are now.
///
/// # Errors
/// When a credential is missing or cannot be used.
pub fn sign(
    s3: &S3,
    credentials: &Path,
    put: &Put<'_>,
    now: SystemTime,
) -> Result<Signed, CredentialError> {
    let uri = address(s3, &s3.prefix.join(put.key))?;
    let id = credential::read(credentials, &s3.access_key_id)?;
    let not_a_header = || CredentialError::NotAHeader(s3.access_key_id.clone());
    let id = str::from_utf8(id.reveal()).map_err(|_| not_a_header())?;
    let secret = credential::read(credentials, &s3.secret_access_key)?;
    let date = Date::from(now);
    let payload = hex(&put.sha256);
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let mut covered = BTreeMap::from([
        ("host", host.to_owned()),
        // Kept with the object; and where objects are locked, the store asks for a checksum.
        ("x-amz-checksum-sha256", BASE64_STANDARD.encode(put.sha256)),
        ("x-amz-content-sha256", payload.clone()),
        ("x-amz-date", date.as_str().to_owned()),
    ]);
    if let Some((mode, until)) = put.lock {
        covered.insert("x-amz-object-lock-mode", mode.as_str().to_owned());
        let until = rfc3339_millis(until);
        covered.insert("x-amz-object-lock-retain-until-date", until);
    }
    let signer = Signer {
        access_key_id: id,
        secret_access_key: &secret,
        region: s3.region.as_str(),
        service: "s3",
    };
    let unsigned = Unsigned {
        method: &Method::PUT,
        path: uri.path(),
        query: "",
        headers: &covered,
        payload: &payload,
    };
    let authorization = signer.authorization(&unsigned, &date);
    let mut headers = HeaderMap::new();
    for (name, value) in &covered {
        let value = HeaderValue::try_from(value).map_err(|_| CredentialError::Address)?;
        headers.insert(HeaderName::from_static(name), value);
    }
    let mut authorization = HeaderValue::try_from(authorization).map_err(|_| not_a_header())?;
    authorization.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, authorization);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(put.content_type),
    );
    headers.insert(header::USER_AGENT, headers::user_agent());
    if put.once {
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
    }
    Ok(Signed { uri, headers })
}

/// A time as S3 shows it, to the second: `2013-05-24T00:00:00.000Z`.
fn rfc3339_millis(time: SystemTime) -> String {
    let mut text = Vec::new();
    Timestamp::from(time).write_rfc3339(&mut text);
    let seconds = text.iter().take(19).map(|byte| char::from(*byte));
    seconds.chain(".000Z".chars()).collect()
}

/// What an answer to a PUT means (Amazon S3: "Error responses", "Conditional requests"). `locked`: it asked for a lock.
pub fn judge(answer: &Answer<'_>, s3: &S3, locked: bool) -> Reply {
    let code = code(answer.body);
    let named = |status| named(status, &answer.quote(code));
    let bucket = s3.bucket.as_str();
    let hold = |cause, what: String| {
        Reply::Not(Verdict::Hold {
            cause,
            reason: format!("{}: {what}", named(answer.status)),
        })
    };
    let refused = |what: String| hold(Cause::AuthenticationFailed, what);
    let wrong = |what: String| hold(Cause::Misconfigured, what);
    match (answer.status, code) {
        // The key says which bytes of which log: what is there was put by an attempt whose answer was lost.
        (200..=299 | 412, _) => Reply::Stored,
        (_, "RequestTimeTooSkewed") => Reply::Skewed,
        (501, "NotImplemented") => Reply::Unconditional,
        (_, "InvalidAccessKeyId") => refused("the store does not know the access key id: correct the Secret of credentialsSecretRef".to_owned()),
        (_, "SignatureDoesNotMatch") => refused("the secret access key does not belong to the access key id, or something on the way changes requests: correct the Secret of credentialsSecretRef".to_owned()),
        (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => refused("the credentials are not valid any more: renew the Secret of credentialsSecretRef".to_owned()),
        (_, "AccessDenied" | "AllAccessDisabled") => refused(format!(
            "allow these credentials s3:PutObject{} on arn:aws:s3:::{bucket}/{}",
            if locked { " and s3:PutObjectRetention" } else { "" },
            s3.prefix.join("*")
        )),
        // Amazon's and MinIO's code for it says nothing of locks, and no other code of theirs fits here.
        (400, "InvalidRequest" | "InvalidArgument") if locked => wrong(format!(
            "the bucket `{bucket}` does not lock objects: make it anew with Object Lock, or remove objectLock"
        )),
        (_, "NoSuchBucket") => wrong(format!("there is no bucket `{bucket}`: create it, or correct bucket")),
        (_, "InvalidBucketName") => wrong(format!("the store knows no bucket called `{bucket}`: correct bucket")),
        (_, "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" | "InvalidRegion") => {
            wrong(format!("the bucket `{bucket}` is not in the region `{}` of this endpoint: correct region or endpoint", s3.region.as_str()))
        }
        (_, "MethodNotAllowed" | "InvalidRequest" | "MissingContentLength" | "NotImplemented") => {
            wrong("what answers there takes no objects as Amazon S3 does: correct endpoint".to_owned())
        }
        (
            _,
            "InternalError" | "SlowDown" | "ServiceUnavailable" | "RequestTimeout" | "OperationAborted"
            | "ConditionalRequestConflict" | "BadDigest" | "IncompleteBody" | "XAmzContentSHA256Mismatch",
        )
        | (408 | 409 | 425 | 429 | 500..=599, _) => Reply::Not(Verdict::Retry {
            reason: named(answer.status),
            after: answer.retry_after,
        }),
        (401 | 403 | 407, _) => refused("the store refuses the request: check the credentials and what they allow".to_owned()),
        _ => wrong("what answers there is no store that speaks S3: correct endpoint or bucket".to_owned()),
    }
}

fn named(status: u16, code: &str) -> String {
    if code.is_empty() {
        format!("HTTP {status}")
    } else {
        format!("HTTP {status} {code}")
    }
}

/// The code in an error's XML; empty where there is none.
fn code(body: &[u8]) -> &str {
    let found = || {
        let text = str::from_utf8(body).ok()?;
        let (_, rest) = text.split_once("<Code>")?;
        let (code, _) = rest.split_once("</Code>")?;
        let is_word = (1..=LONGEST_CODE).contains(&code.len())
            && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_word.then_some(code)
    };
    found().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{fs, time::UNIX_EPOCH};

    use katonic_log_config::{CredentialKey, KeyPrefix};

    use super::*;

    fn s3(endpoint: &str) -> S3 {
        let key = |name: &str| CredentialKey::try_from(name.to_owned()).unwrap();
        S3 {
            endpoint: endpoint.to_owned().try_into().unwrap(),
            region: "eu-central-1".to_owned().try_into().unwrap(),
            bucket: "logs".to_owned().try_into().unwrap(),
            prefix: KeyPrefix::default(),
            access_key_id: key("id"),
            secret_access_key: key("secret"),
            object_lock: None,
        }
    }

    fn judged(status: u16, code: &str) -> Reply {
        let body = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{code} hunter2</Message></Error>"
        );
        let answer = Answer::of(status, body.as_bytes());
        judge(&answer, &s3("https://store.example.com"), false)
    }

    #[test]
    fn an_object_that_is_there_already_counts_as_stored() {
        assert_eq!(judged(200, ""), Reply::Stored);
        assert_eq!(judged(412, "PreconditionFailed"), Reply::Stored);
    }

    #[test]
    fn the_code_says_more_than_the_status() {
        for (status, code) in [
            (500, "InternalError"),
            (503, "SlowDown"),
            (409, "ConditionalRequestConflict"),
            (400, "RequestTimeout"),
            (502, ""),
        ] {
            let reply = judged(status, code);
            assert!(
                matches!(reply, Reply::Not(Verdict::Retry { .. })),
                "{code}: {reply:?}"
            );
        }
        for (status, code, says) in [
            (
                403,
                "AccessDenied",
                "allow these credentials s3:PutObject on arn:aws:s3:::logs/*",
            ),
            (403, "SignatureDoesNotMatch", "does not belong to"),
            (403, "InvalidAccessKeyId", "does not know the access key id"),
            (403, "", "check the credentials"),
            (400, "ExpiredToken", "renew the Secret"),
            (404, "NoSuchBucket", "there is no bucket `logs`: create it"),
            (301, "PermanentRedirect", "not in the region `eu-central-1`"),
            (400, "AuthorizationHeaderMalformed", "correct region"),
            (404, "", "no store that speaks S3"),
            (405, "MethodNotAllowed", "correct endpoint"),
        ] {
            let Reply::Not(Verdict::Hold { reason, .. }) = judged(status, code) else {
                panic!("{code}");
            };
            assert!(
                reason.contains(says) && !reason.contains("hunter2"),
                "{reason}"
            );
        }
        assert_eq!(judged(403, "RequestTimeTooSkewed"), Reply::Skewed);
        assert_eq!(judged(501, "NotImplemented"), Reply::Unconditional);
    }

    #[test]
    fn a_code_that_repeats_a_credential_is_not_told() {
        let mut quoter = super::super::Quoter::default();
        quoter.hide(b"AKIDEXAMPLE");
        let body = b"<Error><Code>AKIDEXAMPLE</Code></Error>";
        let answer = Answer {
            quoter: &quoter,
            ..Answer::of(503, body)
        };
        let reply = judge(&answer, &s3("https://store.example.com"), false);
        let told = format!("{reply:?}");
        assert!(told.contains("HTTP 503 …"), "{told}");
    }

    #[test]
    fn a_put_is_signed_for_its_address_and_shows_no_credential() {
        let directory = tempfile::tempdir().unwrap();
        let put = Put {
            key: "a!b/c",
            sha256: [7; 32],
            content_type: "application/gzip",
            once: true,
            lock: None,
        };
        let s3 = s3("https://store.example.com:9000/base");
        let sign = || sign(&s3, directory.path(), &put, UNIX_EPOCH);
        assert!(matches!(sign(), Err(CredentialError::Missing(_))));
        fs::write(directory.path().join("id"), "hunter1\n").unwrap();
        fs::write(directory.path().join("secret"), "hunter2").unwrap();
        let signed = sign().unwrap();
        assert_eq!(
            signed.uri,
            "https://store.example.com:9000/base/logs/a%21b/c"
        );
        assert_eq!(signed.headers["if-none-match"], "*");
        assert_eq!(signed.headers["host"], "store.example.com:9000");
        assert!(!format!("{signed:?}").contains("hunter"), "{signed:?}");
        fs::write(directory.path().join("id"), "a\u{7f}b").unwrap();
        assert!(matches!(
            self::sign(&s3, directory.path(), &put, UNIX_EPOCH),
            Err(CredentialError::NotAHeader(_))
        ));
    }

    #[test]
    fn a_lock_is_asked_for_and_signed() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("id"), "hunter1").unwrap();
        fs::write(directory.path().join("secret"), "hunter2").unwrap();
        let until = UNIX_EPOCH + std::time::Duration::from_millis(1_795_428_907_500);
        let put = Put {
            key: "a",
            sha256: [7; 32],
            content_type: "application/gzip",
            once: true,
            lock: Some((LockMode::Compliance, until)),
        };
        let signed = sign(&s3("https://store"), directory.path(), &put, UNIX_EPOCH).unwrap();
        let until = &signed.headers["x-amz-object-lock-retain-until-date"];
        assert_eq!(until, "2026-11-23T10:15:07.000Z");
        assert_eq!(signed.headers["x-amz-object-lock-mode"], "COMPLIANCE");
        let authorization = signed.headers["authorization"].to_str().unwrap();
        let covered = "x-amz-date;x-amz-object-lock-mode;x-amz-object-lock-retain-until-date,";
        assert!(authorization.contains(covered), "{authorization}");
    }

    #[test]
    fn a_lock_that_is_refused_says_what_to_do() {
        for (status, code, says) in [
            (
                400,
                "InvalidRequest",
                "the bucket `logs` does not lock objects",
            ),
            (
                403,
                "AccessDenied",
                "s3:PutObject and s3:PutObjectRetention on arn:aws:s3:::logs/*",
            ),
        ] {
            let body = format!("<Error><Code>{code}</Code></Error>");
            let answer = Answer::of(status, body.as_bytes());
            let Reply::Not(Verdict::Hold { reason, .. }) =
                judge(&answer, &s3("https://store"), true)
            else {
                panic!("{code}");
            };
            assert!(reason.contains(says), "{reason}");
        }
    }
}
