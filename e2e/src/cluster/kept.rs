//! What outlives its owner on purpose: the logs of a failed test, and a cluster that a person wants to look at.

use std::{
    fs, panic,
    path::{Path, PathBuf},
    sync::{Mutex, Once, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Cluster, Kind, progress::say, run};

/// A cluster that goes on after its owner.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The kubeconfig of an administrator, for programs on this machine.
    pub kubeconfig: PathBuf,
    /// SIGTERM to this process ends the cluster.
    pub supervisor: u32,
    directory: PathBuf,
}

impl Kept {
    /// Ends the cluster; returns when nothing of it is left.
    ///
    /// # Errors
    /// When it does not end within 30 s.
    pub fn stop(&self) -> Result<()> {
        stop(&self.directory)
    }
}

const SUPERVISOR: &str = "supervisor.pid";
const KEPT: &str = "kept";

impl Cluster {
    /// Lets the cluster go on when this process ends, until [`stop_kept`] or SIGTERM to its supervisor.
    ///
    /// # Errors
    /// When the cluster is a given one.
    pub fn keep(mut self) -> Result<Kept> {
        let Kind::Own(own) = &mut self.0 else {
            bail!("a given cluster goes on anyway")
        };
        fs::write(own.directory().join(KEPT), "").context("failed to mark the cluster as kept")?;
        own.supervisor.keep()?;
        own.kept = true;
        Ok(Kept {
            kubeconfig: own.kubeconfig.clone(),
            supervisor: own.supervisor.id(),
            directory: own.directory().to_owned(),
        })
    }
}

/// Ends every kept cluster of this user; returns when nothing of them is left.
///
/// # Errors
/// When one does not end within 30 s.
pub fn stop_kept() -> Result<()> {
    for directory in run::all()? {
        if !directory.join(KEPT).exists() {
            continue;
        }
        stop(&directory)?;
    }
    run::sweep_all()
}

fn stop(directory: &Path) -> Result<()> {
    // A free lock: the supervisor has ended, its process id may be somebody else's by now.
    if run::is_dead(directory) {
        return Ok(());
    }
    let id =
        fs::read_to_string(directory.join(SUPERVISOR)).context("failed to find the supervisor")?;
    let id = id
        .trim()
        .parse()
        .context("failed to read the supervisor's process id")?;
    kill(Pid::from_raw(id), Signal::SIGTERM).context("failed to end the supervisor")?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while directory.exists() {
        if Instant::now() > deadline {
            bail!("the cluster in {} does not end", directory.display());
        }
        thread::sleep(Duration::from_millis(20));
    }
    say(&format!("stopped {}", run::name(directory)));
    Ok(())
}

pub(super) fn note_supervisor(directory: &Path, id: u32) -> Result<()> {
    fs::write(directory.join(SUPERVISOR), id.to_string())
        .context("failed to note the supervisor's process id")
}

/// The runs of this process.
static LIVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static HOOK: Once = Once::new();

/// From now on a panic anywhere in this process keeps the logs of this run: any thread may be the one that tests.
pub(super) fn watch_for_panics(directory: &Path) {
    LIVE.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(directory.to_owned());
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |information| {
            let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
            live.iter().for_each(|directory| mark_failed(directory));
            previous(information);
        }));
    });
}

pub(super) fn mark_failed(directory: &Path) {
    let _ = fs::write(directory.join(run::FAILED), "");
}

pub(super) fn forget(directory: &Path) {
    LIVE.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .retain(|live| live != directory);
}
