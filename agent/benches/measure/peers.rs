//! The same work for other agents: tail the same log from its beginning and deliver it to the same receiver.
//!
//! Each peer runs as a child of this process, with a configuration, state and sockets of its own; no service of the
//! machine is touched. It is set up as its documentation says for losing nothing: positions are saved, what is
//! refused is retried without end, the source waits for the sink.

mod ends;
mod fluent_bit;
mod otelcol;
mod ours;
mod rsyslog;
mod speed;
mod syslog_ng;
mod vector;

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Outcome,
    kinds::HEC,
    lines::{CONTAINER, Logs},
    pod,
    process::Process,
    receiver::{Receiver, Wire},
};

/// A log agent.
#[derive(Clone, Copy, Debug)]
struct Peer {
    name: &'static str,
    /// The environment variable that names its program.
    variable: &'static str,
    /// The names under which it is looked for on `PATH`; none: it was built with this benchmark.
    programs: &'static [&'static str],
    /// What makes it print its version.
    version: &'static [&'static str],
    wire: Wire,
    /// Writes its configuration and says how it is started.
    command: fn(&Path, &Work) -> Outcome<Command>,
}

const PEERS: [Peer; 8] = [
    ours::PEER,
    syslog_ng::PEER,
    fluent_bit::PEER,
    otelcol::PEER,
    vector::PEER,
    rsyslog::PEER,
    ours::BY_OTLP,
    otelcol::BY_OTLP,
];

/// How long nothing new may come before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a pod is given for its end by default.
const GRACE: Duration = Duration::from_secs(30);

/// What a peer is to do, and the folder for what it keeps meanwhile.
#[derive(Debug)]
struct Work {
    directory: TempDir,
    /// A log folder as a pod has it.
    logs: PathBuf,
    receiver: SocketAddr,
}

impl Work {
    /// Over a log folder that others read too.
    fn over(logs: &Path, receiver: &Receiver) -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        fs::create_dir(directory.path().join("state"))?;
        Ok(Self {
            logs: logs.to_owned(),
            directory,
            receiver: receiver.address(),
        })
    }

    /// With a log folder of its own, empty.
    fn new(receiver: &Receiver) -> Outcome<Self> {
        let mut work = Self::over(Path::new(""), receiver)?;
        work.logs = work.directory.path().join("logs");
        fs::create_dir(&work.logs)?;
        Ok(work)
    }

    fn container(&self) -> PathBuf {
        self.logs.join(CONTAINER)
    }

    /// The one log file.
    fn log(&self) -> PathBuf {
        self.container().join("0.log")
    }

    /// A folder that outlives a restart of the agent.
    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Writes a configuration file.
    fn file(&self, name: &str, content: &str) -> Outcome<PathBuf> {
        let path = self.directory.path().join(name);
        fs::write(&path, content)?;
        Ok(path)
    }
}

impl Peer {
    fn program(&self) -> Option<PathBuf> {
        if self.programs.is_empty() {
            return Some(pod::program());
        }
        if let Some(named) = env::var_os(self.variable).filter(|named| !named.is_empty()) {
            return Some(named.into());
        }
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .chain(["/usr/sbin", "/usr/local/bin", "/opt/fluent-bit/bin"].map(PathBuf::from))
            .flat_map(|folder| self.programs.iter().map(move |name| folder.join(name)))
            .find(|program| program.is_file())
    }

    /// The first number with dots in what it says of itself.
    fn version(&self, program: &Path) -> Outcome<String> {
        let output = Command::new(program).args(self.version).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        let is_version = |word: &&str| {
            word.contains('.') && word.starts_with(|first: char| first.is_ascii_digit())
        };
        said.split(|one: char| one.is_whitespace() || matches!(one, 'v' | ',' | ':' | '(' | ')'))
            .find(is_version)
            .map(str::to_owned)
            .ok_or_else(|| format!("{} tells no version", program.display()).into())
    }

    fn start(&self, program: &Path, work: &Work) -> Outcome<Process> {
        let command = (self.command)(program, work)?;
        Process::start(&command, &work.directory.path().join("output"))
    }

    fn receiver(&self) -> Outcome<Receiver> {
        Receiver::start(self.wire, false)
    }
}

/// Measures every peer that is there and names those that are not.
///
/// # Errors
/// When our own agent cannot be measured; what goes wrong with another one is told as its result.
pub fn measure(logs: &Logs) -> Outcome<()> {
    for peer in PEERS {
        let Some(program) = peer.program() else {
            let reason = format!("not on PATH, and {} is not set", peer.variable);
            println!("{}", json!({"peer": peer.name, "absent": reason}));
            continue;
        };
        match of_one(&peer, &program, logs) {
            Ok(result) => println!("{result}"),
            Err(error) if peer.programs.is_empty() => return Err(error),
            Err(error) => println!(
                "{}",
                json!({"peer": peer.name, "absent": format!("failed: {error}")})
            ),
        }
    }
    Ok(())
}

fn of_one(peer: &Peer, program: &Path, logs: &Logs) -> Outcome<Value> {
    let version = peer.version(program)?;
    let speed = speed::measure(peer, program, logs)?;
    let ends = ends::measure(peer, program, logs)?;
    Ok(json!({"peer": peer.name, "version": version, "speed": speed, "ends": ends}))
}

/// HEC, as it is answered when all is well.
const SPLUNK: Wire = HEC;
