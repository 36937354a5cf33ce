//! The agent as a local process over a simulated pod.

use std::{
    fs,
    path::Path,
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result};
use katonic_log_config::layout;

use super::{Pod, Surroundings};
use crate::child::Program;

/// A running agent. Dropping it kills it.
#[derive(Debug)]
pub struct Agent {
    program: Program,
}

impl Agent {
    /// Starts the program over the pod's folders, with further arguments.
    pub fn start(program: &Path, pod: &Pod, arguments: &[&str]) -> Result<Self> {
        let program = Program::start(program, &pod.agent_output(), |command| {
            describe(command, pod, arguments);
        })?;
        Ok(Self { program })
    }

    /// As [`Self::start`], with further environment variables.
    pub fn start_with(
        program: &Path,
        pod: &Pod,
        arguments: &[&str],
        environment: &[(String, String)],
    ) -> Result<Self> {
        let program = Program::start(program, &pod.agent_output(), |command| {
            describe(command, pod, arguments);
            command.envs(environment.iter().cloned());
        })?;
        Ok(Self { program })
    }

    /// As [`Self::start`], on a machine that is not the test's own.
    pub fn start_in(
        surroundings: &Surroundings,
        program: &Path,
        pod: &Pod,
        arguments: &[&str],
    ) -> Result<Self> {
        let unshare = Path::new("unshare");
        let program = Program::start(unshare, &pod.agent_output(), |command| {
            surroundings.surround(command, &pod.state_dir());
            describe(command.arg(program), pod, arguments);
        })?;
        Ok(Self { program })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// The most memory that it has held so far, in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))
            .context("failed to look at the agent's memory")?;
        let kibibytes = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))
            .context("a process that has ended has no memory")?;
        Ok(kibibytes.trim().parse::<u64>()? << 10)
    }

    /// `kill -9`.
    pub fn kill(self) -> Result<()> {
        self.program.kill()
    }

    /// SIGTERM, as the kubelet does when the other containers have ended; waits for the end.
    pub async fn terminate(self, within: Duration) -> Result<ExitStatus> {
        self.program.terminate(within).await
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.program.is_running()
    }
}

/// The arguments and the environment that the pod's template gives the agent.
fn describe(command: &mut Command, pod: &Pod, arguments: &[&str]) {
    command
        .arg("--log-dir")
        .arg(pod.log_dir())
        .arg("--bundle-dir")
        .arg(pod.bundle_dir())
        .arg("--labels-file")
        .arg(pod.labels_file())
        .arg("--token-dir")
        .arg(pod.token_dir())
        .arg("--state-dir")
        .arg(pod.state_dir())
        .arg("--termination-log")
        .arg(pod.termination_log())
        .args(arguments)
        .env(layout::ENV_NAMESPACE, &pod.namespace)
        .env(layout::ENV_POD, &pod.name)
        .env(layout::ENV_POD_UID, &pod.uid)
        .env(layout::ENV_NODE, "node1");
}
