//! Any HTTP server that takes JSON.

use serde::{Deserialize, Serialize};

use crate::{BasicAuth, Connection, CredentialKey, Endpoint, Header};

/// A server that takes JSON and answers 2xx when it has it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Http {
    /// The address, used as it is.
    pub url: Endpoint,
    /// Method.
    #[serde(default)]
    pub method: HttpMethod,
    /// Form of the body.
    #[serde(default)]
    pub format: JsonFormat,
    /// Headers of each request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// How the agent proves who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// How it is reached.
    #[serde(default)]
    pub connection: Connection,
}

/// Methods that carry a body.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HttpMethod {
    /// POST.
    #[default]
    Post,
    /// PUT.
    Put,
}

/// How records stand in a body.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum JsonFormat {
    /// One object a line.
    #[default]
    Lines,
    /// One array of objects.
    Array,
}

/// The `Authorization` header.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Authorization {
    /// Name and password (RFC 7617).
    Basic(BasicAuth),
    /// A token (RFC 6750).
    Bearer(CredentialKey),
}

impl Authorization {
    pub(super) fn credential(&self) -> &CredentialKey {
        match self {
            Self::Basic(basic) => &basic.password,
            Self::Bearer(token) => token,
        }
    }
}

impl Http {
    /// The server at this address, everything else by default.
    pub fn to(url: Endpoint) -> Self {
        Self {
            url,
            method: HttpMethod::default(),
            format: JsonFormat::default(),
            headers: Vec::new(),
            authorization: None,
            connection: Connection::default(),
        }
    }
}
