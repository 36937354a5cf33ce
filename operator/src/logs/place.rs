//! Where an execution's log is read, and as whom: what the command line and the installation say.

use std::{collections::BTreeMap, sync::atomic::AtomicBool};

use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use katonic_log_config::CredentialKey;
use katonic_logging_core::{
    Installation,
    credential::{Credential, Keyring, Lookup},
    execution::{
        Kind, Location,
        location::{Reach, Unlocated},
    },
    policy::Needs,
};
use katonic_logging_crds::SecretKeyRef;
use kube::{Api, Client};

use super::{
    Failure, Reader,
    args::{KindArg, LogsArgs, Place},
    running::Pods,
    show::say,
    store::{Credentials, Store, Way, needs},
};
use crate::access::{self, Patience};

/// A reader as the command line wants it.
pub async fn reader(args: &LogsArgs, now: Timestamp) -> Result<Reader, Failure> {
    let store_args = &args.store;
    let is_spelled_out = store_args.is_spelled_out();
    let cluster = &args.cluster;
    let is_cluster_named = cluster.kubeconfig.is_some() || cluster.context.is_some();
    let uses_pods = match args.from {
        Place::Archive => false,
        Place::Pods => true,
        Place::All => !is_spelled_out || args.follow || is_cluster_named,
    };
    let uses_cluster = uses_pods || !is_spelled_out || store_args.credentials_secret.is_some();
    let client = if uses_cluster {
        Some(access::connect(cluster, Patience::OfAnswers).await?)
    } else {
        None
    };
    let installation = match &client {
        Some(client) if uses_pods || !is_spelled_out => {
            Some(access::installation(client, &cluster.namespace).await?)
        }
        _ => None,
    };
    let namespace = installation.as_ref().map(|known| &known.compute_namespace);
    let subject = args.subject(namespace)?;
    let kind = args
        .kind
        .map(|kind| (kind.into(), args.workload_type_label.clone()));
    let store = if args.from == Place::Pods {
        None
    } else {
        store(args, client.as_ref(), installation.as_ref()).await?
    };
    let pods = match (client, &installation) {
        (Some(client), Some(installation)) if uses_pods => Some(
            Pods::new(
                client,
                cluster,
                installation,
                subject.clone(),
                args.container.clone(),
                kind.clone(),
            )
            .await?,
        ),
        _ => None,
    };
    Ok(Reader {
        subject,
        form: args.output,
        since: args.since.map(|since| since.since(now)),
        kind,
        patterns: args.container.clone(),
        store,
        pods,
        is_named: AtomicBool::new(false),
        is_told: AtomicBool::new(false),
    })
}

async fn store(
    args: &LogsArgs,
    client: Option<&Client>,
    installation: Option<&Installation>,
) -> Result<Option<Store>, Failure> {
    let store = &args.store;
    let location = match (store.location(), installation) {
        (Some(location), _) => location.map(|location| (location, Reach::default())),
        (None, Some(installation)) => Location::of(&installation.log_store),
        (None, None) => Err(Unlocated::None),
    };
    let (location, reach) = match location {
        Ok(location) => location,
        Err(Unlocated::None) if args.from == Place::All => {
            say("the installation names no store of logs: only pods are read");
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let namespace = &args.cluster.namespace;
    let credentials = match (&store.credentials_secret, client) {
        (Some(name), Some(client)) => {
            let secret = secret(client, namespace, name).await?.ok_or_else(|| {
                Failure::Unreadable(format!(
                    "Secret {namespace}/{name} does not exist: it needs {}",
                    needs(&location.bucket)
                ))
            })?;
            let data = secret.data.unwrap_or_default().into_iter();
            // What is no text is no credential either.
            let data =
                data.filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?)));
            let name = format!("{namespace}/{name}");
            Credentials::of_secret(&location.bucket, &data.collect(), &name)?
        }
        _ => Credentials::of_environment(&location.bucket).await?,
    };
    let authorities = match &store.ca_file {
        Some(path) => Some(std::fs::read(path).map_err(|error| {
            Failure::Unreadable(format!("{} cannot be read: {error}", path.display()))
        })?),
        None => None,
    };
    let Reach { connection, needs } = reach.of_reader(&location, authorities.is_some())?;
    let way = Way {
        connection,
        credentials: match client {
            Some(client) => resolve(&needs, client, namespace).await?,
            None => BTreeMap::new(),
        },
        authorities,
    };
    Ok(Some(Store::new(location, credentials, &way)?))
}

/// The credentials without which the installation's store is not reached.
async fn resolve(
    needs: &Needs,
    client: &Client,
    namespace: &str,
) -> Result<BTreeMap<CredentialKey, Credential>, Failure> {
    let mut lookups = BTreeMap::new();
    for source in needs.sources.values() {
        let SecretKeyRef { name, key } = &source.secret;
        let lookup = match secret(client, namespace, name).await? {
            None => Lookup::SecretMissing,
            Some(secret) => match secret.data.and_then(|mut data| data.remove(key)) {
                None => Lookup::KeyMissing,
                Some(value) => Lookup::Found(Credential::new(value.0)),
            },
        };
        lookups.insert(source.secret.clone(), lookup);
    }
    let (values, refusals) = Keyring::open([needs], &lookups, namespace).resolve(needs);
    let Some((_, reason)) = refusals.first() else {
        return Ok(values);
    };
    Err(Failure::Unreadable(format!(
        "the installation's store of logs cannot be reached: {reason}; or name the store with --bucket, --gcs-bucket or --azure-container"
    )))
}

async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Option<Secret>, Failure> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let what = format!("Secret {namespace}/{name}");
    let secret = api.get_opt(name).await;
    Ok(secret.map_err(|error| access::Error::read(what, &error))?)
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Job => Self::Job,
            KindArg::Workspace => Self::Workspace,
            KindArg::App => Self::App,
            KindArg::ModelApi => Self::ModelApi,
        }
    }
}
