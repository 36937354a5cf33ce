//! Running code inside a network: a runtime whose threads are in the namespace, and commands beside it.

use std::{
    fs::File,
    future::Future,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::PathBuf,
    process::{self, Command},
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::runtime::{Builder, Handle, Runtime};

use super::prerequisites;

/// The namespace of the thread that asks.
const OWN: &str = "/proc/thread-self/ns/net";

/// The network of a cluster, of this machine for a cluster without namespaces, or of a test's own.
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
        let Some(id) = process else {
            let runtime = builder().build().context("failed to start a runtime")?;
            return Ok(Self {
                namespace: None,
                runtime: Some(runtime),
            });
        };
        let path = PathBuf::from(format!("/proc/{id}/ns/net"));
        let file =
            File::open(&path).with_context(|| format!("failed to open {}", path.display()))?;
        Self::enter(file, path)
    }

    /// A network with loopback and nothing else, in which nothing listens yet. It is there as long as this is, or a
    /// process in it. Needs what a node needs: ask [`super::Tier::Node`].
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn own() -> Result<Self> {
        prerequisites::for_network()?;
        // A thread of its own, because the one that asks stays where it is.
        let file = thread::spawn(|| -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET).context("failed to make a network")?;
            let loopback = Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .output();
            let loopback = loopback.context("failed to run ip")?;
            let said = String::from_utf8_lossy(&loopback.stderr);
            ensure!(
                loopback.status.success(),
                "failed to set up loopback: {said}"
            );
            File::open(OWN).context("failed to open the network")
        })
        .join()
        .map_err(|_| anyhow!("the thread that makes a network panicked"))??;
        // As long as the runtime has the file.
        let path = PathBuf::from(format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd()));
        Self::enter(file, path)
    }

    fn enter(file: File, namespace: PathBuf) -> Result<Self> {
        let mut builder = builder();
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
            namespace: Some(namespace),
            runtime: Some(runtime),
        };
        let found = network.wait(async {
            let file = File::open(OWN).context("failed to open the thread's namespace")?;
            Ok(file
                .metadata()
                .context("failed to look at the thread's namespace")?
                .ino())
        })?;
        if found != wanted {
            bail!("failed to enter a network namespace");
        }
        Ok(network)
    }

    /// The runtime whose threads are in it.
    ///
    /// # Errors
    /// When the network is gone.
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

fn builder() -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(2)
        .enable_all()
        .thread_name("cluster");
    builder
}

impl Drop for Network {
    fn drop(&mut self) {
        // Dropping a runtime would block, which is forbidden inside another one, such as a test's.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
