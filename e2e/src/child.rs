//! Programs that a test starts and that end with it. Knows nothing of what they do.

use std::{
    fs::OpenOptions,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::eventually::eventually;

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    child: Child,
}

impl Program {
    /// Starts a program; what it says on both its outputs is appended to this file.
    ///
    /// It dies with the thread that starts it: a test that is killed leaves nothing behind.
    pub fn start(
        program: &Path,
        output: &Path,
        describe: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let said = OpenOptions::new()
            .create(true)
            .append(true)
            .open(output)
            .with_context(|| format!("failed to open {}", output.display()))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .stdin(Stdio::null())
            .stdout(said.try_clone().context("failed to share the output")?)
            .stderr(said);
        describe(&mut command);
        let child = command.spawn().with_context(|| {
            let program = program.display();
            format!("failed to start {program} (setpriv comes with util-linux)")
        })?;
        Ok(Self { child })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// When it had ended before.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().context("failed to kill a program")?;
        let status = self.child.wait().context("failed to wait for its end")?;
        ensure!(
            status.signal() == Some(Signal::SIGKILL as i32),
            "the program had ended before it was killed: {status}"
        );
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(mut self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        eventually("the program ends", within, || {
            let ended = self.child.try_wait();
            async { Ok(ended?) }
        })
        .await
    }

    /// SIGSTOP: it does nothing any more, and the kernel goes on to accept for it what fits into its buffers.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("failed to read a process id")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("failed to send {signal}"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Nothing is left to be done about a process that cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
