//! Running code inside a cluster's network: a runtime whose threads are in the namespace, and commands beside it.

use std::{
    fs::File, future::Future, os::unix::fs::MetadataExt as _, path::PathBuf, process::Command,
};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Handle, Runtime};

/// The network of a cluster; for one without namespaces, that of this machine.
#[derive(Debug)]
pub struct Network {
    namespace: Option<PathBuf>,
    runtime: Option<Runtime>,
}

impl Network {
    /// The network that the process with this id is in; this machine's without an id.
    ///
    /// # Errors
    /// When the threads of the runtime do not get into the namespace.
    pub fn of(process: Option<u32>) -> Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder
            .worker_threads(2)
            .enable_all()
            .thread_name("cluster");
        let namespace = process.map(|id| PathBuf::from(format!("/proc/{id}/ns/net")));
        let Some(path) = &namespace else {
            let runtime = builder.build().context("failed to start a runtime")?;
            return Ok(Self {
                namespace,
                runtime: Some(runtime),
            });
        };
        let file =
            File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
        let wanted = file
            .metadata()
            .context("failed to look at the network namespace")?
            .ino();
        builder.on_thread_start(move || {
            // Whether it worked is checked below, where an error can be told.
            let _ = setns(&file, CloneFlags::CLONE_NEWNET);
        });
        let runtime = builder.build().context("failed to start a runtime")?;
        let network = Self {
            namespace,
            runtime: Some(runtime),
        };
        let found = network.wait(async {
            let file = File::open("/proc/thread-self/ns/net")
                .context("failed to open the thread's namespace")?;
            Ok(file
                .metadata()
                .context("failed to look at the thread's namespace")?
                .ino())
        })?;
        if found != wanted {
            bail!("failed to enter the network namespace of the cluster");
        }
        Ok(network)
    }

    pub fn handle(&self) -> Result<&Handle> {
        Ok(self
            .runtime
            .as_ref()
            .context("the cluster was stopped")?
            .handle())
    }

    /// Runs a future on a thread of the runtime and waits for it, outside any async code.
    fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.handle()?.spawn(async move {
            let _ = sender.send(future.await);
        });
        receiver
            .recv()
            .context("a task inside the cluster ended early")?
    }

    /// A command that runs in this network.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                let mut option = std::ffi::OsString::from("--net=");
                option.push(namespace);
                command.arg(option).arg("--").arg(program);
                command
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Dropping a runtime would block, which is forbidden inside another one, such as a test's.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
