//! Credentials on their way from a sink's Secret to the bundle.

mod pem;

use std::{collections::BTreeMap, fmt};

use katonic_log_config::{CredentialKey, ServiceAccountKey};
use katonic_logging_crds::SecretKeyRef;

pub(crate) use pem::is_pair;

use crate::{
    names,
    policy::{CredentialSource, Needs, Usage},
};

/// The bytes of a credential. Printing it prints `…`.
#[derive(Clone, Eq, PartialEq)]
pub struct Credential(Vec<u8>);

impl Credential {
    /// Wraps what a Secret holds.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// One of which nothing is known.
    fn assumed() -> Self {
        Self(Vec::new())
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
    /// It is taken for granted that there is one, and what it is nobody says.
    Assumed,
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

/// Why a credential cannot be used, and a sentence that names the Secret and the key and repeats nothing of the value.
pub type Refusal = (Fault, String);

/// Every credential that some policy needs, each looked at once, however many policies need it.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    credentials: BTreeMap<CredentialSource, Result<Credential, Refusal>>,
    pairs: BTreeMap<(SecretKeyRef, SecretKeyRef), Option<Refusal>>,
}

impl Keyring {
    /// Looks at all that is needed. `namespace` is that of the Secrets.
    pub fn open<'a>(
        needs: impl IntoIterator<Item = &'a Needs>,
        lookups: &BTreeMap<SecretKeyRef, Lookup>,
        namespace: &str,
    ) -> Self {
        let mut keyring = Self::default();
        for need in needs {
            for source in need.sources.values() {
                if !keyring.credentials.contains_key(source) {
                    let resolved = resolve(source, lookups.get(&source.secret), namespace);
                    keyring.credentials.insert(source.clone(), resolved);
                }
            }
            for (certificate, private_key) in need.sources_of_pairs() {
                let pair = (certificate.secret.clone(), private_key.secret.clone());
                if !keyring.pairs.contains_key(&pair) {
                    let refusal = keyring.mismatch(certificate, private_key, namespace);
                    keyring.pairs.insert(pair, refusal);
                }
            }
        }
        keyring
    }

    /// The values that can be used, and why the others cannot.
    pub fn resolve(&self, needs: &Needs) -> (BTreeMap<CredentialKey, Credential>, Vec<Refusal>) {
        let mut values = BTreeMap::new();
        let mut refusals = Vec::new();
        for (key, source) in &needs.sources {
            match self.credentials.get(source) {
                Some(Ok(value)) => {
                    values.insert(key.clone(), value.clone());
                }
                Some(Err(refusal)) => refusals.push(refusal.clone()),
                None => refusals.push((
                    Fault::SecretUnreadable,
                    format!("Secret {} has not been read yet", source.secret.name),
                )),
            }
        }
        let pairs = needs
            .sources_of_pairs()
            .map(|(certificate, key)| (certificate.secret.clone(), key.secret.clone()));
        refusals.extend(pairs.filter_map(|pair| self.pairs.get(&pair)?.clone()));
        (values, refusals)
    }

    /// Why a certificate and a key that are good by themselves are none for each other.
    fn mismatch(
        &self,
        certificate: &CredentialSource,
        private_key: &CredentialSource,
        namespace: &str,
    ) -> Option<Refusal> {
        let value = |source| self.credentials.get(source)?.as_ref().ok();
        let (chain, key) = (value(certificate)?, value(private_key)?);
        let assumed = Credential::assumed();
        if *chain == assumed || *key == assumed || is_pair(chain.expose(), key.expose()) {
            return None;
        }
        let SecretKeyRef { name, key } = &private_key.secret;
        let certificate = &certificate.secret.key;
        Some((
            Fault::CredentialInvalid,
            format!(
                "the key `{key}` of Secret {namespace}/{name} is not that of its certificate `{certificate}`: store both of one pair"
            ),
        ))
    }
}

impl Needs {
    fn sources_of_pairs(&self) -> impl Iterator<Item = (&CredentialSource, &CredentialSource)> {
        self.pairs.iter().filter_map(|(certificate, private_key)| {
            Some((
                self.sources.get(certificate)?,
                self.sources.get(private_key)?,
            ))
        })
    }
}

