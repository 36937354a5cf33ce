//! A cluster whose executions are archived, and a person who reads them.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use katonic_logging_core::names;
use katonic_logging_e2e::{
    cluster::{Cluster, Tier},
    eventually::eventually,
    images::{self, Image},
    operator::{COMPUTE, Installed, PLATFORM},
    receiver::{
        Minio,
        minio::{User, documented_policy, documented_roles},
    },
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

/// With room for a busy machine.
pub const WITHIN: Duration = Duration::from_mins(3);

const BUCKET: &str = "platform-logs";
pub const LABEL: &str = "dominodatalab.com/execution-id";
const READER: &str = "person";

/// A cluster with the operator from its image, a store that the installation names, and a person with the documented rights.
pub struct World {
    pub installed: Installed,
    minio: Arc<Minio>,
    pub program: PathBuf,
    pub kubeconfig: PathBuf,
}

impl World {
    pub async fn new() -> Option<Self> {
        let cluster = Cluster::start_or_skip(Tier::Node).await.unwrap()?;
        for image in [Image::Operator, Image::Agent] {
            let archive = spawn_blocking(move || image.build()).await.unwrap();
            cluster.load_image(&archive.unwrap()).await.unwrap();
        }
        let address = cluster.receiver_address().unwrap();
        let (minio, writer, reader) = cluster
            .inside(async move {
                let minio = Minio::start_at(address, None).await?;
                minio.make_bucket(BUCKET).await?;
                let user = async |id: &str, whose: &str| {
                    let policy = documented_policy(whose, BUCKET, "platform")?;
                    minio.user(id, &format!("of-the-{id}"), &policy).await
                };
                let (writer, reader) = (
                    user("agents", "agents").await?,
                    user("readers", "readers").await?,
                );
                anyhow::Ok((minio, writer, reader))
            })
            .await
            .unwrap()
            .unwrap();
        let installed = Installed::new(cluster).await.unwrap();
        let program = spawn_blocking(|| Image::Operator.executable())
            .await
            .unwrap();
        let mut world = Self {
            installed,
            minio: Arc::new(minio),
            program: program.unwrap(),
            kubeconfig: PathBuf::new(),
        };
        world.secret("log-store", &writer).await;
        world.secret("log-store-reader", &reader).await;
        world.install().await;
        world.person().await;
        world.policy().await;
        Some(world)
    }

    async fn secret(&self, name: &str, user: &User) {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": names::OPERATOR_NAMESPACE},
            "stringData": {"AWS_ACCESS_KEY_ID": user.id, "AWS_SECRET_ACCESS_KEY": user.secret},
        });
        self.apply(&secret.to_string()).await;
    }

    async fn apply(&self, manifests: &str) {
        let arguments = ["apply", "--server-side", "-f", "-"];
        let cluster = &self.installed.cluster;
        let applied = cluster.kubectl_with(&arguments, manifests).await.unwrap();
        applied.ok().unwrap();
    }

    async fn install(&self) {
        let yaml = format!(
            "namespaces: {{platform: {{name: {PLATFORM}}}, compute: {{name: {COMPUTE}}}}}\n\
             blob_storage: {{logs: {{type: s3, s3: {{bucket: {BUCKET}, region: us-east-1}}}}}}\n\
             logging:\n  agent: {{image: '{}'}}\n  logStore: {{credentialsSecretRef: {{name: log-store}}, endpoint: '{}', prefix: platform}}\n  \
             executionIdPatterns: ['^run-([0-9a-f]{{24}})-', '^model-([0-9a-f]{{24}})-']\n",
            images::AGENT,
            self.minio.url()
        );
        let maps: Api<ConfigMap> =
            Api::namespaced(self.installed.client.clone(), names::OPERATOR_NAMESPACE);
        let patch = Patch::Merge(json!({"data": {names::INSTALLATION_KEY: yaml}}));
        maps.patch(names::INSTALLATION, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// A person who has the roles of the documentation, and no others.
    async fn person(&mut self) {
        self.apply(&documented_roles().unwrap()).await;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.installed.client.clone(), COMPUTE);
        let account = serde_json::from_value(json!({"metadata": {"name": READER}})).unwrap();
        accounts
            .create(&PostParams::default(), &account)
            .await
            .unwrap();
        for namespace in [COMPUTE, names::OPERATOR_NAMESPACE] {
            let binding = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": READER, "namespace": namespace},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "execution-log-reader"},
                "subjects": [{"kind": "ServiceAccount", "name": READER, "namespace": COMPUTE}],
            });
            self.apply(&binding.to_string()).await;
        }
        let cluster = &self.installed.cluster;
        self.kubeconfig = cluster
            .kubeconfig_inside_for(COMPUTE, READER)
            .await
            .unwrap();
    }

    /// Objects are cut every second, so that archive and pod join anew all the time.
    async fn policy(&self) {
        let policy = json!({
            "apiVersion": "logging.katonic.ai/v1alpha1", "kind": "LoggingPolicy",
            "metadata": {"name": "executions"},
            "spec": {
                "logs": "Execution",
                "sinks": [{"name": "archive", "objectStorage": {"installation": true, "objects": {"maxAge": "1s"}}}],
            },
        });
        self.apply(&policy.to_string()).await;
        self.installed
            .ready("executions", "True", "InForce")
            .await
            .unwrap();
    }

    /// A pod of an execution whose user container does this.
    pub async fn pod(&self, name: &str, arguments: &[&str], more: Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": name, "labels": {LABEL: id_of(name)}},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 5,
                "containers": [{"name": "run", "image": images::WORKLOAD, "args": arguments}],
            },
        });
        if let (Some(spec), Value::Object(more)) = (pod["spec"].as_object_mut(), more) {
            spec.extend(more);
        }
        let pods: Api<Pod> = Api::namespaced(self.installed.client.clone(), COMPUTE);
        let pod = serde_json::from_value(pod).unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap()
    }

    fn command(&self, id: &str, flags: &[&str]) -> Command {
        let mut command = self.installed.cluster.command(&self.program).unwrap();
        command
            .args(["logs", id, "-o", "json"])
            .args(["--credentials-secret", "log-store-reader"])
            .args(flags)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .env("HOME", "/nonexistent")
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// What the command says of the execution of a pod that [`Self::pod`] has made.
    pub async fn logs(&self, name: &str, flags: &[&str]) -> Said {
        self.logs_of(&id_of(name), flags).await
    }

    /// What the command says of an execution.
    pub async fn logs_of(&self, id: &str, flags: &[&str]) -> Said {
        let mut command = self.command(id, flags);
        let output = spawn_blocking(move || command.output()).await.unwrap();
        Said::of(output.unwrap())
    }

    /// Waits until the execution of a pod has so many objects.
    pub async fn archived(&self, name: &str, objects: usize) {
        self.archived_of(&id_of(name), objects).await;
    }

    /// Waits until an execution has so many objects.
    pub async fn archived_of(&self, id: &str, objects: usize) {
        let prefix = format!("platform/executions/{id}/");
        eventually(format!("{objects} objects of {id}"), WITHIN, async || {
            let (minio, prefix) = (Arc::clone(&self.minio), prefix.clone());
            let keys = async move { minio.keys(BUCKET, &prefix).await };
            let keys = self.installed.cluster.inside(keys).await??;
            Ok((keys.len() >= objects).then_some(()))
        })
        .await
        .unwrap();
    }

    /// Waits until the user container of a pod runs.
    pub async fn runs(&self, name: &str) {
        let pods: Api<Pod> = Api::namespaced(self.installed.client.clone(), COMPUTE);
        eventually(format!("{name} runs"), WITHIN, async || {
            let pod = pods.get(name).await?;
            let statuses = pod.status.and_then(|status| status.container_statuses);
            let mut states = statuses
                .into_iter()
                .flatten()
                .filter_map(|status| status.state);
            Ok(states
                .any(|state| state.running.is_some() || state.terminated.is_some())
                .then_some(()))
        })
        .await
        .unwrap();
    }
}

pub fn id_of(name: &str) -> String {
    format!("execution-{name}")
}

/// How a run of the command went.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub lines: Vec<Value>,
    pub stderr: String,
}

impl Said {
    pub fn of(output: Output) -> Self {
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("of-the-"), "a credential in {stderr}");
        Self {
            code: output.status.code(),
            lines: stdout
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
            stderr,
        }
    }

    /// The numbers of the lines, as they were shown.
    pub fn numbers(&self) -> Vec<usize> {
        let number = |record: &Value| {
            let message = record["message"].as_str()?;
            message.split(' ').nth(1)?.parse().ok()
        };
        let numbers = self.lines.iter().map(number);
        numbers.collect::<Option<_>>().unwrap()
    }

    /// How many lines there are, after checking that every line up to the highest is there once.
    pub fn gapless(&self) -> usize {
        let numbers = self.numbers();
        let unique: BTreeSet<usize> = numbers.iter().copied().collect();
        let highest = unique.last().copied().unwrap_or_default();
        assert_eq!(
            (numbers.len(), unique.len()),
            (highest, highest),
            "{}",
            self.stderr
        );
        highest
    }
}
