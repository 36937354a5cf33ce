//! `katonic-logging status`: asks the cluster for policies and pods, and shows them. Decides nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use k8s_openapi::{
    api::apps::v1::{DaemonSet, Deployment, StatefulSet},
    jiff::Timestamp,
};
use katonic_logging_core::{
    Candidate,
    coverage::{Expected, Owner, Parent, Pod, State, WorkloadKind},
    overview::{
        Judged, Overview, PodView, PolicyView,
        text::{Palette, text},
        uncovered,
    },
    restart::{Id, Obstacle},
    sidecar::Sidecar,
};
use katonic_logging_crds::{LoggingPolicy, Plane};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::ListParams,
    core::{DeserializeGuard, NamespaceResourceScope},
};

use crate::{
    access::{self, Patience, list},
    args::{Output, StatusArgs},
    cache::chain,
    owners::Owners,
    pod::PodSummary,
    workload::WorkloadSummary,
};

/// Why there is nothing to show, with what to do.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Access(#[from] access::Error),
    #[error(
        "the cluster does not know LoggingPolicy: install katonic-logging first (kubectl apply --server-side -k manifests)"
    )]
    NotInstalled,
    #[error(
        "there is no LoggingPolicy of the name {0}: `katonic-logging status` shows all there are"
    )]
    NoPolicy(String),
    #[error("the pods cannot be judged without an installation: {0}")]
    NoInstallation(String),
    #[error("failed to write the output: {0}")]
    Output(String),
}

/// Shows what was asked for. The exit code is told in the help of the command.
pub async fn run(args: StatusArgs) -> ExitCode {
    let shown = match overview(&args).await {
        Ok(overview) => {
            let is_ready = overview
                .policies
                .iter()
                .all(|policy| policy.ready == Some(true));
            write(&overview, args.output).map(|()| is_ready)
        }
        Err(error) => Err(error),
    };
    match shown {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // Without a stderr there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "katonic-logging: {error}");
            ExitCode::from(3)
        }
    }
}

fn write(overview: &Overview, output: Output) -> Result<(), Error> {
    let failed = |error: &dyn std::error::Error| Error::Output(chain(error));
    let rendered = match output {
        Output::Text => {
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let palette = if std::io::stdout().is_terminal() && !no_color {
                Palette::Colour
            } else {
                Palette::Plain
            };
            text(overview, palette, Timestamp::now())
        }
        Output::Json => serde_json::to_string_pretty(overview)
            .map(|json| json + "\n")
            .map_err(|error| failed(&error))?,
        Output::Yaml => serde_saphyr::to_string(overview).map_err(|error| failed(&error))?,
    };
    match std::io::stdout().lock().write_all(rendered.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| failed(&error)),
    }
}

async fn overview(args: &StatusArgs) -> Result<Overview, Error> {
    let client = access::connect(&args.cluster, Patience::OfAnswers).await?;
    let mut candidates = policies(&client).await?;
    if let Some(missing) = args
        .policies
        .iter()
        .find(|name| !candidates.iter().any(|candidate| candidate.name == **name))
    {
        return Err(Error::NoPolicy(missing.clone()));
    }
    if !args.policies.is_empty() {
        candidates.retain(|candidate| args.policies.contains(&candidate.name));
    }
    let pods = if args.pods {
        Some(pods(&client, &candidates, &args.cluster.namespace).await?)
    } else {
        None
    };
    Ok(Overview {
        policies: candidates.iter().map(PolicyView::of).collect(),
        pods,
    })
}

async fn policies(client: &Client) -> Result<Vec<Candidate>, Error> {
    let api: Api<DeserializeGuard<LoggingPolicy>> = Api::all(client.clone());
    let listed = list(&api, &ListParams::default()).await;
    let read = listed.map_err(|error| match error {
        // The group is not served: its definition is missing.
        kube::Error::Api(status) if status.code == 404 => Error::NotInstalled,
        error => access::Error::read("LoggingPolicies", &error).into(),
    })?;
    let candidate = |DeserializeGuard(policy)| match policy {
        Ok(policy) => Candidate::readable(&policy),
        Err(invalid) => Candidate::unreadable(&invalid.metadata, invalid.error),
    };
    Ok(read.into_iter().map(candidate).collect())
}

