//! The issuer of the tokens of service accounts, as a cluster publishes it (Kubernetes: "Service account issuer discovery"; OpenID
//! Connect Discovery 1.0). It gives nothing but its public key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::{Request, Verdict, jwt};

/// Id of its key.
const KEY_ID: &str = "of-the-cluster";

/// Where it says what else it has.
pub const DISCOVERY: &str = "/.well-known/openid-configuration";

/// An issuer.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Its address.
    pub issuer: String,
}

impl Rules {
    pub(super) fn judge(&self, request: &Request<'_>) -> Verdict {
        let answer = match (request.method, request.uri.path()) {
            (&Method::GET, DISCOVERY) => Some(self.discovery()),
            (&Method::GET, "/keys") => jwt::public_keys(KEY_ID).ok(),
            _ => None,
        };
        match answer {
            Some(answer) => Verdict::refused(200, answer.to_string()),
            None => Verdict::refused(404, String::new()),
        }
    }

    fn discovery(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}/keys", self.issuer),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })
    }
}

/// A token of a service account, as the kubelet mounts it, for so long; with further claims.
pub fn token(issuer: &str, audience: &str, life: Duration, further: &Value) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut claims = json!({
        "iss": issuer,
        "sub": "system:serviceaccount:katonic-compute:default",
        "aud": [audience],
        "iat": now,
        "exp": now + life.as_secs(),
    });
    for (name, value) in further.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    jwt::sign(KEY_ID, &claims)
}
