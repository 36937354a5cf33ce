//! A pod's folders as kubelet and runtime make them, and an agent over them.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Result, Write},
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use katonic_log_agent::cursor::{State, Store};
use katonic_log_config::{
    Bundle, CredentialKey, Endpoint, Http, Policy, Sink, Splunk, Target, layout,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::witness::{PATIENCE, Witness, numbered};

/// A pod's folders.
#[derive(Debug)]
pub struct Pod {
    directory: TempDir,
    /// Files of the bundle Secret.
    secret: Vec<(String, Vec<u8>)>,
    version: usize,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_katonic-log-agent");

/// The time of all lines: what matters is their order.
const TIME: &str = "2026-11-23T10:15:07.123456789Z";

impl Pod {
    /// A pod with an empty, mounted Secret and one label.
    pub fn new() -> Result<Self> {
        let mut pod = Self {
            directory: tempfile::tempdir()?,
            secret: Vec::new(),
            version: 0,
        };
        for directory in ["logs", "bundle", "state"] {
            fs::create_dir(pod.path(directory))?;
        }
        fs::write(pod.path("labels"), "app=\"web\"\n")?;
        pod.publish()?;
        Ok(pod)
    }

    /// A path below the pod's folders.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A container's log file.
    pub fn log(&self, container: &str, file: &str) -> PathBuf {
        self.path("logs").join(container).join(file)
    }

    /// Puts a file into the Secret, or takes it out, and shows it to the agent as the kubelet does.
    pub fn set(&mut self, key: &str, value: Option<&[u8]>) -> Result<()> {
        self.secret.retain(|(name, _)| name != key);
        self.secret
            .extend(value.map(|value| (key.to_owned(), value.to_vec())));
        self.publish()
    }

    /// Puts the bundle into the Secret.
    pub fn set_policies(&mut self, policies: Vec<Policy>) -> Result<()> {
        self.set_bundle(&Bundle {
            policies,
            ..Bundle::default()
        })
    }

    /// Puts a whole bundle into the Secret.
    pub fn set_bundle(&mut self, bundle: &Bundle) -> Result<()> {
        let bytes = bundle.encode().map_err(std::io::Error::other)?;
        self.set(layout::BUNDLE_FILE, Some(&bytes))
    }

    /// Gives the pod a token to report with, as the kubelet does.
    pub fn set_token(&self, token: &str) -> Result<()> {
        let directory = self.path("token");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("..new"), token)?;
        fs::rename(directory.join("..new"), directory.join(layout::TOKEN_FILE))
    }

    fn publish(&mut self) -> Result<()> {
        self.version += 1;
        let directory = self.path("bundle");
        let version = format!("..version-{}", self.version);
        fs::create_dir(directory.join(&version))?;
        for (name, value) in &self.secret {
            fs::write(directory.join(&version).join(name), value)?;
        }
        symlink(&version, directory.join("..data_tmp"))?;
        fs::rename(directory.join("..data_tmp"), directory.join("..data"))
    }

    /// Appends raw bytes to a log file.
    pub fn append(&self, container: &str, file: &str, bytes: &[u8]) -> Result<()> {
        let path = self.log(container, file);
        fs::create_dir_all(self.path("logs").join(container))?;
        File::options()
            .append(true)
            .create(true)
            .open(path)?
            .write_all(bytes)
    }

    /// Appends numbered lines.
    pub fn write(
        &self,
        container: &str,
        file: &str,
        numbers: impl IntoIterator<Item = usize>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        for number in numbers {
            writeln!(bytes, "{TIME} stdout F {}", numbered(number))?;
        }
        self.append(container, file, &bytes)
    }

    /// Renames the live log, as the kubelet does, and begins the next one with some lines.
    pub fn rotate(
        &self,
        container: &str,
        time: &str,
        numbers: impl IntoIterator<Item = usize>,
    ) -> Result<()> {
        fs::rename(
            self.log(container, "0.log"),
            self.log(container, &format!("0.log.{time}")),
        )?;
        self.write(container, "0.log", numbers)
    }

    /// Compresses a rotated file as the kubelet does, in its three steps; the last one can be left out.
    pub fn compress(&self, container: &str, file: &str, remove: bool) -> Result<()> {
        let plain = self.log(container, file);
        let temporary = self.log(container, &format!("{file}.tmp"));
        let mut encoder = GzEncoder::new(File::create(&temporary)?, Compression::fast());
        std::io::copy(&mut File::open(&plain)?, &mut encoder)?;
        encoder.finish()?;
        fs::rename(temporary, self.log(container, &format!("{file}.gz")))?;
        if remove {
            fs::remove_file(plain)
        } else {
            Ok(())
        }
    }

    /// Waits until the saved cursors of a sink know of so many files.
    pub fn wait_known(&self, files: usize) -> Result<()> {
        self.wait_state(&format!("{files} files are known"), |state| {
            state
                .cursors
                .values()
                .any(|route| route.files.len() >= files)
        })
    }

    /// Waits until cursors are saved that know of so many delivered records.
    pub fn wait_saved(&self, delivered: u64) -> Result<()> {
        self.wait_state(
            &format!("{delivered} delivered records are saved"),
            |state| {
                let routes = state.cursors.values();
                routes.map(|route| route.counts.delivered).sum::<u64>() >= delivered
            },
        )
    }

    /// Waits until cursors are saved that know of so many records that nobody wants any more.
    pub fn wait_declined(&self, records: u64) -> Result<()> {
        self.wait_state(&format!("{records} declined records are saved"), |state| {
            let files = state.cursors.values().flat_map(|route| &route.files);
            let declined = files.filter_map(|(_, place)| place.declined);
            declined.sum::<u64>() == records
        })
    }

    fn wait_state(&self, what: &str, enough: impl Fn(&State) -> bool) -> Result<()> {
        let store = Store::new(&self.path("state"));
        let deadline = Instant::now() + PATIENCE;
        while !store.load().0.is_some_and(|state| enough(&state)) {
            if Instant::now() > deadline {
                return Err(std::io::Error::other(format!(
                    "waited in vain until {what}"
                )));
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The termination message as it is now.
    pub fn termination(&self) -> Result<Value> {
        let message = fs::read(self.path("termination"))?;
        Ok(serde_json::from_slice(&message)?)
    }

    /// Waits until the termination message says enough.
    pub fn wait_termination(&self, what: &str, enough: impl Fn(&Value) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.termination().unwrap_or_default();
            if enough(&message) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let waited = format!("waited in vain until {what}; the message is {message}");
                return Err(std::io::Error::other(waited));
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Starts an agent.
    pub fn start(&self, witness: &Witness) -> Result<Agent> {
        self.start_with(witness, &[])
    }

    /// Starts an agent with more flags.
    pub fn start_with(&self, witness: &Witness, flags: &[&str]) -> Result<Agent> {
        self.start_as(Command::new(PROGRAM), witness, flags)
    }

    /// Starts an agent in such an environment.
    pub fn start_in(&self, witness: &Witness, environment: &[(&str, &str)]) -> Result<Agent> {
        let mut program = Command::new(PROGRAM);
        program.envs(environment.iter().copied());
        self.start_as(program, witness, &[])
    }

    /// Starts an agent that can open no more files than this.
    pub fn start_limited(&self, witness: &Witness, files: u32) -> Result<Agent> {
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(format!("ulimit -n {files}; exec \"$0\" \"$@\""))
            .arg(PROGRAM);
        self.start_as(shell, witness, &[])
    }

    /// Starts an agent whose pod has so many seconds to end.
    pub fn start_with_grace_period(&self, witness: &Witness, seconds: u32) -> Result<Agent> {
        let mut program = Command::new(PROGRAM);
        program.env(layout::ENV_GRACE_PERIOD, seconds.to_string());
        self.start_as(program, witness, &[])
    }

    /// Adds to a command the program and what it is started with.
    pub fn arguments<'a>(&self, command: &'a mut Command, flags: &[&str]) -> &'a mut Command {
        self.flags(command.arg(PROGRAM), flags)
    }

    fn start_as(&self, mut program: Command, witness: &Witness, flags: &[&str]) -> Result<Agent> {
        let mut child = self
            .flags(&mut program, flags)
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(stderr) = child.stderr.take() {
            let witness = witness.clone();
            thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    // What is no JSON is a panic, and then the test shows it.
                    let said = serde_json::from_str(&line).unwrap_or(Value::String(line));
                    witness.add(|seen| seen.said.push(said));
                }
            });
        }
        Ok(Agent {
            child,
            termination: self.path("termination"),
        })
    }

    fn flags<'a>(&self, program: &'a mut Command, flags: &[&str]) -> &'a mut Command {
        program
            .arg("--log-dir")
            .arg(self.path("logs"))
            .arg("--bundle-dir")
            .arg(self.path("bundle"))
            .arg("--labels-file")
            .arg(self.path("labels"))
            .arg("--token-dir")
            .arg(self.path("token"))
            .arg("--state-dir")
            .arg(self.path("state"))
            .arg("--termination-log")
            .arg(self.path("termination"))
            .args(["--flush-ms", "50"])
            .args(flags)
            .envs([(layout::ENV_NAMESPACE, "plane"), (layout::ENV_POD, "web-1")])
            .envs([(layout::ENV_POD_UID, "uid-1"), (layout::ENV_NODE, "node-1")])
    }
}

