//! How much of a cluster runs, and whether this machine can run it.

use std::{
    env,
    fs::OpenOptions,
    io::Write as _,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result};

use super::progress::say;

/// How much of a cluster runs. Each tier includes the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// etcd and the API server: no controller acts, no pod runs, no namespace goes away.
    ApiServer,
    /// With controller manager and scheduler: Deployments and Jobs make pods, garbage is collected.
    Controllers,
    /// With a node: pods run. Needs root on Linux.
    Node,
}

/// A Kubernetes minor that is supported: the two ends of the range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Minor {
    /// Without admission policies that change objects. Its API server alone is there: [`Tier::ApiServer`].
    Oldest,
    /// Of which every component is there.
    #[default]
    Newest,
}

impl Tier {
    /// Whether this machine can run it; otherwise the reason why not.
    ///
    /// # Errors
    /// The reason, as a person reads it.
    pub fn available(self) -> Result<(), String> {
        if self != Self::Node {
            return Ok(());
        }
        if env::consts::OS != "linux" {
            return Err("a node needs Linux".to_owned());
        }
        if !nix::unistd::geteuid().is_root() {
            return Err("a node needs root".to_owned());
        }
        // Root of a container often may not.
        let namespaces = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "true"])
            .stdin(Stdio::null())
            .output();
        match namespaces {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(format!(
                "a node needs namespaces of its own: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
            Err(error) => Err(format!("a node needs util-linux: {error}")),
        }
    }

    /// Whether this machine can run it; if not, the calling test is counted as skipped.
    ///
    /// # Errors
    /// When it cannot be counted.
    pub fn available_or_skip(self) -> Result<bool> {
        let Err(reason) = self.available() else {
            return Ok(true);
        };
        skip(&reason)?;
        Ok(false)
    }
}

/// Counts the calling test as skipped: in the file that `KATONIC_E2E_SKIPPED` names, one `name<TAB>reason` a line.
///
/// # Errors
/// When it cannot be counted.
pub fn skip(reason: &str) -> Result<()> {
    let thread = thread::current();
    let name = thread.name().unwrap_or("a test without a name");
    // One test, one line.
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    say(&format!("skipped {name}: {reason}"));
    if let Some(path) = env::var_os("KATONIC_E2E_SKIPPED") {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{name}\t{reason}\n").as_bytes()))
            .with_context(|| format!("failed to count {name} as skipped"))?;
    }
    Ok(())
}
