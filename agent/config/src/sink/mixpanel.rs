//! Mixpanel.

use serde::{Deserialize, Serialize};

use crate::{Connection, CredentialKey, Endpoint};

/// Mixpanel's import of events (Mixpanel: "Import Events").
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mixpanel {
    /// Where the project's data is.
    pub region: MixpanelRegion,
    /// Another address; none: the region's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Who sends.
    pub credential: MixpanelCredential,
    /// How it is reached.
    #[serde(default)]
    pub connection: Connection,
}

/// Who sends to Mixpanel.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum MixpanelCredential {
    /// The project itself.
    ProjectToken(CredentialKey),
    /// A service account.
    #[serde(rename_all = "camelCase")]
    ServiceAccount {
        /// Its name.
        username: CredentialKey,
        /// Its secret.
        secret: CredentialKey,
        /// The project, in digits.
        project_id: String,
    },
}

/// Where a project's data is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum MixpanelRegion {
    /// United States.
    Us,
    /// European Union.
    Eu,
    /// India.
    In,
}

impl MixpanelCredential {
    /// The credentials that it is made of.
    pub fn keys(&self) -> Vec<&CredentialKey> {
        match self {
            Self::ProjectToken(token) => vec![token],
            Self::ServiceAccount {
                username, secret, ..
            } => vec![username, secret],
        }
    }
}
