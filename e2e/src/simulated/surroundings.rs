//! A machine that is not as the test's own: names that cannot be looked up, a disk that is full. Changes nothing of the
//! test's own machine.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::Agent;

/// Runs in a mount namespace of its own, which ends with the program that it becomes.
const SCRIPT: &str = r#"
set -e
if [ -n "$SURROUNDINGS_HOSTS" ]; then
    mount --bind "$SURROUNDINGS_HOSTS" /etc/hosts
    mount --bind "$SURROUNDINGS_RESOLVER" /etc/resolv.conf
fi
if [ -n "$SURROUNDINGS_STATE_OPTIONS" ]; then
    mount -t tmpfs -o "$SURROUNDINGS_STATE_OPTIONS" state "$SURROUNDINGS_STATE"
fi
unset SURROUNDINGS_HOSTS SURROUNDINGS_RESOLVER SURROUNDINGS_STATE_OPTIONS SURROUNDINGS_STATE
exec "$@"
"#;

/// The disk of a state directory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StateDisk {
    /// That of the test.
    #[default]
    AsItIs,
    /// An empty one that holds so many bytes, and ends with the agent.
    Of(u64),
    /// An empty one on which nothing can be written.
    ReadOnly,
}

/// What is different for an agent. Needs what a node needs: ask [`crate::cluster::Tier::Node`].
#[derive(Debug)]
pub struct Surroundings {
    folder: TempDir,
    knows_names: bool,
    state: StateDisk,
}

impl Surroundings {
    /// Nothing is different yet.
    pub fn new() -> Result<Self> {
        let folder = TempDir::with_prefix("katonic-surroundings-")
            .context("failed to make a folder for an agent's surroundings")?;
        Ok(Self {
            folder,
            knows_names: false,
            state: StateDisk::default(),
        })
    }

    /// Only these names can be looked up; every other fails at once, like with a name server that is down. Said again,
    /// it changes what running agents can look up.
    pub fn know_names(&mut self, names: &[(&str, IpAddr)]) -> Result<()> {
        let mut hosts = String::new();
        for (name, address) in names {
            writeln!(hosts, "{address} {name}").context("failed to write a name")?;
        }
        // In place, because the agent sees this file and not this path.
        fs::write(self.hosts(), hosts).context("failed to write the known names")?;
        fs::write(
            self.resolver(),
            "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        )
        .context("failed to write the resolver's configuration")?;
        self.knows_names = true;
        Ok(())
    }

    /// The state directory of an agent that starts from now on is on this disk.
    pub fn set_state_disk(&mut self, disk: StateDisk) {
        self.state = disk;
    }

    fn hosts(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }

    fn resolver(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }

    /// What a program is started with, in front of its own name and arguments.
    pub(super) fn surround(&self, command: &mut Command, state_dir: &Path) {
        command.args(["--mount", "--propagation", "private"]);
        command.args(["sh", "-c", SCRIPT, "sh"]);
        if self.knows_names {
            command
                .env("SURROUNDINGS_HOSTS", self.hosts())
                .env("SURROUNDINGS_RESOLVER", self.resolver());
        }
        let options = match self.state {
            StateDisk::AsItIs => return,
            StateDisk::Of(bytes) => format!("size={bytes}"),
            StateDisk::ReadOnly => "ro".to_owned(),
        };
        command
            .env("SURROUNDINGS_STATE_OPTIONS", options)
            .env("SURROUNDINGS_STATE", state_dir);
    }
}

/// The name of the file that fills a disk.
const FILLER: &str = "filler";

/// Fills the disk of a running agent's state directory to the last byte.
pub fn fill_state(agent: &Agent, state_dir: &Path) -> Result<()> {
    let mut filler = OpenOptions::new()
        .create(true)
        .append(true)
        .open(inside(agent, state_dir).join(FILLER))
        .context("failed to open the file that fills the disk")?;
    // Halved at each refusal, until not even one byte fits.
    let mut bytes = vec![0; 64 << 10];
    while !bytes.is_empty() {
        match filler.write(&bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                bytes.truncate(bytes.len() / 2);
            }
            Err(error) => return Err(error).context("failed to fill the disk"),
        }
    }
    Ok(())
}

/// Gives the disk of a running agent's state directory room again.
pub fn free_state(agent: &Agent, state_dir: &Path) -> Result<()> {
    fs::remove_file(inside(agent, state_dir).join(FILLER))
        .context("failed to remove the file that fills the disk")
}

/// A path as a running agent sees it.
fn inside(agent: &Agent, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", agent.id()));
    root.join(path.strip_prefix("/").unwrap_or(path))
}
