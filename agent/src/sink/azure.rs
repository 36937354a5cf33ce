//! Azure Blob Storage: one Put Blob an object, what its answers mean.

use std::{path::Path, time::SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use katonic_log_config::{Azure, AzureCredential};
use ring::hmac;

use super::{
    Answer, Cause, Request,
    store::{self, Prepared, Put, Reply},
};
use crate::credential::{self, CredentialError, Secret};

/// The version of the service that requests are made for: the first ones take no blob of 64 MB (Azure: "Versioning for Azure
/// Storage").
const VERSION: &str = "2021-12-02";

/// What all headers begin with that are Azure's own; a signature covers them.
const OWN: &str = "x-ms-";

/// What a request shows.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A key of the account, to sign with.
    SharedKey(Secret),
    /// A shared access signature, without the `?` before it.
    SasToken(Secret),
    /// `Bearer` and a token of Microsoft Entra's, marked as sensitive.
    Bearer(HeaderValue),
}

impl Credential {
    /// Reads it from the mounted Secret.
    ///
    /// # Errors
    /// When it is missing, or the key none.
    pub fn read(named: &AzureCredential, credentials: &Path) -> Result<Self, CredentialError> {
        let key = named.key();
        let value = credential::read(credentials, key)?;
        match named {
            AzureCredential::SharedKey(_) => match BASE64_STANDARD.decode(value.reveal()) {
                Ok(bytes) => Ok(Self::SharedKey(bytes.into())),
                Err(_) => Err(CredentialError::NotBase64(key.clone())),
            },
            AzureCredential::SasToken(_) => {
                let token = value.reveal();
                let token = token.strip_prefix(b"?").unwrap_or(token);
                Ok(Self::SasToken(token.to_vec().into()))
            }
        }
    }
}

/// What all requests have in common.
pub(super) fn request(azure: &Azure, credentials: &Path) -> Result<Request, CredentialError> {
    let read = |named| Credential::read(named, credentials);
    let elsewhere = match azure.credential.as_ref().map(read).transpose()? {
        Some(Credential::SharedKey(key)) => {
            vec![BASE64_STANDARD.encode(key.reveal()).into_bytes().into()]
        }
        Some(Credential::SasToken(token)) => {
            let signature = signature_of(&token);
            vec![token, signature]
        }
        Some(Credential::Bearer(_)) | None => Vec::new(),
    };
    Ok(Request {
        uri: store::address(&azure.endpoint, azure.container.as_str(), "")?,
        address: None,
        headers: HeaderMap::new(),
        elsewhere,
    })
}

/// The secret part of a shared access signature, as it was before it was encoded.
fn signature_of(token: &Secret) -> Secret {
    let text = String::from_utf8_lossy(token.reveal());
    let signature = text.split('&').find_map(|pair| pair.strip_prefix("sig="));
    let mut signature = signature.unwrap_or_default().to_owned();
    for (encoded, character) in [("2B", "+"), ("2F", "/"), ("3D", "=")] {
        for encoded in [encoded.to_owned(), encoded.to_ascii_lowercase()] {
            signature = signature.replace(&format!("%{encoded}"), character);
        }
    }
    signature.into_bytes().into()
}

/// A Put Blob (Azure: "Put Blob").
pub(super) fn prepare(
    azure: &Azure,
    credential: &Credential,
    put: &Put<'_>,
    now: SystemTime,
) -> Result<Prepared, CredentialError> {
    let uri = store::address(
        &azure.endpoint,
        azure.container.as_str(),
        &azure.prefix.join(put.key),
    )?;
    let mut headers = store::common(put);
    headers.insert("x-ms-blob-type", HeaderValue::from_static("BlockBlob"));
    headers.insert("x-ms-version", HeaderValue::from_static(VERSION));
    let date = HeaderValue::try_from(httpdate::fmt_http_date(now));
    headers.insert("x-ms-date", date.map_err(|_| CredentialError::Address)?);
    if put.once {
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
    }
    match credential {
        Credential::SharedKey(key) => {
            let unsigned = string_to_sign(azure, &uri, &headers, put.length);
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.reveal());
            let signature = BASE64_STANDARD.encode(hmac::sign(&key, unsigned.as_bytes()));
            let authorization = format!("SharedKey {}:{signature}", azure.account.as_str());
            let authorization = HeaderValue::try_from(authorization);
            let mut authorization = authorization.map_err(|_| CredentialError::Address)?;
            authorization.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, authorization);
            Ok(Prepared { uri, headers })
        }
        Credential::SasToken(token) => {
            let in_address = || {
                let token = str::from_utf8(token.reveal()).ok()?;
                format!("{uri}?{token}").parse::<Uri>().ok()
            };
            let named = || azure.credential.as_ref().map(|named| named.key().clone());
            let error = || named().map_or(CredentialError::NotGiven, CredentialError::NotInAddress);
            let uri = in_address().ok_or_else(error)?;
            Ok(Prepared { uri, headers })
        }
        Credential::Bearer(token) => {
            headers.insert(header::AUTHORIZATION, token.clone());
            Ok(Prepared { uri, headers })
        }
    }
}

