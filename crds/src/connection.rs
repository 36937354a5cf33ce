//! How a server is reached: TLS, proxy, time; compression; and what is sent to it besides records.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    CertificateSecretRef, SecretKeyRef,
    rule::{Address, Period},
};

const PROXY: Address = Address {
    field: "proxyURL",
    optional: true,
    example: "http://proxy.example.com:3128",
    credential: "proxyBasicAuth",
};

/// How long an answer may take.
pub const TIMEOUT: Period = Period {
    least: "1s",
    most: "5m",
};

/// What all sinks share that are reached by HTTP. Its fields stand among those of the sink.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = PROXY.has_no_credentials(),
    validation = PROXY.is_proxy(),
    validation = PROXY.is_url(),
    validation = ("!has(self.proxyBasicAuth) || has(self.proxyURL)", "proxyBasicAuth needs a proxyURL: add it, or remove proxyBasicAuth")
)]
pub struct HttpConnection {
    /// How both sides prove who they are. Default: the server's certificate is checked against the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Proxy between the pods and the server: `CONNECT` for `https`, so it sees no line of them. Default: the proxy of the
    /// installation (`logging.agent.proxy`), if it names one. Example: `http://proxy.example.com:3128`.
    #[serde(default, rename = "proxyURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub proxy_url: Option<String>,
    /// Name and password that the proxy asks for. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_basic_auth: Option<BasicAuth>,
    /// How long the server may take to answer a request before it is sent again, 1s to 5m. Default: `1m`.
    /// Example: `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 24))]
    #[x_kube(validation = TIMEOUT.rule())]
    pub timeout: Option<String>,
}

/// How requests are compressed, where the vendor takes gzip.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum GzipOrNone {
    /// RFC 1952.
    Gzip,
    /// Not at all.
    None,
}

/// How requests are compressed, where that is up to the server.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Compression {
    /// RFC 1952; nearly every server takes it.
    Gzip,
    /// RFC 8878; smaller for the same work, and not every server takes it.
    Zstd,
    /// Not at all.
    None,
}

/// A name and a password (RFC 7617).
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (r"self.username.matches('^[^:\\x00-\\x1f\\x7f]+$')", "username takes no colon and no control characters: write the name alone, the password belongs into passwordSecretRef"))]
pub struct BasicAuth {
    /// The name, without a colon. Example: `logs`.
    #[schemars(length(min = 1, max = 255))]
    pub username: String,
    /// The password.
    pub password_secret_ref: SecretKeyRef,
}

/// How both sides of a connection prove who they are.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!(has(self.caSecretRef) && has(self.insecureSkipVerify) && self.insecureSkipVerify)", "caSecretRef has no effect with insecureSkipVerify: remove one of them"))]
pub struct Tls {
    /// Certificates (PEM) of the authorities to trust, instead of the public ones. Default: the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// Certificate to show to a server that asks who the agent is (mutual TLS): a Secret with the keys `tls.crt` and
    /// `tls.key`, as cert-manager and `kubectl create secret tls` write it. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_secret_ref: Option<CertificateSecretRef>,
    /// Name that the server's certificate must have. Default: the host of its address. Example: `siem.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (r"isIP(self) || self.matches('^[a-zA-Z0-9_]([-a-zA-Z0-9_]*[a-zA-Z0-9_])?(\\.[a-zA-Z0-9_]([-a-zA-Z0-9_]*[a-zA-Z0-9_])?)*$')", "is not the name of a server: write it without scheme and port, for example siem.example.com"))]
    pub server_name: Option<String>,
    /// Accept any certificate: whoever stands between can read credentials and lines. For trials only; the status warns.
    /// Default: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure_skip_verify: Option<bool>,
}

/// A header of each request.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.value) != has(self.valueSecretRef)", "a header has exactly one of value and valueSecretRef"),
    validation = ("!(self.name.lowerAscii() in ['host', 'content-length', 'content-encoding', 'content-type', 'transfer-encoding', 'connection', 'upgrade', 'te'])", "this header is set by the agent: remove it"),
    validation = ("!has(self.value) || !(self.name.lowerAscii() in ['authorization', 'proxy-authorization', 'cookie', 'api-key', 'x-api-key'])", "this header is a credential: put its value into a Secret and name that in valueSecretRef"),
    validation = (r"!has(self.value) || self.value.matches('^[!-~]([ -~]*[!-~])?$')", "value is not the value of an HTTP header: use visible ASCII characters, blanks only between them")
)]
pub struct HttpHeader {
    /// Name of the header. Example: `X-Scope-OrgID`.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = (r#"self.matches("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")"#, "name is not the name of an HTTP header: use letters, digits and `-`, for example X-Tenant"))]
    pub name: String,
    /// Value of the header, where it is no secret. Visible ASCII characters and blanks. Example: `team-a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub value: Option<String>,
    /// The whole value of the header from a Secret, for example `Bearer abc…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_secret_ref: Option<SecretKeyRef>,
}

/// No header is named twice: upper and lower case do not differ.
pub(crate) const ONE_OF_EACH: (&str, &str) = (
    "self.all(x, self.exists_one(y, y.name.lowerAscii() == x.name.lowerAscii()))",
    "a header is named twice: upper and lower case do not differ in header names",
);
