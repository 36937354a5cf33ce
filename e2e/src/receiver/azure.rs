//! Azure Blob Storage, Azure Resource Manager ([`Managed`]), and Microsoft Entra, which gives tokens for both, as strict as they
//! document themselves.
//!
//! Sources: Azure "Put Blob", "Authorize with Shared Key", "Specifying conditional headers for Blob service operations", "Status
//! and error codes", "Blob Storage error codes", "Naming and Referencing Containers, Blobs, and Metadata", "Create a service
//! SAS" (permissions); Microsoft identity platform "OAuth 2.0 client credentials flow". The signature is worked out here from the request as it came, by code of its own.

mod manager;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{Method, header};
use ring::hmac;
use serde_json::{Value, json};

use super::{
    Request, Verdict, form, jwt,
    objects::{self, Bucket, LONGEST_KEY},
};

pub use manager::{Managed, Principal};

/// How old, or how far in the future, a request may be.
const TOLERANCE: Duration = Duration::from_mins(15);

/// What tokens of service accounts must be for.
pub const AUDIENCE: &str = "api://AzureADTokenExchange";

/// The first version that takes a blob of 5000 MiB in one request.
const OLDEST: &str = "2019-12-12";

/// A storage account.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Its name.
    pub account: String,
    /// Its keys, in Base64.
    pub keys: Vec<String>,
    /// Shared access signatures that were given, without `?`, and their permissions, such as `c`.
    pub signatures: BTreeMap<String, String>,
    /// Whether the account stands in the path, as that of an emulator does.
    pub in_path: bool,
    /// The identity that service accounts of a cluster may have.
    pub federated: Option<Federated>,
    /// Where the account is managed, if it is.
    pub managed: Option<Box<Managed>>,
    /// Who may look after it.
    pub principal: Option<Box<Principal>>,
    /// Address of Resource Manager: what tokens for it are for.
    pub resource_manager: String,
    /// Tokens that are good.
    tokens: BTreeSet<String>,
    /// Tokens of the service principal, and what each is for.
    given: BTreeMap<String, String>,
    /// Containers, by name; 404 otherwise.
    pub containers: BTreeMap<String, Bucket>,
}

/// A managed identity with a federated credential and a role that allows to create blobs (`blobs/add/action`).
#[derive(Clone, Debug)]
pub struct Federated {
    /// Its tenant.
    pub tenant: String,
    /// Its client id.
    pub client: String,
    /// The issuer of the cluster.
    pub issuer: String,
}

/// What a request may do.
#[derive(Clone, Copy, Debug)]
struct Rights {
    create: bool,
    replace: bool,
}

type Refusal = (u16, &'static str, &'static str);

/// What every refusal of a credential says.
const FAILED: Refusal = (
    403,
    "AuthenticationFailed",
    "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.",
);

impl Rules {
    /// An account with one key and empty containers.
    pub fn new(account: &str, key: &str, containers: &[&str]) -> Self {
        let named = |name: &&str| ((*name).to_owned(), Bucket::default());
        Self {
            account: account.to_owned(),
            keys: vec![key.to_owned()],
            containers: containers.iter().map(named).collect(),
            ..Self::default()
        }
    }

    pub(super) fn judge(&mut self, request: &Request<'_>) -> Verdict {
        if request.uri.path().ends_with("/oauth2/v2.0/token") {
            let is_principal =
                form::read(request).is_some_and(|form| form.contains_key("client_secret"));
            let given = if is_principal {
                self.give_principal(request)
            } else {
                self.give(request)
            };
            return match given {
                Ok(token) => Verdict::refused(200, token.to_string()),
                Err((status, error, description)) => {
                    let body = json!({"error": error, "error_description": description});
                    Verdict::refused(status, body.to_string())
                }
            };
        }
        if request.uri.path().starts_with("/subscriptions/") {
            return self.manage(request);
        }
        if request
            .uri
            .query()
            .is_some_and(|query| query.contains("comp=list"))
        {
            return match self.list(request) {
                Ok(listing) => Verdict {
                    content_type: http::HeaderValue::from_static("application/xml"),
                    ..Verdict::refused(200, listing)
                },
                Err((status, code, message)) => objects::refused(status, code, message),
            };
        }
        self.put(request)
            .unwrap_or_else(|(status, code, message)| objects::refused(status, code, message))
    }

