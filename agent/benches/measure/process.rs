//! A process under measurement: its processor time, its memory, its end.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    time::clock_getcpuclockid,
    unistd::Pid,
};

use super::Outcome;

/// How often an end is looked for: finer than any figure that is told.
const LOOK: Duration = Duration::from_micros(200);

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: PathBuf,
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Its status.
    pub status: ExitStatus,
    /// How long it took from SIGTERM.
    pub after: Duration,
    /// Whether it had to be killed.
    pub killed: bool,
}

impl Process {
    /// Starts a program; what it prints goes to the file `output`. It dies with the thread that starts it.
    pub fn start(command: &Command, output: &Path) -> Outcome<Self> {
        let log = File::options().create(true).append(true).open(output)?;
        let mut guarded = Command::new("setpriv");
        guarded
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            guarded.env(name, value.unwrap_or_default());
        }
        if let Some(directory) = command.get_current_dir() {
            guarded.current_dir(directory);
        }
        let child = guarded
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("setpriv, of util-linux: {error}"))?;
        Ok(Self {
            child,
            output: output.to_owned(),
        })
    }

    fn pid(&self) -> Outcome<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// Processor time so far, of all its threads, in the kernel too.
    pub fn cpu(&self) -> Outcome<Duration> {
        Ok(Duration::from(clock_getcpuclockid(self.pid()?)?.now()?))
    }

    /// Resident memory now, in MiB.
    pub fn memory(&self) -> Outcome<f64> {
        memory(self.child.id(), "VmRSS:")
    }

    /// The most resident memory that it has had, in MiB.
    pub fn peak_memory(&self) -> Outcome<f64> {
        memory(self.child.id(), "VmHWM:")
    }

    /// Looks at its memory every `every` until it is stopped.
    pub fn watch_memory(&self, begun: Instant, every: Duration) -> MemoryWatch {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let id = self.child.id();
        let watching = thread::spawn(move || {
            let mut seen = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let Ok(now) = memory(id, "VmRSS:") else { break };
                seen.push((begun.elapsed().as_secs_f64(), now));
                thread::sleep(every);
            }
            seen
        });
        MemoryWatch { stop, watching }
    }

    /// SIGTERM, then SIGKILL after `grace`.
    pub fn terminate(&mut self, grace: Duration) -> Outcome<End> {
        let begun = Instant::now();
        kill(self.pid()?, Signal::SIGTERM)?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(End {
                    status,
                    after: begun.elapsed(),
                    killed: false,
                });
            }
            if begun.elapsed() > grace {
                self.child.kill()?;
                return Ok(End {
                    status: self.child.wait()?,
                    after: begun.elapsed(),
                    killed: true,
                });
            }
            thread::sleep(LOOK);
        }
    }

    /// The end of what it printed, for a message about what went wrong.
    pub fn said(&self) -> String {
        let said = fs::read(&self.output).unwrap_or_default();
        let end = &said[said.len().saturating_sub(2000)..];
        String::from_utf8_lossy(end).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing is left to be done about a process that cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Memory over time, being taken down.
#[derive(Debug)]
pub struct MemoryWatch {
    stop: Arc<AtomicBool>,
    watching: JoinHandle<Vec<(f64, f64)>>,
}

impl MemoryWatch {
    /// Seconds and MiB.
    pub fn stop(self) -> Outcome<Vec<(f64, f64)>> {
        self.stop.store(true, Ordering::Relaxed);
        self.watching
            .join()
            .map_err(|_| "the memory was not taken down".into())
    }
}

/// A figure of `/proc/<pid>/status`, in MiB.
fn memory(id: u32, name: &str) -> Outcome<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .ok_or("a process that has ended has no memory")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
