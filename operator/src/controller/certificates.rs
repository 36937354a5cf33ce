//! Keeps a certificate of the operator's own: reads its Secret when it has changed, and writes what is due.

use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    jiff::Timestamp,
};
use katonic_logging_core::{
    certificate::{Certificates, Due, Generation, Peer, Published},
    names,
};
use kube::{Api, Client};

use super::{
    apply::{self, Applier},
    sources::Owned,
};

mod authority;

use authority::issue;

const SECRET: &str = "Secret";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its Secret cannot be read.
    #[error("failed to read Secret {name}")]
    Read {
        /// The Secret.
        name: &'static str,
        /// Why.
        source: kube::Error,
    },
    /// None can be made.
    #[error(transparent)]
    Make(#[from] authority::Error),
    /// Its Secret cannot be written.
    #[error(transparent)]
    Write(#[from] apply::Error),
}

/// What a certificate is for.
#[derive(Clone, Debug)]
pub struct Purpose {
    /// Who shows it, as its authorities are named.
    pub server: &'static str,
    /// The Secret that it is kept in.
    pub secret: &'static str,
    /// The host that it is for.
    pub host: String,
    /// Who has to trust it.
    pub peer: Peer,
    /// Whether this process shows it, and so goes on showing what it has when the Secret is lost.
    pub shown_here: bool,
}

/// The certificates, as they were when the Secret was last read or written.
pub struct Keeper {
    api: Api<Secret>,
    namespace: String,
    purpose: Purpose,
    held: Option<Held>,
    /// What this process shows, where it is the one that does.
    shown: Option<Certificates>,
    published: Option<Published>,
}

#[derive(Clone)]
struct Held {
    owned: Owned,
    certificates: Certificates,
}

impl Keeper {
    /// Knows nothing yet.
    pub fn new(client: Client, namespace: &str, purpose: Purpose) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            purpose,
            held: None,
            shown: None,
            published: None,
        }
    }

    /// Does what is due, and says until when nothing is. `version` is that of the Secret as it is watched; `places` what is
    /// said in each place where peers are told whom to trust; `owner` whoever the Secret goes with.
    ///
    /// # Errors
    /// When the Secret cannot be read or written; what is there stays.
    pub async fn keep<'a>(
        &mut self,
        applier: &mut Applier,
        version: Option<&String>,
        places: impl IntoIterator<Item = &'a str>,
        owner: Option<OwnerReference>,
        now: Timestamp,
    ) -> Result<(Certificates, Timestamp), Error> {
        let known = self.held.as_ref();
        if known.map(|held| &held.owned.resource_version) != version {
            self.held = self.read().await?;
        }
        self.published = Published::see(self.published.take(), places, now);
        let published = self.published.as_ref();
        let before = self.held.clone();
        let mut certificates = before
            .as_ref()
            .map(|held| held.certificates.clone())
            .unwrap_or_default();
        if !certificates.serve(now)
            && let Some(shown) = self.shown.clone().filter(|shown| shown.serve(now))
        {
            // Whoever deletes the Secret wants another certificate, and peers do not trust that one yet.
            certificates = shown.with(self.issue(now)?, published, now);
        }
        let until = loop {
            certificates = match certificates.due(published, self.purpose.peer, now) {
                Due::Nothing(until) => break until,
                Due::Issue => certificates.with(self.issue(now)?, published, now),
                Due::Switch => {
                    tracing::info!(
                        server = self.purpose.server,
                        "the next certificate takes over"
                    );
                    certificates.switched(now)
                }
            };
        };
        let is_new = before
            .as_ref()
            .is_none_or(|before| before.certificates != certificates);
        if is_new {
            let observed = before.map(|before| before.owned);
            let secret = self.secret(&certificates, observed.as_ref(), owner);
            applier
                .write(&self.api, SECRET, &secret, observed.clone())
                .await?;
            let version = applier.version(SECRET, self.purpose.secret);
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
        self.shown = self.purpose.shown_here.then(|| certificates.clone());
        Ok((certificates, until))
    }

    fn issue(&self, now: Timestamp) -> Result<Generation, authority::Error> {
        let Purpose { server, host, .. } = &self.purpose;
        tracing::info!(server, %host, "making a certificate");
        issue(server, host, now)
    }

    async fn read(&self) -> Result<Option<Held>, Error> {
        let name = self.purpose.secret;
        let secret = self.api.get_opt(name).await;
        let secret = secret.map_err(|source| Error::Read { name, source })?;
        Ok(secret.map(|secret| Held {
            owned: Owned::of(&secret.metadata),
            certificates: Certificates::read(&secret.data.unwrap_or_default(), &self.purpose.host),
        }))
    }

    fn secret(
        &self,
        certificates: &Certificates,
        observed: Option<&Owned>,
        owner: Option<OwnerReference>,
    ) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(self.purpose.secret.to_owned()),
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
                owner_references: owner.map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(certificates.data()),
            ..Secret::default()
        }
    }
}
