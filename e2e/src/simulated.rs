//! A pod without a node: its log folder, its mounted bundle and its agent as a local process.
//!
//! The folders look as containerd and the kubelet leave them on a node, so the agent cannot tell. What they do to
//! each other in time (rotation, compression, the swap of a mounted Secret) is done in the same order.

pub mod agent;
pub mod archive;
pub mod container_log;
pub mod load;
pub mod moments;
pub mod mounted_secret;
pub mod policy;
pub mod reporter;
pub mod surroundings;
pub mod wall_clock;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Context as _, Result};
use katonic_log_config::{Bundle, layout};
use tempfile::TempDir;

pub use agent::Agent;
pub use container_log::{ContainerLog, Stream};
pub use load::Load;
pub use moments::Moments;
pub use mounted_secret::MountedSecret;
pub use surroundings::Surroundings;
pub use wall_clock::WallClock;

/// Pods of this process so far: with the process id, what makes a UID unique.
static PODS: AtomicU16 = AtomicU16::new(0);

/// A pod that exists only as folders.
#[derive(Debug)]
pub struct Pod {
    folder: TempDir,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    secret: MountedSecret,
}

impl Pod {
    /// A pod without containers and without a bundle.
    pub fn new(namespace: &str, name: &str, labels: &[(&str, &str)]) -> Result<Self> {
        let number = PODS.fetch_add(1, Ordering::Relaxed);
        let uid = format!("00000000-0000-4000-8000-{:08x}{number:04x}", process::id());
        Self::with_uid(namespace, name, &uid, labels)
    }

    /// The folders of a pod that an API server knows under this UID.
    pub fn with_uid(
        namespace: &str,
        name: &str,
        uid: &str,
        labels: &[(&str, &str)],
    ) -> Result<Self> {
        let folder =
            TempDir::with_prefix("katonic-pod-").context("failed to make a pod's folder")?;
        let secret = MountedSecret::new(folder.path().join("bundle"))?;
        let pod = Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            secret,
            folder,
        };
        for directory in [pod.log_dir(), pod.state_dir()] {
            fs::create_dir_all(&directory)
                .with_context(|| format!("failed to make {}", directory.display()))?;
        }
        pod.set_labels(labels)?;
        Ok(pod)
    }

    /// Writes the downward API file; a running agent sees the change.
    pub fn set_labels(&self, labels: &[(&str, &str)]) -> Result<()> {
        let mut text = String::new();
        for (label, value) in labels {
            writeln!(text, "{label}={value:?}").context("failed to write a label")?;
        }
        fs::write(self.labels_file(), text).context("failed to write the pod's labels")
    }

    /// Writes bundle and credentials as the kubelet does when the Secret changes.
    pub fn mount(&mut self, bundle: &Bundle, credentials: &[(&str, &str)]) -> Result<()> {
        let mut files = BTreeMap::from([(layout::BUNDLE_FILE.to_owned(), bundle.encode()?)]);
        for (name, value) in credentials {
            files.insert((*name).to_owned(), value.as_bytes().to_vec());
        }
        self.mount_files(&files)
    }

    /// Writes any files as the content of the mounted Secret.
    pub fn mount_files(&mut self, files: &BTreeMap<String, Vec<u8>>) -> Result<()> {
        self.secret.write(files)
    }

    /// The log of a container that starts now, rotated as soon as it holds `rotate_at` bytes.
    pub fn container(&self, name: &str, rotate_at: u64) -> Result<ContainerLog> {
        ContainerLog::create(&self.log_dir().join(name), rotate_at)
    }

    /// `/var/log/pods/<namespace>_<pod>_<uid>` of this pod.
    pub fn log_dir(&self) -> PathBuf {
        let name = format!("{}_{}_{}", self.namespace, self.name, self.uid);
        self.folder.path().join("logs").join(name)
    }

    /// The folder that stands for [`layout::STATE_DIR`].
    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The folder that stands for [`layout::TOKEN_DIR`]; there is no token in it before a test puts one there.
    pub fn token_dir(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// The file that stands for [`layout::LABELS_FILE`].
    pub fn labels_file(&self) -> PathBuf {
        self.folder.path().join("labels")
    }

    /// The file that stands for [`layout::TERMINATION_LOG`].
    pub fn termination_log(&self) -> PathBuf {
        self.folder.path().join("termination-log")
    }

    /// The folder that stands for [`layout::BUNDLE_DIR`].
    pub fn bundle_dir(&self) -> &Path {
        self.secret.dir()
    }

    /// What the agents of this pod said on stderr, all runs of them.
    pub fn agent_output(&self) -> PathBuf {
        self.folder.path().join("agent.log")
    }
}
