//! A machine that is not as the test's own: another name server, a disk that is full. Changes nothing of the
//! test's own machine.

use std::{
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
if [ -n "$SURROUNDINGS_RESOLVER" ]; then
    mount --bind "$SURROUNDINGS_RESOLVER" /etc/resolv.conf
    # As in an image that has neither.
    for file in /etc/hosts /etc/nsswitch.conf; do
        if [ -e "$file" ]; then mount --bind /dev/null "$file"; fi
    done
fi
if [ -n "$SURROUNDINGS_STATE_OPTIONS" ]; then
    mount -t tmpfs -o "$SURROUNDINGS_STATE_OPTIONS" state "$SURROUNDINGS_STATE"
fi
unset SURROUNDINGS_RESOLVER SURROUNDINGS_STATE_OPTIONS SURROUNDINGS_STATE
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
    /// Whether names are looked up elsewhere than on the test's machine.
    asks: bool,
    state: StateDisk,
}

impl Surroundings {
    /// Nothing is different yet.
    pub fn new() -> Result<Self> {
        let folder = TempDir::with_prefix("katonic-surroundings-")
            .context("failed to make a folder for an agent's surroundings")?;
        Ok(Self {
            folder,
            asks: false,
            state: StateDisk::default(),
        })
    }

    /// Names are looked up at this server alone, at port 53, which is given a second for each answer.
    pub fn ask(&mut self, name_server: IpAddr) -> Result<()> {
        fs::write(
            self.resolver(),
            format!("nameserver {name_server}\noptions timeout:1 attempts:1\n"),
        )
        .context("failed to write the resolver's configuration")?;
        self.asks = true;
        Ok(())
    }

    /// The state directory of an agent that starts from now on is on this disk.
    pub fn set_state_disk(&mut self, disk: StateDisk) {
        self.state = disk;
    }

    fn resolver(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }

    /// What a program is started with, in front of its own name and arguments.
    pub(super) fn surround(&self, command: &mut Command, state_dir: &Path) {
        command.args(["--mount", "--propagation", "private"]);
        command.args(["sh", "-c", SCRIPT, "sh"]);
        if self.asks {
            command.env("SURROUNDINGS_RESOLVER", self.resolver());
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
