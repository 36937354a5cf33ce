//! What an answer of a store means, and what to do. Of what the store says only its code is told: the rest may repeat what it was
//! asked.
//!
//! Sources: Amazon S3 "Error responses"; Cloud Storage "HTTP status and error codes for XML"; Azure "Blob Storage error codes"; RFC 6749
//! §5.2 and Microsoft identity platform "Microsoft Entra authentication and authorization error codes" (whoever gives tokens).

use katonic_logging_core::execution::{Location, location::Bucket};

use super::credentials::remedy;
use crate::cache::chain;

/// Why the store gave no answer, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be used as it was named.
    #[error("the store cannot be used: {0}")]
    Unusable(String),
    /// No such bucket.
    #[error(
        "there is no {bucket} at {endpoint}: correct {flag}, or blob_storage.logs in the installation"
    )]
    NoBucket {
        /// How it is called.
        bucket: String,
        /// The store.
        endpoint: String,
        /// What names it on the command line.
        flag: &'static str,
    },
    /// The reader may not do this.
    #[error(
        "the store refuses to {verb}: allow these credentials {action} on {resource} (docs/object-storage.md, Rights)"
    )]
    Denied {
        /// What was asked for, in words.
        verb: &'static str,
        /// The same as an action of a policy.
        action: &'static str,
        /// On what.
        resource: String,
    },
    /// The reader is not known.
    #[error("the store does not take these credentials ({code}): {remedy}")]
    Credentials {
        /// Of the answer.
        code: String,
        /// What to do.
        remedy: &'static str,
    },
    /// There are none.
    #[error("there are no credentials for the store: {0}")]
    NoCredentials(&'static str),
    /// What there is cannot be used.
    #[error("the credentials cannot be used: {0}")]
    UnusableCredentials(String),
    /// A Secret has not what is needed.
    #[error("Secret {name} has no key {key}: it needs {needs}")]
    Secret {
        /// Namespace and name.
        name: String,
        /// The key.
        key: &'static str,
        /// All that it needs.
        needs: &'static str,
    },
    /// The bucket is elsewhere.
    #[error(
        "the bucket is not there ({0}): correct --region or --endpoint, or blob_storage.logs and logging.logStore in the installation"
    )]
    Elsewhere(String),
    /// The clocks differ.
    #[error("the store refuses the time of this machine (RequestTimeTooSkewed): set its clock")]
    Clock,
    /// The store lets nobody in like this.
    #[error("the store refuses the request ({code}): {remedy}")]
    Closed {
        /// Of the answer.
        code: String,
        /// What to do.
        remedy: &'static str,
    },
    /// An object that was listed is not there any more.
    #[error("it was deleted")]
    Gone,
    /// Anything else.
    #[error("the store at {endpoint} gave no answer: {reason}")]
    Unanswered {
        /// The store.
        endpoint: String,
        /// Why not.
        reason: String,
    },
    /// Whoever gives tokens for the store gave none, and it is not the reader's fault.
    #[error("no token was given for the store: {0}")]
    NoToken(String),
}

/// What was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// A listing.
    List,
    /// An object.
    Get,
}

impl Asked {
    fn verb(self) -> &'static str {
        match self {
            Self::List => "list the archive",
            Self::Get => "give an object",
        }
    }
}

/// What an answer says of why it is none.
struct Answer<'a> {
    /// Code of its XML.
    code: Option<&'a str>,
    /// Its status.
    status: Option<&'a str>,
    /// The error without what wraps it.
    error: &'a object_store::Error,
    location: &'a Location,
    asked: Asked,
}

/// What an error of the client means.
pub fn judge(location: &Location, error: &object_store::Error, asked: Asked) -> Error {
    let text = chain(error);
    if let Some(refused) = of_token(&text, error, location) {
        return refused;
    }
    let answer = Answer {
        code: between(&text, "<Code>", "</Code>").filter(is_word),
        status: status(&text),
        error,
        location,
        asked,
    };
    let judged = match &location.bucket {
        Bucket::S3 { name, .. } => of_amazon(&answer, name.as_str(), &text),
        Bucket::Gcs(name) => of_google(&answer, name.as_str()),
        Bucket::Azure { .. } => of_azure(&answer),
    };
    judged.unwrap_or_else(|| answer.unanswered())
}

