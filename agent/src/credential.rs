//! Credentials as they are mounted. Shows them to nobody.

use std::{fmt, fs, io, path::Path};

use katonic_log_config::CredentialKey;
use sha2::{Digest, Sha256};

/// The value of a credential; printed as `…`.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The value, for the place where it is used.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Secret {
    fn from(value: Vec<u8>) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

/// Why a credential cannot be used; names it and never shows it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The Secret has no such key, or not yet.
    #[error("the credential `{0}` is missing")]
    Missing(CredentialKey),
    /// Nothing but white space.
    #[error("the credential `{0}` is empty")]
    Empty(CredentialKey),
    /// There, and not readable.
    #[error("failed to read the credential `{0}`")]
    Read(CredentialKey, #[source] io::Error),
    /// Has bytes that a header cannot hold.
    #[error("the credential `{0}` cannot be sent in a header")]
    NotAHeader(CredentialKey),
    /// Has bytes that would not stay within their part of an address.
    #[error("the credential `{0}` cannot be part of an address")]
    NotInAddress(CredentialKey),
    /// What the identity of the pod was given cannot be sent.
    #[error("what the identity of the pod was given cannot be used")]
    NotGiven,
    /// Not the key of a storage account.
    #[error("the credential `{0}` is not the key of a storage account, which is Base64")]
    NotBase64(CredentialKey),
    /// Not the key of a service account.
    #[error("the credential `{0}` is not the key file of a service account, with an RSA key in it")]
    NotAServiceAccount(CredentialKey),
    /// Not a PEM file with a certificate in it.
    #[error("the credential `{0}` holds no PEM certificate")]
    NoCertificate(CredentialKey),
    /// Not an address that can be sent to.
    #[error("the sink's address cannot be used")]
    Address,
}

/// What these credentials are by now, for comparison alone; one that cannot be read is as good as none.
pub fn digest<'a>(directory: &Path, keys: impl IntoIterator<Item = &'a CredentialKey>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for key in keys {
        let value = read(directory, key).map_or_else(|_| Vec::new(), |secret| secret.0);
        digest.update((value.len() as u64).to_le_bytes());
        digest.update(value);
    }
    digest.finalize().into()
}

/// Reads a credential from a mounted Secret, without the white space around it that editors leave.
///
/// # Errors
/// See [`CredentialError`].
pub fn read(directory: &Path, key: &CredentialKey) -> Result<Secret, CredentialError> {
    match fs::read(directory.join(key.as_str())) {
        Ok(bytes) => {
            let trimmed = bytes.trim_ascii();
            if trimmed.is_empty() {
                Err(CredentialError::Empty(key.clone()))
            } else {
                Ok(Secret(trimmed.to_vec()))
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(CredentialError::Missing(key.clone()))
        }
        Err(error) => Err(CredentialError::Read(key.clone(), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_read_without_its_newline_and_never_printed() {
        let directory = tempfile::tempdir().unwrap();
        let key = CredentialKey::of_secret("splunk", "token").unwrap();
        assert!(matches!(
            read(directory.path(), &key),
            Err(CredentialError::Missing(_))
        ));
        fs::write(directory.path().join(key.as_str()), "\n").unwrap();
        assert!(matches!(
            read(directory.path(), &key),
            Err(CredentialError::Empty(_))
        ));
        fs::write(directory.path().join(key.as_str()), "hunter2\n").unwrap();
        let secret = read(directory.path(), &key).unwrap();
        assert_eq!(secret.reveal(), b"hunter2");
        assert_eq!(format!("{secret:?}"), "…");
    }
}
