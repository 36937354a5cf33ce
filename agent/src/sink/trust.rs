//! How both ends of a connection prove who they are, with the credentials that this takes. Opens no connection.

use std::path::Path;

use katonic_log_config::{HostName, Tls};

use crate::credential::{self, CredentialError, Secret};

/// What a policy says of TLS, with its credentials.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trust {
    /// Authorities that replace the public ones, PEM.
    pub ca: Option<Secret>,
    /// What is shown to a server that asks who we are.
    pub identity: Option<Identity>,
    /// Name that the server's certificate must have; none: that of its address.
    pub server_name: Option<HostName>,
    /// Whether any certificate is accepted.
    pub insecure_skip_verify: bool,
}

/// A client's certificate and its key, both PEM.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The certificate and those between it and its authority.
    pub certificate: Secret,
    /// Its key.
    pub private_key: Secret,
}

impl Trust {
    /// Reads the credentials that TLS needs.
    ///
    /// # Errors
    /// When one of them is missing.
    pub fn resolve(tls: &Tls, credentials: &Path) -> Result<Self, CredentialError> {
        let ca = tls
            .ca
            .as_ref()
            .map(|key| credential::read(credentials, key))
            .transpose()?;
        let identity = match &tls.client_certificate {
            Some(own) => Some(Identity {
                certificate: credential::read(credentials, &own.certificate)?,
                private_key: credential::read(credentials, &own.private_key)?,
            }),
            None => None,
        };
        Ok(Self {
            ca,
            identity,
            server_name: tls.server_name.clone(),
            insecure_skip_verify: tls.insecure_skip_verify,
        })
    }
}
