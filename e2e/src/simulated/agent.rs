//! The agent as a local process over a simulated pod.

use std::{
    fs::OpenOptions,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use katonic_log_config::layout;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::Pod;
use crate::eventually::eventually;

/// A running agent. Dropping it kills it.
#[derive(Debug)]
pub struct Agent {
    child: Child,
}

impl Agent {
    /// Starts the program over the pod's folders, with further arguments.
    ///
    /// It dies with the thread that starts it: a test that is killed leaves nothing behind.
    pub fn start(program: &Path, pod: &Pod, arguments: &[&str]) -> Result<Self> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(pod.agent_output())
            .context("failed to open the agent's output")?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .arg("--log-dir")
            .arg(pod.log_dir())
            .arg("--bundle-dir")
            .arg(pod.bundle_dir())
            .arg("--labels-file")
            .arg(pod.labels_file())
            .arg("--state-dir")
            .arg(pod.state_dir())
            .arg("--termination-log")
            .arg(pod.termination_log())
            .args(arguments)
            .env(layout::ENV_NAMESPACE, &pod.namespace)
            .env(layout::ENV_POD, &pod.name)
            .env(layout::ENV_POD_UID, &pod.uid)
            .env(layout::ENV_NODE, "node1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .context("failed to start the agent (setpriv comes with util-linux)")?;
        Ok(Self { child })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().context("failed to kill the agent")?;
        let status = self.child.wait().context("failed to wait for the agent")?;
        ensure!(
            status.signal() == Some(Signal::SIGKILL as i32),
            "the agent had ended before it was killed: {status}"
        );
        Ok(())
    }

    /// SIGTERM, as the kubelet does when the other containers have ended; waits for the end.
    pub async fn terminate(mut self, within: Duration) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).context("failed to read the agent's id")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("failed to send SIGTERM")?;
        eventually("the agent ends", within, || {
            let ended = self.child.try_wait();
            async { Ok(ended?) }
        })
        .await
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Nothing is left to be done about a process that cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
