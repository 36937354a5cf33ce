//! What a store's refusal means for retention, and what to do about it (Amazon S3: "Error responses"; Cloud Storage: "HTTP status
//! and error codes for JSON"; Azure: "Troubleshoot common Azure deployment errors"; RFC 6749 §5.2 for tokens).

use super::custody::{BucketId, Kind};
use super::lifecycle::OURS;
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
    /// The right that it needs (AWS: "Actions, resources, and condition keys for Amazon S3"; Google: "IAM permissions for JSON
    /// methods"; Azure: "Azure permissions for Storage").
    pub fn right(self, kind: Kind) -> &'static str {
        match (kind, self) {
            (Kind::S3, Self::ReadRules) => "s3:GetLifecycleConfiguration",
            (Kind::S3, Self::WriteRules) => "s3:PutLifecycleConfiguration",
            (Kind::S3, Self::ReadVersioning) => "s3:GetBucketVersioning",
            (Kind::S3, Self::ReadLock) => "s3:GetBucketObjectLockConfiguration",
            (Kind::S3, Self::List) => "s3:ListBucket",
            (Kind::Gcs, Self::WriteRules) => "storage.buckets.update",
            (Kind::Gcs, Self::List) => "storage.objects.list",
            (Kind::Gcs, Self::ReadRules | Self::ReadVersioning | Self::ReadLock) => {
                "storage.buckets.get"
            }
            (Kind::Azure, Self::ReadRules) => {
                "Microsoft.Storage/storageAccounts/managementPolicies/read"
            }
            (Kind::Azure, Self::WriteRules) => {
                "Microsoft.Storage/storageAccounts/managementPolicies/write and delete"
            }
            (Kind::Azure, Self::ReadVersioning | Self::ReadLock) => {
                "Microsoft.Storage/storageAccounts/blobServices/read"
            }
            (Kind::Azure, Self::List) => {
                "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"
            }
            (Kind::SplunkEnterprise | Kind::SplunkCloud, Self::WriteRules) => {
                "the capability indexes_edit"
            }
            (Kind::SplunkEnterprise | Kind::SplunkCloud, _) => "the capability indexes_list_all",
            (Kind::NewRelic, _) => "to manage the account's data retention",
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
    /// The vendor's code in its body; empty where there is none.
    pub code: &'a str,
    /// Region that the request was signed for; empty where there are none.
    pub region: &'a str,
}