impl Answer<'_> {
    fn unanswered(&self) -> Error {
        let reason = match (self.code, self.status) {
            (Some(code), _) => code.to_owned(),
            // What else it says may be a page of anybody's.
            (None, Some(status)) => format!("HTTP {status}"),
            (None, None) => innermost(self.error),
        };
        Error::Unanswered {
            endpoint: self.location.endpoint.to_string(),
            reason,
        }
    }

    fn no_bucket(&self, flag: &'static str) -> Error {
        Error::NoBucket {
            bucket: self.location.bucket.to_string(),
            endpoint: self.location.endpoint.to_string(),
            flag,
        }
    }

    /// Code or status.
    fn credentials(&self) -> Error {
        let status = || format!("HTTP {}", self.status.unwrap_or_default());
        Error::Credentials {
            code: self.code.map_or_else(status, str::to_owned),
            remedy: remedy(&self.location.bucket),
        }
    }

    fn closed(&self, remedy: &'static str) -> Error {
        Error::Closed {
            code: self.code.unwrap_or_default().to_owned(),
            remedy,
        }
    }

    fn denied(&self, action: &'static str, resource: String) -> Error {
        Error::Denied {
            verb: self.asked.verb(),
            action,
            resource,
        }
    }

    /// What readers read.
    fn below(&self) -> String {
        self.location.prefix.join("executions/*")
    }

    fn has_status(&self, status: &str) -> bool {
        self.status.is_some_and(|said| said.starts_with(status))
    }
}

fn of_amazon(answer: &Answer<'_>, bucket: &str, text: &str) -> Option<Error> {
    Some(match answer.code {
        Some("NoSuchBucket") => answer.no_bucket("--bucket"),
        Some("NoSuchKey") => Error::Gone,
        None if matches!(answer.error, object_store::Error::NotFound { .. }) => Error::Gone,
        Some("AccessDenied" | "AllAccessDisabled") => denied_by_amazon(answer, bucket),
        None if matches!(answer.error, object_store::Error::PermissionDenied { .. }) => {
            denied_by_amazon(answer, bucket)
        }
        Some(
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired",
        ) => answer.credentials(),
        Some(
            code @ ("PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException"),
        ) => Error::Elsewhere(code.to_owned()),
        Some("RequestTimeTooSkewed") => Error::Clock,
        None if text.contains("redirect without LOCATION") => {
            Error::Elsewhere("PermanentRedirect".to_owned())
        }
        _ => return None,
    })
}

fn denied_by_amazon(answer: &Answer<'_>, bucket: &str) -> Error {
    let below = answer.below();
    match answer.asked {
        Asked::List => answer.denied(
            "s3:ListBucket",
            format!("arn:aws:s3:::{bucket} for the prefix {below}"),
        ),
        Asked::Get => answer.denied("s3:GetObject", format!("arn:aws:s3:::{bucket}/{below}")),
    }
}

fn of_google(answer: &Answer<'_>, bucket: &str) -> Option<Error> {
    Some(match answer.code {
        Some("NoSuchBucket") => answer.no_bucket("--gcs-bucket"),
        Some("NoSuchKey") => Error::Gone,
        Some("RequestTimeTooSkewed") => Error::Clock,
        Some("AuthenticationRequired" | "ExpiredToken" | "InvalidToken") => answer.credentials(),
        Some("AccessDenied" | "InvalidSecurity" | "InsufficientScope") => {
            let resource = format!("gs://{bucket}/{}", answer.below());
            let action = match answer.asked {
                Asked::List => "storage.objects.list",
                Asked::Get => "storage.objects.get",
            };
            answer.denied(action, resource)
        }
        Some("UserProjectMissing" | "UserProjectInvalid" | "UserProjectAccessDenied") => answer
            .closed("the bucket wants those who use it to pay: name one without requester pays"),
        Some(
            "AccountProblem"
            | "UserAccountProblem"
            | "UserProjectAccountProblem"
            | "UserProjectAccountDelinquent"
            | "BillingDisabled",
        ) => answer.closed("Google has closed the account of the bucket: mend its billing"),
        None if answer.has_status("401") => answer.credentials(),
        None if answer.asked == Asked::Get && answer.has_status("404") => Error::Gone,
        _ => return None,
    })
}

