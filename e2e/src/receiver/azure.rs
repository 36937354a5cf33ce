//! Azure Blob Storage, Azure Resource Manager ([`Managed`]), and Microsoft Entra, which gives tokens for both, as strict as they
//! document themselves.
//!
//! Sources: Azure "Put Blob", "Get Blob", "List Blobs", "Specifying the range header for Blob service operations", "Authorize with
//! Shared Key", "Specifying conditional headers for Blob service operations", "Status and error codes", "Blob Storage error codes",
//! "Naming and Referencing Containers, Blobs, and Metadata", "Create a service SAS" (permissions, times); Microsoft identity platform "OAuth 2.0 client credentials flow". The signature is worked out here from the request as it came, by code of its own.

mod manager;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{Method, header};
use k8s_openapi::jiff::Timestamp;
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

/// Most blobs of a page.
const PAGE: usize = 5000;

/// What tokens for blobs are for.
const STORAGE: &str = "https://storage.azure.com/.default";

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
    /// A listing goes on after so many blobs, and before the first one, although more would be allowed, as it does where the account
    /// keeps them in several places.
    pub page: Option<usize>,
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
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a right of its own")]
struct Rights {
    create: bool,
    replace: bool,
    read: bool,
    list: bool,
}

type Refusal = (u16, &'static str, &'static str);

/// What every refusal of a credential says.
const FAILED: Refusal = (
    403,
    "AuthenticationFailed",
    "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.",
);

