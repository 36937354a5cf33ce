//! Google Cloud Storage by its XML API, the settings of buckets by its JSON API ([`Settings`]), and both servers that give tokens for it (that of everybody and that of a node), as strict
//! as Google documents them.
//!
//! Sources: Google "Using OAuth 2.0 for Server to Server Applications" (assertions and their refusals), RFC 7523, RFC 7515;
//! Cloud Storage "PUT Object", "GET Object", "List Objects" (version 2, pages), "Request preconditions", "HTTP status and error codes
//! for XML", "IAM permissions for XML requests" (an object that is replaced is deleted), "Attribute reference for IAM Conditions"
//! (`objectListPrefix`); "Access VM metadata" (the header without which nothing is told); AIP-4111 (tokens that service accounts sign
//! for themselves).

mod settings;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use http::{Method, header};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Request, Verdict, form,
    jwt::{self, KEY},
    objects::{self, Bucket, LONGEST_KEY},
};

pub use settings::Settings;

/// Path of the server that gives tokens.
const TOKEN_PATH: &str = "/token";

/// Path of the server of a node.
const METADATA_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// How far the clock of who asks may be off, in seconds.
const TOLERANCE: u64 = 300;

/// The longest life of an assertion, in seconds.
const LONGEST: u64 = 3600;

/// Scopes with which objects may be written.
const SCOPES: [&str; 3] = ["read_write", "full_control", "write_only"];

/// Scopes with which they may be read, and what stands before those of the store's own.
const READING: [&str; 3] = ["read_only", "read_write", "full_control"];
const OF_STORAGE: &str = "https://www.googleapis.com/auth/devstorage.";
const OF_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Most objects of a page.
const PAGE: usize = 1000;

/// The scope of a pod's own token.
const READ_WRITE: &str = "https://www.googleapis.com/auth/devstorage.read_write";

/// A project: its buckets and service accounts.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Buckets, by name; 404 otherwise.
    pub buckets: BTreeMap<String, Bucket>,
    /// Service accounts, by e-mail address.
    pub accounts: BTreeMap<String, Account>,
    /// How long tokens are good, in seconds, as is said of them.
    pub lifetime: u64,
    /// What assertions must be for.
    pub audience: String,
    /// The account that the pods of the node have; 404 otherwise.
    pub of_pods: Option<String>,
    /// Settings of buckets, by name; 404 otherwise.
    pub settings: BTreeMap<String, Settings>,
    /// Tokens that are good: whose each is, and for what.
    tokens: BTreeMap<String, (String, String)>,
    given: usize,
}

type Refusal = (u16, &'static str, String);

/// A service account.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Ids of its keys.
    pub keys: BTreeSet<String>,
    /// What it may do with objects.
    pub permissions: BTreeSet<String>,
    /// Below what.
    pub prefix: String,
}

impl Account {
    /// One with this key that may create objects below a prefix: `roles/storage.objectCreator` with a condition.
    pub fn creator(key: &str, prefix: &str) -> Self {
        Self {
            keys: [key.to_owned()].into(),
            permissions: ["storage.objects.create".to_owned()].into(),
            prefix: prefix.to_owned(),
        }
    }
}

impl Account {
    /// One with this key that may list and get objects below a prefix: a custom role with a condition.
    pub fn reader(key: &str, prefix: &str) -> Self {
        let permissions = ["storage.objects.get", "storage.objects.list"];
        Self {
            keys: [key.to_owned()].into(),
            permissions: permissions.map(str::to_owned).into(),
            prefix: prefix.to_owned(),
        }
    }

    /// One with this key that may look after the settings of buckets: a custom role with these permissions.
    pub fn custodian(key: &str, permissions: &[&str]) -> Self {
        Self {
            keys: [key.to_owned()].into(),
            permissions: permissions.iter().map(|one| (*one).to_owned()).collect(),
            prefix: String::new(),
        }
    }
}

/// The key file of an account, as `gcloud` writes it, for the server at this address.
pub fn key_file(url: &str, email: &str, key: &str) -> String {
    json!({
        "type": "service_account",
        "project_id": "katonic",
        "private_key_id": key,
        "private_key": KEY,
        "client_email": email,
        "client_id": "1",
        "auth_uri": format!("{url}/auth"),
        "token_uri": format!("{url}{TOKEN_PATH}"),
        "universe_domain": "googleapis.com",
    })
    .to_string()
}

