//! Addresses of sinks, checked once.

use std::{fmt, net::IpAddr};

use http::Uri;
use serde::{Deserialize, Serialize};

/// An absolute `http` or `https` address without credentials in it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint(Uri);

impl Endpoint {
    /// The address.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether what is sent there can be read on the way.
    pub fn is_plain_text(&self) -> bool {
        self.0.scheme_str() == Some("http")
    }

    /// The same server with another path: for vendors whose path is fixed by their protocol.
    ///
    /// A path that the address already has is kept in front of `path`, so a server behind a reverse proxy works.
    ///
    /// # Errors
    /// When the result is not an address.
    pub fn join(&self, path: &str) -> Result<Uri, InvalidEndpoint> {
        let base = self.0.path().trim_end_matches('/');
        let mut parts = self.0.clone().into_parts();
        let joined = format!("{base}{path}");
        parts.path_and_query = Some(joined.parse().map_err(|_| InvalidEndpoint::Malformed)?);
        Uri::from_parts(parts).map_err(|_| InvalidEndpoint::Malformed)
    }
}

impl TryFrom<String> for Endpoint {
    type Error = InvalidEndpoint;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // Before parsing, so that no error ever repeats a password.
        let authority = text
            .split_once("://")
            .map_or(text.as_str(), |(_, rest)| rest);
        let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(InvalidEndpoint::Credentials);
        }
        if text.contains('#') {
            return Err(InvalidEndpoint::Malformed);
        }
        let uri: Uri = text.parse().map_err(|_| InvalidEndpoint::Malformed)?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            _ => return Err(InvalidEndpoint::Scheme),
        }
        // `port_u16` is silent about a port that is none; the default one would then be used.
        let has_port = authority
            .rsplit_once(']')
            .map_or(authority, |(_, rest)| rest)
            .contains(':');
        let port_is_good = if has_port {
            uri.port_u16().is_some_and(|port| port > 0)
        } else {
            true
        };
        match uri.host() {
            Some(host) if !host.is_empty() && port_is_good => Ok(Self(uri)),
            _ => Err(InvalidEndpoint::Malformed),
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.0.to_string()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The name or address of a host, without scheme, port and brackets.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The name or address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HostName {
    type Error = InvalidHostName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_address = text.parse::<IpAddr>().is_ok();
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let name = text.strip_suffix('.').unwrap_or(&text);
        if is_address || (name.len() <= 253 && name.split('.').all(is_label)) {
            Ok(Self(text))
        } else {
            Err(InvalidHostName(text))
        }
    }
}

impl From<HostName> for String {
    fn from(host: HostName) -> Self {
        host.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A text that names no host.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a host: write its name or address, without a scheme or port")]
pub struct InvalidHostName(String);

/// Why a text is not the address of a sink. Repeats nothing of it: it may hold a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// `user:password@host`.
    #[error(
        "an address must not hold credentials: remove what stands before `@` and name a Secret instead"
    )]
    Credentials,
    /// Not `http` or `https`.
    #[error("an address must begin with `https://` or `http://`")]
    Scheme,
    /// No URL.
    #[error("an address must be an absolute URL such as `https://hec.example.com:8088`")]
    Malformed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Endpoint, InvalidEndpoint> {
        Endpoint::try_from(text.to_owned())
    }

    #[test]
    fn credentials_are_refused_and_never_repeated() {
        let error = parse("https://user:hunter2@hec.example.com").unwrap_err();
        assert_eq!(error, InvalidEndpoint::Credentials);
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_nothing_more() {
        for host in [
            "siem.example",
            "siem.example.",
            "10.0.0.1",
            "fd00::1",
            "rsyslog_1",
        ] {
            assert!(HostName::try_from(host.to_owned()).is_ok(), "{host:?}");
        }
        for host in [
            "",
            "a:514",
            "tcp://a",
            "[fd00::1]",
            "a b",
            "a..b",
            "-a",
            "a/b",
        ] {
            assert!(HostName::try_from(host.to_owned()).is_err(), "{host:?}");
        }
    }

    #[test]
    fn an_at_sign_in_the_path_is_no_credential() {
        assert!(parse("https://hec.example.com/a@b").is_ok());
    }

    #[test]
    fn what_is_no_web_address_is_refused() {
        assert_eq!(
            parse("ftp://example.com").unwrap_err(),
            InvalidEndpoint::Scheme
        );
        assert_eq!(
            parse("hec.example.com").unwrap_err(),
            InvalidEndpoint::Scheme
        );
        for text in [
            "",
            "https://",
            "https://:8088",
            "https://a b",
            "https://a:0",
            "https://a:80888",
            "https://a:",
            "https://a/#b",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_path_of_the_address_is_kept_in_front() {
        let behind_proxy = parse("https://example.com/splunk/").unwrap();
        let uri = behind_proxy.join("/services/collector/event").unwrap();
        assert_eq!(
            uri.to_string(),
            "https://example.com/splunk/services/collector/event"
        );
        let bare = parse("http://10.0.0.1:8088").unwrap();
        assert_eq!(
            bare.join("/services/collector/event").unwrap().path(),
            "/services/collector/event"
        );
    }
}
