//! The directory of one run of a cluster, and how it is cleaned. Starts nothing and ends no process.
//!
//! Whoever has to do with a run holds a shared lock on its `lock` file: the owner and the supervisor. The kernel frees
//! the lock when they end, however they end, so a directory whose lock is free belongs to a dead run.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::progress::say;

/// How long the kernel may take to take down what a killed run has left.
const CLEANING: Duration = Duration::from_secs(20);

/// A run that is alive as long as this value is.
#[derive(Debug)]
pub struct Run {
    directory: PathBuf,
    _lock: File,
}

impl Run {
    /// Cleans up after runs that were killed, then makes the directory of a new one.
    pub fn create() -> Result<Self> {
        let base = base()?;
        let _all_runs = lock_all(&base)?;
        sweep()?;
        let directory = tempfile::Builder::new()
            .prefix("run-")
            .rand_bytes(8)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&base)
            .context("failed to make a directory for the run")?
            .keep();
        let lock = File::create(directory.join("lock")).context("failed to make the run's lock")?;
        lock.lock_shared().context("failed to lock the run")?;
        fs::create_dir(directory.join("logs")).context("failed to make the folder of the logs")?;
        Ok(Self {
            directory,
            _lock: lock,
        })
    }

    /// Takes part in a run that another process has created.
    pub fn join(directory: &Path) -> Result<Self> {
        let lock = File::open(directory.join("lock")).context("failed to open the run's lock")?;
        lock.lock_shared().context("failed to lock the run")?;
        Ok(Self {
            directory: directory.to_owned(),
            _lock: lock,
        })
    }

    /// Everything of this run is below this directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The logs of the components, one file each.
    pub fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }

    /// Whether the logs outlive the run: a test panicked, or the environment asks for them.
    pub fn keeps_logs(&self) -> bool {
        self.directory.join(FAILED).exists() || env::var_os("KATONIC_E2E_KEEP_LOGS").is_some()
    }

    /// Cleans up this run, whose processes have ended. Logs worth keeping move away first.
    pub fn clean(self) -> Result<()> {
        if self.keeps_logs() {
            let kept = kept_logs(&self.directory)?;
            fs::rename(self.logs(), &kept)
                .with_context(|| format!("failed to keep the logs in {}", kept.display()))?;
        }
        remove(&self.directory)
    }
}

/// In a run's directory: says that a test failed, so that its logs are kept.
pub const FAILED: &str = "failed";

/// The name of a run: of its directory, its cgroups, and in error messages.
pub fn name(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    format!("katonic-e2e-{}", name.trim_start_matches("run-"))
}

/// Where the logs of this run go when they are kept.
pub fn kept_logs(directory: &Path) -> Result<PathBuf> {
    let all = base()?.join("logs");
    fs::create_dir_all(&all).context("failed to make the folder of kept logs")?;
    Ok(all.join(name(directory)))
}

/// The directories of all runs, alive or dead.
pub fn all() -> Result<Vec<PathBuf>> {
    let base = base()?;
    let entries =
        fs::read_dir(&base).with_context(|| format!("failed to list {}", base.display()))?;
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("run-"))
        })
        .collect())
}

/// The cgroups of a run that exist.
pub fn cgroups(directory: &Path) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let name = name(directory);
    // Version 2 has one tree, version 1 one for each controller.
    let hierarchies = fs::read_dir(root)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .chain([root.to_owned()]);
    let mut found: Vec<PathBuf> = hierarchies
        .map(|hierarchy| hierarchy.join(&name))
        .filter(|cgroup| cgroup.is_dir())
        .filter_map(|cgroup| cgroup.canonicalize().ok())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// One folder for all runs of a user; short, because paths of sockets may have 107 bytes only.
fn base() -> Result<PathBuf> {
    let base = env::temp_dir().join(format!("katonic-e2e-{}", nix::unistd::geteuid()));
    match fs::DirBuilder::new().mode(0o700).create(&base) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found =
                fs::symlink_metadata(&base).context("failed to look at the folder of the runs")?;
            // Whoever made it could have put process ids and keys into it.
            let ours = found.is_dir()
                && found.uid() == nix::unistd::geteuid().as_raw()
                && found.mode() & 0o777 == 0o700;
            anyhow::ensure!(
                ours,
                "{} belongs to somebody else: remove it",
                base.display()
            );
            Ok(base)
        }
        made => made
            .map(|()| base)
            .context("failed to make the folder of the runs"),
    }
}

/// Nobody else makes or sweeps runs while this is held.
fn lock_all(base: &Path) -> Result<File> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(base.join("lock"))
        .context("failed to open the lock of all runs")?;
    lock.lock().context("failed to lock the runs")?;
    Ok(lock)
}

/// Cleans up after every run that was killed.
pub fn sweep_all() -> Result<()> {
    let _all_runs = lock_all(&base()?)?;
    sweep()
}

fn sweep() -> Result<()> {
    for directory in all()? {
        if is_dead(&directory) {
            remove(&directory).context("failed to clean up after a run that was killed")?;
        }
    }
    Ok(())
}

/// Whether nobody has to do with this run any more.
pub fn is_dead(directory: &Path) -> bool {
    match File::open(directory.join("lock")) {
        Ok(lock) => lock.try_lock().is_ok(),
        // Between the directory and its lock there is nothing that could still be running.
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Removes the cgroups and the directory of a run, retrying while the kernel takes down its last processes.
fn remove(directory: &Path) -> Result<()> {
    let deadline = Instant::now() + CLEANING;
    loop {
        let left = cgroups(directory)
            .iter()
            .map(|cgroup| remove_cgroup(cgroup))
            .chain([remove_directory(directory)])
            .find_map(Result::err);
        match left {
            None => return Ok(()),
            Some(error) if Instant::now() >= deadline => return Err(error),
            Some(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn remove_directory(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// A cgroup goes by `rmdir`, its children first; the files in it are the kernel's.
fn remove_cgroup(cgroup: &Path) -> Result<()> {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path())?;
        }
    }
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove the cgroup {}", cgroup.display()))
        }
        _ => Ok(()),
    }
}

/// Says where kept logs are.
pub fn announce_logs(directory: &Path) {
    if let Ok(kept) = kept_logs(directory) {
        say(&format!(
            "logs of the cluster's components: {}",
            kept.display()
        ));
    }
}
