//! A Kubernetes cluster of the tests' own: real components, started, watched and ended from here. Judges nothing.
//!
//! See the crate's documentation for how a test uses it.

use std::{
    env,
    fmt::Display,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::PoisonError,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use kube::Client;
use tokio::task::spawn_blocking;

pub mod access;
pub mod binaries;
mod certificates;
mod control_plane;
pub mod inside;
mod kept;
mod kubeconfig;
pub mod network;
mod node;
mod own;
pub mod prerequisites;
pub mod progress;
mod readiness;
pub mod run;
mod store;
pub mod supervisor;
mod tier;

pub use access::KubectlOutput;
pub use kept::{Kept, stop_kept};
pub use readiness::Component;
pub use store::Store;
pub use tier::{Minor, Tier, skip};

use self::{
    binaries::{Binaries, Binary},
    control_plane::AUDIT_LOG,
    own::Own,
    supervisor::Process,
};
use crate::images::Image;

/// Names a kubeconfig of a cluster to test against, instead of starting one.
pub const GIVEN: &str = "KATONIC_E2E_KUBECONFIG";

/// How often a start is tried again when somebody took a port between choosing and using it.
const ATTEMPTS: usize = 3;

/// What a test may want different from the usual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The Kubernetes minor of the API server.
    pub minor: Minor,
    /// The API server records every request (without payloads) in [`Cluster::audit_log`].
    pub audit_log: bool,
    /// The store waits for the disk on every write, as in production; for measurements.
    pub durable_writes: bool,
}

/// A cluster that lives as long as this value.
///
/// However its owner ends, nothing of it remains; see [`supervisor`].
#[derive(Debug)]
pub struct Cluster(Kind);

#[derive(Debug)]
enum Kind {
    Own(Box<Own>),
    Given(Given),
}

/// A cluster that somebody else runs.
#[derive(Debug)]
struct Given {
    kubeconfig: PathBuf,
    binaries: Binaries,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts a cluster; returns when it serves (and, on [`Tier::Node`], the node is Ready).
    ///
    /// Missing binaries are built first, with progress on the terminal. With `KATONIC_E2E_KUBECONFIG` set, this is
    /// that cluster instead, and nothing is started.
    ///
    /// # Errors
    /// Says which component did not come up, with the end of its log.
    pub async fn start(tier: Tier) -> Result<Self> {
        Self::start_with(tier, Options::default()).await
    }

    /// A cluster that somebody else runs, as the current context of this kubeconfig has it. It is neither started nor
    /// stopped, and what touches its node or its components is refused.
    ///
    /// # Errors
    /// When there is no kubectl and none can be built.
    pub async fn given(kubeconfig: PathBuf) -> Result<Self> {
        let binaries = spawn_blocking(|| Binaries::find(&[Binary::Kubectl])).await??;
        let folder = tempfile::tempdir().context("failed to make a folder for kubeconfigs")?;
        Ok(Self(Kind::Given(Given {
            kubeconfig,
            binaries,
            folder,
        })))
    }