/// A running agent; killed with the test.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    termination: PathBuf,
}

impl Agent {
    /// SIGTERM; gives its exit code and its termination message.
    pub fn terminate(mut self) -> Result<(Option<i32>, Value)> {
        kill(self.pid()?, Signal::SIGTERM)?;
        let status = self.child.wait()?;
        let message = fs::read(&self.termination)?;
        Ok((status.code(), serde_json::from_slice(&message)?))
    }

    /// Waits until the agent holds so many files open whose path contains this.
    pub fn wait_open(&self, path: &str, files: usize) -> Result<()> {
        let directory = format!("/proc/{}/fd", self.child.id());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let open = fs::read_dir(&directory)?
                .flatten()
                .filter_map(|entry| fs::read_link(entry.path()).ok())
                .filter(|target| target.to_string_lossy().contains(path))
                .count();
            if open >= files {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(std::io::Error::other(format!(
                    "only {open} of {files} files are open"
                )));
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// How many sockets it has open.
    pub fn sockets(&self) -> Result<usize> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.child.id()))?;
        let targets = entries
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok());
        Ok(targets
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count())
    }

    /// Waits until it has less memory than this; gives how much it has.
    pub fn wait_resident(&self, below: u64) -> Result<u64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let resident = self.resident()?;
            if resident < below || Instant::now() > deadline {
                return Ok(resident);
            }
            thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// The most bytes of memory that it had of its own at any time.
    pub fn peak(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        let kibibytes = kibibytes.ok_or_else(|| std::io::Error::other("no VmHWM"))?;
        Ok(kibibytes * 1024)
    }

    /// Bytes of memory that it has now.
    pub fn resident(&self) -> Result<u64> {
        let pages = fs::read_to_string(format!("/proc/{}/statm", self.child.id()))?;
        let pages = pages
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok());
        let pages = pages.ok_or_else(|| std::io::Error::other("no statm"))?;
        Ok(pages * 4096)
    }

    /// Waits, without a pause, until it has a handler for SIGTERM.
    pub fn wait_handles_end(&self) -> Result<()> {
        let path = format!("/proc/{}/status", self.child.id());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let status = fs::read_to_string(&path)?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            if caught.is_some_and(|mask| mask >> (Signal::SIGTERM as i32 - 1) & 1 == 1) {
                return Ok(());
            }
        }
        Err(std::io::Error::other("it has no handler for SIGTERM"))
    }

    /// SIGTERM, without waiting for what comes of it.
    pub fn signal_end(&self) -> Result<()> {
        Ok(kill(self.pid()?, Signal::SIGTERM)?)
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    fn pid(&self) -> Result<Pid> {
        let id = i32::try_from(self.child.id()).map_err(std::io::Error::other)?;
        Ok(Pid::from_raw(id))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A policy that takes every container.
pub fn policy(name: &str, target: Target) -> Policy {
    Policy::of_everything(
        name,
        &format!("uid-of-{name}"),
        vec![Sink::new("sink", target)],
    )
}

/// A credential's name.
pub fn key(name: &str) -> Result<CredentialKey> {
    CredentialKey::try_from(name.to_owned()).map_err(std::io::Error::other)
}

fn endpoint(url: &str) -> Result<Endpoint> {
    Endpoint::try_from(url.to_owned()).map_err(std::io::Error::other)
}

/// A Splunk sink with the token `token`.
pub fn splunk(url: &str) -> Result<Target> {
    Ok(Target::Splunk(Splunk::to(endpoint(url)?, key("token")?)))
}

/// A sink for JSON lines.
pub fn http(url: &str) -> Result<Target> {
    Ok(Target::Http(Http::to(endpoint(url)?)))
}
