//! Where logs go, as a user writes it.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::SecretKeyRef;

/// A destination. Each sink of a policy gets every line, and none of them waits for another.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.splunk), has(self.http)].filter(set, set).size() == 1",
    "a sink has exactly one kind: set one of splunk, http, and move a second kind into a sink of its own"
))]
pub struct Sink {
    /// Name of the sink, unique within the policy. Delivery goes on where it was as long as the name stays.
    /// Example: `splunk`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = (r"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", "name is not a sink's name: use lower-case letters, digits and `-`, for example splunk-eu"))]
    pub name: String,
    /// Splunk HTTP Event Collector (HEC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splunk: Option<SplunkSink>,
    /// Any HTTP server that takes JSON lines: one object a line, gzip, answered with 2xx when it has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSink>,
}

/// Splunk HTTP Event Collector (HEC), event endpoint.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
// On the object, because the API server's answer repeats the value of a field, and an address may hold a password.
#[x_kube(
    validation = ("self.endpoint.startsWith('https://') || self.endpoint.startsWith('http://')", "endpoint must begin with https:// or http://, for example https://hec.example.com:8088"),
    validation = ("isURL(self.endpoint) && url(self.endpoint).getHostname() != '' && (url(self.endpoint).getPort() == '' || (size(url(self.endpoint).getPort()) <= 5 && int(url(self.endpoint).getPort()) >= 1 && int(url(self.endpoint).getPort()) <= 65535)) && self.endpoint.matches('^[!-~]+$')", "endpoint is not a URL: write for example https://hec.example.com:8088"),
    validation = ("!self.endpoint.contains('?') && !self.endpoint.contains('#')", "endpoint takes no query and no fragment: remove what stands behind ? or #"),
    validation = ("!has(self.tls) || self.endpoint.startsWith('https://')", "tls needs an endpoint that begins with https://"),
    validation = ("!self.endpoint.matches('^[a-zA-Z]*:?//[^/?#]*@')", "endpoint must not hold credentials: remove what stands before @ and name a Secret in tokenSecretRef")
)]
pub struct SplunkSink {
    /// Address of the collector without a path: `/services/collector/event` is appended.
    /// `http://` is allowed, sends the token unencrypted and is warned about. Example: `https://hec.example.com:8088`.
    #[schemars(length(min = 1, max = 2048))]
    pub endpoint: String,
    /// The HEC token.
    pub token_secret_ref: SecretKeyRef,
    /// Index to write to; the token must allow it. Default: the token's own. Example: `platform`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = (r"self.matches('^[a-z0-9][a-z0-9_-]*$') && !self.contains('kvstore')", "index is not a Splunk index: use lower-case letters, digits, `_` and `-`, beginning with a letter or digit, for example platform"))]
    pub index: Option<String>,
    /// Splunk's `source` of each event. Default: the container's log, `<namespace>/<pod>/<container>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub source: Option<String>,
    /// Splunk's `sourcetype` of each event. Default: `kube:container:<container>`. Example: `_json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub sourcetype: Option<String>,
    /// How the server's certificate is checked. Default: against the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// An HTTP server that takes JSON lines.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
// On the object, because the API server's answer repeats the value of a field, and an address may hold a password.
#[x_kube(
    validation = ("self.url.startsWith('https://') || self.url.startsWith('http://')", "url must begin with https:// or http://, for example https://logs.example.com/ingest"),
    validation = ("isURL(self.url) && url(self.url).getHostname() != '' && (url(self.url).getPort() == '' || (size(url(self.url).getPort()) <= 5 && int(url(self.url).getPort()) >= 1 && int(url(self.url).getPort()) <= 65535)) && self.url.matches('^[!-~]+$')", "url is not a URL: write for example https://logs.example.com/ingest"),
    validation = ("!self.url.contains('#')", "url takes no fragment: remove what stands behind #"),
    validation = ("!has(self.tls) || self.url.startsWith('https://')", "tls needs a url that begins with https://"),
    validation = ("!self.url.matches('^[a-zA-Z]*:?//[^/?#]*@')", "url must not hold credentials: remove what stands before @ and name a Secret in headers[].valueSecretRef")
)]
pub struct HttpSink {
    /// Address that each batch is posted to, as it is. `http://` is allowed, sends headers and lines unencrypted
    /// and is warned about. Example: `https://logs.example.com/ingest`.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// Headers of each request. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = ("self.all(x, self.exists_one(y, y.name.lowerAscii() == x.name.lowerAscii()))", "a header is named twice: upper and lower case do not differ in header names")
    )]
    pub headers: Option<Vec<HttpHeader>>,
    /// How the server's certificate is checked. Default: against the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// A header of each request.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.value) != has(self.valueSecretRef)", "a header has exactly one of value and valueSecretRef"),
    validation = ("!(self.name.lowerAscii() in ['host', 'content-length', 'content-encoding', 'content-type', 'transfer-encoding', 'connection', 'upgrade', 'te'])", "this header is set by the agent: remove it"),
    validation = ("!has(self.value) || !(self.name.lowerAscii() in ['authorization', 'proxy-authorization', 'cookie'])", "this header is a credential: put its value into a Secret and name that in valueSecretRef")
)]
pub struct HttpHeader {
    /// Name of the header. Example: `Authorization`.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = (r#"self.matches("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")"#, "name is not the name of an HTTP header: use letters, digits and `-`, for example X-Tenant"))]
    pub name: String,
    /// Value of the header, where it is no secret. Visible ASCII characters and blanks. Example: `team-a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = (r"self.matches('^[!-~]([ -~]*[!-~])?$')", "value is not the value of an HTTP header: use visible ASCII characters, blanks only between them"))]
    pub value: Option<String>,
    /// The whole value of the header from a Secret, for example `Bearer abc…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_secret_ref: Option<SecretKeyRef>,
}

/// How a server's certificate is checked.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!(has(self.caSecretRef) && has(self.insecureSkipVerify) && self.insecureSkipVerify)", "caSecretRef has no effect with insecureSkipVerify: remove one of them"))]
pub struct Tls {
    /// Certificates (PEM) of the authorities to trust, instead of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// Accept any certificate: whoever stands between can read the token. For trials only. Default: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure_skip_verify: Option<bool>,
}
