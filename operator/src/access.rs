//! How the commands of a person reach a cluster, and what goes wrong on the way. Writes nothing.

use std::{fmt::Debug, path::PathBuf, time::Duration};

use k8s_openapi::api::{
    admissionregistration::v1::{MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration},
    core::v1::ConfigMap,
};
use katonic_logging_core::{Installation, history::History, names};
use kube::{
    Api, Client, Config, ResourceExt,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::de::DeserializeOwned;

use crate::cache::chain;

/// How long to wait for a connection, and for an answer.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

/// Objects of one page of a list.
const PAGE: u32 = 500;

/// Which cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterArgs {
    /// Namespace of the operator, where the installation is.
    #[arg(short, long, default_value = names::OPERATOR_NAMESPACE)]
    pub namespace: String,
    /// Path of the kubeconfig; otherwise that of KUBECONFIG or ~/.kube/config, or the pod's own account.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; otherwise its current one.
    #[arg(long)]
    pub context: Option<String>,
}

/// How long an answer may be quiet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Patience {
    /// As long as an answer takes.
    OfAnswers,
    /// For ever: the log of a container has more when the container prints more.
    OfLogs,
}

/// Why the cluster gave no answer, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No kubeconfig, or none that can be used.
    #[error(
        "no cluster is configured: name a kubeconfig with --kubeconfig or KUBECONFIG, and a context with --context: {0}"
    )]
    NoCluster(String),
    /// Not allowed.
    #[error("you have no right to read {what}: {message}")]
    Forbidden {
        /// What was asked for.
        what: String,
        /// The API server's words.
        message: String,
    },
    /// Anything else.
    #[error("failed to read {what}: {reason}")]
    Unanswered {
        /// What was asked for.
        what: String,
        /// Why it did not come.
        reason: String,
    },
    /// The operator's ConfigMap is missing or cannot be used.
    #[error("{0}")]
    NoInstallation(String),
}

impl Error {
    /// A failed reading.
    pub fn read(what: impl Into<String>, error: &kube::Error) -> Self {
        let what = what.into();
        match error {
            kube::Error::Api(status) if status.code == 403 => Self::Forbidden {
                what,
                message: status.message.clone(),
            },
            error => Self::Unanswered {
                what,
                reason: chain(error),
            },
        }
    }
}

/// A client of the cluster.
///
/// # Errors
/// When no cluster is configured.
pub async fn connect(cluster: &ClusterArgs, patience: Patience) -> Result<Client, Error> {
    let options = KubeConfigOptions {
        context: cluster.context.clone(),
        ..KubeConfigOptions::default()
    };
    let no_cluster = |error: &dyn std::error::Error| Error::NoCluster(chain(error));
    let mut config = match (&cluster.kubeconfig, &cluster.context) {
        (Some(path), _) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| no_cluster(&error))?;
            Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .map_err(|error| no_cluster(&error))?
        }
        (None, Some(_)) => Config::from_kubeconfig(&options)
            .await
            .map_err(|error| no_cluster(&error))?,
        (None, None) => Config::infer().await.map_err(|error| no_cluster(&error))?,
    };
    config.connect_timeout = Some(PATIENCE.0);
    config.read_timeout = match patience {
        Patience::OfAnswers => Some(PATIENCE.1),
        Patience::OfLogs => None,
    };
    Client::try_from(config).map_err(|error| no_cluster(&error))
}

/// The installation of the operator in this namespace.
///
/// # Errors
/// When it is not there or cannot be used.
pub async fn installation(client: &Client, namespace: &str) -> Result<Installation, Error> {
    let what = format!("ConfigMap {namespace}/{}", names::INSTALLATION);
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(names::INSTALLATION).await;
    let found = found.map_err(|error| Error::read(what.clone(), &error))?;
    let yaml = found
        .and_then(|config_map| config_map.data)
        .and_then(|mut data| data.remove(names::INSTALLATION_KEY));
    let yaml = yaml.ok_or_else(|| {
        Error::NoInstallation(format!(
            "{what} is not there, or has no key {}: name the operator's namespace with --namespace",
            names::INSTALLATION_KEY
        ))
    })?;
    Installation::validate(&yaml, namespace)
        .map_err(|problem| Error::NoInstallation(problem.to_string()))
}

/// What pods have been given.
///
/// # Errors
/// When an object that remembers it cannot be read, by name and resource: it may be the one that does.
pub async fn history(client: &Client) -> Result<History, Error> {
    let bindings: Api<MutatingAdmissionPolicyBinding> = Api::all(client.clone());
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let unread = |resource: &str, name: &str, error: &kube::Error| {
        Error::read(
            format!("{resource}.admissionregistration.k8s.io/{name}"),
            error,
        )
    };
    // Below 1.36 there is no such kind, so none of it either.
    let binding = bindings.get_metadata_opt(names::ADMISSION_BINDING).await;
    let binding = binding.map_err(|error| {
        unread(
            "mutatingadmissionpolicybindings",
            names::ADMISSION_BINDING,
            &error,
        )
    })?;
    let configuration = configurations
        .get_metadata_opt(names::WEBHOOK_CONFIGURATION)
        .await;
    let configuration = configuration.map_err(|error| {
        unread(
            "mutatingwebhookconfigurations",
            names::WEBHOOK_CONFIGURATION,
            &error,
        )
    })?;
    let objects = [
        binding.as_ref().map(ResourceExt::annotations),
        configuration.as_ref().map(ResourceExt::annotations),
    ];
    let histories = objects.into_iter().flatten();
    let histories = histories.map(|annotations| History::read(annotations, None));
    Ok(histories.fold(History::default(), |all, one| all.and(&one)))
}

/// Everything of a kind, page by page.
///
/// # Errors
/// The first that is not answered.
pub async fn list<K>(api: &Api<K>, parameters: &ListParams) -> kube::Result<Vec<K>>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut parameters = parameters.clone().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = api.list(&parameters).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(all),
        }
    }
}
