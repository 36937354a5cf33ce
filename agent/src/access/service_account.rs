//! A service account of Google's: a token is given for what is signed with its key (Google: "Using OAuth 2.0 for Server to Server
//! Applications", RFC 7523).

use std::{path::Path, time::SystemTime};

use http::{HeaderMap, HeaderValue, Method, header};
use katonic_log_config::{CredentialKey, ServiceAccountKey};

use super::{Question, form};
use crate::credential::{self, CredentialError};

/// What the token is for: objects, and no access control lists (Google: "Cloud Storage OAuth 2.0 scopes").
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";

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
        let assertion = self.key.assertion(SCOPE, now);
        let assertion =
            assertion.map_err(|_| CredentialError::NotAServiceAccount(self.name.clone()))?;
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
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        time::{Duration, UNIX_EPOCH},
    };

    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

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
