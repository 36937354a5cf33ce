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

use katonic_log_config::{
    Bundle, ContainerFilter, CredentialKey, Endpoint, Http, Policy, Selector, Sink, Splunk, Target,
    Tls, layout,
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
        let bundle = Bundle {
            execution_id_label: None,
            policies,
        };
        let bytes = bundle.encode().map_err(std::io::Error::other)?;
        self.set(layout::BUNDLE_FILE, Some(&bytes))
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

    /// Starts an agent.
    pub fn start(&self, witness: &Witness) -> Result<Agent> {
        self.start_with(witness, &[])
    }

    /// Starts an agent with more flags.
    pub fn start_with(&self, witness: &Witness, flags: &[&str]) -> Result<Agent> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_katonic-log-agent"))
            .arg("--log-dir")
            .arg(self.path("logs"))
            .arg("--bundle-dir")
            .arg(self.path("bundle"))
            .arg("--labels-file")
            .arg(self.path("labels"))
            .arg("--state-dir")
            .arg(self.path("state"))
            .arg("--termination-log")
            .arg(self.path("termination"))
            .args(["--flush-ms", "50"])
            .args(flags)
            .envs([(layout::ENV_NAMESPACE, "plane"), (layout::ENV_POD, "web-1")])
            .envs([(layout::ENV_POD_UID, "uid-1"), (layout::ENV_NODE, "node-1")])
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
    Policy {
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
        selector: Selector::default(),
        components: [].into(),
        containers: ContainerFilter::default(),
        sinks: vec![Sink {
            name: "sink".to_owned(),
            target,
        }],
    }
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
    Ok(Target::Splunk(Splunk {
        endpoint: endpoint(url)?,
        token: key("token")?,
        index: None,
        source: None,
        sourcetype: None,
        tls: Tls::default(),
    }))
}

/// A sink for JSON lines.
pub fn http(url: &str) -> Result<Target> {
    Ok(Target::Http(Http {
        url: endpoint(url)?,
        headers: Vec::new(),
        tls: Tls::default(),
    }))
}