/// The credential as it is written into the bundle, without the line break that editors leave at the end.
fn resolve(
    source: &CredentialSource,
    lookup: Option<&Lookup>,
    namespace: &str,
) -> Result<Credential, Refusal> {
    let SecretKeyRef { name, key } = &source.secret;
    let fault = |fault, message: String| Err((fault, message));
    if name == names::WEBHOOK_CERTIFICATE {
        return fault(
            Fault::CredentialInvalid,
            format!(
                "Secret {namespace}/{name} is the operator's own, with the private key of its webhook: name another one"
            ),
        );
    }
    let value = match lookup {
        Some(Lookup::Found(value)) => value,
        Some(Lookup::Assumed) => return Ok(Credential::assumed()),
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
    // The agent drops white space around a value.
    let core = bytes.trim_ascii();
    match source.usages.iter().find(|usage| !usage.fits(core)) {
        Some(usage) => fault(
            Fault::CredentialInvalid,
            format!(
                "key `{key}` of Secret {namespace}/{name} {}",
                usage.complaint()
            ),
        ),
        None => Ok(Credential::new(bytes.to_vec())),
    }
}

/// Least bytes of a key for digests: with fewer, whoever sees a digest could try all keys (NIST SP 800-107 §5.3.4 asks
/// for 112 bits).
const HASH_KEY: usize = 16;

/// 512 bits in Base64 (Azure: "Manage storage account access keys").
fn is_storage_key(value: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    value.len() == 88 && value.ends_with(b"==") && value[..86].iter().all(is_digit)
}

/// Parameters of an address with the version that they are for and their signature (Azure: "Create a service SAS").
fn is_sas_token(value: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(value) else {
        return false;
    };
    let mut pairs = text.strip_prefix('?').unwrap_or(text).split('&');
    let is_in_address = |byte: u8| byte.is_ascii_graphic() && !b"#?\"<>\\^`{|}".contains(&byte);
    let has = |name: &str| {
        pairs.clone().any(|pair| {
            pair.strip_prefix(name)
                .is_some_and(|value| !value.is_empty())
        })
    };
    let is_token = has("sv=") && has("sig=");
    is_token && pairs.all(|pair| pair.contains('=') && pair.bytes().all(is_in_address))
}

impl Usage {
    /// Whether a value can be used for this.
    fn fits(self, value: &[u8]) -> bool {
        match self {
            Self::Header => value.iter().all(|byte| (b' '..=b'~').contains(byte)),
            Self::Token | Self::AccessKey => value.iter().all(u8::is_ascii_graphic),
            Self::LogglyToken => value
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-'),
            Self::Password => {
                str::from_utf8(value).is_ok_and(|text| !text.contains(char::is_control))
            }
            Self::Authorities => pem::are_authorities(value),
            Self::Certificate => pem::are_certificates(value),
            Self::PrivateKey => pem::is_private_key(value),
            Self::HashKey => value.len() >= HASH_KEY,
            Self::ServiceAccountKey => ServiceAccountKey::parse(value)
                .is_ok_and(|key| pem::is_rsa_key(key.private_key.as_bytes())),
            Self::StorageKey => is_storage_key(value),
            Self::SasToken => is_sas_token(value),
            Self::EntraId => {
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-.".contains(byte);
                value.first().is_some_and(u8::is_ascii_alphanumeric) && value.iter().all(is_part)
            }
        }
    }

    /// What is wrong with a value that does not fit, and what to do.
    fn complaint(self) -> String {
        match self {
            Self::Header => "has characters that no HTTP header can carry: store the plain text, not its base64 form twice".to_owned(),
            Self::Token => "is no token: store it alone, without `Bearer`, `Splunk` or blanks before it".to_owned(),
            Self::LogglyToken => "is no Loggly token: store it alone; it has letters, digits and `-`".to_owned(),
            Self::Password => "is no password that can be sent: it must be UTF-8 without control characters".to_owned(),
            Self::Authorities => "holds no PEM certificate of an authority: it begins with -----BEGIN CERTIFICATE-----".to_owned(),
            Self::Certificate => "holds no PEM certificate: it begins with -----BEGIN CERTIFICATE-----".to_owned(),
            Self::PrivateKey => "holds no private key that can be used: store RSA, ECDSA or Ed25519 as PEM, without a passphrase".to_owned(),
            Self::AccessKey => "is no part of an access key: store it alone, as the store shows it".to_owned(),
            Self::ServiceAccountKey => "is not the key file of a service account: store the JSON file as `gcloud iam service-accounts keys create` writes it".to_owned(),
            Self::StorageKey => "is not the key of a storage account: store it alone, in Base64 as Azure shows it; a connection string is more than that".to_owned(),
            Self::SasToken => "is not a shared access signature: store what stands behind `?` in its address, with `sv=` and `sig=` in it, and nothing else".to_owned(),
            Self::EntraId => "is no id of Microsoft Entra: store that of the tenant or of the application alone, for example 00000000-1111-2222-3333-444444444444".to_owned(),
            Self::HashKey => format!("is too short for a key: use at least {HASH_KEY} bytes, for example from `openssl rand -hex 32`"),
        }
    }
}

#[cfg(test)]
mod tests;
