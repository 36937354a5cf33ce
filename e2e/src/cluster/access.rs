//! How tests act on a cluster: kubectl, namespaces, service accounts, images and the node's files.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{Namespace, Node, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{
    Cluster, Kind, PATIENCE, Tier, binaries::Binary, given_refuses, kubeconfig,
    node::CONTAINERD_SOCKET, own::Own, readiness::is_ready,
};
use crate::{eventually::eventually, program};

/// What kubectl said.
#[derive(Clone, Debug)]
pub struct KubectlOutput {
    /// Whether it exited with 0.
    pub success: bool,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl KubectlOutput {
    /// What it printed, if it succeeded.
    ///
    /// # Errors
    /// With what it complained about.
    pub fn ok(self) -> Result<String> {
        if self.success {
            Ok(self.stdout)
        } else {
            bail!("kubectl: {}", self.stderr.trim())
        }
    }
}

impl Cluster {
    /// Runs kubectl as an administrator.
    ///
    /// # Errors
    /// When it cannot be run; its own failure is in the output.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<KubectlOutput> {
        self.kubectl_with(arguments, "").await
    }

    /// Runs kubectl with something to read, such as manifests for `apply -f -`.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub async fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<KubectlOutput> {
        let mut kubectl = Command::new(self.binaries().path(Binary::Kubectl)?)
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .arg("--cache-dir")
            .arg(self.folder().join("kubectl"))
            .args(arguments)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("failed to run kubectl")?;
        let mut stdin = kubectl.stdin.take().context("kubectl has no input")?;
        // What does not want its input closes it early.
        let (_written, output) = tokio::join!(
            async move {
                let written = stdin.write_all(input.as_bytes()).await;
                drop(stdin);
                written
            },
            kubectl.wait_with_output()
        );
        let output = output.context("failed to wait for kubectl")?;
        Ok(KubectlOutput {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Installs the definitions of the policies, and nothing else.
    ///
    /// # Errors
    /// When the API server does not take them.
    pub async fn install_definitions(&self) -> Result<()> {
        let definitions = program::workspace().join("manifests/crds");
        let definitions = definitions.to_string_lossy();
        self.kubectl(&["apply", "-f", &definitions]).await?.ok()?;
        let wait = [
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=30s",
        ];
        self.kubectl(&wait).await?.ok()?;
        Ok(())
    }

    /// Makes a namespace in which pods can be created at once: with its `default` service account.
    ///
    /// # Errors
    /// When it exists, or the API server refuses.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        let client = self.client().await?;
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        };
        let namespace = Namespace {
            metadata,
            ..Namespace::default()
        };
        Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .with_context(|| format!("failed to make the namespace {name}"))?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client, name);
        if self.tier() == Tier::ApiServer {
            // Nobody else makes it here, and without it no pod is admitted.
            let account = ServiceAccount {
                metadata: ObjectMeta {
                    name: Some("default".to_owned()),
                    ..ObjectMeta::default()
                },
                ..ServiceAccount::default()
            };
            accounts
                .create(&PostParams::default(), &account)
                .await
                .context("failed to make a service account")?;
            return Ok(());
        }
        eventually(
            format!("the namespace {name} has its service account"),
            PATIENCE,
            async || Ok(accounts.get_opt("default").await?.map(|_| ())),
        )
        .await
    }

    /// A client that is this service account, by a token of its own: what its RBAC rules do not grant is refused.
    ///
    /// # Errors
    /// When the account does not exist.
    pub async fn client_for(&self, namespace: &str, service_account: &str) -> Result<Client> {
        kubeconfig::client(&self.kubeconfig_for(namespace, service_account).await?).await
    }

    /// A kubeconfig that is this service account, for one hour; for programs on this machine.
    ///
    /// # Errors
    /// When the account does not exist.
    pub async fn kubeconfig_for(&self, namespace: &str, service_account: &str) -> Result<PathBuf> {
        let path = self
            .folder()
            .join(format!("{namespace}.{service_account}.kubeconfig"));
        let token = self.token_of(namespace, service_account).await?;
        kubeconfig::with_token(self.kubeconfig(), &path, &token)?;
        Ok(path)
    }

    /// The same for programs inside the cluster's network.
    ///
    /// # Errors
    /// When the account does not exist, or the cluster is a given one.
    pub async fn kubeconfig_inside_for(
        &self,
        namespace: &str,
        service_account: &str,
    ) -> Result<PathBuf> {
        let name = format!("{namespace}.{service_account}.inside.kubeconfig");
        let path = self.folder().join(name);
        let token = self.token_of(namespace, service_account).await?;
        kubeconfig::with_token(&self.kubeconfig_inside()?, &path, &token)?;
        Ok(path)
    }

    async fn token_of(&self, namespace: &str, service_account: &str) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(3600),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(service_account, &PostParams::default(), &request)
            .await
            .with_context(|| format!("failed to get a token of {namespace}/{service_account}"))?;
        let token = answer.status.and_then(|status| status.token);
        token.context("a token request without an answer")
    }

    /// Whether a node is ready for pods.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn node_ready(&self) -> Result<bool> {
        let nodes: Api<Node> = Api::all(self.client().await?);
        let nodes = nodes
            .list(&ListParams::default())
            .await
            .context("failed to list the nodes")?;
        Ok(nodes.items.iter().any(is_ready))
    }

    /// Loads an image archive (see [`crate::images`]) into the node.
    ///
    /// # Errors
    /// When the cluster has no node of ours, or containerd refuses the archive.
    pub async fn load_image(&self, archive: &Path) -> Result<()> {
        self.node("loading an image")?.load_image(archive).await
    }

    /// The folder of a pod's log files, as this machine sees what the node has at `/var/log/pods/…`.
    ///
    /// # Errors
    /// When the cluster has no node of ours.
    pub fn pod_logs(&self, namespace: &str, pod: &str, uid: &str) -> Result<PathBuf> {
        let own = self.node("reading the node's files")?;
        Ok(own
            .directory()
            .join("var-log/pods")
            .join(format!("{namespace}_{pod}_{uid}")))
    }

    fn node(&self, what: &str) -> Result<&Own> {
        match &self.0 {
            Kind::Own(own) if own.tier == Tier::Node => Ok(own),
            Kind::Own(own) => bail!("{what}: {:?} has no node", own.tier),
            Kind::Given(_) => Err(given_refuses(what)),
        }
    }
}

impl Own {
    pub(super) async fn load_image(&self, archive: &Path) -> Result<()> {
        let output = Command::new(self.binaries.path(Binary::Ctr)?)
            .arg("--address")
            .arg(self.directory().join(CONTAINERD_SOCKET))
            .args(["--namespace", "k8s.io", "images", "import"])
            .arg(archive)
            .stdin(Stdio::null())
            .output()
            .await
            .context("failed to run ctr")?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("failed to load {}: {complaint}", archive.display());
        }
        Ok(())
    }
}
