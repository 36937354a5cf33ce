//! Headers of requests; the values of credentials are marked as sensitive, so they print as `Sensitive`.

use std::path::Path;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, header};
use katonic_log_config::{
    BasicAuth, Compression, CredentialKey, Header, HeaderValue as Configured,
};

use crate::credential::{self, CredentialError};

/// Who sends.
pub(super) fn user_agent() -> HeaderValue {
    HeaderValue::from_static(concat!("katonic-log-agent/", env!("CARGO_PKG_VERSION")))
}

/// The headers that every sink gets; those of a sink come on top.
pub(super) fn common(content_type: &'static str, compression: Compression) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let coding = match compression {
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
        Compression::None => None,
    };
    if let Some(coding) = coding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    headers.insert(header::USER_AGENT, user_agent());
    headers
}

/// Adds the headers that a policy names.
pub(super) fn add_configured(
    headers: &mut HeaderMap,
    configured: &[Header],
    credentials: &Path,
) -> Result<(), CredentialError> {
    for header in configured {
        let name = header.name.name();
        match &header.value {
            Configured::Literal(text) => {
                let value = HeaderValue::from_str(text).map_err(|_| CredentialError::Address)?;
                headers.insert(name, value);
            }
            Configured::Credential(key) => {
                headers.insert(name, of_credential("", key, credentials)?);
            }
        }
    }
    Ok(())
}

/// A value that is a credential, after `prefix`.
pub(super) fn of_credential(
    prefix: &str,
    key: &CredentialKey,
    credentials: &Path,
) -> Result<HeaderValue, CredentialError> {
    let secret = credential::read(credentials, key)?;
    sensitive(&[prefix.as_bytes(), secret.reveal()].concat(), key)
}

/// Name and password (RFC 7617), in UTF-8.
pub(super) fn basic(basic: &BasicAuth, credentials: &Path) -> Result<HeaderValue, CredentialError> {
    let password = credential::read(credentials, &basic.password)?;
    let pair = [basic.username.as_bytes(), b":", password.reveal()].concat();
    let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
    sensitive(value.as_bytes(), &basic.password)
}

/// Name and password that are credentials both; without a password an empty one.
pub(super) fn basic_of(
    username: &CredentialKey,
    password: Option<&CredentialKey>,
    credentials: &Path,
) -> Result<HeaderValue, CredentialError> {
    let name = credential::read(credentials, username)?;
    let mut pair = [name.reveal(), b":"].concat();
    if let Some(password) = password {
        pair.extend_from_slice(credential::read(credentials, password)?.reveal());
    }
    let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
    sensitive(value.as_bytes(), username)
}

fn sensitive(value: &[u8], key: &CredentialKey) -> Result<HeaderValue, CredentialError> {
    let mut value =
        HeaderValue::from_bytes(value).map_err(|_| CredentialError::NotAHeader(key.clone()))?;
    value.set_sensitive(true);
    Ok(value)
}