/// What every lack of a right says.
const MISMATCH: Refusal = (
    403,
    "AuthorizationPermissionMismatch",
    "This request is not authorized to perform this operation using this permission.",
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
        self.blob(request)
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
        if value("scope") != STORAGE {
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
        if scope != of_manager && scope != STORAGE {
            return Err((400, "invalid_scope", "AADSTS1002012"));
        }
        let scope = scope.to_owned();
        let token = self.give_for(scope);
        Ok(
            json!({"access_token": token, "expires_in": 3599, "ext_expires_in": 3599, "token_type": "Bearer"}),
        )
    }

    fn give_for(&mut self, scope: String) -> String {
        let token = format!("eyJ0.of-the-principal-{}", self.given.len());
        self.given.insert(token.clone(), scope);
        token
    }

    /// A token for blobs with the rights of [`Self::principal`], as `az` gives one to whoever has logged in.
    pub fn log_in(&mut self) -> String {
        self.give_for(STORAGE.to_owned())
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

    /// A request for a blob, or for a listing of them.
    fn blob(&mut self, request: &Request<'_>) -> Result<Verdict, Refusal> {
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
        let invalid = (400, "InvalidUri", "The URI is not one.");
        let path = request.uri.path().strip_prefix(&before).ok_or(invalid)?;
        let path = path.trim_end_matches('/');
        if *request.method == Method::GET && path.matches('/').count() == 1 {
            return self.list(request, &path[1..], rights);
        }
        let (name, blob) = objects::read_path(path).ok_or(invalid)?;
        let is_part = |part: &str| !part.is_empty() && !part.ends_with('.');
        if blob.len() > LONGEST_KEY || !blob.split('/').all(is_part) {
            return Err((400, "InvalidUri", "Not the name of a blob."));
        }
        match *request.method {
            Method::PUT => self.put(request, &name, &blob, rights),
            Method::GET => self.get(request, &name, &blob, rights),
            _ => Err((405, "UnsupportedHttpVerb", "Only PUT and GET here.")),
        }
    }

    fn container(&self, name: &str) -> Result<&Bucket, Refusal> {
        let missing = (
            404,
            "ContainerNotFound",
            "The specified container does not exist.",
        );
        self.containers.get(name).ok_or(missing)
    }

    fn list(&self, request: &Request<'_>, name: &str, rights: Rights) -> Result<Verdict, Refusal> {
        let listing = Listing::read(request.uri.query(), self.page)?;
        if !rights.list {
            return Err(MISMATCH);
        }
        let container = self.container(name)?;
        let old = self.managed.as_ref();
        let old = old.map(|managed| managed.stored(name, &listing.prefix));
        Ok(objects::listing(listing.of(
            name,
            container,
            &old.unwrap_or_default(),
        )))
    }

    fn get(
        &self,
        request: &Request<'_>,
        name: &str,
        blob: &str,
        rights: Rights,
    ) -> Result<Verdict, Refusal> {
        if !rights.read {
            return Err(MISMATCH);
        }
        let range = ["x-ms-range", "range"]
            .iter()
            .find_map(|header| request.headers.get(*header)?.to_str().ok());
        match self.container(name)?.get(blob, range) {
            None => Err((404, "BlobNotFound", "The specified blob does not exist.")),
            Some(Err(objects::Unsatisfiable)) => Err((
                416,
                "InvalidRange",
                "The range specified is invalid for the current size of the resource.",
            )),
            Some(Ok(mut blob)) => {
                let kind = http::HeaderValue::from_static("BlockBlob");
                blob.headers.insert("x-ms-blob-type", kind);
                Ok(blob)
            }
        }
    }

    fn put(
        &mut self,
        request: &Request<'_>,
        name: &str,
        blob: &str,
        rights: Rights,
    ) -> Result<Verdict, Refusal> {
        let header = |name: &str| request.headers.get(name)?.to_str().ok();
        let missing = (
            400,
            "MissingRequiredHeader",
            "An HTTP header that's mandatory for this request is not specified.",
        );
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
        let container = self.containers.get_mut(name).ok_or((
            404,
            "ContainerNotFound",
            "The specified container does not exist.",
        ))?;
        let once = match header(header::IF_NONE_MATCH.as_str()) {
            None => false,
            Some("*") => true,
            Some(_) => return Err((400, "InvalidHeaderValue", "If-None-Match")),
        };
        if !rights.create {
            return Err(MISMATCH);
        }
        let is_there = container.has(blob, request.body);
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
        container.put(blob, request.body);
        Ok(objects::stored(201))
    }

    fn rights(&self, request: &Request<'_>) -> Result<Rights, Refusal> {
        let header = |name: &str| request.headers.get(name)?.to_str().ok();
        let query = objects::read_query(request.uri.query()).ok_or(FAILED)?;
        if query.iter().any(|(name, _)| name == "sig") {
            let permissions = self.signed(&query).ok_or(FAILED)?;
            let has = |permission| permissions.contains(permission);
            return Ok(Rights {
                create: has('c') || has('w'),
                replace: has('w'),
                read: has('r'),
                list: has('l'),
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
            if self.tokens.contains(token) {
                return Ok(Rights {
                    create: true,
                    ..Rights::default()
                });
            }
            if self.scope(request) == Some(STORAGE) {
                let actions = self.principal.as_ref().map(|principal| &principal.actions);
                let may = |action: &str| {
                    let action = format!("blobServices/containers/blobs/{action}");
                    actions.is_some_and(|actions| actions.contains(&action))
                };
                return Ok(Rights {
                    create: may("add/action") || may("write"),
                    replace: may("write"),
                    // There is no action of its own for a listing.
                    read: may("read"),
                    list: may("read"),
                });
            }
            return Err((
                401,
                "InvalidAuthenticationInfo",
                "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.",
            ));
        }
        let date = header("x-ms-date").or_else(|| header(header::DATE.as_str()));
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
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
            read: true,
            list: true,
        })
    }

    /// What a shared access signature allows that stands in a query beside what the operation asks for; none where it was not given,
    /// or is over.
    fn signed(&self, query: &[(String, String)]) -> Option<&str> {
        let (pairs, permissions) =
            self.signatures
                .iter()
                .find_map(|(signature, permissions)| {
                    let pairs = objects::read_query(Some(signature))?;
                    let is_it = pairs.iter().all(|pair| query.contains(pair));
                    is_it.then_some((pairs, permissions))
                })?;
        let end = pairs.iter().find(|(name, _)| name == "se");
        let end = end.and_then(|(_, time)| time.parse::<Timestamp>().ok())?;
        (end > Timestamp::now()).then_some(permissions)
    }
}

/// What of a container is listed.
#[derive(Debug)]
struct Listing {
    prefix: String,
    marker: Option<String>,
    after: Option<String>,
    most: usize,
}

impl Listing {
    /// `page` is after how many blobs a listing goes on.
    fn read(query: Option<&str>, page: Option<usize>) -> Result<Self, Refusal> {
        let invalid = |what| (400, "InvalidQueryParameterValue", what);
        let query = objects::read_query(query).ok_or_else(|| invalid("query"))?;
        let has = |wanted: (&str, &str)| {
            let mut pairs = query.iter();
            pairs.any(|(name, value)| (name.as_str(), value.as_str()) == wanted)
        };
        if !has(("restype", "container")) || !has(("comp", "list")) {
            return Err(invalid("restype and comp"));
        }
        let mut listing = Self {
            prefix: String::new(),
            marker: None,
            after: None,
            most: page.unwrap_or(PAGE),
        };
        for (name, value) in query {
            match name.as_str() {
                "prefix" => listing.prefix = value,
                "marker" => {
                    let after = objects::read_mark(&value);
                    listing.after = Some(after.ok_or_else(|| invalid("marker"))?);
                    listing.marker = Some(value);
                }
                "maxresults" => {
                    let most: usize = value.parse().map_err(|_| invalid("maxresults"))?;
                    if most == 0 {
                        return Err((400, "OutOfRangeQueryParameterValue", "maxresults"));
                    }
                    listing.most = listing.most.min(most);
                }
                "delimiter" | "include" | "startFrom" => {
                    return Err((400, "UnsupportedQueryParameter", "not played here"));
                }
                // Of the operation, or of a shared access signature.
                _ => {}
            }
        }
        // The first place has none of them.
        if page.is_some() && listing.marker.is_none() {
            listing.most = 0;
        }
        Ok(listing)
    }

    /// `old` are blobs of which nothing is known but when they were stored.
    fn of(&self, name: &str, container: &Bucket, old: &[(String, String)]) -> String {
        let (listed, has_more) = container.page(&self.prefix, self.after.as_deref(), self.most);
        let next = match listed.last() {
            Some(last) if has_more => objects::mark(last.key),
            None if has_more => objects::mark(""),
            _ => String::new(),
        };
        let blob = |name: &str, stored: &str, tag: &str, size: usize| {
            format!(
                "<Blob><Name>{}</Name><Properties><Creation-Time>{stored}</Creation-Time><Last-Modified>{stored}</Last-Modified><Etag>{tag}</Etag><Content-Length>{size}</Content-Length><Content-Type>application/octet-stream</Content-Type><BlobType>BlockBlob</BlobType></Properties></Blob>",
                objects::escape(name)
            )
        };
        let of_container = listed.iter().map(|listed| {
            let stored = httpdate::fmt_http_date(listed.stored);
            blob(listed.key, &stored, &listed.tag, listed.size)
        });
        let old = old.iter().map(|(name, stored)| blob(name, stored, "", 0));
        let blobs: String = of_container.chain(old).collect();
        format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"{name}\"><Prefix>{}</Prefix><Marker>{}</Marker><Blobs>{blobs}</Blobs><NextMarker>{next}</NextMarker></EnumerationResults>",
            objects::escape(&self.prefix),
            self.marker.as_deref().unwrap_or_default(),
        )
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
    // Decoded; values of the same name in one line.
    let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in objects::read_query(request.uri.query()).unwrap_or_default() {
        query
            .entry(name.to_ascii_lowercase())
            .or_default()
            .push(value);
    }
    lines.extend(query.into_iter().map(|(name, mut values)| {
        values.sort_unstable();
        format!("{name}:{}", values.join(","))
    }));
    lines.join("\n")
}
