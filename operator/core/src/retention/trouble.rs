//! What a store's refusal means for retention, and what to do about it (Amazon S3: "Error responses").

use super::custody::BucketId;
use crate::condition::Reason;

/// What was asked of a bucket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Reading its lifecycle rules.
    ReadRules,
    /// Writing them.
    WriteRules,
    /// Reading whether it keeps versions.
    ReadVersioning,
    /// Reading whether it locks objects.
    ReadLock,
    /// Listing what is in it.
    List,
}

impl Action {
    /// The right that it needs (AWS: "Actions, resources, and condition keys for Amazon S3").
    pub fn right(self) -> &'static str {
        match self {
            Self::ReadRules => "s3:GetLifecycleConfiguration",
            Self::WriteRules => "s3:PutLifecycleConfiguration",
            Self::ReadVersioning => "s3:GetBucketVersioning",
            Self::ReadLock => "s3:GetBucketObjectLockConfiguration",
            Self::List => "s3:ListBucket",
        }
    }
}

/// Why nothing can be said of a bucket, or nothing done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// One word.
    pub reason: Reason,
    /// A sentence, with what to do.
    pub message: String,
}

/// An answer that is no success.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// HTTP status.
    pub status: u16,
    /// The code in its XML; empty where there is none.
    pub code: &'a str,
    /// Region that the request was signed for.
    pub region: &'a str,
}

impl Trouble {
    /// There was no answer; `why` says so.
    pub fn unreachable(bucket: &BucketId, why: &str) -> Self {
        Self {
            reason: Reason::StoreUnreachable,
            message: format!(
                "{} does not answer: {why}; it is asked again",
                bucket.endpoint
            ),
        }
    }

    /// It cannot be asked as it is written.
    pub fn unusable(bucket: &BucketId, why: &str) -> Self {
        Self {
            reason: Reason::StoreMisconfigured,
            message: format!(
                "bucket {} cannot be reached as it is written: {why}",
                bucket.name
            ),
        }
    }

    /// What an answer means.
    pub fn of(action: Action, bucket: &BucketId, refusal: Refusal<'_>) -> Self {
        let Refusal {
            status,
            code,
            region,
        } = refusal;
        let name = &bucket.name;
        let because = |reason, what: String| {
            let named = if code.is_empty() {
                format!("HTTP {status}")
            } else {
                format!("HTTP {status} {code}")
            };
            Self {
                reason,
                message: format!("{named}: {what}"),
            }
        };
        let right = action.right();
        match (status, code) {
            (_, "NoSuchBucket") => because(Reason::NoSuchBucket, format!("there is no bucket {name}: create it, or correct bucket")),
            (_, "AccessDenied" | "AllAccessDisabled") => because(
                Reason::RulesDenied,
                format!("allow the credentials of managementSecretRef {right} on arn:aws:s3:::{name}"),
            ),
            (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken") => because(
                Reason::RulesDenied,
                "the store does not take the credentials: correct the Secret of managementSecretRef".to_owned(),
            ),
            (_, "RequestTimeTooSkewed") => because(
                Reason::ClockSkewed,
                "the operator's clock and the store's differ: set the node's clock".to_owned(),
            ),
            (_, "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" | "InvalidRegion") => because(
                Reason::StoreMisconfigured,
                format!("the bucket {name} is not in the region {region} of this endpoint: correct region or endpoint"),
            ),
            (_, "NotImplemented" | "MethodNotAllowed") | (405 | 501, _) => because(
                Reason::RulesUnsupported,
                "this store has no lifecycle rules: it has to be told in its own way how long to keep objects".to_owned(),
            ),
            (400, "MalformedXML" | "InvalidRequest" | "InvalidArgument") => because(
                Reason::RulesRefused,
                format!("the store refuses the lifecycle rules of bucket {name}: look for rules in it that only another store understands"),
            ),
            (408 | 409 | 425 | 429 | 500..=599, _) => because(Reason::StoreUnreachable, "the store is in trouble; it is asked again".to_owned()),
            (401 | 403 | 407, _) => because(
                Reason::RulesDenied,
                format!("the store refuses the request: check the credentials of managementSecretRef and that they allow {right}"),
            ),
            _ => because(
                Reason::StoreMisconfigured,
                "what answers there is no store that speaks S3: correct endpoint or bucket".to_owned(),
            ),
        }
    }

    /// Another tool writes other rules again and again.
    pub fn contested(bucket: &BucketId) -> Self {
        Self {
            reason: Reason::RulesContested,
            message: format!(
                "another tool changes the lifecycle rules of bucket {} again and again: let it leave rules alone whose ids begin with {}",
                bucket.name,
                super::lifecycle::OURS
            ),
        }
    }

    /// The answer is not what was asked for.
    pub fn unreadable(bucket: &BucketId, error: &super::xml::Malformed) -> Self {
        Self {
            reason: Reason::StoreMisconfigured,
            message: format!(
                "what is answered for the lifecycle rules of bucket {} cannot be read, {error}: correct endpoint",
                bucket.name
            ),
        }
    }
}