    /// Starts a cluster that differs from the usual.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_with(tier: Tier, options: Options) -> Result<Self> {
        Self::begin(tier, options, None).await
    }

    /// Starts a cluster that begins with what another one has stored.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_on(tier: Tier, options: Options, store: &Store) -> Result<Self> {
        Self::begin(tier, options, Some(store)).await
    }

    async fn begin(tier: Tier, options: Options, store: Option<&Store>) -> Result<Self> {
        if let Some(kubeconfig) = env::var_os(GIVEN) {
            return Self::given(kubeconfig.into()).await;
        }
        if let Err(reason) = tier.available() {
            bail!("{tier:?}: {reason}");
        }
        if options.minor == Minor::Oldest && tier != Tier::ApiServer {
            // Kubernetes' version skew policy: no component may be newer than its API server.
            bail!(
                "of the oldest minor there is the API server alone: start {:?}",
                Tier::ApiServer
            );
        }
        let (binaries, workload) = spawn_blocking(move || {
            let workload = if tier == Tier::Node {
                Some(Image::Workload.build()?)
            } else {
                None
            };
            anyhow::Ok((Binaries::of(tier, options.minor)?, workload))
        })
        .await??;
        let mut attempt = 1;
        loop {
            let started =
                Own::start(tier, options, binaries.clone(), workload.as_deref(), store).await;
            match started {
                Ok(own) => return Ok(Self(Kind::Own(Box::new(own)))),
                Err(error)
                    if attempt < ATTEMPTS
                        && format!("{error:#}").contains("address already in use") =>
                {
                    attempt += 1;
                }
                Err(error) => {
                    return Err(error.context(format!("failed to start a cluster of {tier:?}")));
                }
            }
        }
    }

    /// Starts a cluster, or says why this machine cannot and counts the test as skipped.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_or_skip(tier: Tier) -> Result<Option<Self>> {
        if env::var_os(GIVEN).is_none() && !tier.available_or_skip()? {
            return Ok(None);
        }
        Self::start(tier).await.map(Some)
    }

    /// The highest tier that this cluster serves.
    pub fn tier(&self) -> Tier {
        match &self.0 {
            Kind::Own(own) => own.tier,
            Kind::Given(_) => Tier::Node,
        }
    }

    /// The kubeconfig of an administrator (`system:masters`), for programs on this machine.
    pub fn kubeconfig(&self) -> &Path {
        match &self.0 {
            Kind::Own(own) => &own.kubeconfig,
            Kind::Given(given) => &given.kubeconfig,
        }
    }

    /// The same for programs inside the cluster's network, as [`Cluster::command`] runs them: without the forward.
    ///
    /// # Errors
    /// When the cluster is a given one.
    pub fn kubeconfig_inside(&self) -> Result<PathBuf> {
        Ok(self.own()?.directory().join("admin-inside.kubeconfig"))
    }

    /// An administrator's client, for the calling runtime: make one in each runtime.
    ///
    /// # Errors
    /// When the kubeconfig is unusable.
    pub async fn client(&self) -> Result<Client> {
        kubeconfig::client(self.kubeconfig()).await
    }

    /// A runtime inside the cluster's network; lives as long as the cluster.
    ///
    /// What a future opens is in that network only if the future is *spawned* here: the thread that calls `block_on`
    /// stays where it is. [`Cluster::inside`] does it right.
    ///
    /// # Errors
    /// When the cluster is a given one.
    pub fn handle(&self) -> Result<tokio::runtime::Handle> {
        Ok(self.own()?.network.handle()?.clone())
    }

    /// Runs a future inside the cluster's network and waits for its value, from any runtime.
    ///
    /// # Errors
    /// When the cluster is a given one, or the future panics.
    pub async fn inside<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        self.handle()?
            .spawn(future)
            .await
            .context("a task inside the cluster's network failed")
    }

    /// A command that runs inside the cluster's network.
    ///
    /// # Errors
    /// When the cluster is a given one.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<std::process::Command> {
        Ok(self.own()?.network.command(program))
    }

    /// Starts a process that belongs to the cluster: inside all its namespaces, its output in the cluster's logs, ended
    /// with the cluster.
    ///
    /// # Errors
    /// When the cluster is a given one, or the program cannot be started.
    pub fn spawn(&self, process: &Process) -> Result<()> {
        self.own()?.supervisor.run(process)
    }

    /// The address on which a receiver is reached by everything in the cluster, pods included.
    ///
    /// # Errors
    /// When the cluster is a given one.
    pub fn receiver_address(&self) -> Result<IpAddr> {
        Ok(self.own()?.addresses.receivers())
    }

    /// The logs of the components, one file each; kept after a panic or with `KATONIC_E2E_KEEP_LOGS` set.
    ///
    /// # Errors
    /// When the cluster is a given one.
    pub fn logs(&self) -> Result<PathBuf> {
        Ok(self.own()?.directory().join("logs"))
    }

    /// What the API server recorded: one `audit.k8s.io/v1` Event a line.
    ///
    /// # Errors
    /// When the cluster was not started with [`Options::audit_log`].
    pub fn audit_log(&self) -> Result<PathBuf> {
        let own = self.own()?;
        if !own.options.audit_log {
            bail!("this cluster keeps no audit log: start it with Options::audit_log");
        }
        Ok(own.directory().join(AUDIT_LOG))
    }

    /// The directory of this run: everything that the cluster has on disk.
    ///
    /// # Errors
    /// When the cluster is a given one.
    pub fn directory(&self) -> Result<&Path> {
        Ok(self.own()?.directory())
    }

    /// The supervisor's process id.
    ///
    /// # Errors
    /// When the cluster is a given one.
    pub fn supervisor(&self) -> Result<u32> {
        Ok(self.own()?.supervisor.id())
    }

    /// Kills a component (`kill -9`) and returns when it is gone.
    ///
    /// # Errors
    /// When it does not run, or the cluster is a given one.
    pub fn stop_component(&self, component: Component) -> Result<()> {
        self.own()?.supervisor.kill(component.name())
    }

    /// Starts a stopped component as it was; returns when it serves.
    ///
    /// # Errors
    /// With the end of its log when it does not come up, or when the cluster is a given one.
    pub async fn start_component(&self, component: Component) -> Result<()> {
        let own = self.own()?;
        let process = own
            .processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&component)
            .cloned();
        own.launch(
            component,
            process.with_context(|| format!("{} is of a higher tier", component.name()))?,
        )
        .await
    }

    /// Puts the API server of the newest minor in the place of the oldest one's, on the same store: an upgrade of the cluster.
    ///
    /// # Errors
    /// As [`Cluster::start_component`].
    pub async fn upgrade_api_server(&self) -> Result<()> {
        let newest = spawn_blocking(|| Binaries::find(&[Binary::KubeApiserver])).await??;
        self.stop_component(Component::ApiServer)?;
        let processes = &self.own()?.processes;
        if let Some(process) = processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(&Component::ApiServer)
        {
            process.program = newest.path(Binary::KubeApiserver)?.to_path_buf();
        }
        self.start_component(Component::ApiServer).await
    }

    fn own(&self) -> Result<&Own> {
        match &self.0 {
            Kind::Own(own) => Ok(own),
            Kind::Given(_) => {
                bail!("only a cluster started here can do this, not the one that {GIVEN} names")
            }
        }
    }

    fn binaries(&self) -> &Binaries {
        match &self.0 {
            Kind::Own(own) => &own.binaries,
            Kind::Given(given) => &given.binaries,
        }
    }

    /// A folder for files that live as long as the cluster.
    fn folder(&self) -> &Path {
        match &self.0 {
            Kind::Own(own) => own.directory(),
            Kind::Given(given) => given.folder.path(),
        }
    }
}

/// How long anything in a cluster may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_mins(1);

fn given_refuses(what: impl Display) -> anyhow::Error {
    anyhow::anyhow!("{what}: not on the cluster that {GIVEN} names")
}
