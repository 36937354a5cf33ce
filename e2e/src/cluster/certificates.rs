//! The certificates of one cluster: an authority of its own, and what each component shows of itself. Valid nowhere else.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The authority of one cluster and the folder of its files.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM, readable by the owner only.
    pub key: PathBuf,
}

impl Authority {
    /// Makes a new authority; its certificate is `ca.crt` in the folder, its key stays in memory.
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).context("failed to make the folder of the certificates")?;
        let key = KeyPair::generate().context("failed to make the authority's key")?;
        let mut parameters = CertificateParams::default();
        parameters
            .distinguished_name
            .push(DnType::CommonName, "katonic-logging-e2e");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = parameters
            .self_signed(&key)
            .context("failed to sign the authority's certificate")?;
        write_private(&folder.join("ca.crt"), &certificate.pem())?;
        Ok(Self {
            folder: folder.to_owned(),
            issuer: Issuer::new(parameters, key),
        })
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A server that clients reach under these names and addresses.
    pub fn server(&self, name: &str, subjects: &[&str]) -> Result<Identity> {
        let subjects: Vec<String> = subjects.iter().map(|&subject| subject.to_owned()).collect();
        let mut parameters = CertificateParams::new(subjects)
            .with_context(|| format!("failed to name the server {name}"))?;
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(name, &parameters)
    }

    /// A client; the API server takes the common name for the user and the organization for the group.
    pub fn client(&self, name: &str, user: &str, group: Option<&str>) -> Result<Identity> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            parameters
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(name, &parameters)
    }

    /// The key pair that signs service-account tokens: `(private, public)`.
    pub fn token_keys(&self) -> Result<(PathBuf, PathBuf)> {
        let key =
            KeyPair::generate().context("failed to make the key of service-account tokens")?;
        let (private, public) = (
            self.folder.join("tokens.key"),
            self.folder.join("tokens.pub"),
        );
        write_private(&private, &key.serialize_pem())?;
        write_private(&public, &key.public_key_pem())?;
        Ok((private, public))
    }

    fn issue(&self, name: &str, parameters: &CertificateParams) -> Result<Identity> {
        let key =
            KeyPair::generate().with_context(|| format!("failed to make a key for {name}"))?;
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("failed to sign a certificate for {name}"))?;
        let identity = Identity {
            certificate: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        };
        write_private(&identity.certificate, &certificate.pem())?;
        write_private(&identity.key, &key.serialize_pem())?;
        Ok(identity)
    }
}

/// Writes a file that only its owner may read.
pub fn write_private(path: &Path, content: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("failed to create {}", path.display()))?;
    file.write_all(content.as_bytes())
        .with_context(|| format!("failed to write {}", path.display()))
}
