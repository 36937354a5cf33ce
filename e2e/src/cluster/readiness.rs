//! When a component is ready: by what it can do, not by time.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::{Api, api::ListParams};
use tokio::net::{TcpStream, UnixStream};

use super::{kubeconfig, network, node::CONTAINERD_SOCKET, own::Own};
use crate::eventually::eventually;

/// A component of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The store.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers.
    ControllerManager,
    /// The scheduler.
    Scheduler,
    /// The container runtime. The containers go on while it is away.
    Containerd,
    /// The node's agent. The containers go on while it is away.
    Kubelet,
    /// Services.
    Proxy,
}

/// How long a component may take to start; the slowest takes 5 s on two idle cores.
const START: Duration = Duration::from_secs(90);

/// How much of a log an error shows.
const LINES: usize = 25;

impl Component {
    /// Its name, and that of its log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
        }
    }
}

impl Own {
    /// Returns when the component serves.
    ///
    /// # Errors
    /// At once when it has ended, else at the deadline, with the end of its log.
    pub(super) async fn ready(&self, component: Component) -> Result<()> {
        let name = component.name();
        let ended = eventually(format!("{name} is ready"), START, async || {
            if let Some(status) = self.supervisor.exited(name) {
                return Ok(Some(Err(anyhow!("{name} ended with {status}"))));
            }
            Ok(self.serves(component).await?.then_some(Ok(())))
        });
        ended.await.flatten().map_err(|error| {
            error.context(format!("the end of its log:\n{}", self.log_tail(component)))
        })
    }

    fn log_tail(&self, component: Component) -> String {
        let log = self
            .directory()
            .join("logs")
            .join(format!("{}.log", component.name()));
        tail(&log)
    }

    async fn serves(&self, component: Component) -> Result<bool> {
        match component {
            Component::Etcd => self.listens(self.addresses.etcd).await,
            Component::Scheduler => self.listens(self.addresses.scheduler).await,
            Component::ApiServer => {
                let client = kubeconfig::client(&self.kubeconfig).await?;
                let request = http::Request::get("/readyz").body(Vec::new())?;
                client
                    .request_text(request)
                    .await
                    .context("failed to ask for /readyz")?;
                // Its own start makes the namespaces that everything else needs.
                let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
                accounts.list(&ListParams::default()).await?;
                Ok(true)
            }
            Component::ControllerManager => {
                let client = kubeconfig::client(&self.kubeconfig).await?;
                let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
                Ok(accounts.get_opt("default").await?.is_some())
            }
            Component::Containerd => Ok(UnixStream::connect(
                self.directory().join(CONTAINERD_SOCKET),
            )
            .await
            .map(|_| true)?),
            Component::Kubelet => {
                let nodes: Api<Node> = Api::all(kubeconfig::client(&self.kubeconfig).await?);
                Ok(nodes
                    .get_opt(network::NODE_NAME)
                    .await?
                    .is_some_and(|node| is_ready(&node)))
            }
            Component::Proxy => {
                self.listens(SocketAddr::from((network::API_SERVICE, 443)))
                    .await
            }
        }
    }

    async fn listens(&self, address: SocketAddr) -> Result<bool> {
        let connected = self.network.handle()?.spawn(async move {
            tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await
        });
        connected
            .await??
            .with_context(|| format!("failed to connect to {address}"))?;
        Ok(true)
    }
}

/// Whether the node says of itself that it is ready for pods.
pub fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
