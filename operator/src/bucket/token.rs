//! Tokens for the operator: a service account of Google's, a service principal of Microsoft Entra. None is kept longer than a look.

use std::time::SystemTime;

use http::{HeaderMap, Method, StatusCode};
use katonic_log_config::{Endpoint, ServiceAccountKey};
use katonic_logging_core::{
    credential::Credential,
    retention::{BucketId, Custody, Trouble},
};
use serde::Deserialize;

use super::{
    encode,
    https::{Answer, Body, Service},
};

/// What Google's token is for: buckets with their settings (Cloud Storage: "OAuth 2.0 scopes").
const FULL_CONTROL: &str = "https://www.googleapis.com/auth/devstorage.full_control";

const FORM: &str = "application/x-www-form-urlencoded";

/// A service principal, as its Secret has it.
#[derive(Clone, Copy)]
pub struct ServicePrincipal<'a> {
    pub tenant: &'a Credential,
    pub client: &'a Credential,
    pub secret: &'a Credential,
}

/// A token of Google's (Google: "Using OAuth 2.0 for Server to Server Applications", RFC 7523).
pub struct Google {
    service: Service,
    path: String,
    key: ServiceAccountKey,
}

/// A token of Microsoft Entra's (Microsoft identity platform: "OAuth 2.0 client credentials flow").
pub struct Entra {
    service: Service,
    path: String,
    client: String,
    secret: Credential,
}

impl Google {
    /// With this key file.
    pub fn new(custody: &Custody, key: &Credential) -> Result<Self, Trouble> {
        let bucket = custody.id.clone();
        let unusable = |why: &str| Trouble::unusable(&bucket, why);
        let key =
            ServiceAccountKey::parse(key.expose()).map_err(|error| unusable(&error.to_string()))?;
        let (endpoint, path) = split(&key.token_uri)
            .ok_or_else(|| unusable("token_uri in the key file is no address"))?;
        Ok(Self {
            service: Service::new(custody, &endpoint)?,
            path,
            key,
        })
    }

    /// Asks for one.
    pub async fn ask(&self, bucket: &BucketId) -> Result<Credential, Trouble> {
        let assertion = self.key.assertion(FULL_CONTROL, SystemTime::now());
        let assertion = assertion
            .map_err(|_| Trouble::unusable(bucket, "private_key in the key file is no RSA key"))?;
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", &assertion),
        ];
        read(&post(&self.service, &self.path, &form).await?, bucket)
    }
}

impl Entra {
    /// With this service principal.
    pub fn new(
        custody: &Custody,
        authority_host: &Endpoint,
        principal: &ServicePrincipal<'_>,
    ) -> Result<Self, Trouble> {
        let text = |credential: &Credential| {
            let text = str::from_utf8(credential.expose().trim_ascii());
            text.unwrap_or_default().to_owned()
        };
        Ok(Self {
            service: Service::new(custody, authority_host)?,
            path: format!("/{}/oauth2/v2.0/token", text(principal.tenant)),
            client: text(principal.client),
            secret: principal.secret.clone(),
        })
    }

    /// Asks for one that is good for this.
    pub async fn ask(&self, bucket: &BucketId, scope: &str) -> Result<Credential, Trouble> {
        let secret = str::from_utf8(self.secret.expose().trim_ascii()).unwrap_or_default();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client),
            ("client_secret", secret),
            ("scope", scope),
        ];
        read(&post(&self.service, &self.path, &form).await?, bucket)
    }
}

async fn post(service: &Service, path: &str, form: &[(&str, &str)]) -> Result<Answer, Trouble> {
    let pairs: Vec<String> = form
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    let body = Body {
        content_type: FORM,
        content: pairs.join("&"),
    };
    service
        .ask(Method::POST, path, &HeaderMap::new(), Some(body))
        .await
}

/// The token in an answer.
fn read(answer: &Answer, bucket: &BucketId) -> Result<Credential, Trouble> {
    #[derive(Deserialize)]
    struct Token {
        access_token: String,
    }
    let token: Option<Token> = serde_json::from_str(&answer.body).ok();
    let is_shown = |token: &Token| {
        token
            .access_token
            .bytes()
            .all(|byte| byte.is_ascii_graphic())
    };
    match token.filter(is_shown) {
        Some(token) if answer.status == StatusCode::OK => {
            Ok(Credential::new(token.access_token.into_bytes()))
        }
        _ => Err(Trouble::no_token(
            bucket,
            answer.refusal(&answer.word("/error")),
        )),
    }
}

/// The address of a server, and the path there.
fn split(address: &Endpoint) -> Option<(Endpoint, String)> {
    let uri = address.uri();
    let server = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
    let path = uri.path_and_query()?.as_str().to_owned();
    Some((Endpoint::try_from(server).ok()?, path))
}
