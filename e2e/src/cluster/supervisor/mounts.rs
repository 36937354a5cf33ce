//! The node's own view of the file system: where its programs have fixed paths, they find the run's files there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use crate::cluster::run;

const NONE: Option<&str> = None;

/// Gives this process and those that it starts mounts of their own; they go with the last of these processes.
pub fn make(directory: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("failed to make a mount namespace")?;
    // Nothing mounted here shows on the machine; among themselves, the node's processes share as they expect.
    for flag in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        mount(NONE, "/", NONE, MsFlags::MS_REC | flag, NONE)
            .context("failed to detach the mounts")?;
    }
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), NONE)
        .context("failed to mount /proc")?;
    // Sockets, network namespaces and locks.
    let mode = Some("mode=755");
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), mode)
        .context("failed to mount /run")?;
    let logs = directory.join("var-log");
    fs::create_dir_all(logs.join("pods")).context("failed to make the folder of the pods' logs")?;
    bind(&logs, Path::new("/var/log"))?;
    state(&directory.join("var-lib"))?;
    cgroups(&run::name(directory))
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(
        Some(from),
        to,
        NONE,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        NONE,
    )
    .with_context(|| format!("failed to mount {} at {}", from.display(), to.display()))
}

fn unmount(path: &Path) -> Result<()> {
    umount2(path, MntFlags::MNT_DETACH)
        .with_context(|| format!("failed to unmount {}", path.display()))
}

/// `/var/lib` with new folders for those that the kubelet and the CNI library insist on, and else as it is: the
/// programs of the node may themselves lie there.
fn state(own: &Path) -> Result<()> {
    let shared = Path::new("/var/lib");
    for folder in ["kubelet", "cni"] {
        fs::create_dir_all(own.join(folder))
            .context("failed to make a folder of the node's state")?;
    }
    for entry in fs::read_dir(shared).context("failed to list /var/lib")? {
        let entry = entry.context("failed to list /var/lib")?;
        let mirrored = own.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !mirrored.exists() {
            fs::create_dir(&mirrored).context("failed to make a folder of the node's state")?;
            bind(&entry.path(), &mirrored)?;
        }
    }
    bind(own, shared)
}

/// Makes a cgroup of this run the root of each hierarchy, as a container sees it: so they can be found by one name and
/// removed whole, and the node does not see the machine's others.
fn cgroups(name: &str) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    // Version 2 has one tree, version 1 one for each controller.
    let hierarchies: Vec<PathBuf> = if root.join("cgroup.controllers").exists() {
        vec![root.to_owned()]
    } else {
        let entries = fs::read_dir(root).context("failed to list the cgroup hierarchies")?;
        entries
            .collect::<io::Result<Vec<_>>>()
            .context("failed to list the cgroup hierarchies")?
            .into_iter()
            // Links are second names of the same hierarchy.
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect()
    };
    for hierarchy in hierarchies {
        let own = hierarchy.join(name);
        fs::create_dir(&own)
            .with_context(|| format!("failed to make the cgroup {}", own.display()))?;
        // In version 1 a new group may use no processor and no memory node before it is told which.
        for file in ["cpuset.mems", "cpuset.cpus"] {
            if let Ok(value) = fs::read(hierarchy.join(file)) {
                fs::write(own.join(file), value)
                    .context("failed to give the cgroup its processors")?;
            }
        }
        // In place of the old mount, not over it: runc takes the first that it finds.
        let aside = Path::new("/run/cgroup");
        fs::create_dir_all(aside).context("failed to make a place for a cgroup hierarchy")?;
        bind(&own, aside)?;
        unmount(&hierarchy)?;
        bind(aside, &hierarchy)?;
        unmount(aside)?;
    }
    Ok(())
}
