//! From a changed policy to the bundles of both planes, beside the API server's own time for the same writes.
//!
//! Both are measured from outside, in turns, on a store that waits for the disk as in production: from the first
//! write until a watch has shown both Secrets. What remains between them is the operator's.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, future::try_join};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use katonic_log_config::{Bundle, layout};
use katonic_logging_core::names;
use katonic_logging_crds::LoggingPolicy;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams, WatchEvent, WatchParams},
};
use serde_json::json;
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
    time::{Instant, timeout},
};

use super::{Figure, median};
use crate::{
    cluster::{Cluster, Options, Tier, progress::Progress},
    operator::{COMPUTE, Installed, PLATFORM, splunk_policy},
    program,
};

/// How often each is measured.
const ROUNDS: usize = 40;

/// What the operator may add to the API server's own time (`docs/performance.md`).
const BUDGET: f64 = 1.5;

const POLICY: &str = "application-logs";

/// Namespaces for the writes without an operator.
const BARE: [&str; 2] = ["bare-one", "bare-two"];

const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn measure() -> Result<Vec<Figure>> {
    let program = spawn_blocking(|| {
        program::build_shipped("katonic-logging-operator", "katonic-logging", "operator")
    })
    .await??;
    let progress = Progress::start("measuring the operator: a changed policy to its bundles");
    let options = Options {
        durable_writes: true,
        ..Options::default()
    };
    let installed = Installed::new(Cluster::start_with(Tier::ApiServer, options).await?).await?;
    for namespace in BARE {
        installed.cluster.namespace(namespace).await?;
    }
    let _operator = start_operator(&installed.cluster, &program).await?;
    installed.sink_secret("splunk", "token", "measured").await?;
    let policy = splunk_policy(POLICY, "https://hec.example.com:8088", "splunk");
    installed.create(&policy).await?;
    installed.ready(POLICY, "True", "InForce").await?;

    let mut bench = Bench::new(installed.client.clone()).await?;
    let (mut bare, mut operated) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        bare.push(bench.bare(round).await?);
        operated.push(bench.operated(round).await?);
    }
    let ratio = median(&mut operated) / median(&mut bare);
    progress.done();
    Ok(vec![
        Figure::at_most(
            "policy applied to bundles written, of the bare writes' time",
            ratio,
            "times",
            BUDGET,
        ),
        Figure::told(
            "policy applied to bundles written, median",
            median(&mut operated),
            "ms",
        ),
        Figure::told(
            "the same writes without the operator, median",
            median(&mut bare),
            "ms",
        ),
    ])
}

/// Starts the operator with the rights of its service account; it dies with this process.
async fn start_operator(cluster: &Cluster, program: &Path) -> Result<Child> {
    let kubeconfig = cluster
        .kubeconfig_for(names::OPERATOR_NAMESPACE, "katonic-logging")
        .await?;
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .args(["controller", "--identity", "bench"])
        .args(["--namespace", names::OPERATOR_NAMESPACE])
        .args(["--health-address", "127.0.0.1:0"])
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("failed to start the operator (setpriv comes with util-linux)")
}

/// The API server, and what its watches show.
struct Bench {
    client: Client,
    /// Each Secret that changed: its namespace, itself, and when the watch showed it.
    seen: mpsc::UnboundedReceiver<(String, Secret, Instant)>,
    _watches: JoinSet<()>,
}

impl Bench {
    async fn new(client: Client) -> Result<Self> {
        let (sender, seen) = mpsc::unbounded_channel();
        let mut watches = JoinSet::new();
        for namespace in [PLATFORM, COMPUTE].into_iter().chain(BARE) {
            let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
            let now = secrets
                .list_metadata(&kube::api::ListParams::default())
                .await?;
            let version = now.metadata.resource_version.unwrap_or_default();
            let mut events = secrets
                .watch(&WatchParams::default(), &version)
                .await?
                .boxed();
            let sender = sender.clone();
            watches.spawn(async move {
                while let Some(Ok(event)) = events.next().await {
                    if let WatchEvent::Added(secret) | WatchEvent::Modified(secret) = event {
                        // Nobody listens any more: the measurement is over.
                        let _ = sender.send((namespace.to_owned(), secret, Instant::now()));
                    }
                }
            });
        }
        Ok(Self {
            client,
            seen,
            _watches: watches,
        })
    }

