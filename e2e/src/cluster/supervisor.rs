//! The owner's side of the supervisor: a process of ours that is the parent of all components and dies with its owner.
//! Decides nothing about the components.
//!
//! The owner holds the only writing end of the supervisor's stdin. However the owner ends, `kill -9` included, the
//! supervisor reads the end of its input, ends everything and cleans up. However the supervisor ends, its children end:
//! by the parent-death signal, and on the node's tier with the process-id namespace they all live in.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::program;

pub mod isolation;
mod mounts;
pub mod serve;

/// How long the supervisor may take for one answer, and for its end.
const ANSWER: Duration = Duration::from_secs(20);

/// A process that the supervisor is to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its name in the cluster, and of its log file.
    pub name: String,
    /// The program's path.
    pub program: PathBuf,
    /// Arguments.
    pub arguments: Vec<String>,
    /// Added to the environment.
    pub environment: BTreeMap<String, String>,
}

impl Process {
    /// A process without arguments.
    pub fn new(name: &str, program: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn with(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// What the owner asks for, one JSON object a line.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    Start(Process),
    Kill(String),
    /// From now on, the end of input does not end the supervisor.
    Keep,
}

/// What the supervisor says, one JSON object a line.
#[derive(Debug, Serialize, Deserialize)]
enum Event {
    /// It is ready; `forward` is the port on 127.0.0.1 that leads to the cluster's API server.
    Ready {
        forward: Option<u16>,
    },
    Done,
    Failed(String),
    Exited {
        name: String,
        status: String,
    },
}

/// Where the components run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// As ordinary processes of this machine.
    None,
    /// In network, mount and process-id namespaces of their own; needs root.
    Namespaces,
}

/// A running supervisor.
#[derive(Debug)]
pub struct Supervisor {
    process: Child,
    input: Mutex<Option<ChildStdin>>,
    answers: Mutex<mpsc::Receiver<Event>>,
    exited: Arc<Mutex<BTreeMap<String, String>>>,
    forward: Option<u16>,
    directory: PathBuf,
}

impl Supervisor {
    /// Starts the supervisor of a run.
    ///
    /// # Errors
    /// With what it wrote to its log, when it does not become ready.
    pub fn start(directory: &Path, isolation: Isolation) -> Result<Self> {
        let log = directory.join("logs/supervisor.log");
        let errors = std::fs::File::create(&log).context("failed to make the supervisor's log")?;
        let program = program()?;
        let mut process = Command::new(&program)
            .arg(match isolation {
                Isolation::None => "plain",
                Isolation::Namespaces => "isolated",
            })
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            // Ctrl-C on the terminal is the owner's; the supervisor follows when its input ends.
            .process_group(0)
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let input = process.stdin.take();
        let output = process
            .stdout
            .take()
            .context("the supervisor has no output")?;
        let exited = Arc::new(Mutex::new(BTreeMap::new()));
        let (sender, answers) = mpsc::channel();
        let seen = Arc::clone(&exited);
        thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || listen(output, &sender, &seen))
            .context("failed to start a thread for the supervisor")?;
        let mut supervisor = Self {
            process,
            input: Mutex::new(input),
            answers: Mutex::new(answers),
            exited,
            forward: None,
            directory: directory.to_owned(),
        };
        match supervisor.answer() {
            Ok(Event::Ready { forward }) => supervisor.forward = forward,
            Ok(event) => bail!("the supervisor said {event:?} before it was ready"),
            Err(error) => {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(error.context(format!("the supervisor did not start:\n{text}")));
            }
        }
        Ok(supervisor)
    }

    /// The supervisor's process id: its network namespace is the cluster's.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The port on 127.0.0.1 that leads to the API server inside the namespaces.
    pub fn forward(&self) -> Option<u16> {
        self.forward
    }

    /// Starts a process; it writes to `logs/<name>.log` of the run.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn run(&self, process: &Process) -> Result<()> {
        self.exited
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&process.name);
        self.ask(&Request::Start(process.clone()))
            .with_context(|| format!("failed to start {}", process.name))
    }

    /// Kills a process (SIGKILL) and returns when it is gone.
    ///
    /// # Errors
    /// When no process of this name runs.
    pub fn kill(&self, name: &str) -> Result<()> {
        self.ask(&Request::Kill(name.to_owned()))
            .with_context(|| format!("failed to kill {name}"))
    }

    /// Lets the cluster outlive its owner; from now on SIGTERM ends it.
    pub fn keep(&self) -> Result<()> {
        self.ask(&Request::Keep)
            .context("failed to keep the cluster")
    }

    /// How a process ended, if it has ended by itself.
    pub fn exited(&self, name: &str) -> Option<String> {
        self.exited
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    fn ask(&self, request: &Request) -> Result<()> {
        let mut line = serde_json::to_string(request).context("failed to write a request")?;
        line.push('\n');
        {
            let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
            let input = input.as_mut().context("the supervisor was stopped")?;
            input
                .write_all(line.as_bytes())
                .context("the supervisor has ended")?;
        }
        match self.answer()? {
            Event::Done => Ok(()),
            Event::Failed(reason) => Err(anyhow!(reason)),
            event => bail!("the supervisor answered {event:?}"),
        }
    }

    fn answer(&self) -> Result<Event> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers
            .recv_timeout(ANSWER)
            .context("the supervisor has ended or does not answer")
    }

    /// Ends the supervisor and with it everything it runs; returns when all is cleaned up.
    pub fn stop(&mut self) {
        drop(
            self.input
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let deadline = Instant::now() + ANSWER;
        while Instant::now() < deadline {
            match self.process.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(5)),
                _ => return,
            }
        }
        // Its children end with it; what it leaves on disk, the next start sweeps.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// The run that this supervisor serves.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

fn listen(
    output: ChildStdout,
    answers: &mpsc::Sender<Event>,
    exited: &Mutex<BTreeMap<String, String>>,
) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Event::Exited { name, status }) => {
                exited
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(name, status);
            }
            Ok(event) => {
                if answers.send(event).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// The supervisor's program: Cargo builds it with every integration test; for other programs it is built here.
fn program() -> Result<PathBuf> {
    const NAME: &str = "cluster-supervisor";
    let running = env::current_exe().context("failed to find the running program")?;
    let folder = running.parent().unwrap_or(&running);
    let beside = folder.parent().unwrap_or(folder).join(NAME);
    if folder.ends_with("deps") && beside.is_file() {
        return Ok(beside);
    }
    program::build(env!("CARGO_PKG_NAME"), NAME)
}
