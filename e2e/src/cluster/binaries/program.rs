//! What each program of a cluster or receiver is called, which Go module it comes from, and how it is built. Builds nothing.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::cluster::{Minor, Tier};

/// One program of a cluster, or a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Binary {
    /// The store of the API server.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// The command line of Kubernetes, as users have it.
    Kubectl,
    /// Deployments, Jobs, garbage collection, service accounts.
    KubeControllerManager,
    /// Puts pods onto the node.
    KubeScheduler,
    /// The node's agent.
    Kubelet,
    /// Services, by nftables.
    KubeProxy,
    /// The container runtime.
    Containerd,
    /// The process that containerd starts for each pod.
    ContainerdShim,
    /// The command line of containerd: loads images.
    Ctr,
    /// Starts containers.
    Runc,
    /// The CNI plugin that gives pods an interface.
    Bridge,
    /// The CNI plugin for a pod's own `lo`.
    Loopback,
    /// The CNI plugin that gives pods an address.
    HostLocal,
    /// The API server of the oldest supported minor. No other component of that minor is needed.
    OldestKubeApiserver,
    /// The OpenTelemetry Collector, with an OTLP receiver and a file exporter only. No part of a cluster.
    OtelCollector,
    /// A store of objects that speaks the protocol of Amazon S3. No part of a cluster.
    Minio,
    /// Makes users of that store.
    MinioUser,
    /// Checks and tests the rules of alerts. No part of a cluster.
    Promtool,
    /// Reads `PromQL` and says what it asks for.
    Promql,
    /// Installs charts. No part of a cluster.
    Helm,
    /// Says how Argo CD and kstatus see objects.
    Health,
}

/// A Go module directory under `e2e/cluster/`, and how its programs are built.
pub(super) struct Module {
    pub(super) directory: &'static str,
    /// The required module whose version is the version of the programs.
    pub(super) versioned_by: &'static str,
    pub(super) cgo: bool,
    pub(super) tags: &'static str,
}

const KUBERNETES: Module = Module {
    directory: "kubernetes",
    versioned_by: "k8s.io/kubernetes",
    cgo: false,
    tags: "",
};
const OLDEST_KUBERNETES: Module = Module {
    directory: "kubernetes-oldest",
    ..KUBERNETES
};
const ETCD: Module = Module {
    directory: "etcd",
    versioned_by: "go.etcd.io/etcd/server/v3",
    cgo: false,
    tags: "",
};
const CONTAINERD: Module = Module {
    directory: "containerd",
    versioned_by: "github.com/containerd/containerd/v2",
    cgo: false,
    tags: "no_btrfs no_zfs no_devmapper no_aufs",
};
// Pods run under the RuntimeDefault seccomp profile, which runc knows only with cgo and libseccomp.
const RUNC: Module = Module {
    directory: "runc",
    versioned_by: "github.com/opencontainers/runc",
    cgo: true,
    tags: "seccomp",
};
const CNI: Module = Module {
    directory: "cni",
    versioned_by: "github.com/containernetworking/plugins",
    cgo: false,
    tags: "",
};

const OTEL_COLLECTOR: Module = Module {
    directory: "otelcol",
    versioned_by: "go.opentelemetry.io/collector/otelcol",
    cgo: false,
    tags: "",
};

const MINIO: Module = Module {
    directory: "minio",
    versioned_by: "github.com/minio/minio",
    cgo: false,
    tags: "",
};

// Neither needs a service discovery, which are most of the code.
const PROMETHEUS: Module = Module {
    directory: "prometheus",
    versioned_by: "github.com/prometheus/prometheus",
    cgo: false,
    tags: "remove_all_sd",
};

const HELM: Module = Module {
    directory: "helm",
    versioned_by: "helm.sh/helm/v4",
    cgo: false,
    tags: "",
};

const HEALTH: Module = Module {
    directory: "health",
    versioned_by: "github.com/yuin/gopher-lua",
    cgo: false,
    tags: "",
};

