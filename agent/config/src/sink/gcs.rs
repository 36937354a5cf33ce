//! Google Cloud Storage.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::object_storage::{InvalidStore, KeyPrefix};
use crate::{CredentialKey, Endpoint};

/// A bucket of Google Cloud Storage, reached by its XML API: `<endpoint>/<bucket>/<key>`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gcs {
    /// Base address of the service.
    pub endpoint: Endpoint,
    /// Bucket.
    pub bucket: GcsBucketName,
    /// What all keys begin with, without `/` at its ends; empty: nothing.
    #[serde(default, skip_serializing_if = "KeyPrefix::is_empty")]
    pub prefix: KeyPrefix,
    /// Key of a service account: see [`ServiceAccountKey`]; none: the identity of the pod is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_key: Option<CredentialKey>,
}

/// A name that Cloud Storage allows for a bucket (Google: "Bucket naming guidelines").
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct GcsBucketName(String);

impl GcsBucketName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for GcsBucketName {
    type Error = InvalidStore;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let is_name = (3..=222).contains(&bytes.len())
            && bytes.first().is_some_and(is_end)
            && bytes.last().is_some_and(is_end)
            && bytes
                .iter()
                .all(|byte| is_end(byte) || b"-_.".contains(byte))
            && text.split('.').all(|part| (1..=63).contains(&part.len()));
        if is_name {
            Ok(Self(text))
        } else {
            Err(InvalidStore::GcsBucket(text))
        }
    }
}

impl From<GcsBucketName> for String {
    fn from(name: GcsBucketName) -> Self {
        name.0
    }
}

/// How long what a service account has signed may be used, in seconds: the longest that Google takes.
const LIFETIME: u64 = 3600;

/// What is used of a service account's key file (Google: "Using OAuth 2.0 for Server to Server Applications").
#[derive(Clone, Deserialize, Eq, PartialEq)]
pub struct ServiceAccountKey {
    /// Who it belongs to.
    pub client_email: String,
    /// Which of its keys this is.
    #[serde(default)]
    pub private_key_id: Option<String>,
    /// The key, PEM. Shown to nobody.
    pub private_key: String,
    /// Where a token is given for it.
    pub token_uri: Endpoint,
    #[serde(rename = "type")]
    kind: String,
}

impl fmt::Debug for ServiceAccountKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

impl ServiceAccountKey {
    /// Reads a key file.
    ///
    /// # Errors
    /// When it is no key of a service account, or its token would be asked for without TLS. Whether its private key is one
    /// is not looked at.
    pub fn parse(file: &[u8]) -> Result<Self, InvalidServiceAccountKey> {
        // What the parser says may repeat what it has read.
        let key: Self = serde_json::from_slice(file).map_err(|_| InvalidServiceAccountKey)?;
        if key.kind == "service_account" && !key.token_uri.is_plain_text() {
            Ok(key)
        } else {
            Err(InvalidServiceAccountKey)
        }
    }

    /// A claim to be this service account, signed, for which [`Self::token_uri`] gives a token that is good for `scope` (RFC 7515,
    /// RFC 7519, RFC 7523).
    ///
    /// # Errors
    /// When the private key is no RSA key in PEM.
    pub fn assertion(
        &self,
        scope: &str,
        now: SystemTime,
    ) -> Result<String, InvalidServiceAccountKey> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut header = json!({"alg": "RS256", "typ": "JWT"});
        if let Some(id) = &self.private_key_id {
            header["kid"] = id.as_str().into();
        }
        let claims = json!({
            "iss": self.client_email,
            "scope": scope,
            "aud": String::from(self.token_uri.clone()),
            "iat": now,
            "exp": now + LIFETIME,
        });
        let encode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
        let unsigned = format!(
            "{}.{}",
            encode(header.to_string().as_bytes()),
            encode(claims.to_string().as_bytes())
        );
        let signature = sign(self.private_key.as_bytes(), unsigned.as_bytes());
        let signature = signature.ok_or(InvalidServiceAccountKey)?;
        Ok(format!("{unsigned}.{}", encode(&signature)))
    }
}

/// RSASSA-PKCS1-v1_5 with SHA-256; none where the key is no RSA key in PEM.
fn sign(pem: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let key = match PrivateKeyDer::from_pem_slice(pem).ok()? {
        PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        _ => return None,
    };
    let key = key.ok()?;
    let mut signature = vec![0; key.public().modulus_len()];
    let random = SystemRandom::new();
    key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
        .ok()?;
    Some(signature)
}

/// Not the key of a service account. Repeats nothing of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no key of a service account")]
pub struct InvalidServiceAccountKey;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_called_as_google_allows() {
        let parse = |text: &str| GcsBucketName::try_from(text.to_owned());
        for name in ["logs", "a_1-b", "logs.example.com"] {
            assert!(parse(name).is_ok(), "{name}");
        }
        let long = "a".repeat(64);
        for name in [
            "",
            "ab",
            "Logs",
            "_logs",
            "logs-",
            "a..b",
            "a/b",
            long.as_str(),
        ] {
            assert!(parse(name).is_err(), "{name}");
        }
        assert!(parse(&format!("{0}.{0}.{0}", "a".repeat(63))).is_ok());
    }

    /// The key of RFC 7515, A.2.
    const KEY: &str = include_str!("../../testdata/rfc7515-a2.pem");

    #[test]
    fn the_example_of_rfc_7515_is_signed_as_it_says() {
        let message = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = sign(KEY.as_bytes(), message.as_bytes()).unwrap();
        assert_eq!(
            BASE64_URL_SAFE_NO_PAD.encode(signature),
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
        );
    }

    #[test]
    fn only_the_key_of_a_service_account_is_one_and_it_is_never_shown() {
        let file = r#"{"type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": "hunter2",
            "client_email": "logs@p.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token"}"#;
        let key = ServiceAccountKey::parse(file.as_bytes()).unwrap();
        assert_eq!(key.client_email, "logs@p.iam.gserviceaccount.com");
        assert_eq!(format!("{key:?}"), "…");
        for (from, to) in [
            ("service_account", "authorized_user"),
            ("https://", "http://"),
            ("private_key\":", "key\":"),
            ("{\"type", "[\"type"),
        ] {
            let file = file.replace(from, to);
            assert!(ServiceAccountKey::parse(file.as_bytes()).is_err(), "{file}");
        }
    }
}