impl Rules {
    /// Empty buckets and one account.
    pub fn new(buckets: &[&str], email: &str, account: Account) -> Self {
        let named = |name: &&str| ((*name).to_owned(), Bucket::default());
        Self {
            buckets: buckets.iter().map(named).collect(),
            accounts: [(email.to_owned(), account)].into(),
            lifetime: 3599,
            ..Self::default()
        }
    }

    /// How many tokens were given.
    pub fn given(&self) -> usize {
        self.given
    }

    /// Gives the buckets settings, as new ones have them.
    #[must_use]
    pub fn with_settings(mut self) -> Self {
        let named = |name: &String| (name.clone(), Settings::default());
        self.settings = self.buckets.keys().map(named).collect();
        self
    }

    /// Makes all tokens worthless that were given.
    pub fn revoke(&mut self) {
        self.tokens.clear();
    }

    pub(super) fn judge(&mut self, request: &Request<'_>) -> Verdict {
        let path = request.uri.path();
        if path == METADATA_PATH {
            return self.tell(request);
        }
        if path == TOKEN_PATH {
            return match self.exchange(request) {
                Ok(token) => Verdict::refused(200, token.to_string()),
                Err((error, description)) => {
                    let body = json!({"error": error, "error_description": description});
                    Verdict::refused(400, body.to_string())
                }
            };
        }
        if let Some(rest) = path.strip_prefix(settings::PATH) {
            return self.of_settings(request, rest);
        }
        let answer = if *request.method == Method::GET {
            self.read(request)
        } else {
            self.put(request)
        };
        answer.unwrap_or_else(|(status, code, details)| objects::refused(status, code, &details))
    }

    /// Whose token a request shows, and what it is for: one that was given, or one that a service account has signed for itself.
    fn caller(&self, request: &Request<'_>) -> Option<(String, String)> {
        let token = request.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let token = token.strip_prefix("Bearer ")?;
        if let Some(given) = self.tokens.get(token) {
            return Some(given.clone());
        }
        let jwt::Token { head, claims } = jwt::read(token)?;
        let email = claims["iss"].as_str()?;
        let key = head["kid"].as_str()?;
        let is_known = self.accounts.get(email)?.keys.contains(key);
        // Either a scope or an audience.
        let is_scoped = claims["aud"].is_null() && claims["sub"] == email;
        let is_now = is_short_lived(&claims);
        let scope = claims["scope"].as_str()?;
        (is_known && is_scoped && is_now).then(|| (email.to_owned(), scope.to_owned()))
    }

    /// A listing or an object.
    fn read(&self, request: &Request<'_>) -> Result<Verdict, Refusal> {
        let refused = |status, code, message: &str| Err((status, code, message.to_owned()));
        let Some((email, scope)) = self.caller(request) else {
            return refused(401, "AuthenticationRequired", "Authentication required.");
        };
        let may_read = |scope: &str| {
            let of_storage = scope.strip_prefix(OF_STORAGE);
            scope == OF_PLATFORM || of_storage.is_some_and(|right| READING.contains(&right))
        };
        if !scope.split(' ').any(may_read) {
            let message = "Access denied. Provided scope(s) are not authorized";
            return refused(403, "InsufficientScope", message);
        }
        let path = request.uri.path();
        let path = if path[1..].contains('/') {
            path.to_owned()
        } else {
            format!("{path}/")
        };
        let Some((name, key)) = objects::read_path(&path) else {
            return refused(400, "InvalidURI", "Couldn't parse the specified URI.");
        };
        let Some(bucket) = self.buckets.get(&name) else {
            return refused(404, "NoSuchBucket", "The specified bucket does not exist.");
        };
        let account = self.accounts.get(&email).cloned().unwrap_or_default();
        let may = |permission: &str, prefix: &str| {
            if account.permissions.contains(permission) && prefix.starts_with(&account.prefix) {
                return Ok(());
            }
            let details = format!(
                "{email} does not have {permission} access to the Google Cloud Storage object. Permission '{permission}' denied on resource (or it may not exist)."
            );
            Err((403, "AccessDenied", details))
        };
        if key.is_empty() {
            let listing = Listing::read(request.uri.query())?;
            may("storage.objects.list", &listing.prefix)?;
            return Ok(objects::listing(listing.of(&name, bucket)));
        }
        if request.uri.query().is_some() {
            return refused(
                400,
                "InvalidArgument",
                "Only whole objects and ranges here.",
            );
        }
        may("storage.objects.get", &key)?;
        let range = request.headers.get(header::RANGE);
        match bucket.get(&key, range.and_then(|range| range.to_str().ok())) {
            None => refused(404, "NoSuchKey", "The specified key does not exist."),
            Some(Err(objects::Unsatisfiable)) => refused(
                416,
                "InvalidRange",
                "The requested range cannot be satisfied.",
            ),
            Some(Ok(mut object)) => {
                let generation = http::HeaderValue::from_static("1");
                object.headers.insert("x-goog-generation", generation);
                Ok(object)
            }
        }
    }

