//! The addresses of a cluster. On the node's tier they are the same in every run, since each run has its own network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result};

/// The node's address. Not a loopback address: the kubelet and the API server's endpoints refuse those.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// The port of the API server inside the namespaces.
pub const API_PORT: u16 = 6443;
/// Where pods get their addresses; not masqueraded, so receivers see which pod is talking.
pub const PODS: &str = "10.98.0.0/24";
/// Where Services get their addresses.
pub const SERVICES: &str = "10.0.0.0/24";
/// The first address of [`SERVICES`]: `kubernetes.default.svc`.
pub const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The node's name.
pub const NODE_NAME: &str = "node1";

/// Where the components of one cluster listen.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub(super) etcd: SocketAddr,
    pub(super) etcd_peers: SocketAddr,
    pub(super) api: SocketAddr,
    pub(super) controller_manager: SocketAddr,
    pub(super) scheduler: SocketAddr,
}

impl Addresses {
    /// Inside the namespaces everything is free.
    pub fn inside() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            etcd: local(2379),
            etcd_peers: local(2380),
            api: SocketAddr::from((NODE, API_PORT)),
            controller_manager: local(10257),
            scheduler: local(10259),
        }
    }

    /// Ports of this machine that are free now. Somebody may take one before its component does: then start again.
    pub fn free() -> Result<Self> {
        // All at once, so that no port is handed out twice.
        let listeners = (0..5)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<Vec<_>, _>>()
            .context("failed to find free ports on 127.0.0.1")?;
        let mut addresses = listeners.iter().map(TcpListener::local_addr);
        let mut next = || {
            addresses
                .next()
                .context("too few ports")?
                .context("failed to read a port")
        };
        Ok(Self {
            etcd: next()?,
            etcd_peers: next()?,
            api: next()?,
            controller_manager: next()?,
            scheduler: next()?,
        })
    }

    /// Where a receiver may listen so that everything in the cluster reaches it.
    pub fn receivers(&self) -> IpAddr {
        self.api.ip()
    }
}
