//! How a sink is reached: TLS, proxy, compression, time; and the headers that a user may set.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::{CredentialKey, Endpoint, HostName};

/// How an HTTP sink is reached.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Connection {
    /// How both sides prove who they are.
    #[serde(default, skip_serializing_if = "Tls::is_default")]
    pub tls: Tls,
    /// The proxy; none: that of the agent's environment, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// How bodies are compressed.
    #[serde(default, skip_serializing_if = "Compression::is_gzip")]
    pub compression: Compression,
    /// How long an answer may take, in milliseconds; none: a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<NonZeroU32>,
}

/// Content coding of bodies (RFC 9110 §8.4).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Compression {
    /// gzip (RFC 1952).
    #[default]
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// None.
    None,
}

impl Compression {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    fn is_gzip(&self) -> bool {
        *self == Self::Gzip
    }
}

/// An HTTP proxy: `CONNECT` for `https`, absolute addresses for `http` (RFC 9110 §9.3.6, RFC 9112 §3.2.2).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Proxy {
    /// Its address: `http`, because what is confidential is encrypted inside.
    pub url: Endpoint,
    /// What it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAuth>,
}

/// A name and a password (RFC 7617).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicAuth {
    /// Name, without `:`.
    pub username: String,
    /// Password.
    pub password: CredentialKey,
}

/// How both sides of a connection prove who they are.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// PEM certificates of the authorities to trust instead of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CredentialKey>,
    /// Shown to a server that asks who we are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// Name that the server's certificate must have; none: that of its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<HostName>,
    /// Accept any certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
}

/// A client's certificate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientCertificate {
    /// PEM: the certificate and those between it and its authority.
    pub certificate: CredentialKey,
    /// PEM: its key.
    pub private_key: CredentialKey,
}

impl Tls {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn credentials(&self) -> impl Iterator<Item = &CredentialKey> {
        let ours = self.client_certificate.iter();
        self.ca
            .iter()
            .chain(ours.flat_map(|own| [&own.certificate, &own.private_key]))
    }
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

impl Header {
    pub(crate) fn credential(&self) -> Option<&CredentialKey> {
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
}
