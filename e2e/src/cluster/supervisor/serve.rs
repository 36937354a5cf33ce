//! Inside the supervisor: starts, kills and reaps processes as it is told. Knows nothing of what they are.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{Write as _, stdout},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{self, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getppid},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, stdin},
    select,
    signal::unix::{SignalKind, signal},
};

use super::{Event, Process, Request};

/// Serves the owner until its input ends, or until SIGTERM once the cluster is kept; then kills all that runs.
pub fn serve(directory: &Path, forward: Option<u16>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the supervisor's runtime")?;
    let mut children = Children {
        directory,
        running: BTreeMap::new(),
    };
    let served = runtime.block_on(listen(&mut children, forward));
    children.kill_all();
    // The thread that reads stdin may still be blocked in a read.
    runtime.shutdown_background();
    served
}

async fn listen(children: &mut Children<'_>, forward: Option<u16>) -> Result<()> {
    let mut input = BufReader::new(stdin()).lines();
    let mut ended = signal(SignalKind::child()).context("failed to watch for ended children")?;
    let mut asked_to_end =
        signal(SignalKind::terminate()).context("failed to watch for SIGTERM")?;
    let mut kept = false;
    let mut open = true;
    say(&Event::Ready { forward });
    loop {
        select! {
            line = input.next_line(), if open => match line.context("failed to read from the owner")? {
                Some(line) => {
                    let request = serde_json::from_str(&line).context("failed to understand the owner")?;
                    kept |= matches!(request, Request::Keep);
                    let outcome = match request {
                        Request::Start(process) => children.start(&process),
                        Request::Kill(name) => children.kill(&name),
                        Request::Keep => Ok(()),
                    };
                    say(&outcome.map_or_else(|error| Event::Failed(format!("{error:#}")), |()| Event::Done));
                }
                None if kept => open = false,
                None => return Ok(()),
            },
            _ = ended.recv() => children.reap(),
            _ = asked_to_end.recv() => return Ok(()),
        }
    }
}

/// An owner that no longer listens is no reason to stop.
fn say(event: &Event) {
    if let Ok(mut line) = serde_json::to_string(event) {
        line.push('\n');
        let mut output = stdout().lock();
        let _ = output
            .write_all(line.as_bytes())
            .and_then(|()| output.flush());
    }
}

struct Children<'a> {
    directory: &'a Path,
    running: BTreeMap<String, Pid>,
}

impl Children<'_> {
    fn start(&mut self, process: &Process) -> Result<()> {
        if self.running.contains_key(&process.name) {
            bail!("it runs already");
        }
        let path = self
            .directory
            .join("logs")
            .join(format!("{}.log", process.name));
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("failed to open {}", path.display()))?;
        let errors = log
            .try_clone()
            .context("failed to use the log for both outputs")?;
        // Through this same program, which sets the parent-death signal and becomes the component.
        let child = Command::new("/proc/self/exe")
            .arg("become")
            .arg(process::id().to_string())
            .arg(&process.program)
            .args(&process.arguments)
            .envs(&process.environment)
            // Components find their clusters by flags only.
            .env_remove("KUBECONFIG")
            .current_dir(self.directory)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("failed to start {}", process.program.display()))?;
        let id = i32::try_from(child.id()).context("a process id out of range")?;
        self.running.insert(process.name.clone(), Pid::from_raw(id));
        Ok(())
    }

    fn kill(&mut self, name: &str) -> Result<()> {
        let pid = self.running.remove(name).context("it does not run")?;
        kill(pid, Signal::SIGKILL).context("failed to send SIGKILL")?;
        waitpid(pid, None).context("failed to wait for its end")?;
        Ok(())
    }

    /// Also for orphans: inside a process-id namespace this is process 1.
    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let Some(pid) = status.pid() else { return };
            let ended = self.running.iter().find(|&(_, &running)| running == pid);
            let Some(name) = ended.map(|(name, _)| name.clone()) else {
                continue;
            };
            self.running.remove(&name);
            let status = match status {
                WaitStatus::Exited(_, code) => format!("exit code {code}"),
                WaitStatus::Signaled(_, signal, _) => format!("signal {signal}"),
                other => format!("{other:?}"),
            };
            say(&Event::Exited { name, status });
        }
    }

    fn kill_all(&mut self) {
        for pid in self.running.values() {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        for (_, pid) in std::mem::take(&mut self.running) {
            let _ = waitpid(pid, None);
        }
    }
}

/// Turns this process into a component that dies with its parent.
pub fn become_component(parent: &str, program: &str, arguments: &[String]) -> Result<()> {
    die_with_parent()?;
    // Whoever lost its parent before that line would wait for a signal that does not come.
    if getppid().to_string() != parent {
        bail!("the supervisor has ended");
    }
    Err(Command::new(program).args(arguments).exec())
        .with_context(|| format!("failed to run {program}"))
}

/// The kernel kills this process when its parent ends.
pub fn die_with_parent() -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("failed to ask for the parent-death signal")
}