    /// What the metadata server of a node says.
    fn tell(&mut self, request: &Request<'_>) -> Verdict {
        let flavor = request.headers.get("metadata-flavor");
        if *request.method != Method::GET || flavor.is_none_or(|flavor| flavor != "Google") {
            return Verdict::refused(403, "Missing Metadata-Flavor:Google header.".to_owned());
        }
        match self.of_pods.clone() {
            Some(email) => Verdict::refused(200, self.give(email, READ_WRITE).to_string()),
            None => Verdict::refused(404, "No service account is there.".to_owned()),
        }
    }

    fn of_settings(&mut self, request: &Request<'_>, rest: &str) -> Verdict {
        let token = request.headers.get(header::AUTHORIZATION);
        let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let Some((email, scope)) = token.and_then(|token| self.tokens.get(token)) else {
            return settings::refused(401, "authError", "Invalid Credentials");
        };
        let (name, rest) = match rest.split_once('/') {
            Some((name, _)) => rest.split_at(name.len()),
            None => (rest, ""),
        };
        let account = self.accounts.get(email).cloned().unwrap_or_default();
        let Some(settings) = self.settings.get_mut(name) else {
            return settings::refused(404, "notFound", "The specified bucket does not exist.");
        };
        let caller = settings::Caller {
            email,
            scope,
            permissions: &account.permissions,
        };
        settings.judge(request, rest, &caller)
    }

    fn give(&mut self, email: String, scope: &str) -> Value {
        self.given += 1;
        let token = format!("ya29.of-the-test-{}", self.given);
        self.tokens.insert(token.clone(), (email, scope.to_owned()));
        json!({"access_token": token, "expires_in": self.lifetime, "token_type": "Bearer"})
    }

    fn exchange(&mut self, request: &Request<'_>) -> Result<Value, (&'static str, String)> {
        let form = form::read(request);
        let form = form.ok_or_else(|| ("invalid_request", "Only a form by POST.".to_owned()))?;
        let value = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        if value("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
            return Err(("unsupported_grant_type", String::new()));
        }
        let (email, scope) = self.check(value("assertion"))?;
        Ok(self.give(email, &scope))
    }

    /// Whose assertion it is, and for what.
    fn check(&self, assertion: &str) -> Result<(String, String), (&'static str, String)> {
        let grant = |what: &str| ("invalid_grant", what.to_owned());
        let jwt::Token { head, claims } =
            jwt::read(assertion).ok_or_else(|| grant("Invalid JWT Signature."))?;
        let email = claims["iss"].as_str().unwrap_or_default();
        let account = self.accounts.get(email);
        let account = account.ok_or_else(|| grant("Invalid grant: account not found"))?;
        let key = head["kid"].as_str().unwrap_or_default();
        if head["typ"] != "JWT" || !account.keys.contains(key) {
            return Err(grant("Invalid JWT Signature."));
        }
        if claims["aud"] != self.audience.as_str() {
            return Err(grant("Invalid JWT: audience."));
        }
        if !is_short_lived(&claims) {
            return Err(grant(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.",
            ));
        }
        let scope = claims["scope"].as_str().unwrap_or_default();
        let is_enough = scope.split(' ').any(|scope| {
            let of_storage = scope.strip_prefix(OF_STORAGE);
            of_storage.is_some_and(|right| SCOPES.contains(&right))
        });
        if is_enough {
            Ok((email.to_owned(), scope.to_owned()))
        } else {
            Err(("invalid_scope", "Invalid OAuth scope.".to_owned()))
        }
    }

