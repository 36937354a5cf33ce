//! A service account of Google's: a token is given for what is signed with its key (Google: "Using OAuth 2.0 for Server to Server
//! Applications", RFC 7523).

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, Method, header};
use katonic_log_config::{CredentialKey, ServiceAccountKey};
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::json;

use super::{Question, form};
use crate::credential::{self, CredentialError};

/// What the token is for: objects, and no access control lists (Google: "Cloud Storage OAuth 2.0 scopes").
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";

/// How long what is signed may be used, in seconds: the longest that is taken.
const LIFETIME: u64 = 3600;

/// A service account with its key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ServiceAccount {
    key: ServiceAccountKey,
    name: CredentialKey,
}

impl ServiceAccount {
    /// Reads its key file from the mounted Secret.
    pub(super) fn read(name: &CredentialKey, credentials: &Path) -> Result<Self, CredentialError> {
        let file = credential::read(credentials, name)?;
        match ServiceAccountKey::parse(file.reveal()) {
            Ok(key) => Ok(Self {
                key,
                name: name.clone(),
            }),
            Err(_) => Err(CredentialError::NotAServiceAccount(name.clone())),
        }
    }

    /// How a token is asked for.
    pub(super) fn question(&self, now: SystemTime) -> Result<Question, CredentialError> {
        let assertion = self.assertion(now)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form::TYPE));
        let body = form::encode(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", &assertion),
        ]);
        Ok(Question {
            method: Method::POST,
            uri: self.key.token_uri.uri().clone(),
            headers,
            body: body.into(),
            shown: assertion.into_bytes(),
            is_near: false,
        })
    }

    /// A claim to be this service account, signed (RFC 7515, RFC 7519).
    fn assertion(&self, now: SystemTime) -> Result<String, CredentialError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut header = json!({"alg": "RS256", "typ": "JWT"});
        if let Some(id) = &self.key.private_key_id {
            header["kid"] = id.as_str().into();
        }
        let claims = json!({
            "iss": self.key.client_email,
            "scope": SCOPE,
            "aud": String::from(self.key.token_uri.clone()),
            "iat": now,
            "exp": now + LIFETIME,
        });
        let encode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
        let unsigned = format!(
            "{}.{}",
            encode(header.to_string().as_bytes()),
            encode(claims.to_string().as_bytes())
        );
        let signature = sign(self.key.private_key.as_bytes(), unsigned.as_bytes());
        let signature =
            signature.ok_or_else(|| CredentialError::NotAServiceAccount(self.name.clone()))?;
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

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use serde_json::Value;

    use super::*;

    /// The key of RFC 7515, A.2.
    const KEY: &str = include_str!("../../config/testdata/rfc7515-a2.pem");

    fn read(private_key: &str) -> Result<ServiceAccount, CredentialError> {
        let file = json!({
            "type": "service_account",
            "private_key_id": "1",
            "private_key": private_key,
            "client_email": "logs@p.iam.gserviceaccount.com",
            "token_uri": "https://oauth2.googleapis.com/token",
        });
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("key.json"), file.to_string()).unwrap();
        let name = CredentialKey::try_from("key.json".to_owned()).unwrap();
        ServiceAccount::read(&name, directory.path())
    }

    fn account() -> ServiceAccount {
        read(KEY).unwrap()
    }

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
    fn a_token_is_asked_for_with_the_documented_claims() {
        let question = account()
            .question(UNIX_EPOCH + Duration::from_secs(1_000))
            .unwrap();
        assert_eq!(question.uri, "https://oauth2.googleapis.com/token");
        let body = String::from_utf8(question.body.to_vec()).unwrap();
        let (_, assertion) = body.split_once("&assertion=").unwrap();
        assert_eq!(assertion.as_bytes(), question.shown);
        let parts: Vec<Value> = assertion
            .split('.')
            .take(2)
            .map(|part| {
                serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
            })
            .collect();
        assert_eq!(
            parts,
            [
                json!({"alg": "RS256", "typ": "JWT", "kid": "1"}),
                json!({
                    "iss": "logs@p.iam.gserviceaccount.com",
                    "scope": "https://www.googleapis.com/auth/devstorage.read_write",
                    "aud": "https://oauth2.googleapis.com/token",
                    "iat": 1_000,
                    "exp": 4_600,
                })
            ]
        );
    }

    #[test]
    fn a_key_that_is_none_is_told_and_not_shown() {
        let error = read("hunter2").unwrap().question(UNIX_EPOCH);
        let Err(error) = error else {
            panic!("no error");
        };
        assert!(matches!(error, CredentialError::NotAServiceAccount(_)));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert!(!format!("{:?}", account()).contains("MII"));
    }
}
