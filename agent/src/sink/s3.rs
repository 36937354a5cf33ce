//! Amazon S3 and what speaks its protocol: one PUT an object, what its answers mean.

use std::{collections::BTreeMap, path::Path, time::SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use katonic_log_config::{S3, bundle::hex};

use super::{
    Answer, Cause, Request,
    store::{self, Prepared, Put, Reply},
};
use crate::{
    credential::{self, CredentialError, Secret},
    signature::{Date, Signer, Unsigned},
    timestamp::Timestamp,
};

/// What goes with an access key that was given for a while (AWS: "Temporary security credentials").
const SESSION: &str = "x-amz-security-token";

/// An access key.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// Its id.
    pub id: Secret,
    /// Its secret.
    pub secret: Secret,
    /// What goes with a key that was given for a while.
    pub session: Option<Secret>,
}

impl AccessKey {
    /// Reads it from the mounted Secret.
    ///
    /// # Errors
    /// When a part of it is missing.
    pub fn read(
        key: &katonic_log_config::AccessKey,
        credentials: &Path,
    ) -> Result<Self, CredentialError> {
        Ok(Self {
            id: credential::read(credentials, &key.id)?,
            secret: credential::read(credentials, &key.secret)?,
            session: None,
        })
    }
}

/// What all requests have in common.
pub(super) fn request(s3: &S3, credentials: &Path) -> Result<Request, CredentialError> {
    let elsewhere = match &s3.access_key {
        Some(key) => {
            let AccessKey { id, secret, .. } = AccessKey::read(key, credentials)?;
            vec![id, secret]
        }
        None => Vec::new(),
    };
    Ok(Request {
        uri: store::address(&s3.endpoint, s3.bucket.as_str(), "")?,
        address: None,
        headers: HeaderMap::new(),
        elsewhere,
    })
}

/// Signs a PUT.
pub(super) fn prepare(
    s3: &S3,
    key: &AccessKey,
    put: &Put<'_>,
    now: SystemTime,
) -> Result<Prepared, CredentialError> {
    let uri = store::address(&s3.endpoint, s3.bucket.as_str(), &s3.prefix.join(put.key))?;
    let not_a_header = || match &s3.access_key {
        Some(key) => CredentialError::NotAHeader(key.id.clone()),
        None => CredentialError::NotGiven,
    };
    let id = str::from_utf8(key.id.reveal()).map_err(|_| not_a_header())?;
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
    if let Some(session) = &key.session {
        let token = String::from_utf8_lossy(session.reveal()).into_owned();
        covered.insert(SESSION, token);
    }
    let signer = Signer {
        access_key_id: id,
        secret_access_key: &key.secret,
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
    let mut headers = store::common(put);
    for (name, value) in &covered {
        let value = HeaderValue::try_from(value);
        let mut value = value.map_err(|_| CredentialError::Address)?;
        value.set_sensitive(*name == SESSION);
        headers.insert(HeaderName::from_static(name), value);
    }
    let mut authorization = HeaderValue::try_from(authorization).map_err(|_| not_a_header())?;
    authorization.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, authorization);
    if put.once {
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
    }
    Ok(Prepared { uri, headers })
}

/// A time as S3 shows it, to the second: `2013-05-24T00:00:00.000Z`.
fn rfc3339_millis(time: SystemTime) -> String {
    let mut text = Vec::new();
    Timestamp::from(time).write_rfc3339(&mut text);
    let seconds = text.iter().take(19).map(|byte| char::from(*byte));
    seconds.chain(".000Z".chars()).collect()
}

