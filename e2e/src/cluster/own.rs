//! A cluster that this process has started: brings its components up in order, and takes everything down.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::Result;

use super::{
    Component, Options, Tier,
    binaries::Binaries,
    certificates::Authority,
    control_plane::Plan,
    inside::Network,
    kept, kubeconfig,
    network::Addresses,
    progress,
    run::{self, Run},
    store::Store,
    supervisor::{Isolation, Process, Supervisor},
};

/// A cluster that this process has started.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) tier: Tier,
    pub(super) options: Options,
    pub(super) binaries: Binaries,
    pub(super) addresses: Addresses,
    pub(super) network: Network,
    pub(super) supervisor: Supervisor,
    pub(super) processes: Mutex<BTreeMap<Component, Process>>,
    pub(super) kubeconfig: PathBuf,
    pub(super) run: Option<Run>,
    pub(super) kept: bool,
}

impl Own {
    pub(super) async fn start(
        tier: Tier,
        options: Options,
        binaries: Binaries,
        workload: Option<&Path>,
        store: Option<&Store>,
    ) -> Result<Self> {
        let run = Run::create()?;
        if let Some(store) = store {
            store.copy_to(run.directory())?;
        }
        let isolated = tier == Tier::Node;
        let addresses = if isolated {
            Addresses::inside()
        } else {
            Addresses::free()?
        };
        let authority = Authority::create(&run.directory().join("pki"))?;
        let isolation = if isolated {
            Isolation::Namespaces
        } else {
            Isolation::None
        };
        let supervisor = Supervisor::start(run.directory(), isolation)?;
        kept::note_supervisor(run.directory(), supervisor.id())?;
        let network = Network::of(isolated.then(|| supervisor.id()))?;
        let plan = Plan {
            tier,
            options,
            run: &run,
            binaries: &binaries,
            addresses: &addresses,
            authority: &authority,
        };
        let administrator = authority.client("admin", "e2e", Some("system:masters"))?;
        plan.kubeconfig("admin-inside", &administrator)?;
        let kubeconfig = plan.path("admin.kubeconfig");
        let port = supervisor.forward().unwrap_or_else(|| addresses.api.port());
        kubeconfig::write(
            &kubeconfig,
            &format!("https://127.0.0.1:{port}"),
            &authority.certificate(),
            &administrator,
        )?;

        let mut processes = vec![
            (Component::Etcd, plan.etcd()?),
            (Component::ApiServer, plan.api_server()?),
        ];
        if tier >= Tier::Controllers {
            processes.push((Component::ControllerManager, plan.controller_manager()?));
            processes.push((Component::Scheduler, plan.scheduler()?));
        }
        if isolated {
            processes.push((Component::Containerd, plan.containerd()?));
            processes.push((Component::Kubelet, plan.kubelet()?));
            processes.push((Component::Proxy, plan.proxy()?));
        }
        let own = Self {
            tier,
            options,
            addresses,
            network,
            supervisor,
            processes: Mutex::new(processes.iter().cloned().collect()),
            kubeconfig,
            run: Some(run),
            kept: false,
            binaries,
        };
        kept::watch_for_panics(own.directory());
        if let Err(error) = own.bring_up(processes, workload).await {
            kept::mark_failed(own.directory());
            return Err(error);
        }
        Ok(own)
    }

    async fn bring_up(
        &self,
        processes: Vec<(Component, Process)>,
        workload: Option<&Path>,
    ) -> Result<()> {
        for (component, process) in processes {
            self.launch(component, process).await?;
            if component == Component::Containerd
                && let Some(workload) = workload
            {
                self.load_image(workload).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn launch(&self, component: Component, process: Process) -> Result<()> {
        self.supervisor.run(&process)?;
        self.ready(component).await
    }

    pub(super) fn directory(&self) -> &Path {
        self.supervisor.directory()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let keeps_logs = self.run.as_ref().is_some_and(Run::keeps_logs);
        self.supervisor.stop();
        kept::forget(self.supervisor.directory());
        // The supervisor has cleaned up, unless it was killed.
        if let Some(run) = self.run.take()
            && run.directory().exists()
            && let Err(error) = run.clean()
        {
            progress::say(&format!("failed to clean up after a cluster: {error:#}"));
        }
        if keeps_logs {
            run::announce_logs(self.supervisor.directory());
        }
    }
}
