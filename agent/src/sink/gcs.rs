//! Google Cloud Storage, by its XML API: it has the form of address and of errors that S3 has (Google: "XML API").

use http::{HeaderMap, HeaderValue, header};
use katonic_log_config::Gcs;

use super::{
    Answer, Cause, Request,
    store::{self, Prepared, Put, Reply},
};
use crate::credential::CredentialError;

/// Of an object: how often it was written; 0 is that of one that does not exist (Google: "Request preconditions").
const IF_GENERATION_MATCH: &str = "x-goog-if-generation-match";

/// What is asked for beside the right to create when there is an object already (Google: "IAM permissions for XML requests").
const OVERWRITING: &str = "storage.objects.delete";

/// What all requests have in common.
pub(super) fn request(gcs: &Gcs) -> Result<Request, CredentialError> {
    Ok(Request {
        uri: store::address(&gcs.endpoint, gcs.bucket.as_str(), "")?,
        address: None,
        headers: HeaderMap::new(),
        // The key of the service account is shown to nobody; a token is given for what is signed with it.
        elsewhere: Vec::new(),
    })
}

/// A PUT that shows this token.
pub(super) fn prepare(
    gcs: &Gcs,
    token: &HeaderValue,
    put: &Put<'_>,
) -> Result<Prepared, CredentialError> {
    let uri = store::address(
        &gcs.endpoint,
        gcs.bucket.as_str(),
        &gcs.prefix.join(put.key),
    )?;
    let mut headers = store::common(put);
    headers.insert(header::AUTHORIZATION, token.clone());
    if put.once {
        headers.insert(IF_GENERATION_MATCH, HeaderValue::from_static("0"));
    }
    Ok(Prepared { uri, headers })
}

/// What an answer to a PUT means (Google: "HTTP status and error codes for XML", "Retry strategy").
pub(super) fn judge(answer: &Answer<'_>, gcs: &Gcs) -> Reply {
    let bucket = gcs.bucket.as_str();
    let refused = |what: &str| store::hold(answer, Cause::AuthenticationFailed, what);
    let wrong = |what: &str| Reply::Not(store::hold(answer, Cause::Misconfigured, what));
    match (answer.status, store::code(answer.body)) {
        (200..=299, _) => Reply::Stored,
        (412, _) | (403, "ObjectUnderActiveHold" | "RetentionPolicyNotMet") => Reply::There,
        (403, "AccessDenied")
            if memchr::memmem::find(answer.body, OVERWRITING.as_bytes()).is_some() =>
        {
            Reply::There
        }
        (_, "RequestTimeTooSkewed") => Reply::Skewed,
        (401, _) | (_, "ExpiredToken" | "InvalidToken") => Reply::Expired(refused(
            "Google Cloud Storage does not take the token that was given for these credentials: check the service account of credentialsSecretRef, or that of the pod",
        )),
        (_, "UserProjectMissing" | "UserProjectInvalid" | "UserProjectAccessDenied") => {
            wrong(&format!(
                "the bucket `{bucket}` wants those who use it to pay: name one without requester pays"
            ))
        }
        (
            _,
            "AccountProblem"
            | "UserAccountProblem"
            | "UserProjectAccountProblem"
            | "UserProjectAccountDelinquent"
            | "BillingDisabled",
        ) => wrong(&format!(
            "Google has closed the account of the bucket `{bucket}`: mend its billing"
        )),
        (_, "AccessDenied" | "InvalidSecurity" | "InsufficientScope") => {
            Reply::Not(refused(&format!(
                "allow this service account storage.objects.create on gs://{bucket}/{}: the role roles/storage.objectCreator has it",
                gcs.prefix.join("*")
            )))
        }
        (_, "NoSuchBucket") => wrong(&format!(
            "there is no bucket `{bucket}`: create it, or correct bucket"
        )),
        (_, "InvalidBucketName") => wrong(&format!(
            "Google Cloud Storage knows no bucket called `{bucket}`: correct bucket"
        )),
        (
            _,
            "InternalError"
            | "SlowDown"
            | "ServiceUnavailable"
            | "RequestTimeout"
            | "UploadBrokenConnection"
            | "OperationAborted"
            | "BadDigest"
            | "IncompleteBody",
        )
        | (408 | 409 | 425 | 429 | 500..=599, _) => store::retry(answer),
        (403 | 407, _) => Reply::Not(refused(
            "Google Cloud Storage refuses the request: check the service account and what it may do",
        )),
        _ => wrong(
            "what answers there is not the XML API of Google Cloud Storage: correct endpoint or bucket",
        ),
    }
}

#[cfg(test)]
mod tests {
    use katonic_log_config::KeyPrefix;

    use super::*;
    use crate::sink::Verdict;

    fn gcs() -> Gcs {
        Gcs {
            endpoint: "https://storage.googleapis.com"
                .to_owned()
                .try_into()
                .unwrap(),
            bucket: "platform_logs".to_owned().try_into().unwrap(),
            prefix: KeyPrefix::try_from("a".to_owned()).unwrap(),
            service_account_key: None,
        }
    }

    fn judged(status: u16, code: &str) -> Reply {
        judge(&Answer::of(status, store::refusal(code).as_bytes()), &gcs())
    }

    #[test]
    fn an_object_is_put_only_where_there_is_none() {
        let mut token = HeaderValue::from_static("Bearer hunter2");
        token.set_sensitive(true);
        let put = Put {
            key: "executions/a!2F/b.gz",
            sha256: [0; 32],
            length: 7,
            content_type: "application/gzip",
            once: true,
            lock: None,
        };
        let prepared = prepare(&gcs(), &token, &put).unwrap();
        assert_eq!(
            prepared.uri,
            "https://storage.googleapis.com/platform_logs/a/executions/a%212F/b.gz"
        );
        assert_eq!(prepared.headers["x-goog-if-generation-match"], "0");
        assert_eq!(prepared.headers["authorization"], "Bearer hunter2");
        assert!(!format!("{prepared:?}").contains("hunter2"));
        let again = prepare(&gcs(), &token, &Put { once: false, ..put }).unwrap();
        assert!(!again.headers.contains_key("x-goog-if-generation-match"));
    }

    #[test]
    fn an_object_that_is_there_already_is_not_put_again() {
        assert_eq!(judged(200, ""), Reply::Stored);
        assert_eq!(judged(412, "PreconditionFailed"), Reply::There);
        assert_eq!(judged(403, "ObjectUnderActiveHold"), Reply::There);
        let may_not_replace = b"<Error><Code>AccessDenied</Code><Details>logs@p.iam.gserviceaccount.com does not have storage.objects.delete access</Details></Error>";
        assert_eq!(
            judge(&Answer::of(403, may_not_replace), &gcs()),
            Reply::There
        );
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        for (status, code) in [
            (429, "SlowDown"),
            (503, "ServiceUnavailable"),
            (502, ""),
            (408, ""),
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
                "allow this service account storage.objects.create on gs://platform_logs/a/*",
            ),
            (
                404,
                "NoSuchBucket",
                "there is no bucket `platform_logs`: create it",
            ),
            (400, "UserProjectMissing", "requester pays"),
            (403, "UserProjectAccountProblem", "mend its billing"),
            (404, "", "correct endpoint"),
        ] {
            let Reply::Not(Verdict::Hold { reason, .. }) = judged(status, code) else {
                panic!("{code}");
            };
            assert!(
                reason.contains(says) && !reason.contains("hunter2"),
                "{reason}"
            );
        }
        assert!(matches!(
            judged(401, "AuthenticationRequired"),
            Reply::Expired(_)
        ));
    }
}
