//! One cluster for all the tests that run at the same time: a node, the operator as a pod, a collector.

use std::{
    fs::File,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        batch::v1::Job,
        core::v1::{Node, Pod},
    },
};
use katonic_logging_e2e::{
    cluster::{Cluster, Tier},
    eventually::eventually,
    images::{self, Image},
    operator::{COMPUTE, Installed, PLATFORM, splunk_policy},
    receiver::{Protocol, Receiver, Record, splunk::Rules},
};
use kube::{Api, Resource, ResourceExt as _, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    log_files::{Delivered, LogFile},
    seen::{Pods, WITHIN},
};

const TOKEN: &str = "11111111-2222-3333-4444-555555555555";

/// Pods with this label have a second policy, whose sink nobody reaches.
pub const UNREACHABLE: &str = "unreachable";

/// Pods with this label have a third one, whose fallback is the collector.
pub const SECOND_CHANCE: &str = "second-chance";

/// A cluster as the cases see it.
pub struct World {
    pub installed: Installed,
    pub receiver: Receiver,
    pub pods: Pods,
}

/// The world, and the runtime that its clients live in.
struct Shared {
    world: World,
    runtime: Runtime,
}

static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());

/// Runs a test in the world that the other tests run in, or in a new one where none does; not at all, and counted, where no
/// node can run.
pub fn test(test: impl AsyncFnOnce(&World)) {
    let Some(shared) = shared() else { return };
    shared.runtime.block_on(test(&shared.world));
}

fn shared() -> Option<Arc<Shared>> {
    let mut last = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shared) = last.upgrade() {
        return Some(shared);
    }
    let runtime = Runtime::new().unwrap();
    let cluster = runtime
        .block_on(Cluster::start_or_skip(Tier::Node))
        .unwrap()?;
    let world = runtime.block_on(World::new(cluster)).unwrap();
    let shared = Arc::new(Shared { world, runtime });
    *last = Arc::downgrade(&shared);
    Some(shared)
}

impl World {
    async fn new(cluster: Cluster) -> Result<Self> {
        for image in [Image::Operator, Image::Agent] {
            let archive = tokio::task::spawn_blocking(move || image.build()).await??;
            cluster.load_image(&archive).await?;
        }
        let address = cluster.receiver_address()?;
        let rules = Protocol::Splunk(Rules::with_token(TOKEN));
        let receiver = cluster
            .inside(Receiver::start((address, 8088).into(), rules))
            .await??;
        let installed = Installed::new(cluster).await?;
        installed.sink_secret("splunk", "token", TOKEN).await?;
        let pods = Pods::default();
        for namespace in [PLATFORM, COMPUTE] {
            pods.watch(&installed.client, namespace);
        }
        let world = Self {
            installed,
            receiver,
            pods,
        };
        let url = world.receiver.url();
        world
            .in_force(&splunk_policy("application-logs", &url, "splunk"))
            .await?;
        // A port on which nobody listens.
        let nowhere = url.replace(":8088", ":9");
        let mut unreachable = splunk_policy(UNREACHABLE, &nowhere, "splunk");
        let selector = json!({"matchLabels": {UNREACHABLE: "true"}});
        unreachable.spec.selector = Some(serde_json::from_value(selector)?);
        world.in_force(&unreachable).await?;
        let mut second_chance = splunk_policy(SECOND_CHANCE, &nowhere, "splunk");
        let selector = json!({"matchLabels": {SECOND_CHANCE: "true"}});
        second_chance.spec.selector = Some(serde_json::from_value(selector)?);
        let mut fallback = splunk_policy(SECOND_CHANCE, &url, "splunk").spec.sinks;
        for sink in &mut fallback {
            "fallback".clone_into(&mut sink.name);
        }
        second_chance.spec.sinks.append(&mut fallback);
        second_chance.spec.fallback = Some("fallback".to_owned());
        world.in_force(&second_chance).await?;
        Ok(world)
    }

    async fn in_force(&self, policy: &katonic_logging_crds::LoggingPolicy) -> Result<()> {
        self.installed.create(policy).await?;
        let name = policy.name_any();
        let policies = self.installed.policies();
        eventually(format!("{name} is in force"), WITHIN, async || {
            let status = policies.get(&name).await?.status.unwrap_or_default();
            let conditions = status.conditions;
            let is_ready = conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True");
            ensure!(is_ready, "its conditions are {conditions:?}");
            Ok(Some(()))
        })
        .await
    }

