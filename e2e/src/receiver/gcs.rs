//! Google Cloud Storage by its XML API, the settings of buckets by its JSON API ([`Settings`]), and both servers that give tokens for it (that of everybody and that of a node), as strict
//! as Google documents them.
//!
//! Sources: Google "Using OAuth 2.0 for Server to Server Applications" (assertions and their refusals), RFC 7523, RFC 7515;
//! Cloud Storage "PUT Object", "Request preconditions", "HTTP status and error codes for XML", "IAM permissions for XML
//! requests" (an object that is replaced is deleted); "Access VM metadata" (the header without which nothing is told).

mod settings;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use http::{Method, header};
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
        self.put(request)
            .unwrap_or_else(|(status, code, details)| objects::refused(status, code, &details))
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
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let time = |name: &str| claims[name].as_u64().unwrap_or_default();
        let (issued, end) = (time("iat"), time("exp"));
        if issued > now + TOLERANCE || end + TOLERANCE < now || end > issued + LONGEST {
            return Err(grant(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.",
            ));
        }
        let scope = claims["scope"].as_str().unwrap_or_default();
        let is_enough = scope.split(' ').any(|scope| {
            let of_storage = scope.strip_prefix("https://www.googleapis.com/auth/devstorage.");
            of_storage.is_some_and(|right| SCOPES.contains(&right))
        });
        if is_enough {
            Ok((email.to_owned(), scope.to_owned()))
        } else {
            Err(("invalid_scope", "Invalid OAuth scope.".to_owned()))
        }
    }

    fn put(&mut self, request: &Request<'_>) -> Result<Verdict, (u16, &'static str, String)> {
        let refused = |status, code, message: &str| Err((status, code, message.to_owned()));
        let header = |name: &str| request.headers.get(name)?.to_str().ok();
        let token = header(header::AUTHORIZATION.as_str());
        let token = token.and_then(|value| value.strip_prefix("Bearer "));
        let Some((email, _)) = token.and_then(|token| self.tokens.get(token)) else {
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
        let account = self.accounts.get(email).cloned().unwrap_or_default();
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
