//! What is watched of the webhook.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{
    api::{admissionregistration::v1::MutatingWebhookConfiguration, apps::v1::Deployment},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use katonic_logging_core::{
    history::History,
    names,
    sidecar::Sidecar,
    webhook::configuration::{Former, Told, bound_namespaces, is_published_by_us, published},
};
use kube::{Api, Client, Resource as _, ResourceExt, runtime::watcher::Config};

use crate::{
    cache::{Cache, Change, Seen, Signal},
    controller::sources::Owned,
};

/// The webhook's Deployment, as far as it matters.
#[derive(Clone, Debug, PartialEq)]
pub struct Installed {
    /// Its UID: it owns the certificate.
    pub uid: String,
    /// Whether one of its pods can be asked.
    pub available: bool,
    /// The Certificate of cert-manager that API servers are to trust, where certificates are cert-manager's.
    pub certificate: Option<String>,
}

impl Installed {
    fn of(deployment: &Deployment) -> Self {
        let status = deployment.status.as_ref();
        Self {
            uid: deployment.uid().unwrap_or_default(),
            available: status.and_then(|status| status.available_replicas) > Some(0),
            certificate: deployment
                .annotations()
                .get(names::INJECT_CA_ANNOTATION)
                .cloned(),
        }
    }

    /// As the owner of the certificate.
    pub fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: Deployment::api_version(&()).into_owned(),
            kind: Deployment::kind(&()).into_owned(),
            name: names::WEBHOOK.to_owned(),
            uid: self.uid.clone(),
            ..OwnerReference::default()
        }
    }
}

/// The webhook's configuration as the cluster has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Configured {
    /// The object.
    pub owned: Owned,
    /// Whom API servers trust.
    pub published: Option<String>,
    /// Whether that is what the operator has written.
    pub published_by_us: bool,
    /// What is added to pods; none when that cannot be read.
    pub told: Option<Told>,
    /// Where.
    pub namespaces: BTreeSet<String>,
    /// What was added before, and where, while that is only tried.
    pub former: Option<Former>,
    /// What pods have been given.
    pub history: History,
}

impl Configured {
    fn of(configuration: &MutatingWebhookConfiguration) -> Self {
        let owned = Owned::of(&configuration.metadata);
        Self {
            published: published(configuration).filter(|pem| !pem.is_empty()),
            published_by_us: is_published_by_us(configuration),
            told: Told::read(configuration.annotations()),
            namespaces: bound_namespaces(configuration),
            former: Former::read(configuration.annotations()),
            history: History::read(configuration.annotations(), owned.changed),
            owned,
        }
    }
}

/// What is watched of the webhook.
#[derive(Debug)]
pub struct Watched {
    /// Its Deployment.
    pub deployment: Cache<Installed>,
    /// Its configuration.
    pub configuration: Cache<Configured>,
}

impl Watched {
    /// Begins to watch.
    pub fn begin(client: &Client, namespace: &str, signal: &Arc<Signal>) -> Self {
        let named = |name| Config::default().fields(&format!("metadata.name={name}"));
        Self {
            deployment: Cache::watch(
                Api::<Deployment>::namespaced(client.clone(), namespace),
                named(names::WEBHOOK),
                signal.clone(),
                |deployment, _| Installed::of(&deployment),
                |_, _| Change::Plan,
            ),
            configuration: Cache::watch(
                Api::<MutatingWebhookConfiguration>::all(client.clone()),
                named(names::WEBHOOK_CONFIGURATION),
                signal.clone(),
                |configuration, _| Configured::of(&configuration),
                |_, _| Change::Plan,
            ),
        }
    }

    /// Whether both have been listed, or are known not to be to be had.
    pub fn is_settled(&self) -> bool {
        self.deployment.is_settled() && self.configuration.is_settled()
    }

    /// The Deployment.
    pub fn installed(&self) -> Seen<Installed> {
        self.deployment.one(names::WEBHOOK)
    }

    /// The configuration.
    pub fn configured(&self) -> Seen<Configured> {
        self.configuration.one(names::WEBHOOK_CONFIGURATION)
    }

    /// What the webhook adds where that is not this agent, and the namespaces whose pods get it.
    pub fn former(&self, sidecar: &Sidecar) -> Option<Former> {
        let configured = self.configured().there()?;
        let told = configured.told.as_ref();
        let is_it = told.is_some_and(|told| told.sidecar.revision == sidecar.revision);
        (!is_it).then_some(Former {
            told: configured.told,
            namespaces: configured.namespaces,
        })
    }
}
