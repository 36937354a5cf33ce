//! The webhook as a local process: the rights of its own service account, and its certificate mounted as by a kubelet.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Secret;
use katonic_logging_core::{
    certificate::{CERTIFICATE, PRIVATE_KEY},
    names,
};
use kube::Api;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::Mutex,
    task::{JoinHandle, spawn_blocking},
};

use crate::{
    cluster::Cluster,
    eventually::eventually,
    operator::{self, Installed, SOON},
    program,
    simulated::mounted_secret::MountedSecret,
};

/// Where the API server of a cluster without nodes reaches the webhook.
#[derive(Clone, Copy, Debug)]
pub struct Address(SocketAddr);

impl Address {
    /// A port that is free now.
    ///
    /// # Errors
    /// When none can be found.
    pub fn free() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .context("failed to find a port for the webhook")?;
        Ok(Self(listener.local_addr()?))
    }

    /// As the operator is told it.
    pub fn url(self) -> String {
        format!("https://{}", self.0)
    }

    /// The address and the port.
    pub fn socket(self) -> SocketAddr {
        self.0
    }
}

/// A running webhook. Dropping it kills it.
#[derive(Debug)]
pub struct Webhook {
    process: Child,
    folder: TempDir,
    mount: Arc<Mutex<MountedSecret>>,
    following: Option<JoinHandle<()>>,
    health: SocketAddr,
}

impl Webhook {
    /// Starts the webhook of the development profile. Its certificate is what the cluster's Secret holds, and follows it;
    /// it answers when it is ready.
    ///
    /// # Errors
    /// When it cannot be built or started.
    pub async fn start(installed: &Installed, address: Address) -> Result<Self> {
        Self::run(&program().await?, installed, address).await
    }

    /// Runs this program as the webhook.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn run(program: &Path, installed: &Installed, address: Address) -> Result<Self> {
        let mut webhook = Self::unmounted(program, &installed.cluster, address).await?;
        let secrets: Api<Secret> =
            Api::namespaced(installed.client.clone(), names::OPERATOR_NAMESPACE);
        let mount = webhook.mount.clone();
        webhook.following = Some(tokio::spawn(async move {
            let mut mounted = None;
            loop {
                if let Ok(Some(secret)) = secrets.get_opt(names::WEBHOOK_CERTIFICATE).await {
                    let files = files(secret);
                    if mounted.as_ref() != Some(&files) && mount.lock().await.write(&files).is_ok()
                    {
                        mounted = Some(files);
                    }
                }
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        }));
        Ok(webhook)
    }

    /// Starts it with an empty mount.
    ///
    /// # Errors
    /// As [`Webhook::start`].
    pub async fn without_certificate(cluster: &Cluster, address: Address) -> Result<Self> {
        Self::unmounted(&program().await?, cluster, address).await
    }

    async fn unmounted(program: &Path, cluster: &Cluster, address: Address) -> Result<Self> {
        let kubeconfig = cluster
            .kubeconfig_for(names::OPERATOR_NAMESPACE, names::WEBHOOK)
            .await?;
        let folder = tempfile::tempdir().context("failed to make a folder for the webhook")?;
        let mount = MountedSecret::new(folder.path().join("tls"))?;
        let log = File::create(folder.path().join("webhook.log"))
            .context("failed to make the webhook's log")?;
        let health = Address::free()?.socket();
        let process = Command::new(program)
            .arg("webhook")
            .args(["--address", &address.socket().to_string()])
            .args(["--health-address", &health.to_string()])
            .arg("--certificates")
            .arg(mount.dir())
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(
                log.try_clone()
                    .context("failed to share the webhook's log")?,
            )
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("failed to start the webhook")?;
        Ok(Self {
            process,
            folder,
            mount: Arc::new(Mutex::new(mount)),
            following: None,
            health,
        })
    }

    /// Mounts another certificate.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub async fn mount(&self, certificate: &str, key: &str) -> Result<()> {
        let files = BTreeMap::from([
            (CERTIFICATE.to_owned(), certificate.as_bytes().to_vec()),
            (PRIVATE_KEY.to_owned(), key.as_bytes().to_vec()),
        ]);
        self.mount.lock().await.write(&files)
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// With what it says instead.
    pub async fn ready(&self) -> Result<()> {
        eventually("the webhook is ready", SOON, async || {
            let (status, body) = self.get("/readyz").await?;
            anyhow::ensure!(status == 200, "{body}");
            Ok(Some(()))
        })
        .await
    }

    /// One of its endpoints: the status code and the body.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        operator::get(self.health, path).await
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> Result<u32> {
        self.process.id().context("the webhook has ended")
    }

    /// What it has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(self.folder.path().join("webhook.log"))
            .context("failed to read the webhook's log")
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(mut self) -> Result<()> {
        self.process
            .kill()
            .await
            .context("failed to kill the webhook")
    }

    /// SIGTERM, and waits until it has ended; whether it ended well.
    ///
    /// # Errors
    /// When it cannot be told.
    pub async fn terminate(mut self) -> Result<bool> {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?);
        kill(pid, Signal::SIGTERM).context("failed to terminate the webhook")?;
        let status = self.process.wait().await;
        Ok(status.context("failed to wait for the webhook")?.success())
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        if let Some(following) = &self.following {
            following.abort();
        }
        if std::thread::panicking() {
            eprintln!("--- the webhook's log\n{}", self.log().unwrap_or_default());
        }
    }
}

async fn program() -> Result<PathBuf> {
    spawn_blocking(|| program::build("katonic-logging-operator", "katonic-logging")).await?
}

/// What of the Secret the shipped Deployment mounts.
fn files(secret: Secret) -> BTreeMap<String, Vec<u8>> {
    let data = secret.data.unwrap_or_default();
    data.into_iter()
        .filter(|(key, _)| [CERTIFICATE, PRIVATE_KEY].contains(&key.as_str()))
        .map(|(key, value)| (key, value.0))
        .collect()
}