/// What is signed of a Put Blob without a query (Azure: "Authorize with Shared Key", version 2015-02-21 and later).
fn string_to_sign(azure: &Azure, uri: &Uri, headers: &HeaderMap, length: u64) -> String {
    let value = |name: header::HeaderName| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let length = if length == 0 {
        String::new()
    } else {
        length.to_string()
    };
    let standard = [
        Method::PUT.to_string(),
        value(header::CONTENT_ENCODING),
        value(header::CONTENT_LANGUAGE),
        length,
        String::new(), // Content-MD5
        value(header::CONTENT_TYPE),
        value(header::DATE),
        value(header::IF_MODIFIED_SINCE),
        value(header::IF_MATCH),
        value(header::IF_NONE_MATCH),
        value(header::IF_UNMODIFIED_SINCE),
        value(header::RANGE),
    ];
    let mut own: Vec<String> = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with(OWN))
        .map(|(name, value)| format!("{name}:{}", value.to_str().unwrap_or_default()))
        .collect();
    own.sort_unstable();
    let (account, path) = (azure.account.as_str(), uri.path());
    format!(
        "{}\n{}\n/{account}{path}",
        standard.join("\n"),
        own.join("\n")
    )
}

/// What an answer to a Put Blob means (Azure: "Status and error codes", "Blob Storage error codes").
pub(super) fn judge(answer: &Answer<'_>, azure: &Azure) -> Reply {
    let (account, container) = (azure.account.as_str(), azure.container.as_str());
    let refused = |what: &str| store::hold(answer, Cause::AuthenticationFailed, what);
    let wrong = |what: &str| Reply::Not(store::hold(answer, Cause::Misconfigured, what));
    match (answer.status, store::code(answer.body)) {
        (200..=299, _) => Reply::Stored,
        (412, _)
        | (
            _,
            "BlobAlreadyExists"
            | "UnauthorizedBlobOverwrite"
            | "BlobImmutableDueToPolicy"
            | "BlobImmutableDueToLegalHold",
        ) => Reply::There,
        (401, _) => Reply::Expired(refused(&format!(
            "the storage account `{account}` does not take what it is shown: check the Secret of credentialsSecretRef, or the identity of the pod"
        ))),
        (_, "AuthenticationFailed") => Reply::Not(refused(&format!(
            "what the request shows is not of the storage account `{account}`, or over: correct the Secret of credentialsSecretRef, or account"
        ))),
        (
            _,
            "AuthorizationPermissionMismatch"
            | "InsufficientAccountPermissions"
            | "AuthorizationResourceTypeMismatch"
            | "AuthorizationServiceMismatch",
        ) => Reply::Not(refused(&format!(
            "allow these credentials to create blobs in the container `{container}`: Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action in a role, or c in a shared access signature"
        ))),
        (_, "KeyBasedAuthenticationNotPermitted") => Reply::Not(refused(&format!(
            "the storage account `{account}` takes no Shared Key: name a Secret with AZURE_STORAGE_SAS_TOKEN, or allow Shared Key"
        ))),
        (
            _,
            "AuthorizationFailure"
            | "AuthorizationSourceIPMismatch"
            | "AuthorizationProtocolMismatch"
            | "IpAuthorizationError",
        ) => Reply::Not(refused(&format!(
            "the storage account `{account}` takes no requests from here: check its firewall, and which addresses and protocols a shared access signature allows"
        ))),
        (_, "ContainerNotFound" | "ResourceNotFound") => wrong(&format!(
            "there is no container `{container}` in the storage account `{account}`: create it, or correct container"
        )),
        (_, "InvalidResourceName" | "OutOfRangeInput" | "ContainerDisabled") => wrong(&format!(
            "Azure does not take `{container}` for a container of blobs: correct container"
        )),
        (_, "AccountIsDisabled") => wrong(&format!(
            "the storage account `{account}` is disabled: mend that, or correct account"
        )),
        (
            _,
            "InternalError"
            | "OperationTimedOut"
            | "ServerBusy"
            | "ContainerBeingDeleted"
            | "AccountBeingCreated"
            | "Md5Mismatch",
        )
        | (408 | 425 | 429 | 500..=599, _) => store::retry(answer),
        (403 | 407, _) => Reply::Not(refused(
            "Azure refuses the request: check the credentials and what they allow",
        )),
        _ => wrong(
            "what answers there takes no blobs as Azure does: correct endpoint, account or container",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::UNIX_EPOCH};

    use katonic_log_config::{CredentialKey, KeyPrefix};

    use super::*;
    use crate::sink::Verdict;

    /// The account of Azurite, whose key everybody knows (Azure: "Use the Azurite emulator").
    const ACCOUNT: &str = "devstoreaccount1";
    const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

    fn azure(endpoint: &str, credential: fn(CredentialKey) -> AzureCredential) -> Azure {
        Azure {
            endpoint: endpoint.to_owned().try_into().unwrap(),
            account: ACCOUNT.to_owned().try_into().unwrap(),
            container: "platform-logs".to_owned().try_into().unwrap(),
            prefix: KeyPrefix::try_from("a".to_owned()).unwrap(),
            credential: Some(credential(
                CredentialKey::try_from("key".to_owned()).unwrap(),
            )),
        }
    }

    fn prepared(azure: &Azure, value: &str, once: bool) -> Result<Prepared, CredentialError> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("key"), value).unwrap();
        let put = Put {
            key: "executions/a!2F/b.gz",
            sha256: [0; 32],
            length: 7,
            content_type: "application/gzip",
            once,
            lock: None,
        };
        let named = azure.credential.as_ref().unwrap();
        let credential = Credential::read(named, directory.path())?;
        prepare(azure, &credential, &put, UNIX_EPOCH)
    }

    fn judged(status: u16, code: &str) -> Reply {
        let azure = azure(
            "https://a.blob.core.windows.net",
            AzureCredential::SharedKey,
        );
        judge(&Answer::of(status, store::refusal(code).as_bytes()), &azure)
    }

    /// The strings to sign were written down by hand as the documentation has them, and signed with Python's `hmac`.
    #[test]
    fn a_put_is_signed_as_azure_documents_it_also_for_an_emulator() {
        let emulator = azure(
            "http://127.0.0.1:10000/devstoreaccount1",
            AzureCredential::SharedKey,
        );
        let once = prepared(&emulator, KEY, true).unwrap();
        assert_eq!(
            once.uri,
            "http://127.0.0.1:10000/devstoreaccount1/platform-logs/a/executions/a%212F/b.gz"
        );
        assert_eq!(once.headers["if-none-match"], "*");
        assert_eq!(
            once.headers["authorization"],
            "SharedKey devstoreaccount1:dg/USJxVaIM5E8uaJ8eDjRgbZQ2DzkOMHukkfVlwUCg="
        );
        assert!(!format!("{once:?}").contains("dg/USJ"));
        let account = azure(
            "https://devstoreaccount1.blob.core.windows.net",
            AzureCredential::SharedKey,
        );
        let again = prepared(&account, KEY, false).unwrap();
        assert_eq!(
            again.headers["authorization"],
            "SharedKey devstoreaccount1:7Mm+CNUbcCw3Rzzpmue9cbp5391qSd6iCVxE7oGlIWE="
        );
        assert!(!again.headers.contains_key("if-none-match"));
        assert!(matches!(
            prepared(&account, "hunter2!", true),
            Err(CredentialError::NotBase64(_))
        ));
    }

    #[test]
    fn a_shared_access_signature_stands_in_the_address_and_is_not_shown() {
        let azure = azure("https://a.blob.core.windows.net", AzureCredential::SasToken);
        let prepared = prepared(&azure, "?sv=2021-12-02&sp=c&sig=hunter2%2B%3d", true).unwrap();
        assert_eq!(
            prepared.uri.query(),
            Some("sv=2021-12-02&sp=c&sig=hunter2%2B%3d")
        );
        assert!(!prepared.headers.contains_key("authorization"));
        assert!(!format!("{prepared:?}").contains("hunter2"), "{prepared:?}");
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("key"), "sp=c&sig=a%2Bb%2f%3D&se=1").unwrap();
        let hidden = request(&azure, directory.path()).unwrap().elsewhere;
        assert_eq!(hidden[1].reveal(), b"a+b/=");
    }

    #[test]
    fn an_object_that_is_there_already_is_not_put_again() {
        assert_eq!(judged(201, ""), Reply::Stored);
        for (status, code) in [
            (409, "BlobAlreadyExists"),
            (403, "UnauthorizedBlobOverwrite"),
            (409, "BlobImmutableDueToPolicy"),
            (412, "LeaseIdMissing"),
        ] {
            assert_eq!(judged(status, code), Reply::There, "{code}");
        }
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        for (status, code) in [
            (503, "ServerBusy"),
            (500, "OperationTimedOut"),
            (409, "ContainerBeingDeleted"),
            (429, ""),
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
                "AuthenticationFailed",
                "correct the Secret of credentialsSecretRef, or account",
            ),
            (
                403,
                "AuthorizationPermissionMismatch",
                "allow these credentials to create blobs in the container `platform-logs`",
            ),
            (
                403,
                "KeyBasedAuthenticationNotPermitted",
                "AZURE_STORAGE_SAS_TOKEN",
            ),
            (403, "AuthorizationFailure", "check its firewall"),
            (
                404,
                "ContainerNotFound",
                "there is no container `platform-logs` in the storage account `devstoreaccount1`: create it",
            ),
            (409, "AccountIsDisabled", "is disabled"),
            (400, "", "correct endpoint"),
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
            judged(401, "InvalidAuthenticationInfo"),
            Reply::Expired(_)
        ));
    }
}