async fn pods(
    client: &Client,
    candidates: &[Candidate],
    operator_namespace: &str,
) -> Result<Vec<PodView>, Error> {
    let installation = access::installation(client, operator_namespace)
        .await
        .map_err(|error| match error {
            access::Error::NoInstallation(reason) => Error::NoInstallation(reason),
            error => error.into(),
        })?;
    let sidecar = Sidecar::new(&installation.agent)
        .map_err(|error| Error::NoInstallation(error.to_string()))?;
    let mut pods = BTreeMap::new();
    for plane in Plane::ALL {
        let namespace = installation.namespace(plane);
        let api: Api<PodSummary> = Api::namespaced(client.clone(), namespace);
        let running = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        let listed = list(&api, &running).await.map_err(|error| {
            access::Error::read(format!("pods of namespace {namespace}"), &error)
        })?;
        let read = listed
            .into_iter()
            .map(|pod| (pod.name_any(), Pod::from(pod)));
        pods.insert(plane, read.collect::<BTreeMap<_, _>>());
    }
    let history = access::history(client).await;
    let former = history
        .as_ref()
        .map(|history| history.former(&sidecar.revision));
    let former = former
        .map_err(|error| format!("whether its agent is an older one cannot be told: {error}"));
    let agent = history.unwrap_or_default().forms(&sidecar);
    let expected = Expected {
        agent: Some(agent.clone()),
        former: former.as_ref().ok().cloned(),
        refused: false,
    };
    let now = Timestamp::now();
    let mut replica_sets = BTreeMap::new();
    let mut obstacles = BTreeMap::new();
    for (plane, pods) in &pods {
        let namespace = installation.namespace(*plane);
        let parents: BTreeSet<Parent> = pods
            .values()
            .filter(|pod| {
                pod.state(&expected, now)
                    .is_some_and(State::is_mended_by_restart)
            })
            .map(|pod| pod.parent.clone())
            .collect();
        let mut owners = Owners::new(client.clone());
        owners.resolve(namespace, &parents).await;
        let found: BTreeSet<Owner> = parents.iter().map(|parent| owners.of(parent)).collect();
        obstacles.extend(obstructed(client, namespace, found).await);
        replica_sets.extend(owners.into_known());
    }
    let judged = Judged {
        installation: &installation,
        agent: &agent,
        former: former.as_ref().map_err(String::as_str),
        pods: &pods,
        replica_sets: &replica_sets,
        now,
        obstacles: &obstacles,
    };
    Ok(uncovered(candidates, judged))
}

/// Workloads that a restart alone does not make anew. One that cannot be read is taken for an ordinary one.
async fn obstructed(
    client: &Client,
    namespace: &str,
    owners: BTreeSet<Owner>,
) -> BTreeMap<Id, Obstacle> {
    let mut obstacles = BTreeMap::new();
    for owner in owners {
        let Owner::Workload(workload) = owner else {
            continue;
        };
        let name = workload.name.as_str();
        let obstacle = match workload.kind {
            WorkloadKind::Deployment => {
                obstacle::<Deployment>(client, namespace, workload.kind, name).await
            }
            WorkloadKind::StatefulSet => {
                obstacle::<StatefulSet>(client, namespace, workload.kind, name).await
            }
            WorkloadKind::DaemonSet => {
                obstacle::<DaemonSet>(client, namespace, workload.kind, name).await
            }
        };
        let id = Id {
            namespace: namespace.to_owned(),
            workload,
        };
        obstacles.extend(obstacle.map(|obstacle| (id, obstacle)));
    }
    obstacles
}

async fn obstacle<K>(
    client: &Client,
    namespace: &str,
    kind: WorkloadKind,
    name: &str,
) -> Option<Obstacle>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug,
{
    let api: Api<WorkloadSummary<K>> = Api::namespaced(client.clone(), namespace);
    let read = api.get(name).await.ok()?;
    read.object.observe(kind).obstacle
}
