//! The agent of EKS Pod Identity on a node, as strict as AWS documents it ("Container credential provider").

use http::{Method, header};
use serde_json::Value;

use super::{Request, Verdict};

/// Where it answers.
pub const PATH: &str = "/v1/credentials";

/// The agent of a node.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// What is given, by token of a service account.
    pub given: std::collections::BTreeMap<String, Value>,
}

impl Rules {
    pub(super) fn judge(&self, request: &Request<'_>) -> Verdict {
        if *request.method != Method::GET || request.uri.path() != PATH {
            return Verdict::refused(404, "no such path".to_owned());
        }
        let token = request.headers.get(header::AUTHORIZATION);
        let token = token.and_then(|value| value.to_str().ok());
        match token.and_then(|token| self.given.get(token)) {
            Some(credentials) => Verdict::refused(200, credentials.to_string()),
            None => Verdict::refused(
                400,
                "(AccessDeniedException): Unauthorized Exception! EKS does not have permissions to assume the associated role.".to_owned(),
            ),
        }
    }
}