    fn put(&mut self, request: &Request<'_>) -> Result<Verdict, Refusal> {
        let refused = |status, code, message: &str| Err((status, code, message.to_owned()));
        let header = |name: &str| request.headers.get(name)?.to_str().ok();
        let Some((email, _)) = self.caller(request) else {
            return refused(401, "AuthenticationRequired", "Authentication required.");
        };
        let Some((name, key)) = objects::read_path(request.uri.path()) else {
            return refused(400, "InvalidURI", "Couldn't parse the specified URI.");
        };
        if *request.method != Method::PUT {
            return refused(405, "MethodNotAllowed", "Only PUT here.");
        }
        if key.is_empty() || key.len() > LONGEST_KEY || request.uri.query().is_some() {
            return refused(400, "InvalidArgument", "Not the name of an object.");
        }
        if header(header::CONTENT_LENGTH.as_str()).is_none() {
            return refused(411, "MissingContentLength", "Say how long it is.");
        }
        let Some(bucket) = self.buckets.get_mut(&name) else {
            return refused(404, "NoSuchBucket", "The specified bucket does not exist.");
        };
        let account = self.accounts.get(&email).cloned().unwrap_or_default();
        let may = |permission: &str| {
            account.permissions.contains(permission) && key.starts_with(&account.prefix)
        };
        let denied = |permission: &str| {
            let details = format!(
                "{email} does not have {permission} access to the Google Cloud Storage object. Permission '{permission}' denied on resource (or it may not exist)."
            );
            Err((403, "AccessDenied", details))
        };
        if !may("storage.objects.create") {
            return denied("storage.objects.create");
        }
        let generation = match header("x-goog-if-generation-match").map(str::parse::<u64>) {
            None => None,
            Some(Ok(generation)) => Some(generation),
            Some(Err(_)) => return refused(400, "InvalidArgument", "Not a generation."),
        };
        let is_there = bucket.has(&key, request.body);
        match generation {
            Some(0) if is_there => {
                let message = "At least one of the pre-conditions you specified did not hold.";
                return refused(412, "PreconditionFailed", message);
            }
            Some(0) | None => {}
            Some(_) => return refused(412, "PreconditionFailed", "No such generation."),
        }
        if is_there && !may("storage.objects.delete") {
            return denied("storage.objects.delete");
        }
        bucket.put(&key, request.body);
        Ok(objects::stored(200))
    }
}

/// Whether a token is good now, and for no longer than Google allows.
fn is_short_lived(claims: &Value) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let time = |name: &str| claims[name].as_u64().unwrap_or_default();
    let (issued, end) = (time("iat"), time("exp"));
    issued <= now + TOLERANCE && end + TOLERANCE >= now && end <= issued + LONGEST
}

/// What of a bucket is listed.
#[derive(Debug)]
struct Listing {
    prefix: String,
    after: Option<String>,
    most: usize,
}

impl Listing {
    fn read(query: Option<&str>) -> Result<Self, Refusal> {
        let invalid = |what: &str| (400, "InvalidArgument", what.to_owned());
        let query = objects::read_query(query).ok_or_else(|| invalid("query"))?;
        let mut listing = Self {
            prefix: String::new(),
            after: None,
            most: PAGE,
        };
        let mut version = None;
        for (name, value) in query {
            match name.as_str() {
                "list-type" => version = Some(value),
                "prefix" => listing.prefix = value,
                "continuation-token" => {
                    let after = objects::read_mark(&value);
                    listing.after = Some(after.ok_or_else(|| invalid("continuation-token"))?);
                }
                "max-keys" => {
                    let most: usize = value.parse().map_err(|_| invalid("max-keys"))?;
                    listing.most = most.min(PAGE);
                }
                other => return Err(invalid(other)),
            }
        }
        if version.as_deref() == Some("2") {
            Ok(listing)
        } else {
            Err(invalid("only version 2 of listings here"))
        }
    }

    fn of(&self, name: &str, bucket: &Bucket) -> String {
        let (listed, has_more) = bucket.page(&self.prefix, self.after.as_deref(), self.most);
        let next = listed.last().filter(|_| has_more);
        let next = next.map(|last| {
            let mark = objects::mark(last.key);
            format!("<NextContinuationToken>{mark}</NextContinuationToken>")
        });
        let contents: Vec<String> = listed
            .iter()
            .map(|object| {
                let stored = Timestamp::try_from(object.stored).unwrap_or_default();
                format!(
                    "<Contents><Key>{}</Key><Generation>1</Generation><MetaGeneration>1</MetaGeneration><LastModified>{stored:.3}</LastModified><ETag>\"{}\"</ETag><Size>{}</Size></Contents>",
                    objects::escape(object.key),
                    object.tag,
                    object.size
                )
            })
            .collect();
        format!(
            "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'><Name>{name}</Name><Prefix>{}</Prefix><KeyCount>{}</KeyCount><MaxKeys>{}</MaxKeys><IsTruncated>{has_more}</IsTruncated>{}{}</ListBucketResult>",
            objects::escape(&self.prefix),
            listed.len(),
            self.most,
            next.unwrap_or_default(),
            contents.concat(),
        )
    }
}