/// What an answer to a PUT means (Amazon S3: "Error responses", "Conditional requests"). `locked`: it asked for a lock.
pub(super) fn judge(answer: &Answer<'_>, s3: &S3, locked: bool) -> Reply {
    let bucket = s3.bucket.as_str();
    let refused = |what: &str| store::hold(answer, Cause::AuthenticationFailed, what);
    let wrong = |what: &str| Reply::Not(store::hold(answer, Cause::Misconfigured, what));
    match (answer.status, store::code(answer.body)) {
        (200..=299, _) => Reply::Stored,
        (412, _) => Reply::There,
        (_, "RequestTimeTooSkewed") => Reply::Skewed,
        (501, "NotImplemented") => Reply::Unconditional,
        (_, "InvalidAccessKeyId") => Reply::Not(refused(
            "the store does not know the access key id: correct the Secret of credentialsSecretRef",
        )),
        (_, "SignatureDoesNotMatch") => Reply::Not(refused(
            "the secret access key does not belong to the access key id, or something on the way changes requests: correct the Secret of credentialsSecretRef",
        )),
        (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => Reply::Expired(refused(
            "the credentials are not valid any more: renew the Secret of credentialsSecretRef",
        )),
        (_, "AccessDenied" | "AllAccessDisabled") => Reply::Not(refused(&format!(
            "allow these credentials s3:PutObject{} on arn:aws:s3:::{bucket}/{}",
            if locked {
                " and s3:PutObjectRetention"
            } else {
                ""
            },
            s3.prefix.join("*")
        ))),
        // Amazon's and MinIO's code for it says nothing of locks, and no other code of theirs fits here.
        (400, "InvalidRequest" | "InvalidArgument") if locked => wrong(&format!(
            "the bucket `{bucket}` does not lock objects: make it anew with Object Lock, or remove objectLock"
        )),
        (_, "NoSuchBucket") => wrong(&format!(
            "there is no bucket `{bucket}`: create it, or correct bucket"
        )),
        (_, "InvalidBucketName") => wrong(&format!(
            "the store knows no bucket called `{bucket}`: correct bucket"
        )),
        (
            _,
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException"
            | "InvalidRegion",
        ) => wrong(&format!(
            "the bucket `{bucket}` is not in the region `{}` of this endpoint: correct region or endpoint",
            s3.region.as_str()
        )),
        (_, "MethodNotAllowed" | "InvalidRequest" | "MissingContentLength" | "NotImplemented") => {
            wrong("what answers there takes no objects as Amazon S3 does: correct endpoint")
        }
        (
            _,
            "InternalError"
            | "SlowDown"
            | "ServiceUnavailable"
            | "RequestTimeout"
            | "OperationAborted"
            | "ConditionalRequestConflict"
            | "BadDigest"
            | "IncompleteBody"
            | "XAmzContentSHA256Mismatch",
        )
        | (408 | 409 | 425 | 429 | 500..=599, _) => store::retry(answer),
        (401 | 403 | 407, _) => Reply::Not(refused(
            "the store refuses the request: check the credentials and what they allow",
        )),
        _ => wrong("what answers there is no store that speaks S3: correct endpoint or bucket"),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::UNIX_EPOCH};

    use katonic_log_config::{CredentialKey, KeyPrefix, LockMode};

    use super::*;
    use crate::sink::Verdict;

    fn s3(endpoint: &str) -> S3 {
        let key = |name: &str| CredentialKey::try_from(name.to_owned()).unwrap();
        S3 {
            endpoint: endpoint.to_owned().try_into().unwrap(),
            region: "eu-central-1".to_owned().try_into().unwrap(),
            bucket: "logs".to_owned().try_into().unwrap(),
            prefix: KeyPrefix::default(),
            access_key: Some(katonic_log_config::AccessKey {
                id: key("id"),
                secret: key("secret"),
            }),
            object_lock: None,
        }
    }

    fn judged(status: u16, code: &str) -> Reply {
        let body = store::refusal(code);
        let answer = Answer::of(status, body.as_bytes());
        judge(&answer, &s3("https://store.example.com"), false)
    }

    #[test]
    fn an_object_that_is_there_already_is_not_put_again() {
        assert_eq!(judged(200, ""), Reply::Stored);
        assert_eq!(judged(412, "PreconditionFailed"), Reply::There);
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
        let expired = judged(400, "ExpiredToken");
        assert!(
            format!("{expired:?}").contains("renew the Secret"),
            "{expired:?}"
        );
        assert!(matches!(expired, Reply::Expired(_)));
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
            length: 7,
            content_type: "application/gzip",
            once: true,
            lock: None,
        };
        let s3 = s3("https://store.example.com:9000/base");
        let named = s3.access_key.clone().unwrap();
        let sign = || {
            let key = AccessKey::read(&named, directory.path())?;
            prepare(&s3, &key, &put, UNIX_EPOCH)
        };
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
        let given = AccessKey {
            session: Some(b"hunter3".to_vec().into()),
            ..AccessKey::read(&named, directory.path()).unwrap()
        };
        let signed = prepare(&s3, &given, &put, UNIX_EPOCH).unwrap();
        assert_eq!(signed.headers["x-amz-security-token"], "hunter3");
        let authorization = signed.headers["authorization"].to_str().unwrap();
        assert!(
            authorization.contains("x-amz-date;x-amz-security-token,"),
            "{authorization}"
        );
        assert!(!format!("{signed:?}").contains("hunter"), "{signed:?}");
        fs::write(directory.path().join("id"), "a\u{7f}b").unwrap();
        assert!(matches!(sign(), Err(CredentialError::NotAHeader(_))));
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
            length: 7,
            once: true,
            lock: Some((LockMode::Compliance, until)),
        };
        let s3 = s3("https://store");
        let key = AccessKey::read(s3.access_key.as_ref().unwrap(), directory.path()).unwrap();
        let signed = prepare(&s3, &key, &put, UNIX_EPOCH).unwrap();
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
