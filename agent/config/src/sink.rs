//! Where logs go: one type for each kind of sink.

use serde::{Deserialize, Serialize};

use crate::{CredentialKey, Endpoint};

/// A destination of a policy.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sink {
    /// Name, unique within its policy.
    pub name: String,
    /// What is there.
    pub target: Target,
}

/// The kinds of sinks.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// Splunk HTTP Event Collector.
    Splunk(Splunk),
    /// Any HTTP server that takes JSON lines.
    Http(Http),
}

/// Splunk HTTP Event Collector, event endpoint (Splunk: "Format events for HTTP Event Collector").
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Splunk {
    /// Base address; `/services/collector/event` is appended.
    pub endpoint: Endpoint,
    /// The HEC token.
    pub token: CredentialKey,
    /// Index; none: the token's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// Source; none: the path of the log file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Sourcetype; none: `kube:container:<container>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sourcetype: Option<String>,
    /// How the server proves who it is.
    #[serde(default)]
    pub tls: Tls,
}

/// A server that takes `POST` with one JSON object a line and answers 2xx when it has them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Http {
    /// The address, used as it is.
    pub url: Endpoint,
    /// Headers of each request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// How the server proves who it is.
    #[serde(default)]
    pub tls: Tls,
}

/// A header of each request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    /// Name.
    pub name: HeaderName,
    /// Value.
    pub value: HeaderValue,
}

/// A literal, or the name of a credential: two types, so that text can never be taken for a reference.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HeaderValue {
    /// The value itself: visible ASCII.
    Literal(String),
    /// The value is this credential.
    Credential(CredentialKey),
}

/// How the server's certificate is checked.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// PEM certificates of the authorities to trust instead of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CredentialKey>,
    /// Accept any certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
}

/// The name of a header that a user may set: not one that frames the request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderName(http::HeaderName);

impl HeaderName {
    /// The name as the `http` crate has it.
    pub fn name(&self) -> &http::HeaderName {
        &self.0
    }
}

/// Headers that the agent sets itself, because they say how the body is framed and encoded (RFC 9110, RFC 9112).
const FRAMING: [http::HeaderName; 7] = [
    http::header::HOST,
    http::header::CONTENT_LENGTH,
    http::header::CONTENT_ENCODING,
    http::header::TRANSFER_ENCODING,
    http::header::CONNECTION,
    http::header::UPGRADE,
    http::header::TE,
];

impl TryFrom<String> for HeaderName {
    type Error = InvalidHeader;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        match http::HeaderName::from_bytes(name.as_bytes()) {
            Ok(parsed) if !FRAMING.contains(&parsed) => Ok(Self(parsed)),
            Ok(_) => Err(InvalidHeader::Framing(name)),
            Err(_) => Err(InvalidHeader::Name(name)),
        }
    }
}

impl From<HeaderName> for String {
    fn from(name: HeaderName) -> Self {
        name.0.as_str().to_owned()
    }
}

impl Sink {
    /// Names of the credentials that this sink uses, each once and in order.
    pub fn credentials(&self) -> Vec<&CredentialKey> {
        let (tls, mut keys) = match &self.target {
            Target::Splunk(splunk) => (&splunk.tls, vec![&splunk.token]),
            Target::Http(http) => (
                &http.tls,
                http.headers.iter().filter_map(Header::credential).collect(),
            ),
        };
        keys.extend(&tls.ca);
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

impl Header {
    fn credential(&self) -> Option<&CredentialKey> {
        match &self.value {
            HeaderValue::Credential(key) => Some(key),
            HeaderValue::Literal(_) => None,
        }
    }
}

/// Why a text is not the name of a header.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidHeader {
    /// Not a token of RFC 9110.
    #[error("`{0}` is not the name of an HTTP header")]
    Name(String),
    /// Set by the agent.
    #[error("the header `{0}` is set by the agent: remove it")]
    Framing(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_frame_the_request_are_refused() {
        let parse = |name: &str| HeaderName::try_from(name.to_owned());
        assert!(parse("Authorization").is_ok());
        assert_eq!(
            parse("Content-Length"),
            Err(InvalidHeader::Framing("Content-Length".into()))
        );
        assert_eq!(
            parse("X: y\r\nZ"),
            Err(InvalidHeader::Name("X: y\r\nZ".into()))
        );
    }

    #[test]
    fn a_sink_names_each_credential_once() {
        let key = |name: &str| CredentialKey::try_from(name.to_owned()).unwrap();
        let sink = Sink {
            name: "s".into(),
            target: Target::Splunk(Splunk {
                endpoint: Endpoint::try_from("https://hec.example.com".to_owned()).unwrap(),
                token: key("b_token"),
                index: None,
                source: None,
                sourcetype: None,
                tls: Tls {
                    ca: Some(key("a_ca")),
                    insecure_skip_verify: false,
                },
            }),
        };
        assert_eq!(sink.credentials(), [&key("a_ca"), &key("b_token")]);
    }
}
