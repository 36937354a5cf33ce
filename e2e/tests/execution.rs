//! `katonic-logging logs` on a real node: the archive and the running pod join without a gap, and no line is there twice.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

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
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

/// With room for a busy machine.
const WITHIN: Duration = Duration::from_mins(3);

const BUCKET: &str = "platform-logs";
const LABEL: &str = "dominodatalab.com/execution-id";
const READER: &str = "person";

/// A cluster with the operator from its image, a store that the installation names, and a person with the documented rights.
struct World {
    installed: Installed,
    minio: Arc<Minio>,
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl World {
    async fn new() -> Option<Self> {
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
             logging:\n  agent: {{image: '{}'}}\n  logStore: {{credentialsSecretRef: {{name: log-store}}, endpoint: '{}', prefix: platform}}\n",
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
    async fn pod(&self, name: &str, arguments: &[&str], more: Value) -> Pod {
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

    fn command(&self, name: &str, flags: &[&str]) -> Command {
        let mut command = self.installed.cluster.command(&self.program).unwrap();
        command
            .args(["logs", &id_of(name), "-o", "json"])
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

    async fn logs(&self, name: &str, flags: &[&str]) -> Said {
        let mut command = self.command(name, flags);
        let output = spawn_blocking(move || command.output()).await.unwrap();
        Said::of(output.unwrap())
    }

    /// Waits until the execution has so many objects.
    async fn archived(&self, name: &str, objects: usize) {
        let prefix = format!("platform/executions/{}/", id_of(name));
        eventually(format!("{objects} objects of {name}"), WITHIN, async || {
            let (minio, prefix) = (Arc::clone(&self.minio), prefix.clone());
            let keys = async move { minio.keys(BUCKET, &prefix).await };
            let keys = self.installed.cluster.inside(keys).await??;
            Ok((keys.len() >= objects).then_some(()))
        })
        .await
        .unwrap();
    }

    /// Waits until the user container of a pod runs.
    async fn runs(&self, name: &str) {
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

fn id_of(name: &str) -> String {
    format!("execution-{name}")
}

/// How a run of the command went.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    lines: Vec<Value>,
    stderr: String,
}

impl Said {
    fn of(output: Output) -> Self {
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
    fn numbers(&self) -> Vec<usize> {
        let number = |record: &Value| {
            let message = record["message"].as_str()?;
            message.split(' ').nth(1)?.parse().ok()
        };
        let numbers = self.lines.iter().map(number);
        numbers.collect::<Option<_>>().unwrap()
    }

    /// How many lines there are, after checking that every line up to the highest is there once.
    fn gapless(&self) -> usize {
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

/// Read again and again while the pod prints and its agent archives: each time the archive ends somewhere else.
async fn a_running_pod_is_read_without_a_gap_or_a_duplicate(world: &World) {
    let name = "seam";
    world
        .pod(
            name,
            &["forever", "--rate", "400", "--stderr-every", "5"],
            json!({}),
        )
        .await;
    world.archived(name, 2).await;
    let mut highest = 0;
    let mut seams = 0;
    for _ in 0..12 {
        let said = world.logs(name, &[]).await;
        assert_eq!(said.code, Some(3), "{}", said.stderr);
        let numbers = said.gapless();
        assert!(numbers > highest);
        highest = numbers;
        let archived = said
            .lines
            .iter()
            .filter(|record| record["record_id"].is_string())
            .count();
        seams += usize::from(archived > 0 && archived < numbers);
        assert!(
            said.stderr.contains("not complete yet: "),
            "{}",
            said.stderr
        );
    }
    assert!(seams > 6, "in {seams} of 12 readings both had lines");
    // One of both alone has less.
    let archive = world.logs(name, &["--from", "archive"]).await;
    assert!(archive.gapless() > 0 && archive.code == Some(3));
    let pods = world.logs(name, &["--from", "pods"]).await;
    assert!(pods.gapless() >= highest, "the file was not rotated");
    let pods: Api<Pod> = Api::namespaced(world.installed.client.clone(), COMPUTE);
    pods.delete(name, &DeleteParams::default()).await.unwrap();
    eventually("the pod is gone", WITHIN, async || {
        Ok(pods.get_opt(name).await?.is_none().then_some(()))
    })
    .await
    .unwrap();
    let whole = world.logs(name, &[]).await;
    assert_eq!(whole.code, Some(0), "{}", whole.stderr);
    let lines = whole.gapless();
    assert!(lines >= highest);
    let verified = format!("verified: {}", lines / 1000);
    assert!(whole.stderr.contains(&verified), "{}", whole.stderr);
}

/// A Job's pod is followed from its beginning to its end.
async fn a_pod_is_followed_to_its_end_and_verified(world: &World) {
    const LINES: usize = 4_000;
    let name = "followed";
    world
        .pod(
            name,
            &["lines", &LINES.to_string(), "--rate", "800"],
            json!({}),
        )
        .await;
    world.runs(name).await;
    let said = world.logs(name, &["--follow"]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.gapless(), LINES);
    assert!(said.numbers().is_sorted(), "{}", said.stderr);
    assert!(
        said.stderr.contains("verified: 4,000 lines, complete"),
        "{}",
        said.stderr
    );
}

/// Each run of the container is another log.
async fn restarts_are_followed(world: &World) {
    const LINES: usize = 500;
    let name = "restarted";
    let more = json!({
        "restartPolicy": "OnFailure",
        "volumes": [{"name": "memory", "emptyDir": {}}],
        "containers": [{
            "name": "run", "image": images::WORKLOAD,
            "args": ["attempts", "2", "/memory", LINES.to_string()],
            "volumeMounts": [{"name": "memory", "mountPath": "/memory"}],
        }],
    });
    world.pod(name, &[], more).await;
    world.runs(name).await;
    let said = world.logs(name, &["--follow"]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.gapless(), 3 * LINES);
    assert!(
        said.stderr
            .contains("verified: 1,500 lines, complete (3 runs)"),
        "{}",
        said.stderr
    );
}

/// More than the kubelet shows: what it has rotated away is in the archive by then.
async fn a_log_that_is_rotated_is_read_whole(world: &World) {
    const LINES: usize = 600_000;
    let name = "rotated";
    world
        .pod(
            name,
            &["lines", &LINES.to_string(), "--rate", "25000"],
            json!({}),
        )
        .await;
    world.archived(name, 3).await;
    let mut readings = 0;
    loop {
        let said = world.logs(name, &[]).await;
        readings += 1;
        let lines = said.gapless();
        if said.code == Some(0) {
            assert_eq!(lines, LINES);
            assert!(
                said.stderr.contains("verified: 600,000 lines, complete"),
                "{}",
                said.stderr
            );
            break;
        }
        assert_eq!(said.code, Some(3), "{}", said.stderr);
    }
    assert!(readings > 1, "the first reading already found everything");
}

/// Nothing is archived of it: its log is all there is, and that is said.
async fn a_pod_without_an_agent_is_read_and_is_not_complete(world: &World) {
    let name = "bare";
    let pods: Api<Pod> = Api::namespaced(world.installed.client.clone(), COMPUTE);
    let pod = json!({
        "metadata": {"name": name, "labels": {LABEL: id_of(name), names::INJECT_LABEL: names::INJECT_NO}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "run", "image": images::WORKLOAD, "args": ["lines", "100"]}],
        },
    });
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    world.runs(name).await;
    let said = world.logs(name, &["--follow"]).await;
    assert_eq!(said.gapless(), 100);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(
        said.stderr.contains(
            "0 lines from the archive and 100 from pods; no completeness record of bare/run"
        ),
        "{}",
        said.stderr
    );
}

async fn what_a_person_may_not_read_is_said(world: &World) {
    let said = world.logs("nobody", &[]).await;
    assert_eq!(said.code, Some(5), "{}", said.stderr);
    assert!(
        said.stderr
            .contains("among the pods of namespace katonic-compute"),
        "{}",
        said.stderr
    );
    let said = world
        .logs("nobody", &["--credentials-secret", "log-store"])
        .await;
    assert_eq!(said.code, Some(2), "named twice: {}", said.stderr);
    let mut command = world.installed.cluster.command(&world.program).unwrap();
    command
        .args([
            "logs",
            "x",
            "--credentials-secret",
            "log-store",
            "--kubeconfig",
        ])
        .arg(&world.kubeconfig)
        .env("HOME", "/nonexistent");
    let output = spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let said = Said::of(output);
    assert_eq!(said.code, Some(1));
    assert!(
        said.stderr
            .contains("you have no right to read Secret katonic-logging/log-store"),
        "{}",
        said.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn archive_and_pods_are_one_log() {
    let Some(world) = World::new().await else {
        return;
    };
    // One after the other: each wants the node's two cores for itself.
    what_a_person_may_not_read_is_said(&world).await;
    a_running_pod_is_read_without_a_gap_or_a_duplicate(&world).await;
    a_pod_is_followed_to_its_end_and_verified(&world).await;
    restarts_are_followed(&world).await;
    a_pod_without_an_agent_is_read_and_is_not_complete(&world).await;
    a_log_that_is_rotated_is_read_whole(&world).await;
}
