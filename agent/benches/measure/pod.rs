//! A pod as its agent sees it: folders of logs, bundle and state.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use katonic_log_config::{Bundle, Endpoint, Policy, Reporting, Sink, layout};
use tempfile::TempDir;

use super::{
    Outcome,
    lines::POD,
    process::Process,
    receiver::{self, Receiver},
};

/// The file of the credential that every sink of the benchmark uses.
pub const TOKEN: &str = "token";

/// The file of the authority that receivers' certificates are signed by.
pub const AUTHORITY: &str = "authority";

/// A pod; a container's name is that of the folder below its logs.
#[derive(Debug)]
pub struct Pod {
    directory: TempDir,
    logs: PathBuf,
}

impl Pod {
    /// With a log folder of its own, empty.
    pub fn new(policies: Vec<Policy>) -> Outcome<Self> {
        let mut pod = Self::over(Path::new(""), policies)?;
        pod.logs = pod.directory.path().join("logs");
        fs::create_dir(&pod.logs)?;
        Ok(pod)
    }

    /// Over a log folder that others read too.
    pub fn over(logs: &Path, policies: Vec<Policy>) -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        prepare(directory.path(), policies)?;
        Ok(Self {
            directory,
            logs: logs.to_owned(),
        })
    }

    /// The folder of a container's log.
    pub fn container(&self, name: &str) -> PathBuf {
        self.logs.join(name)
    }

    /// Has the agent report there, over TLS, from its start on.
    pub fn report_to(&self, operator: &Receiver) -> Outcome<()> {
        let file = self
            .directory
            .path()
            .join("bundle")
            .join(layout::BUNDLE_FILE);
        let bundle = Bundle::decode(&fs::read(&file)?)?.bundle;
        let bundle = Bundle {
            reporting: Some(Reporting {
                url: Endpoint::try_from(format!("https://{}", operator.address()))?,
                server_name: "localhost".to_owned(),
                certificate_authorities: receiver::tls::authority()?.to_owned(),
            }),
            revisions: vec!["1".to_owned(); bundle.policies.len()],
            ..bundle
        };
        fs::write(file, bundle.encode()?)?;
        let token = self.directory.path().join("token");
        fs::create_dir(&token)?;
        fs::write(token.join(layout::TOKEN_FILE), "secret")?;
        Ok(())
    }

    /// Starts the agent with further flags.
    pub fn start(&self, flags: &[&str]) -> Outcome<Process> {
        let path = self.directory.path();
        let mut agent = command(&program(), path, &self.logs);
        Process::start(agent.args(flags), &path.join("output"))
    }
}

/// Writes what is mounted into an agent's container, and makes room for what it keeps.
pub fn prepare(directory: &Path, policies: Vec<Policy>) -> Outcome<()> {
    let mounted = directory.join("bundle");
    fs::create_dir_all(&mounted)?;
    fs::create_dir_all(directory.join("state"))?;
    let bundle = Bundle {
        policies,
        ..Bundle::default()
    };
    fs::write(mounted.join(layout::BUNDLE_FILE), bundle.encode()?)?;
    fs::write(mounted.join(TOKEN), "secret")?;
    fs::write(mounted.join(AUTHORITY), receiver::tls::authority()?)?;
    let labels = "app.kubernetes.io/name=\"nucleus-frontend\"\npod-template-hash=\"7d4b9c6f5d\"\n";
    fs::write(directory.join("labels"), labels)?;
    Ok(())
}

/// An agent over a prepared folder and these logs.
pub fn command(program: &Path, directory: &Path, logs: &Path) -> Command {
    let mut agent = Command::new(program);
    agent
        .arg("--log-dir")
        .arg(logs)
        .arg("--bundle-dir")
        .arg(directory.join("bundle"))
        .arg("--labels-file")
        .arg(directory.join("labels"))
        .arg("--state-dir")
        .arg(directory.join("state"))
        .arg("--token-dir")
        .arg(directory.join("token"))
        .arg("--termination-log")
        .arg(directory.join("termination"))
        .env(layout::ENV_NAMESPACE, "katonic-platform")
        .env(layout::ENV_NODE, "ip-10-0-12-34.ec2.internal")
        .env(layout::ENV_POD, POD)
        .env(layout::ENV_POD_UID, "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9");
    agent
}

/// The agent's program: the one that was built with this benchmark, or `KATONIC_LOG_AGENT`.
pub fn program() -> PathBuf {
    std::env::var_os("KATONIC_LOG_AGENT").map_or_else(
        || env!("CARGO_BIN_EXE_katonic-log-agent").into(),
        PathBuf::from,
    )
}

/// A policy that sends everything to these sinks.
pub fn policy(sinks: Vec<Sink>) -> Policy {
    Policy::of_everything("bench", "bench", sinks)
}