    /// The writes alone: one small object, then both Secrets at the same time. In milliseconds.
    async fn bare(&mut self, round: usize) -> Result<f64> {
        let bundle = self.bundle(&format!("bare-{round}")).await?;
        let parameters = PatchParams::apply("bench").force();
        let policy: Api<ConfigMap> = Api::namespaced(self.client.clone(), BARE[0]);
        let object = ConfigMap {
            metadata: named("policy"),
            data: Some([("spec".to_owned(), format!("components: [bare-{round}]"))].into()),
            ..ConfigMap::default()
        };
        let secret = Secret {
            metadata: named(names::BUNDLE),
            data: Some(bundle),
            ..Secret::default()
        };
        let [one, two] =
            BARE.map(|namespace| Api::<Secret>::namespaced(self.client.clone(), namespace));
        let begun = Instant::now();
        policy
            .patch("policy", &parameters, &Patch::Apply(&object))
            .await?;
        let write = Patch::Apply(&secret);
        try_join(
            one.patch(names::BUNDLE, &parameters, &write),
            two.patch(names::BUNDLE, &parameters, &write),
        )
        .await?;
        self.both(&BARE, &format!("bare-{round}"), begun).await
    }

    /// The policy alone is written here, and the operator does the rest. In milliseconds.
    async fn operated(&mut self, round: usize) -> Result<f64> {
        let policies: Api<LoggingPolicy> = Api::all(self.client.clone());
        let component = format!("component-{round}");
        let change = json!({"spec": {"components": [component]}});
        let begun = Instant::now();
        policies
            .patch(POLICY, &PatchParams::default(), &Patch::Merge(&change))
            .await
            .context("failed to change the policy")?;
        let took = self.both(&[PLATFORM, COMPUTE], &component, begun).await?;
        // The status is written after the bundles; the next round begins when nothing is under way.
        let generation = policies.get(POLICY).await?.metadata.generation;
        crate::eventually::eventually("the status has followed", PATIENCE, async || {
            let status = policies.get(POLICY).await?.status.unwrap_or_default();
            Ok((status.observed_generation == generation).then_some(()))
        })
        .await?;
        Ok(took)
    }

    /// Waits until the watches have shown the bundles of both namespaces with this component in them.
    async fn both(
        &mut self,
        namespaces: &[&str; 2],
        component: &str,
        begun: Instant,
    ) -> Result<f64> {
        let mut missing = namespaces.to_vec();
        let mut last = begun;
        while !missing.is_empty() {
            let (namespace, secret, at) = timeout(PATIENCE, self.seen.recv())
                .await
                .with_context(|| format!("{component} did not arrive in {missing:?}"))?
                .context("the watches have ended")?;
            if missing.contains(&namespace.as_str()) && names_component(&secret, component)? {
                missing.retain(|one| *one != namespace);
                last = at;
            }
        }
        Ok((last - begun).as_secs_f64() * 1000.0)
    }

    /// The data of a bundle Secret as the operator writes it, but for the component.
    async fn bundle(
        &self,
        component: &str,
    ) -> Result<std::collections::BTreeMap<String, ByteString>> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), PLATFORM);
        let mut data = secrets.get(names::BUNDLE).await?.data.unwrap_or_default();
        let bytes = data.get_mut(layout::BUNDLE_FILE).context("no bundle")?;
        let mut bundle = Bundle::decode(&bytes.0)?.bundle;
        for policy in &mut bundle.policies {
            policy.components = [component.to_owned()].into();
        }
        bytes.0 = bundle.encode()?;
        Ok(data)
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

fn names_component(secret: &Secret, component: &str) -> Result<bool> {
    if secret.name_any() != names::BUNDLE {
        return Ok(false);
    }
    let data = secret
        .data
        .as_ref()
        .and_then(|data| data.get(layout::BUNDLE_FILE));
    let bundle = Bundle::decode(&data.context("a bundle Secret without a bundle")?.0)?.bundle;
    Ok(bundle
        .policies
        .iter()
        .any(|policy| policy.components.contains(component)))
}
