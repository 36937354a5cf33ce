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
        Judged, Overview, PodView,
        text::{Palette, text},
        uncovered,
    },
    restart::{Id, Obstacle},
    sidecar::Sidecar,
};
use katonic_logging_crds::Plane;
use kube::{
    Api, Client, Resource, ResourceExt as _, api::ListParams, core::NamespaceResourceScope,
};
use serde::Serialize;

mod policies;
mod watch;

pub(crate) use policies::Policies;

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
pub(crate) enum Error {
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

impl Error {
    fn output(error: &dyn std::error::Error) -> Self {
        Self::Output(chain(error))
    }
}

/// Shows what was asked for. The exit code is told in the help of the command.
pub async fn run(args: StatusArgs) -> ExitCode {
    let shown = if args.watch {
        follow(&args).await.map(|()| true)
    } else {
        show(&args).await
    };
    match shown {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(3)
        }
    }
}

async fn follow(args: &StatusArgs) -> Result<(), Error> {
    let client = access::connect(&args.cluster, Patience::OfLogs).await?;
    // What is wrong with the question is said at once.
    let policies = Policies::read(&client).await?.named(&args.policies)?;
    if let Some(why) = &policies.without_audit {
        complain(&format!("audit policies are not shown: {why}"));
    }
    watch::watch(&client, &args.policies, args.output).await
}

/// Shows it once: whether every policy is ready.
async fn show(args: &StatusArgs) -> Result<bool, Error> {
    let overview = overview(args).await?;
    let mut policies = overview.policies.iter();
    let is_ready = policies.all(|policy| policy.ready == Some(true));
    let rendered = render(&overview, args.output, |overview| {
        text(overview, palette(), Timestamp::now())
    })?;
    print(&rendered)?;
    Ok(is_ready)
}

/// A thing in the form that was asked for.
pub(crate) fn render<T: Serialize>(
    thing: &T,
    output: Output,
    text: impl FnOnce(&T) -> String,
) -> Result<String, Error> {
    match output {
        Output::Text => Ok(text(thing)),
        Output::Json => {
            let json = serde_json::to_string_pretty(thing);
            json.map(|json| json + "\n")
                .map_err(|error| Error::output(&error))
        }
        Output::Yaml => serde_saphyr::to_string(thing).map_err(|error| Error::output(&error)),
    }
}

/// Colours on a terminal only, and not where somebody wants none.
pub(crate) fn palette() -> Palette {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stdout().is_terminal() && !no_color {
        Palette::Colour
    } else {
        Palette::Plain
    }
}

/// Whether anybody still reads what is printed.
pub(crate) fn print(rendered: &str) -> Result<bool, Error> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(rendered.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Ok(()) => Ok(true),
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::output(&error)),
    }
}

/// Says what is wrong; without a stderr there is nobody to tell.
pub(crate) fn complain(what: &str) {
    let _ = writeln!(std::io::stderr(), "katonic-logging: {what}");
}

async fn overview(args: &StatusArgs) -> Result<Overview, Error> {
    let client = access::connect(&args.cluster, Patience::OfAnswers).await?;
    let policies = Policies::read(&client).await?.named(&args.policies)?;
    let pods = if args.pods {
        Some(pods(&client, &policies.logging, &args.cluster.namespace).await?)
    } else {
        None
    };
    if let Some(why) = &policies.without_audit {
        complain(&format!("audit policies are not shown: {why}"));
    }
    Ok(Overview {
        policies: policies.views(),
        pods,
    })
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
