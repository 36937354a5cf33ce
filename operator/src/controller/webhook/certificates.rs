//! Keeps the webhook's certificate: reads its Secret when it has changed, and writes what is due.

use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Secret},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    jiff::Timestamp,
};
use katonic_logging_core::{
    names,
    webhook::certificate::{Certificates, Due, Published},
};
use kube::{Api, Client, Resource};

use super::authority::{self, issue};
use crate::controller::{
    apply::{self, Applier},
    sources::Owned,
};

const SECRET: &str = "Secret";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its Secret cannot be read.
    #[error("failed to read Secret {}", names::WEBHOOK_CERTIFICATE)]
    Read(#[source] kube::Error),
    /// None can be made.
    #[error(transparent)]
    Make(#[from] authority::Error),
    /// Its Secret cannot be written.
    #[error(transparent)]
    Write(#[from] apply::Error),
}

/// The certificates, as they were when the Secret was last read or written.
pub struct Keeper {
    api: Api<Secret>,
    namespace: String,
    host: String,
    held: Option<Held>,
    published: Option<Published>,
}

#[derive(Clone)]
struct Held {
    owned: Owned,
    certificates: Certificates,
}

impl Keeper {
    /// Knows nothing yet.
    pub fn new(client: Client, namespace: &str, host: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            host,
            held: None,
            published: None,
        }
    }

    /// Does what is due, and says until when nothing is. `version` is that of the Secret as it is watched; `published` whom
    /// API servers are told to trust, where they are told of the webhook; `deployment` the UID of the owner.
    ///
    /// # Errors
    /// When the Secret cannot be read or written; what is there stays.
    pub async fn keep(
        &mut self,
        applier: &mut Applier,
        version: Option<&String>,
        published: Option<&str>,
        deployment: Option<&str>,
        now: Timestamp,
    ) -> Result<(Certificates, Timestamp), Error> {
        let known = self.held.as_ref();
        if known.map(|held| &held.owned.resource_version) != version {
            self.held = self.read().await?;
        }
        self.published = Published::see(self.published.take(), published, now);
        let published = self.published.as_ref();
        let before = self.held.clone();
        let mut certificates = before
            .as_ref()
            .map(|held| held.certificates.clone())
            .unwrap_or_default();
        let until = loop {
            certificates = match certificates.due(published, now) {
                Due::Nothing(until) => break until,
                Due::Issue => {
                    tracing::info!(host = %self.host, "making a certificate for the webhook");
                    certificates.with(issue(&self.host, now)?, published, now)
                }
                Due::Switch => {
                    tracing::info!("the webhook's next certificate takes over");
                    certificates.switched(now)
                }
            };
        };
        let is_new = before
            .as_ref()
            .is_none_or(|before| before.certificates != certificates);
        if is_new {
            let observed = before.map(|before| before.owned);
            let secret = self.secret(&certificates, observed.as_ref(), deployment);
            applier
                .write(&self.api, SECRET, &secret, observed.clone())
                .await?;
            let version = applier.version(SECRET, names::WEBHOOK_CERTIFICATE);
            self.held = Some(Held {
                owned: Owned {
                    uid: observed.map(|observed| observed.uid).unwrap_or_default(),
                    resource_version: version.unwrap_or_default().to_owned(),
                    ours: true,
                    changed: None,
                },
                certificates: certificates.clone(),
            });
        }
        Ok((certificates, until))
    }

    async fn read(&self) -> Result<Option<Held>, Error> {
        let secret = self
            .api
            .get_opt(names::WEBHOOK_CERTIFICATE)
            .await
            .map_err(Error::Read)?;
        Ok(secret.map(|secret| Held {
            owned: Owned::of(&secret.metadata),
            certificates: Certificates::read(&secret.data.unwrap_or_default(), &self.host),
        }))
    }

    fn secret(
        &self,
        certificates: &Certificates,
        observed: Option<&Owned>,
        deployment: Option<&str>,
    ) -> Secret {
        let owner = |uid: &str| OwnerReference {
            api_version: Deployment::api_version(&()).into_owned(),
            kind: Deployment::kind(&()).into_owned(),
            name: names::WEBHOOK.to_owned(),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        };
        Secret {
            metadata: ObjectMeta {
                name: Some(names::WEBHOOK_CERTIFICATE.to_owned()),
                namespace: Some(self.namespace.clone()),
                // Whoever changed it meanwhile, another instance that was just elected say, is not overruled.
                resource_version: observed.map(|observed| observed.resource_version.clone()),
                labels: Some(
                    [(
                        names::MANAGED_BY_LABEL.to_owned(),
                        names::FIELD_MANAGER.to_owned(),
                    )]
                    .into(),
                ),
                owner_references: deployment.map(|uid| vec![owner(uid)]),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(certificates.data()),
            ..Secret::default()
        }
    }
}
