//! The node: with which configuration containerd, the kubelet and kube-proxy run. Starts none of them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{binaries::Binary, control_plane::Plan, network, supervisor::Process};
use crate::images;

/// The path of containerd's socket in the run's directory.
pub const CONTAINERD_SOCKET: &str = "containerd.sock";

impl Plan<'_> {
    pub fn containerd(&self) -> Result<Process> {
        let networks = self.path("cni");
        fs::create_dir_all(&networks).context("failed to make the folder of the pods' network")?;
        write(&networks.join("10-pods.conflist"), &self.pod_network())?;
        let plugins = self
            .binaries
            .path(Binary::Bridge)?
            .parent()
            .context("CNI plugins without a folder")?;
        let configuration = self.path("containerd.toml");
        let quoted = |path: &Path| Value::from(path.display().to_string()).to_string();
        let text = format!(
            r#"version = 3
root = {root}
state = {state}

[grpc]
address = {socket}

[ttrpc]
address = {ttrpc}

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{sandbox}"

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
disable_apparmor = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = [{plugins}]
conf_dir = {networks}

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = {runc}
"#,
            root = quoted(&self.path("containerd")),
            state = quoted(&self.path("containerd-state")),
            socket = quoted(&self.path(CONTAINERD_SOCKET)),
            ttrpc = quoted(&self.path("containerd.ttrpc.sock")),
            sandbox = images::WORKLOAD,
            plugins = quoted(plugins),
            networks = quoted(&networks),
            runc = quoted(self.binaries.path(Binary::Runc)?),
        );
        fs::write(&configuration, text)
            .context("failed to write the configuration of containerd")?;
        let shims = self
            .binaries
            .path(Binary::ContainerdShim)?
            .parent()
            .context("a shim without a folder")?;
        let path = format!(
            "{}:{}",
            shims.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        Ok(
            Process::new("containerd", self.binaries.path(Binary::Containerd)?)
                .with(["--config".to_owned(), configuration.display().to_string()])
                .with_variable("PATH", &path),
        )
    }

    fn pod_network(&self) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [{
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": false,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": self.path("pod-addresses"),
                    "ranges": [[{"subnet": network::PODS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }],
        })
    }

    pub fn kubelet(&self) -> Result<Process> {
        let user = format!("system:node:{}", network::NODE_NAME);
        let identity = self
            .authority
            .client("kubelet", &user, Some("system:nodes"))?;
        let kubeconfig = self.kubeconfig("kubelet", &identity)?;
        // The machine's may name a resolver of its loopback, which pods do not reach. An empty one resolves nothing.
        let resolver = self.path("resolv.conf");
        fs::write(&resolver, "").context("failed to write the node's resolv.conf")?;
        let configuration = self.path("kubelet.json");
        let settings = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "x509": {"clientCAFile": self.authority.certificate()},
                "webhook": {"enabled": true},
                "anonymous": {"enabled": false},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": format!("unix://{}", self.path(CONTAINERD_SOCKET).display()),
            "resolvConf": resolver,
            "volumePluginDir": self.path("volume-plugins"),
            // Changed Secrets and ConfigMaps reach pods within seconds instead of a minute.
            "syncFrequency": "1s",
            "cgroupDriver": "cgroupfs",
            // The machine's other processes are none of the node's business.
            "cgroupsPerQOS": false,
            "enforceNodeAllocatable": ["none"],
            "failCgroupV1": false,
            "failSwapOn": false,
            // Pods are evicted for what they write; seen with real disks and overlay file systems.
            "localStorageCapacityIsolation": true,
            // A container that fails again and again is started again and again within a test.
            "crashLoopBackOff": {"maxContainerRestartPeriod": "2s"},
            "makeIPTablesUtilChains": false,
            "featureGates": {"KubeletInUserNamespace": true},
            "evictionHard": {
                "memory.available": "0%",
                "nodefs.available": "0%",
                "nodefs.inodesFree": "0%",
                "imagefs.available": "0%",
                "imagefs.inodesFree": "0%",
            },
            "imageGCHighThresholdPercent": 100,
        });
        write(&configuration, &settings)?;
        Ok(
            Process::new("kubelet", self.binaries.path(Binary::Kubelet)?).with([
                format!("--config={}", configuration.display()),
                format!("--kubeconfig={}", kubeconfig.display()),
                format!("--root-dir={}", self.path("kubelet").display()),
                format!("--cert-dir={}", self.path("kubelet-pki").display()),
                format!("--node-ip={}", network::NODE),
                format!("--hostname-override={}", network::NODE_NAME),
            ]),
        )
    }

    pub fn proxy(&self) -> Result<Process> {
        let identity = self
            .authority
            .client("kube-proxy", "system:kube-proxy", None)?;
        let kubeconfig = self.kubeconfig("kube-proxy", &identity)?;
        let configuration = self.path("kube-proxy.json");
        let settings = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "bindAddress": network::NODE,
            "clusterCIDR": network::PODS,
            "hostnameOverride": network::NODE_NAME,
            "clientConnection": {"kubeconfig": kubeconfig},
            // A limit of the whole machine, not of this network.
            "conntrack": {"maxPerCore": 0},
        });
        write(&configuration, &settings)?;
        Ok(
            Process::new("kube-proxy", self.binaries.path(Binary::KubeProxy)?)
                .with([format!("--config={}", configuration.display())]),
        )
    }
}

fn write(path: &Path, content: &Value) -> Result<()> {
    fs::write(path, content.to_string())
        .with_context(|| format!("failed to write {}", path.display()))
}