impl Binary {
    /// Every program, in the order in which they are built: what the lowest tier needs comes first.
    pub const ALL: [Self; 22] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::Kubectl,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::Kubelet,
        Self::KubeProxy,
        Self::Containerd,
        Self::ContainerdShim,
        Self::Ctr,
        Self::Runc,
        Self::Bridge,
        Self::Loopback,
        Self::HostLocal,
        Self::OldestKubeApiserver,
        Self::OtelCollector,
        Self::Minio,
        Self::MinioUser,
        Self::Promtool,
        Self::Promql,
        Self::Helm,
        Self::Health,
    ];

    /// The API server of this minor.
    pub fn api_server(minor: Minor) -> Self {
        match minor {
            Minor::Oldest => Self::OldestKubeApiserver,
            Minor::Newest => Self::KubeApiserver,
        }
    }

    /// The programs that a cluster of this tier runs, on the newest minor.
    pub fn of(tier: Tier) -> &'static [Self] {
        match tier {
            Tier::ApiServer => &Self::ALL[..3],
            Tier::Controllers => &Self::ALL[..5],
            Tier::Node => &Self::ALL[..14],
        }
    }

    /// The program's file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver | Self::OldestKubeApiserver => "kube-apiserver",
            Self::Kubectl => "kubectl",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::Containerd => "containerd",
            Self::ContainerdShim => "containerd-shim-runc-v2",
            Self::Ctr => "ctr",
            Self::Runc => "runc",
            Self::Bridge => "bridge",
            Self::Loopback => "loopback",
            Self::HostLocal => "host-local",
            Self::OtelCollector => "otelcol",
            Self::Minio => "minio",
            Self::MinioUser => "minio-user",
            Self::Promtool => "promtool",
            Self::Promql => "promql",
            Self::Helm => "helm",
            Self::Health => "health",
        }
    }

    pub(super) fn module(self) -> &'static Module {
        match self {
            Self::Etcd => &ETCD,
            Self::KubeApiserver
            | Self::Kubectl
            | Self::KubeControllerManager
            | Self::KubeScheduler
            | Self::Kubelet
            | Self::KubeProxy => &KUBERNETES,
            Self::OldestKubeApiserver => &OLDEST_KUBERNETES,
            Self::Containerd | Self::ContainerdShim | Self::Ctr => &CONTAINERD,
            Self::Runc => &RUNC,
            Self::Bridge | Self::Loopback | Self::HostLocal => &CNI,
            Self::OtelCollector => &OTEL_COLLECTOR,
            Self::Minio | Self::MinioUser => &MINIO,
            Self::Promtool | Self::Promql => &PROMETHEUS,
            Self::Helm => &HELM,
            Self::Health => &HEALTH,
        }
    }

    pub(super) fn package(self) -> String {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3".to_owned(),
            Self::Containerd | Self::ContainerdShim | Self::Ctr => {
                format!("github.com/containerd/containerd/v2/cmd/{}", self.name())
            }
            Self::Runc => "github.com/opencontainers/runc".to_owned(),
            Self::Bridge | Self::Loopback => {
                format!(
                    "github.com/containernetworking/plugins/plugins/main/{}",
                    self.name()
                )
            }
            Self::HostLocal => {
                "github.com/containernetworking/plugins/plugins/ipam/host-local".to_owned()
            }
            Self::Minio => "github.com/minio/minio".to_owned(),
            Self::Promtool => "github.com/prometheus/prometheus/cmd/promtool".to_owned(),
            Self::Helm => "helm.sh/helm/v4/cmd/helm".to_owned(),
            // The only ones whose `main` is ours.
            Self::OtelCollector | Self::MinioUser | Self::Promql | Self::Health => ".".to_owned(),
            _ => format!("k8s.io/kubernetes/cmd/{}", self.name()),
        }
    }

    /// The version that the module directory asks for, such as `1.37.2`.
    pub(super) fn version(self) -> Result<String> {
        let module = self.module();
        let path = module.source().join("go.mod");
        let go_mod = fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        go_mod
            .lines()
            .filter_map(|line| {
                line.trim()
                    .trim_start_matches("require ")
                    .strip_prefix(module.versioned_by)
            })
            .find_map(|rest| {
                rest.split_whitespace()
                    .next()?
                    .strip_prefix('v')
                    .map(str::to_owned)
            })
            .with_context(|| {
                format!(
                    "failed to find the version of {} in {}",
                    module.versioned_by,
                    path.display()
                )
            })
    }
}

impl Module {
    pub(super) fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("cluster")
            .join(self.directory)
    }

    pub(super) fn arguments(&self, version: &str) -> Vec<String> {
        let mut ldflags = "-s -w".to_owned();
        if self.versioned_by == KUBERNETES.versioned_by {
            // Without them every component calls itself v0.0.0, and clients refuse to talk to it.
            let mut parts = version.split('.');
            let variable = "k8s.io/component-base/version";
            for (name, value) in [
                ("gitVersion", format!("v{version}")),
                ("gitMajor", parts.next().unwrap_or_default().to_owned()),
                ("gitMinor", parts.next().unwrap_or_default().to_owned()),
                ("gitTreeState", "clean".to_owned()),
            ] {
                let _ = write!(ldflags, " -X {variable}.{name}={value}");
            }
        }
        let mut arguments = vec![
            "build".to_owned(),
            "-trimpath".to_owned(),
            "-buildvcs=false".to_owned(),
        ];
        if !self.tags.is_empty() {
            arguments.extend(["-tags".to_owned(), self.tags.to_owned()]);
        }
        arguments.extend(["-ldflags".to_owned(), ldflags]);
        arguments
    }
}