impl Refusal<'_> {
    fn named(&self) -> String {
        let Self { status, code, .. } = self;
        if code.is_empty() {
            format!("HTTP {status}")
        } else {
            format!("HTTP {status} {code}")
        }
    }
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
            message: format!("{bucket} cannot be reached as it is written: {why}"),
        }
    }

    /// Who gives tokens gives none.
    pub fn no_token(bucket: &BucketId, refusal: Refusal<'_>) -> Self {
        let named = refusal.named();
        let who = match bucket.kind {
            Kind::S3 | Kind::SplunkEnterprise | Kind::SplunkCloud | Kind::NewRelic => "nobody",
            Kind::Gcs => "Google",
            Kind::Azure => "Microsoft Entra",
        };
        match refusal.status {
            408 | 425 | 429 | 500..=599 => Self {
                reason: Reason::StoreUnreachable,
                message: format!(
                    "{named}: {who} gives no token for {bucket} now; it is asked again"
                ),
            },
            _ => Self {
                reason: Reason::RulesDenied,
                message: format!(
                    "{named}: {who} gives no token for the credentials: correct the Secret of managementSecretRef"
                ),
            },
        }
    }

    /// What an answer means.
    pub fn of(action: Action, bucket: &BucketId, refusal: Refusal<'_>) -> Self {
        match bucket.kind {
            Kind::S3 => Self::of_s3(action, bucket, refusal),
            Kind::Gcs => Self::of_gcs(action, bucket, refusal),
            Kind::Azure => Self::of_azure(action, bucket, refusal),
            Kind::SplunkEnterprise | Kind::SplunkCloud => Self::of_splunk(action, bucket, refusal),
            Kind::NewRelic => Self::of_new_relic(action, bucket, refusal),
        }
    }

    fn because(reason: Reason, refusal: Refusal<'_>, what: &str) -> Self {
        Self {
            reason,
            message: format!("{}: {what}", refusal.named()),
        }
    }

    fn of_gcs(action: Action, bucket: &BucketId, refusal: Refusal<'_>) -> Self {
        let because = |reason, what: &str| Self::because(reason, refusal, what);
        let (name, right) = (&bucket.name, action.right(bucket.kind));
        match refusal.status {
            401 => because(
                Reason::RulesDenied,
                "the store does not take the token: correct the Secret of managementSecretRef",
            ),
            403 => because(
                Reason::RulesDenied,
                &format!("allow the service account of managementSecretRef {right} on gs://{name}"),
            ),
            404 => because(
                Reason::NoSuchBucket,
                &format!("there is no bucket {name}: create it, or correct bucket"),
            ),
            400 => because(
                Reason::RulesRefused,
                &format!(
                    "the store refuses the lifecycle rules of {bucket}: look for one that is not valid any more"
                ),
            ),
            408 | 409 | 425 | 429 | 500..=599 => because(
                Reason::StoreUnreachable,
                "the store is in trouble; it is asked again",
            ),
            _ => because(
                Reason::StoreMisconfigured,
                "what answers there is not Google Cloud Storage: correct endpoint or bucket",
            ),
        }
    }

    fn of_azure(action: Action, bucket: &BucketId, refusal: Refusal<'_>) -> Self {
        let because = |reason, what: &str| Self::because(reason, refusal, what);
        let right = action.right(bucket.kind);
        match (refusal.status, refusal.code) {
            (404, "ContainerNotFound") => because(
                Reason::NoSuchBucket,
                "there is no such container: create it, or correct container",
            ),
            (404, _) => because(
                Reason::NoSuchBucket,
                &format!(
                    "there is no {bucket} in the resource group: correct account, subscriptionId or resourceGroup"
                ),
            ),
            (401, _) => because(
                Reason::RulesDenied,
                "the token is not taken: correct the Secret of managementSecretRef, and authorityHost where the account is in another cloud",
            ),
            (403, _) => because(
                Reason::RulesDenied,
                &format!("allow the service principal of managementSecretRef {right} on {bucket}"),
            ),
            (408 | 409 | 425 | 429 | 500..=599, _) => because(
                Reason::StoreUnreachable,
                "the service is in trouble, or changes the account just now; it is asked again",
            ),
            (400, _) if action == Action::WriteRules => because(
                Reason::RulesRefused,
                &format!(
                    "the service refuses the management policy of {bucket}: look for a rule in it that is not valid any more"
                ),
            ),
            _ => because(
                Reason::StoreMisconfigured,
                "what answers there is not Azure: correct endpoint or managementEndpoint",
            ),
        }
    }

    fn of_splunk(action: Action, bucket: &BucketId, refusal: Refusal<'_>) -> Self {
        let because = |reason, what: &str| Self::because(reason, refusal, what);
        let right = action.right(bucket.kind);
        match refusal.status {
            401 => because(
                Reason::RulesDenied,
                "Splunk does not take the token or the password: correct the Secret of managementSecretRef",
            ),
            403 => because(
                Reason::RulesDenied,
                &format!("allow the user of managementSecretRef {right}"),
            ),
            404 => because(
                Reason::NoSuchIndex,
                &format!(
                    "there is no {bucket} there: create it, or correct index, managementEndpoint or stack"
                ),
            ),
            400 if action == Action::WriteRules => because(
                Reason::RulesRefused,
                &format!(
                    "Splunk does not let {bucket} keep events for so long: ask for another time, or set it by hand"
                ),
            ),
            408 | 409 | 423 | 424 | 425 | 429 | 500..=599 => because(
                Reason::StoreUnreachable,
                "Splunk is in trouble, or has not done what it was asked before; it is asked again",
            ),
            _ => because(
                Reason::StoreMisconfigured,
                "what answers there does not manage Splunk: correct managementEndpoint or stack",
            ),
        }
    }

    fn of_new_relic(action: Action, bucket: &BucketId, refusal: Refusal<'_>) -> Self {
        let because = |reason, what: &str| Self::because(reason, refusal, what);
        match (refusal.status, refusal.code) {
            (401 | 403, _) | (_, "UNAUTHORIZED" | "UNAUTHENTICATED") => because(
                Reason::RulesDenied,
                "New Relic does not take the key: store a user key, not a license key, in the Secret of managementSecretRef",
            ),
            (_, "ACCESS_DENIED" | "FORBIDDEN") => because(
                Reason::RulesDenied,
                &format!(
                    "allow the user of managementSecretRef to manage the data retention of {bucket}, or correct accountId"
                ),
            ),
            (408 | 425 | 429 | 500..=599, _)
            | (_, "SERVER_ERROR" | "TIMEOUT" | "TOO_MANY_REQUESTS") => because(
                Reason::StoreUnreachable,
                "New Relic is in trouble; it is asked again",
            ),
            (200, _) if action == Action::WriteRules => because(
                Reason::RulesRefused,
                &format!(
                    "New Relic does not let {bucket} keep logs for so long: ask for another time, or set it by hand"
                ),
            ),
            _ => because(
                Reason::StoreMisconfigured,
                "what answers there is not NerdGraph: correct managementEndpoint",
            ),
        }
    }

    fn of_s3(action: Action, bucket: &BucketId, refusal: Refusal<'_>) -> Self {
        let Refusal {
            status,
            code,
            region,
        } = refusal;
        let name = &bucket.name;
        let because = |reason, what: String| Self::because(reason, refusal, &what);
        let right = action.right(Kind::S3);
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
            message: match bucket.kind {
                Kind::S3 => format!(
                    "another tool changes the lifecycle rules of {bucket} again and again: let it leave rules alone whose ids begin with {OURS}"
                ),
                Kind::Gcs => format!(
                    "another tool changes the lifecycle rules of {bucket} again and again: let it leave rules alone that have a prefix with {OURS} in it"
                ),
                Kind::Azure => format!(
                    "another tool changes the management policy of {bucket} again and again: let it leave rules alone whose names begin with {}",
                    OURS.replace('-', "")
                ),
                Kind::SplunkEnterprise | Kind::SplunkCloud | Kind::NewRelic => format!(
                    "another tool sets again and again how long {bucket} keeps what it has: let one of the two do so"
                ),
            },
        }
    }

    /// The answer is not what was asked for.
    pub fn unreadable(bucket: &BucketId, error: &super::xml::Malformed) -> Self {
        Self {
            reason: Reason::StoreMisconfigured,
            message: format!(
                "what is answered for the lifecycle rules of {bucket} cannot be read, {error}: correct endpoint"
            ),
        }
    }
}