    fn give(&mut self, request: &Request<'_>) -> Result<Value, Refusal> {
        let form = form::read(request);
        let form = form.ok_or((400, "invalid_request", "AADSTS900144: Only a form by POST."))?;
        let value = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let unknown = (
            400,
            "unauthorized_client",
            "AADSTS700016: Application was not found in the directory.",
        );
        let identity = self.federated.as_ref().ok_or(unknown)?;
        let path = format!("/{}/oauth2/v2.0/token", identity.tenant);
        if request.uri.path() != path || value("client_id") != identity.client {
            return Err(unknown);
        }
        if value("grant_type") != "client_credentials"
            || value("client_assertion_type")
                != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        {
            return Err((400, "unsupported_grant_type", "AADSTS70003"));
        }
        if value("scope") != "https://storage.azure.com/.default" {
            return Err((400, "invalid_scope", "AADSTS1002012"));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let is_good =
            jwt::read(value("client_assertion")).is_some_and(|jwt::Token { claims, .. }| {
                claims["iss"] == identity.issuer.as_str()
                    && claims["aud"][0] == AUDIENCE
                    && claims["exp"].as_u64() > Some(now)
            });
        if !is_good {
            return Err((
                401,
                "invalid_client",
                "AADSTS700211: No matching federated identity record found for presented assertion issuer.",
            ));
        }
        let token = format!("eyJ0.of-the-test-{}", self.tokens.len());
        self.tokens.insert(token.clone());
        Ok(
            json!({"access_token": token, "expires_in": 3599, "ext_expires_in": 3599, "token_type": "Bearer"}),
        )
    }

    /// A token for a secret of an application.
    fn give_principal(&mut self, request: &Request<'_>) -> Result<Value, Refusal> {
        let form = form::read(request).unwrap_or_default();
        let value = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let principal = self.principal.as_ref();
        let principal = principal.filter(|principal| {
            request.uri.path() == format!("/{}/oauth2/v2.0/token", principal.tenant)
                && value("client_id") == principal.client
        });
        let principal = principal.ok_or((
            400,
            "unauthorized_client",
            "AADSTS700016: Application was not found in the directory.",
        ))?;
        if value("grant_type") != "client_credentials" {
            return Err((400, "unsupported_grant_type", "AADSTS70003"));
        }
        if value("client_secret") != principal.secret {
            return Err((
                401,
                "invalid_client",
                "AADSTS7000215: Invalid client secret provided.",
            ));
        }
        let scope = value("scope");
        let of_manager = format!("{}/.default", self.resource_manager);
        if scope != of_manager && scope != "https://storage.azure.com/.default" {
            return Err((400, "invalid_scope", "AADSTS1002012"));
        }
        let token = format!("eyJ0.of-the-operator-{}", self.given.len());
        self.given.insert(token.clone(), scope.to_owned());
        Ok(
            json!({"access_token": token, "expires_in": 3599, "ext_expires_in": 3599, "token_type": "Bearer"}),
        )
    }

    /// What a token is for.
    fn scope(&self, request: &Request<'_>) -> Option<&str> {
        let authorization = request.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let token = authorization.strip_prefix("Bearer ")?;
        self.given.get(token).map(String::as_str)
    }

    fn manage(&mut self, request: &Request<'_>) -> Verdict {
        let of_manager = format!("{}/.default", self.resource_manager);
        if self.scope(request) != Some(of_manager.as_str()) {
            return manager::refused(
                401,
                "InvalidAuthenticationToken",
                "The access token is invalid.",
            );
        }
        let principal = self.principal.clone().unwrap_or_default();
        match &mut self.managed {
            Some(managed) => managed.judge(request, &self.account, &principal.actions),
            None => manager::refused(404, "SubscriptionNotFound", "No subscription."),
        }
    }

    fn list(&self, request: &Request<'_>) -> Result<String, Refusal> {
        if self.scope(request) != Some("https://storage.azure.com/.default") {
            return Err((
                401,
                "InvalidAuthenticationInfo",
                "Server failed to authenticate the request.",
            ));
        }
        if !request.headers.contains_key("x-ms-version") {
            return Err((400, "MissingRequiredHeader", "x-ms-version"));
        }
        let principal = self.principal.clone().unwrap_or_default();
        if !principal
            .actions
            .contains("blobServices/containers/blobs/read")
        {
            return Err((
                403,
                "AuthorizationPermissionMismatch",
                "This request is not authorized to perform this operation using this permission.",
            ));
        }
        let container = request.uri.path().trim_start_matches('/');
        if !self.containers.contains_key(container) {
            return Err((
                404,
                "ContainerNotFound",
                "The specified container does not exist.",
            ));
        }
        let query = request.uri.query().unwrap_or_default();
        let prefix = query.strip_prefix("restype=container&comp=list&prefix=");
        let prefix = prefix.ok_or((400, "InvalidQueryParameterValue", "restype"))?;
        let prefix = percent_encoding::percent_decode_str(prefix).decode_utf8_lossy();
        let managed = self.managed.as_ref();
        Ok(managed
            .map(|managed| managed.list(container, &prefix))
            .unwrap_or_default())
    }

    fn put(&mut self, request: &Request<'_>) -> Result<Verdict, Refusal> {
        let header = |name: &str| request.headers.get(name)?.to_str().ok();
        let missing = (
            400,
            "MissingRequiredHeader",
            "An HTTP header that's mandatory for this request is not specified.",
        );
        let version = header("x-ms-version").ok_or(missing)?;
        if version < OLDEST || version.len() != OLDEST.len() {
            return Err((400, "InvalidHeaderValue", "x-ms-version"));
        }
        let rights = self.rights(request)?;
        let before = if self.in_path {
            format!("/{}", self.account)
        } else {
            String::new()
        };
        let path = request.uri.path().strip_prefix(&before);
        let (name, blob) =
            path.and_then(objects::read_path)
                .ok_or((400, "InvalidUri", "The URI is not one."))?;
        if *request.method != Method::PUT {
            return Err((405, "UnsupportedHttpVerb", "Only PUT here."));
        }
        let is_part = |part: &str| !part.is_empty() && !part.ends_with('.');
        if blob.len() > LONGEST_KEY || !blob.split('/').all(is_part) {
            return Err((400, "InvalidUri", "Not the name of a blob."));
        }
        if header("x-ms-blob-type").ok_or(missing)? != "BlockBlob" {
            return Err((400, "InvalidHeaderValue", "x-ms-blob-type"));
        }
        if header(header::CONTENT_LENGTH.as_str()).is_none() {
            return Err((
                411,
                "MissingContentLengthHeader",
                "The Content-Length header was not specified.",
            ));
        }
        let container = self.containers.get_mut(&name).ok_or((
            404,
            "ContainerNotFound",
            "The specified container does not exist.",
        ))?;
        let once = match header(header::IF_NONE_MATCH.as_str()) {
            None => false,
            Some("*") => true,
            Some(_) => return Err((400, "InvalidHeaderValue", "If-None-Match")),
        };
        let mismatch = (
            403,
            "AuthorizationPermissionMismatch",
            "This request is not authorized to perform this operation using this permission.",
        );
        if !rights.create {
            return Err(mismatch);
        }
        let is_there = container.has(&blob, request.body);
        if is_there && once {
            return Err((
                409,
                "BlobAlreadyExists",
                "The specified blob already exists.",
            ));
        }
        if is_there && !rights.replace {
            return Err((
                403,
                "UnauthorizedBlobOverwrite",
                "This request is not authorized to perform blob overwrites.",
            ));
        }
        container.put(&blob, request.body);
        Ok(objects::stored(201))
    }

    fn rights(&self, request: &Request<'_>) -> Result<Rights, Refusal> {
        let header = |name: &str| request.headers.get(name)?.to_str().ok();
        if let Some(query) = request.uri.query().filter(|query| query.contains("sig=")) {
            let permissions = self.signatures.get(query).ok_or(FAILED)?;
            let has = |permission| permissions.contains(permission);
            return Ok(Rights {
                create: has('c') || has('w'),
                replace: has('w'),
            });
        }
        let Some(authorization) = header(header::AUTHORIZATION.as_str()) else {
            return Err((
                401,
                "NoAuthenticationInformation",
                "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.",
            ));
        };
        if let Some(token) = authorization.strip_prefix("Bearer ") {
            if !self.tokens.contains(token) {
                return Err((
                    401,
                    "InvalidAuthenticationInfo",
                    "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.",
                ));
            }
            return Ok(Rights {
                create: true,
                replace: false,
            });
        }
        let date = header("x-ms-date").and_then(|date| httpdate::parse_http_date(date).ok());
        let age = date.map(|date| {
            let age = SystemTime::now().duration_since(date);
            age.unwrap_or_else(|error| error.duration())
        });
        if age.is_none_or(|age| age > TOLERANCE) {
            return Err(FAILED);
        }
        let signed = authorization.strip_prefix("SharedKey ").ok_or(FAILED)?;
        let (account, signature) = signed.split_once(':').ok_or(FAILED)?;
        let unsigned = string_to_sign(&self.account, request);
        let is_signed = |key: &String| {
            let key = BASE64_STANDARD.decode(key).unwrap_or_default();
            let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
            let expected = hmac::sign(&key, unsigned.as_bytes());
            signature == BASE64_STANDARD.encode(expected)
        };
        if account != self.account || !self.keys.iter().any(is_signed) {
            return Err(FAILED);
        }
        Ok(Rights {
            create: true,
            replace: true,
        })
    }
}

/// What a request with these headers is signed for, line by line as documented.
fn string_to_sign(account: &str, request: &Request<'_>) -> String {
    const STANDARD: [&str; 11] = [
        "content-encoding",
        "content-language",
        "content-length",
        "content-md5",
        "content-type",
        "date",
        "if-modified-since",
        "if-match",
        "if-none-match",
        "if-unmodified-since",
        "range",
    ];
    let value = |name: &str| {
        let value = request.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap_or_default())
    };
    let mut lines = vec![request.method.to_string()];
    for name in STANDARD {
        let value = match (name, value(name)) {
            ("content-length", "0") => "",
            ("date", _) if request.headers.contains_key("x-ms-date") => "",
            (_, value) => value,
        };
        lines.push(value.to_owned());
    }
    let own: BTreeMap<&str, &str> = request
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| name.starts_with("x-ms-"))
        .map(|name| (name, value(name).trim()))
        .collect();
    lines.extend(own.iter().map(|(name, value)| format!("{name}:{value}")));
    lines.push(format!("/{account}{}", request.uri.path()));
    let query = request.uri.query().into_iter();
    let mut query: Vec<&str> = query.flat_map(|query| query.split('&')).collect();
    query.sort_unstable();
    lines.extend(query.iter().map(|pair| pair.replacen('=', ":", 1)));
    lines.join("\n")
}
