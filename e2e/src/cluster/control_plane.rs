//! The control plane: with which arguments etcd, the API server, the controllers and the scheduler run. Starts none.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{
    Options, Tier,
    binaries::{Binaries, Binary},
    certificates::{Authority, Identity},
    kubeconfig,
    network::{self, Addresses},
    run::Run,
    store,
    supervisor::Process,
};

/// What every component of a cluster needs to know of it.
pub struct Plan<'a> {
    pub tier: Tier,
    pub options: Options,
    pub run: &'a Run,
    pub binaries: &'a Binaries,
    pub addresses: &'a Addresses,
    pub authority: &'a Authority,
}

/// Records who did what, without payloads: enough to compare the calls made with the rules granted.
const AUDIT_POLICY: &str = r#"{
  "apiVersion": "audit.k8s.io/v1", "kind": "Policy",
  "omitStages": ["RequestReceived"],
  "rules": [{"level": "Metadata"}]
}
"#;

impl Plan<'_> {
    /// A file or folder of this run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.run.directory().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a kubeconfig for somebody inside the cluster's network.
    pub fn kubeconfig(&self, name: &str, identity: &Identity) -> Result<PathBuf> {
        let path = self.path(&format!("{name}.kubeconfig"));
        let server = format!("https://{}", self.addresses.api);
        kubeconfig::write(&path, &server, &self.authority.certificate(), identity)?;
        Ok(path)
    }

    pub fn etcd(&self) -> Result<Process> {
        let (clients, peers) = (
            format!("http://{}", self.addresses.etcd),
            format!("http://{}", self.addresses.etcd_peers),
        );
        let process = Process::new("etcd", self.binaries.path(Binary::Etcd)?).with([
            format!("--data-dir={}", self.text(store::ETCD)),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
        ]);
        // No test's data outlives its run, so only what measures writes wants them on disk.
        Ok(if self.options.durable_writes {
            process
        } else {
            process.with(["--unsafe-no-fsync"])
        })
    }

    /// The API server; its admission plugins are the default ones.
    pub fn api_server(&self) -> Result<Process> {
        let server = self.authority.server(
            "kube-apiserver",
            &[
                "127.0.0.1",
                "localhost",
                "kubernetes.default.svc",
                &self.addresses.api.ip().to_string(),
                &network::API_SERVICE.to_string(),
            ],
        )?;
        let kubelets = self.authority.client(
            "kube-apiserver-kubelet",
            "kube-apiserver",
            Some("system:masters"),
        )?;
        let (signing, verifying) = self.authority.token_keys()?;
        let mut process = Process::new(
            "kube-apiserver",
            self.binaries.path(Binary::api_server(self.options.minor))?,
        )
        .with([
            format!("--etcd-servers=http://{}", self.addresses.etcd),
            format!("--bind-address={}", self.addresses.api.ip()),
            format!("--secure-port={}", self.addresses.api.port()),
            format!("--tls-cert-file={}", server.certificate.display()),
            format!("--tls-private-key-file={}", server.key.display()),
            format!(
                "--client-ca-file={}",
                self.authority.certificate().display()
            ),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", verifying.display()),
            format!("--service-account-signing-key-file={}", signing.display()),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--allow-privileged".to_owned(),
            format!("--service-cluster-ip-range={}", network::SERVICES),
            format!(
                "--kubelet-client-certificate={}",
                kubelets.certificate.display()
            ),
            format!("--kubelet-client-key={}", kubelets.key.display()),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ]);
        if !self.options.durable_writes {
            // A third less of processor time for some 100 MB; what measures wants it as everybody has it.
            process = process.with_variable("GOGC", "400");
        }
        process = if self.tier == Tier::Node {
            process.with([format!("--advertise-address={}", network::NODE)])
        } else {
            // A loopback address is refused as an endpoint, and nobody here goes through the Service.
            process.with(["--endpoint-reconciler-type=none"])
        };
        if self.options.audit_log {
            let policy = self.path("audit-policy.json");
            fs::write(&policy, AUDIT_POLICY)
                .context("failed to write the API server's audit policy")?;
            process = process.with([
                format!("--audit-policy-file={}", policy.display()),
                format!("--audit-log-path={}", self.text(AUDIT_LOG)),
            ]);
        }
        Ok(process)
    }

    pub fn controller_manager(&self) -> Result<Process> {
        let user = "system:kube-controller-manager";
        let kubeconfig = self.kubeconfig(
            "kube-controller-manager",
            &self
                .authority
                .client("kube-controller-manager", user, None)?,
        )?;
        let path = self.binaries.path(Binary::KubeControllerManager)?;
        Ok(served(
            Process::new("kube-controller-manager", path),
            self.addresses.controller_manager,
            &kubeconfig,
        )
        .with([
            format!(
                "--service-account-private-key-file={}",
                self.text("pki/tokens.key")
            ),
            format!("--root-ca-file={}", self.authority.certificate().display()),
            "--use-service-account-credentials".to_owned(),
        ]))
    }

    pub fn scheduler(&self) -> Result<Process> {
        let user = "system:kube-scheduler";
        let kubeconfig = self.kubeconfig(
            "kube-scheduler",
            &self.authority.client("kube-scheduler", user, None)?,
        )?;
        let path = self.binaries.path(Binary::KubeScheduler)?;
        Ok(served(
            Process::new("kube-scheduler", path),
            self.addresses.scheduler,
            &kubeconfig,
        ))
    }
}

/// The file name of the API server's audit log.
pub const AUDIT_LOG: &str = "audit.log";

/// What controller manager and scheduler have in common.
fn served(
    process: Process,
    address: std::net::SocketAddr,
    kubeconfig: &std::path::Path,
) -> Process {
    let kubeconfig = kubeconfig.display();
    process.with([
        format!("--bind-address={}", address.ip()),
        format!("--secure-port={}", address.port()),
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
    ])
}
