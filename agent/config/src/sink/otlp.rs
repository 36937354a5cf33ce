//! OpenTelemetry Protocol.

use serde::{Deserialize, Serialize};

use crate::{Connection, Endpoint, Header};

/// OTLP over HTTP (OpenTelemetry: "OTLP Specification").
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Otlp {
    /// Base address; `/v1/logs` is appended.
    pub endpoint: Endpoint,
    /// How requests are encoded.
    #[serde(default)]
    pub encoding: OtlpEncoding,
    /// Headers of each request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// How it is reached.
    #[serde(default)]
    pub connection: Connection,
}

/// Encoding of a request.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum OtlpEncoding {
    /// Binary protobuf.
    #[default]
    Protobuf,
    /// JSON.
    Json,
}
