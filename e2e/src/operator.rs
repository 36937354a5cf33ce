//! The operator as a local process: its shipped manifests, its own service account, and nothing more than that grants.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result};
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Condition,
};
use katonic_log_config::{Bundle, bundle::hex, layout};
use katonic_logging_core::names;
use katonic_logging_crds::{
    AuditPolicy, AuditPolicySpec, AuditPolicyStatus, LoggingPolicy, LoggingPolicySpec,
    LoggingPolicyStatus, SecretKeyRef, Sink, SplunkSink,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    task::spawn_blocking,
};

use crate::{
    cluster::{Cluster, Component, GIVEN, Minor, Options, Store, Tier},
    eventually::eventually,
    program,
};

/// The platform plane's namespace, as the shipped installation names it.
pub const PLATFORM: &str = "katonic-platform";

/// The compute plane's namespace, as the shipped installation names it.
pub const COMPUTE: &str = "katonic-compute";

/// How long the operator has for what it does at once.
pub const SOON: Duration = Duration::from_secs(20);

/// A running operator. Dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    process: Child,
    folder: TempDir,
    /// Port of its health endpoints on loopback.
    pub port: u16,
}

impl Operator {
    /// Starts the operator of the development profile as this instance.
    ///
    /// # Errors
    /// When it cannot be built or started.
    pub async fn start(cluster: &Cluster, identity: &str) -> Result<Self> {
        Self::start_with(cluster, identity, &[]).await
    }

    /// The same in another namespace than the shipped one.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_in(cluster: &Cluster, namespace: &str, identity: &str) -> Result<Self> {
        Self::run(&program().await?, cluster, namespace, identity, &[]).await
    }

    /// The same with further arguments.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(cluster: &Cluster, identity: &str, arguments: &[&str]) -> Result<Self> {
        Self::run_shipped(&program().await?, cluster, identity, arguments).await
    }

    /// Runs this program as the operator, in the shipped namespace.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn run_shipped(
        program: &Path,
        cluster: &Cluster,
        identity: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let namespace = names::OPERATOR_NAMESPACE;
        Self::run(program, cluster, namespace, identity, arguments).await
    }

    async fn run(
        program: &Path,
        cluster: &Cluster,
        namespace: &str,
        identity: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let kubeconfig = cluster.kubeconfig_for(namespace, "katonic-logging").await?;
        let folder =
            tempfile::tempdir().context("failed to make a folder for the operator's log")?;
        let port = free_port()?;
        let log = File::create(folder.path().join("operator.log"))
            .context("failed to make the operator's log")?;
        let process = Command::new(program)
            .args(["controller", "--identity", identity])
            .args(["--namespace", namespace])
            .args(["--health-address", &format!("127.0.0.1:{port}")])
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(
                log.try_clone()
                    .context("failed to share the operator's log")?,
            )
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("failed to start the operator")?;
        Ok(Self {
            process,
            folder,
            port,
        })
    }

    /// What it has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(self.log_path()).context("failed to read the operator's log")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("operator.log")
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> Result<u32> {
        self.process.id().context("the operator has ended")
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(mut self) -> Result<()> {
        self.process
            .kill()
            .await
            .context("failed to kill the operator")
    }

    /// SIGTERM, and waits until it has ended; whether it ended well.
    ///
    /// # Errors
    /// When it cannot be told.
    pub async fn terminate(self) -> Result<bool> {
        self.signal(Signal::SIGTERM)?;
        self.ends().await
    }

    /// SIGSTOP: it does nothing until it is resumed, as on a machine that is suspended.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?);
        kill(pid, signal).with_context(|| format!("failed to send {signal} to the operator"))
    }

    /// Waits until it has ended by itself; whether it ended well.
    ///
    /// # Errors
    /// When it cannot be told.
    pub async fn ends(mut self) -> Result<bool> {
        let status = self
            .process
            .wait()
            .await
            .context("failed to wait for the operator")?;
        Ok(status.success())
    }

    /// One of its endpoints: the status code and the body.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        get(([127, 0, 0, 1], self.port).into(), path).await
    }
}

/// Asks a server of plain HTTP: the status code and the body.
///
/// # Errors
/// When it does not answer.
pub async fn get(address: std::net::SocketAddr, path: &str) -> Result<(u16, String)> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get(path)
        .header("host", "127.0.0.1")
        .body(String::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = http_body_util::BodyExt::collect(response.into_body())
        .await?
        .to_bytes();
    connection.abort();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

impl Drop for Operator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the operator's log\n{}", self.log().unwrap_or_default());
        }
    }
}

