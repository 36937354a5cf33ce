//! An address of ours outside of the cluster, as an administrator gives it.

use katonic_log_config::{Endpoint, endpoint::InvalidEndpoint};

/// An `https` address without path and without credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct External(Endpoint);

/// A text that is no such address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "write for example https://logging.example.com:8443, without a path and without credentials"
)]
pub struct NotExternal;

impl External {
    /// The address.
    ///
    /// # Errors
    /// When it is not encrypted, or more than a host and a port.
    pub fn parse(url: &str) -> Result<Self, NotExternal> {
        let endpoint =
            Endpoint::try_from(url.to_owned()).map_err(|_: InvalidEndpoint| NotExternal)?;
        let uri = endpoint.uri();
        let is_bare = uri.path() == "/" && uri.query().is_none();
        if endpoint.is_plain_text() || !is_bare {
            return Err(NotExternal);
        }
        Ok(Self(endpoint))
    }

    /// As it was written.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0
    }

    /// The name that the certificate has to have; an address without its brackets.
    pub fn host(&self) -> String {
        let host = self.0.uri().host().unwrap_or_default();
        host.trim_matches(['[', ']']).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_as_it_is_or_refused() {
        let host = |url: &str| External::parse(url).map(|external| external.host());
        assert_eq!(host("https://127.0.0.1:8443").as_deref(), Ok("127.0.0.1"));
        assert_eq!(host("https://[fd00::1]:8443").as_deref(), Ok("fd00::1"));
        for url in [
            "http://a:1",
            "a",
            "https://a/b",
            "https://a:b@c",
            "https://a/?b",
        ] {
            assert_eq!(External::parse(url), Err(NotExternal), "{url}");
        }
    }
}