    /// Objects of a kind in a plane's namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.installed.client.clone(), namespace)
    }

    /// Creates an object in a plane's namespace.
    pub async fn create<K>(&self, namespace: &str, object: Value) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
        K::DynamicType: Default,
    {
        let kind = K::kind(&K::DynamicType::default()).into_owned();
        let object = serde_json::from_value(object).with_context(|| format!("no {kind}"))?;
        self.api::<K>(namespace)
            .create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("failed to create a {kind}"))
    }

    /// Creates a Job in the compute plane that makes one pod and no second one; returns the pod.
    pub async fn job(&self, name: &str, spec: Value, pod: &Value) -> Result<Pod> {
        let mut job = json!({
            "metadata": {"name": name},
            "spec": {"backoffLimit": 0, "template": {"metadata": pod["metadata"], "spec": pod["spec"]}},
        });
        merge(&mut job["spec"], spec);
        self.create::<Job>(COMPUTE, job).await?;
        self.pod_of("Job", name).await
    }

    /// Creates a bare pod in the compute plane.
    pub async fn pod(&self, name: &str, mut pod: Value) -> Result<Pod> {
        merge(&mut pod, json!({"metadata": {"name": name}}));
        self.create(COMPUTE, pod).await
    }

    /// The first pod of an owner, once there is one.
    pub async fn pod_of(&self, kind: &str, owner: &str) -> Result<Pod> {
        eventually(format!("{kind} {owner} has a pod"), WITHIN, async || {
            let pods = self.pods.of(kind, owner);
            Ok(pods.into_iter().next().map(|seen| seen.pod))
        })
        .await
    }

    /// The log file of a container's run, once there is one.
    pub async fn log_file(&self, pod: &Pod, container: &str, restart: u32) -> Result<LogFile> {
        let name = pod.name_any();
        let namespace = pod.namespace().context("a pod without a namespace")?;
        let uid = pod.uid().context("a pod without a UID")?;
        let folder = self.installed.cluster.pod_logs(&namespace, &name, &uid)?;
        let path = folder.join(container).join(format!("{restart}.log"));
        let what = format!("{container} of {name} writes (restart {restart})");
        let file = eventually(what, WITHIN, async || Ok(File::open(&path).ok())).await?;
        Ok(LogFile::new(file))
    }

    /// Waits until so many lines of a container are in its file.
    pub async fn wrote(&self, file: &LogFile, lines: usize) -> Result<()> {
        eventually(format!("{lines} lines are written"), WITHIN, async || {
            Ok((file.numbers()?.len() >= lines).then_some(()))
        })
        .await
    }

    /// What arrived of a container.
    pub fn records(&self, pod: &Pod, container: &str) -> Vec<Record> {
        // By UID: the pods of a StatefulSet have the names of those before them.
        let uid = pod.uid().unwrap_or_default();
        self.receiver.inspect(|received| {
            let of_container = |record: &&Record| {
                record.field("pod_uid") == uid && record.field("container") == container
            };
            received
                .records
                .iter()
                .filter(of_container)
                .cloned()
                .collect()
        })
    }

    /// What arrived of a container, beside its file.
    pub fn delivered(&self, pod: &Pod, container: &str, file: &LogFile) -> Result<Delivered> {
        Ok(Delivered::of(
            &file.numbers()?,
            &self.records(pod, container),
        ))
    }

    /// Millicores that a pod may ask for and no second one beside it.
    pub async fn most_of_the_node(&self) -> Result<u64> {
        let nodes: Api<Node> = Api::all(self.installed.client.clone());
        let node = nodes.get("node1").await?;
        let allocatable = node.status.and_then(|status| status.allocatable);
        let cpus: u64 = allocatable
            .and_then(|all| all.get("cpu")?.0.parse().ok())
            .context("the node does not say how many processors it has")?;
        Ok(cpus * 600)
    }
}

/// A pod whose supporting container does this.
pub fn running(arguments: &[&str]) -> Value {
    json!({
        "metadata": {},
        "spec": {"restartPolicy": "Never", "containers": [container(arguments)]},
    })
}

/// The same, with this instead or besides.
pub fn running_with(arguments: &[&str], more: Value) -> Value {
    let mut pod = running(arguments);
    merge(&mut pod, more);
    pod
}

/// The supporting container of a pod.
pub fn container(arguments: &[&str]) -> Value {
    json!({"name": EXECUTOR, "image": images::WORKLOAD, "args": arguments})
}

/// The container whose log is counted.
pub const EXECUTOR: &str = "executor";

/// Members of objects one by one; everything else is replaced.
pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
