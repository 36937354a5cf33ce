//! Credentials on their way from a sink's Secret to the bundle.

use std::fmt;

use katonic_logging_crds::SecretKeyRef;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::policy::{CredentialSource, Usage};

/// The bytes of a credential. Printing it prints `…`.
#[derive(Clone, Eq, PartialEq)]
pub struct Credential(Vec<u8>);

impl Credential {
    /// Wraps what a Secret holds.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for writing them into a bundle.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

/// What was found where a policy says that a credential is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lookup {
    /// The key's value.
    Found(Credential),
    /// The Secret has no such key.
    KeyMissing,
    /// There is no such Secret.
    SecretMissing,
    /// The API server did not say.
    Unreadable(String),
}

/// Why a credential cannot be used.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    /// There is no such Secret.
    SecretMissing,
    /// The Secret has no such key.
    SecretKeyMissing,
    /// The value is empty.
    CredentialEmpty,
    /// The value is not what it is used for.
    CredentialInvalid,
    /// The API server did not say.
    SecretUnreadable,
}

impl Fault {
    /// One word, for a condition's reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::SecretMissing => "SecretMissing",
            Self::SecretKeyMissing => "SecretKeyMissing",
            Self::CredentialEmpty => "CredentialEmpty",
            Self::CredentialInvalid => "CredentialInvalid",
            Self::SecretUnreadable => "SecretUnreadable",
        }
    }
}

/// The credential as it is written into the bundle, without the line break that editors leave at the end.
///
/// # Errors
/// Why it cannot be used, and a sentence that names the Secret and the key and repeats nothing of the value.
pub fn resolve(
    source: &CredentialSource,
    lookup: Option<&Lookup>,
    namespace: &str,
) -> Result<Credential, (Fault, String)> {
    let SecretKeyRef { name, key } = &source.secret;
    let fault = |fault, message: String| Err((fault, message));
    let value = match lookup {
        Some(Lookup::Found(value)) => value,
        Some(Lookup::KeyMissing) => {
            return fault(
                Fault::SecretKeyMissing,
                format!("Secret {namespace}/{name} has no key `{key}`: add it"),
            );
        }
        Some(Lookup::SecretMissing) => {
            return fault(
                Fault::SecretMissing,
                format!("Secret {namespace}/{name} does not exist: create it with the key `{key}`"),
            );
        }
        Some(Lookup::Unreadable(error)) => {
            return fault(
                Fault::SecretUnreadable,
                format!("Secret {namespace}/{name} cannot be read: {error}"),
            );
        }
        None => {
            return fault(
                Fault::SecretUnreadable,
                format!("Secret {namespace}/{name} has not been read yet"),
            );
        }
    };
    let bytes = value.expose();
    let end = bytes
        .iter()
        .rposition(|byte| !b"\r\n".contains(byte))
        .map_or(0, |last| last + 1);
    let bytes = &bytes[..end];
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return fault(
            Fault::CredentialEmpty,
            format!("key `{key}` of Secret {namespace}/{name} is empty: give it a value"),
        );
    }
    match source.usage {
        Usage::Header if !bytes.iter().all(|byte| (b' '..=b'~').contains(byte)) => fault(
            Fault::CredentialInvalid,
            format!(
                "key `{key}` of Secret {namespace}/{name} has characters that no HTTP header can carry: store the plain text, not its base64 form twice"
            ),
        ),
        Usage::Certificates if !are_certificates(bytes) => fault(
            Fault::CredentialInvalid,
            format!("key `{key}` of Secret {namespace}/{name} holds no PEM certificate"),
        ),
        Usage::Header | Usage::Certificates => Ok(Credential::new(bytes.to_vec())),
    }
}

/// As the agent reads them: every certificate must parse as PEM, and there must be one.
fn are_certificates(bytes: &[u8]) -> bool {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    certificates.is_ok_and(|certificates| !certificates.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(usage: Usage, lookup: &Lookup) -> Result<Credential, (Fault, String)> {
        let secret = SecretKeyRef {
            name: "splunk".into(),
            key: "token".into(),
        };
        super::resolve(
            &CredentialSource { secret, usage },
            Some(lookup),
            "katonic-logging",
        )
    }

    fn found(text: &str) -> Lookup {
        Lookup::Found(Credential::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn a_line_break_at_the_end_is_no_part_of_a_token() {
        assert_eq!(
            resolve(Usage::Header, &found("abc\r\n")).unwrap().expose(),
            b"abc"
        );
    }

    #[test]
    fn each_fault_names_secret_and_key() {
        for (lookup, fault) in [
            (Lookup::SecretMissing, Fault::SecretMissing),
            (Lookup::KeyMissing, Fault::SecretKeyMissing),
            (found(""), Fault::CredentialEmpty),
            (found(" \n"), Fault::CredentialEmpty),
            (found("a\u{e9}"), Fault::CredentialInvalid),
            (found("a\nb"), Fault::CredentialInvalid),
            (
                Lookup::Unreadable("forbidden".into()),
                Fault::SecretUnreadable,
            ),
        ] {
            let (actual, message) = resolve(Usage::Header, &lookup).unwrap_err();
            assert_eq!(actual, fault);
            assert!(message.contains("katonic-logging/splunk"), "{message}");
        }
    }

    #[test]
    fn certificates_must_be_pem() {
        let cut_short = found("-----BEGIN CERTIFICATE-----\nMIIB\n");
        assert_eq!(
            resolve(Usage::Certificates, &cut_short).unwrap_err().0,
            Fault::CredentialInvalid
        );
        assert_eq!(
            resolve(Usage::Certificates, &found("MIIB")).unwrap_err().0,
            Fault::CredentialInvalid
        );
        assert!(
            resolve(
                Usage::Certificates,
                &found(
                    "-----BEGIN CERTIFICATE-----
MIIB
-----END CERTIFICATE-----
"
                )
            )
            .is_ok()
        );
    }

    #[test]
    fn a_credential_is_never_printed() {
        let lookup = found("hunter2");
        assert!(!format!("{lookup:?} {:?}", resolve(Usage::Header, &lookup)).contains("hunter2"));
    }
}
