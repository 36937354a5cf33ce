//! Any HTTP server that takes JSON.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    BasicAuth, Compression, HttpConnection, HttpHeader, SecretKeyRef, connection::ONE_OF_EACH,
    rule::Address,
};

const URL: Address = Address {
    field: "url",
    optional: false,
    example: "https://logs.example.com/ingest",
    credential: "basicAuth, bearerTokenSecretRef or headers[].valueSecretRef",
};

/// An HTTP server that takes JSON.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = URL.has_scheme(),
    validation = URL.is_url(),
    validation = URL.has_no_fragment(),
    validation = URL.has_tls(),
    validation = URL.has_no_credentials(),
    validation = (
        "[has(self.basicAuth), has(self.bearerTokenSecretRef), has(self.headers) && self.headers.exists(h, h.name.lowerAscii() == 'authorization')].filter(set, set).size() <= 1",
        "basicAuth, bearerTokenSecretRef and a header Authorization say the same: keep one of them"
    )
)]
pub struct HttpSink {
    /// Address that each batch is sent to, as it is. `http://` is allowed, sends credentials and lines unencrypted
    /// and is warned about. Example: `https://logs.example.com/ingest`.
    #[schemars(length(min = 1, max = 1024))]
    pub url: String,
    /// `POST` or `PUT`. Default: `POST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HttpMethod")]
    pub method: Option<HttpMethod>,
    /// How records stand in a request: `JSONLines`, one object a line (`application/x-ndjson`), or `JSONArray`, one array
    /// of objects (`application/json`). Default: `JSONLines`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "JsonFormat")]
    pub format: Option<JsonFormat>,
    /// Headers of each request. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]), validation = ONE_OF_EACH)]
    pub headers: Option<Vec<HttpHeader>>,
    /// Name and password that the server asks for. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// Token for `Authorization: Bearer <token>`; the Secret holds the token alone. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_secret_ref: Option<SecretKeyRef>,
    /// How requests are compressed: `Gzip`, `Zstd` (smaller for the same work, where the server takes it) or `None`.
    /// Default: `Gzip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Compression")]
    pub compression: Option<Compression>,
    #[expect(missing_docs, reason = "its fields stand here, not itself")]
    #[serde(flatten)]
    pub connection: HttpConnection,
}

impl HttpSink {
    /// The server at this address, everything else by default.
    pub fn to(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            method: None,
            format: None,
            headers: None,
            basic_auth: None,
            bearer_token_secret_ref: None,
            compression: None,
            connection: HttpConnection::default(),
        }
    }
}

/// Methods that carry a body.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum HttpMethod {
    /// POST.
    #[serde(rename = "POST")]
    Post,
    /// PUT.
    #[serde(rename = "PUT")]
    Put,
}

/// How records stand in a request.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum JsonFormat {
    /// One object a line.
    #[serde(rename = "JSONLines")]
    Lines,
    /// One array of objects.
    #[serde(rename = "JSONArray")]
    Array,
}