async fn program() -> Result<PathBuf> {
    spawn_blocking(|| program::build("katonic-logging-operator", "katonic-logging")).await?
}

fn free_port() -> Result<u16> {
    let listener =
        std::net::TcpListener::bind("127.0.0.1:0").context("failed to find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// What an API server of this minor has stored after the manifests were applied.
async fn store(minor: Minor) -> Result<Store> {
    let manifests = program::workspace().join("manifests");
    let content = spawn_blocking(move || digest(&manifests)).await??;
    let folder = program::workspace().join("target/suite/stores");
    let name = format!("{content}-{minor:?}");
    let kept = spawn_blocking(move || Store::kept(&folder, &name)).await??;
    let making = match kept {
        Ok(store) => return Ok(store),
        Err(making) => making,
    };
    let options = Options {
        minor,
        ..Options::default()
    };
    let installed = Installed::new(Cluster::start_with(Tier::ApiServer, options).await?).await?;
    let cluster = installed.cluster;
    cluster.stop_component(Component::ApiServer)?;
    cluster.stop_component(Component::Etcd)?;
    let directory = cluster.directory()?.to_owned();
    spawn_blocking(move || making.keep(&directory, |name| !name.starts_with(&content))).await?
}

/// A name that changes with everything in a folder.
fn digest(folder: &Path) -> Result<String> {
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("failed to list {}", folder.display()))?;
        for entry in entries {
            let path = entry.context("failed to list a folder")?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        let content =
            fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        hash.update(format!("{} {}\n", path.display(), content.len()));
        hash.update(content);
    }
    Ok(hex(hash.finalize().get(..8).unwrap_or_default()))
}

/// A cluster with the plane namespaces and the shipped manifests, as a test acts on it.
pub struct Installed {
    /// The cluster.
    pub cluster: Cluster,
    /// An administrator.
    pub client: Client,
}

impl std::fmt::Debug for Installed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Installed")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Installed {
    /// Starts a cluster with the plane namespaces and the shipped manifests in it.
    ///
    /// They are applied once for each content of the manifests; what the API server has stored then is what other clusters
    /// begin with. Where somebody else runs the cluster, where it has a node, and where writes are measured, they are
    /// applied each time.
    ///
    /// # Errors
    /// As [`Cluster::start`] and [`Self::new`].
    pub async fn start(tier: Tier, options: Options) -> Result<Self> {
        if env::var_os(GIVEN).is_some() || tier == Tier::Node || options.durable_writes {
            return Self::new(Cluster::start_with(tier, options).await?).await;
        }
        let store = store(options.minor).await?;
        let cluster = Cluster::start_on(tier, options, &store).await?;
        let client = cluster.client().await?;
        // It is served at once; kubectl asks first what is served.
        eventually("the API server tells of the policies", SOON, async || {
            let groups = client.list_api_groups().await?.groups;
            let is_told = groups.iter().any(|group| group.name == names::GROUP);
            Ok(is_told.then_some(()))
        })
        .await?;
        Ok(Self { cluster, client })
    }

    /// Makes the plane namespaces and applies the manifests as a user would. The Deployment's pod does not run below
    /// [`crate::cluster::Tier::Node`]: start an [`Operator`].
    ///
    /// # Errors
    /// With what kubectl says.
    pub async fn new(cluster: Cluster) -> Result<Self> {
        for namespace in [PLATFORM, COMPUTE] {
            cluster.namespace(namespace).await?;
        }
        Self::without_planes(
            cluster,
            &program::workspace().join("manifests").to_string_lossy(),
        )
        .await
    }

    /// Applies a kustomization, and makes no plane namespaces.
    ///
    /// # Errors
    /// With what kubectl says.
    pub async fn without_planes(cluster: Cluster, kustomization: &str) -> Result<Self> {
        cluster
            .kubectl(&["apply", "--server-side", "-k", kustomization])
            .await?
            .ok()?;
        let client = cluster.client().await?;
        Ok(Self { cluster, client })
    }

    /// The policies.
    pub fn policies(&self) -> Api<LoggingPolicy> {
        Api::all(self.client.clone())
    }

    /// The audit policies.
    pub fn audit_policies(&self) -> Api<AuditPolicy> {
        Api::all(self.client.clone())
    }

    /// Makes an audit policy; for every event if it names none.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn audit(&self, name: &str, events: &[&str]) -> Result<AuditPolicy> {
        let named = events.iter().copied().map(str::to_owned).collect();
        let spec = AuditPolicySpec {
            events: (!events.is_empty()).then_some(named),
            ..AuditPolicySpec::default()
        };
        let policy = AuditPolicy::new(name, spec);
        let policies = self.audit_policies();
        let created = policies.create(&PostParams::default(), &policy).await;
        created.context("failed to make an audit policy")
    }

    /// Waits until the `Ready` condition of an audit policy has this status and reason for its present generation.
    ///
    /// # Errors
    /// With the condition as it is.
    pub async fn audit_ready(
        &self,
        policy: &str,
        status: &str,
        reason: &str,
    ) -> Result<AuditPolicyStatus> {
        let policies = self.audit_policies();
        eventually(
            format!("audit policy {policy} is Ready={status} because of {reason}"),
            SOON,
            async || {
                let policy = policies.get(policy).await?;
                let found = policy.status.clone().unwrap_or_default();
                let ready = found.conditions.iter().find(|one| one.type_ == "Ready");
                let holds = ready.is_some_and(|ready| {
                    ready.status == status
                        && ready.reason == reason
                        && ready.observed_generation == policy.metadata.generation
                });
                anyhow::ensure!(holds, "it is {ready:?}");
                Ok(Some(found))
            },
        )
        .await
    }

    /// Secrets of a namespace.
    pub fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Makes a sink Secret, or replaces its only key.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn sink_secret(&self, name: &str, key: &str, value: &str) -> Result<()> {
        let secrets = self.secrets(names::OPERATOR_NAMESPACE);
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            data: Some([(key.to_owned(), ByteString(value.as_bytes().to_vec()))].into()),
            ..Secret::default()
        };
        let parameters = PatchParams::apply("test").force();
        secrets
            .patch(name, &parameters, &Patch::Apply(&secret))
            .await
            .context("failed to write a sink Secret")?;
        Ok(())
    }

    /// Makes a policy.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn create(&self, policy: &LoggingPolicy) -> Result<LoggingPolicy> {
        let created = self.policies().create(&PostParams::default(), policy).await;
        created.context("failed to make a policy")
    }

    /// Deletes a policy.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.policies()
            .delete(name, &DeleteParams::default())
            .await
            .context("failed to delete a policy")?;
        Ok(())
    }

    /// Waits until the `Ready` condition of a policy has this status and reason for its present generation.
    ///
    /// # Errors
    /// With the condition as it is.
    pub async fn ready(
        &self,
        policy: &str,
        status: &str,
        reason: &str,
    ) -> Result<LoggingPolicyStatus> {
        let policies = self.policies();
        eventually(
            format!("policy {policy} is Ready={status} because of {reason}"),
            SOON,
            async || {
                let policy = policies.get(policy).await?;
                let found = policy.status.clone().unwrap_or_default();
                let ready = condition(&found, "Ready").cloned();
                let holds = ready.as_ref().is_some_and(|ready| {
                    ready.status == status
                        && ready.reason == reason
                        && ready.observed_generation == policy.metadata.generation
                });
                anyhow::ensure!(holds, "it is {ready:?}");
                Ok(Some(found))
            },
        )
        .await
    }

    /// The bundle Secret of a namespace.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn bundle_secret(&self, namespace: &str) -> Result<Option<Secret>> {
        self.secrets(namespace)
            .get_opt(names::BUNDLE)
            .await
            .context("failed to read a bundle")
    }

    /// What the agents of a namespace are told; none when there is no bundle.
    ///
    /// # Errors
    /// When the bundle cannot be decoded.
    pub async fn bundle(&self, namespace: &str) -> Result<Option<Bundle>> {
        let Some(secret) = self.bundle_secret(namespace).await? else {
            return Ok(None);
        };
        let data = secret.data.unwrap_or_default();
        let bytes = data
            .get(layout::BUNDLE_FILE)
            .context("a bundle Secret without a bundle")?;
        Ok(Some(Bundle::decode(&bytes.0)?.bundle))
    }
}

/// A condition by its type.
pub fn condition<'a>(status: &'a LoggingPolicyStatus, type_: &str) -> Option<&'a Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}

/// A policy for both planes with one Splunk sink whose token is the key `token` of this Secret.
pub fn splunk_policy(name: &str, endpoint: &str, secret: &str) -> LoggingPolicy {
    let token = SecretKeyRef {
        name: secret.to_owned(),
        key: "token".to_owned(),
    };
    let spec = LoggingPolicySpec {
        sinks: vec![Sink {
            name: "splunk".to_owned(),
            splunk: Some(SplunkSink::to(endpoint, token)),
            ..Sink::default()
        }],
        ..LoggingPolicySpec::default()
    };
    LoggingPolicy::new(name, spec)
}