fn of_azure(answer: &Answer<'_>) -> Option<Error> {
    Some(match answer.code {
        Some("ContainerNotFound") => answer.no_bucket("--azure-container"),
        Some("BlobNotFound") => Error::Gone,
        // Where a blob would be, another resource is another answer.
        Some("ResourceNotFound") if answer.asked == Asked::List => {
            answer.no_bucket("--azure-container")
        }
        Some(
            "AuthenticationFailed" | "InvalidAuthenticationInfo" | "NoAuthenticationInformation",
        ) => answer.credentials(),
        Some(
            "AuthorizationPermissionMismatch"
            | "InsufficientAccountPermissions"
            | "AuthorizationResourceTypeMismatch"
            | "AuthorizationServiceMismatch",
        ) => {
            let action = match answer.asked {
                Asked::List => {
                    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read in a role, or l in a shared access signature,"
                }
                Asked::Get => {
                    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read in a role, or r in a shared access signature,"
                }
            };
            answer.denied(action, format!("the {}", answer.location.bucket))
        }
        Some("KeyBasedAuthenticationNotPermitted") => answer.closed(
            "the storage account takes no Shared Key: set AZURE_STORAGE_SAS_TOKEN, or AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or run `az login`",
        ),
        Some(
            "AuthorizationFailure"
            | "AuthorizationSourceIPMismatch"
            | "AuthorizationProtocolMismatch"
            | "IpAuthorizationError",
        ) => answer.closed(
            "the storage account takes no requests from here: check its firewall, and which addresses and protocols a shared access signature allows",
        ),
        Some("AccountIsDisabled") => {
            answer.closed("the storage account is disabled: mend that, or name another")
        }
        None if answer.has_status("401") => answer.credentials(),
        None if answer.asked == Asked::Get && answer.has_status("404") => Error::Gone,
        _ => return None,
    })
}

/// What whoever gives tokens has answered, or what has become of the question.
fn of_token(text: &str, error: &object_store::Error, location: &Location) -> Option<Error> {
    const ASKED: &str = "Error performing token request";
    const OF_AZ: &str = "'az account get-access-token' command failed";
    let refused = |code: String| Error::Credentials {
        code,
        remedy: remedy(&location.bucket),
    };
    if text.contains(OF_AZ) {
        return Some(refused("az account get-access-token has failed".to_owned()));
    }
    if text.contains("Failed to parse azure cli response") {
        return Some(refused("az gives no token".to_owned()));
    }
    if text.contains("Error reading federated token file") {
        return Some(refused(
            "the file of AZURE_FEDERATED_TOKEN_FILE cannot be read".to_owned(),
        ));
    }
    if text.contains("Error getting token response body") {
        return Some(Error::NoToken("its answer is no token".to_owned()));
    }
    if !text.contains(ASKED) {
        return None;
    }
    let Some(status) = status(text) else {
        return Some(Error::NoToken(innermost(error)));
    };
    if status.starts_with('5') || status.starts_with("429") {
        return Some(Error::NoToken(format!("HTTP {status}")));
    }
    let word = between(text, "\"error\":\"", "\"").filter(is_word);
    let number = text.find("AADSTS").map(|begin| {
        let rest = &text[begin..];
        let end = rest.find(|character: char| !character.is_ascii_alphanumeric());
        &rest[..end.unwrap_or(rest.len())]
    });
    let words: Vec<&str> = word.into_iter().chain(number.filter(is_word)).collect();
    Some(refused(if words.is_empty() {
        format!("HTTP {status}")
    } else {
        words.join(" ")
    }))
}

/// The status in what the client says of an answer, such as `403 Forbidden`.
fn status(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("Server returned non-2xx status code: ")?;
    rest.split([':', '\n']).next().map(str::trim)
}

/// Whether it is a code, and nothing longer.
fn is_word(text: &&str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !text.is_empty() && text.len() <= 64 && text.bytes().all(is_plain)
}

fn between<'t>(text: &'t str, begin: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(begin)?;
    rest.split_once(end).map(|(between, _)| between)
}

/// The cause behind what wraps it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
