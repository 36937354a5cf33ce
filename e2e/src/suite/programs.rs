//! The test programs of the workspace: which there are, and running some of them at the same time.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::{cluster::progress::Progress, program};

/// Programs at the same time. Most wait for clusters more than they work.
const PROGRAMS_AT_ONCE: usize = 2;

/// Tests of one program at the same time. Most start a cluster of their own: with all programs that is 3 GB, and promises of
/// times still hold on two cores.
const TESTS_AT_ONCE: usize = 2;

/// What runs when nothing else does: the kubelet gives an agent one second, and what a busy machine cannot do in it is lost; an
/// archive promises the log of a short Job within a second.
const ALONE: [&str; 2] = ["e2e test lifecycle", "e2e test archive"];

/// Something that runs tests and ends.
#[derive(Clone, Debug)]
pub(super) struct Program {
    name: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// A test program that is built.
    Built { path: PathBuf, package: PathBuf },
    /// The examples in the documentation.
    Examples,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The program.
    pub(super) name: String,
    /// All that it printed.
    pub(super) output: Vec<u8>,
    /// Whether it says that all is well.
    pub(super) success: bool,
    seconds: f64,
}

/// A message of Cargo, as far as it tells of test programs.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds every test program.
///
/// # Errors
/// When one does not compile; the compiler's messages are on stderr.
pub(super) fn build() -> Result<Vec<Program>> {
    let output = program::cargo()
        .args(["test", "--workspace", "--locked", "--quiet", "--no-run"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("failed to start cargo")?;
    let status = output.status;
    ensure!(
        status.success(),
        "failed to build the tests: cargo ended with {status}"
    );
    let messages = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok());
    let mut programs: Vec<Program> = messages.filter_map(Program::of).collect();
    programs.push(Program {
        name: "examples in the documentation".to_owned(),
        kind: Kind::Examples,
    });
    Ok(programs)
}

impl Program {
    fn of(message: Message) -> Option<Self> {
        message.profile.filter(|profile| profile.test)?;
        let (path, manifest) = (message.executable?, message.manifest_path?);
        let target = message.target?;
        let package = manifest.parent()?.to_owned();
        let within = package.strip_prefix(program::workspace()).ok()?;
        let kind = target.kind.first().map_or("", String::as_str);
        let name = format!("{} {kind} {}", within.display(), target.name);
        Some(Self {
            name,
            kind: Kind::Built { path, package },
        })
    }

    fn command(&self) -> Command {
        match &self.kind {
            Kind::Built { path, package } => {
                let mut command = Command::new(path);
                command
                    .current_dir(package)
                    .env("CARGO_MANIFEST_DIR", package)
                    .stdin(Stdio::null());
                command
            }
            Kind::Examples => {
                let mut cargo = program::cargo();
                cargo.args(["test", "--workspace", "--locked", "--doc"]);
                cargo
            }
        }
    }

    fn run(&self, environment: &BTreeMap<&str, String>) -> Result<Outcome> {
        let begun = Instant::now();
        let progress = Progress::start(&format!("testing: {}", self.name));
        let mut output = tempfile::tempfile().context("failed to make a file for the output")?;
        let copy = |file: &File| file.try_clone().context("failed to share a file");
        let status = self
            .command()
            .envs(environment)
            .env("RUST_TEST_THREADS", at_once(TESTS_AT_ONCE).to_string())
            .stdout(copy(&output)?)
            .stderr(copy(&output)?)
            .status()
            .with_context(|| format!("failed to start {}", self.name))?;
        progress.done();
        let mut bytes = Vec::new();
        std::io::Seek::rewind(&mut output)
            .and_then(|()| output.read_to_end(&mut bytes))
            .with_context(|| format!("failed to read what {} printed", self.name))?;
        Ok(Outcome {
            name: self.name.clone(),
            output: bytes,
            success: status.success(),
            seconds: begun.elapsed().as_secs_f64(),
        })
    }
}

/// A machine with one core does one thing at a time.
fn at_once(most: usize) -> usize {
    match thread::available_parallelism() {
        Ok(cores) if cores.get() > 1 => most,
        _ => 1,
    }
}

/// Runs the programs, those that took longest the last time first, and shows each outcome when it is there. Those that have to
/// be alone come last, after `quiet`, which waits for everything else that this process has begun.
///
/// # Errors
/// When one cannot be started, or `quiet` or `show` fails; failed tests are no error.
pub(super) fn run(
    programs: Vec<Program>,
    environment: &BTreeMap<&str, String>,
    quiet: impl FnOnce() -> Result<()>,
    mut show: impl FnMut(&Outcome) -> Result<()>,
) -> Result<()> {
    let mut times = Times::read();
    let (alone, together): (Vec<_>, Vec<_>) = programs
        .into_iter()
        .partition(|program| ALONE.contains(&program.name.as_str()));
    let mut run = |programs, lanes| {
        let queue = Mutex::new(VecDeque::from(times.sorted(programs)));
        run_queue(&queue, lanes, environment, |outcome| {
            times.seconds.insert(outcome.name.clone(), outcome.seconds);
            show(outcome)
        })
    };
    run(together, at_once(PROGRAMS_AT_ONCE))?;
    quiet()?;
    run(alone, 1)?;
    times.write()
}

fn run_queue(
    queue: &Mutex<VecDeque<Program>>,
    lanes: usize,
    environment: &BTreeMap<&str, String>,
    mut done: impl FnMut(&Outcome) -> Result<()>,
) -> Result<()> {
    let next = || {
        queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    let (sender, outcomes) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..lanes {
            let sender = sender.clone();
            scope.spawn(move || {
                while let Some(program) = next() {
                    if sender.send(program.run(environment)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        outcomes.into_iter().try_for_each(|outcome| done(&outcome?))
    })
}

/// How long each program took the last time, in seconds.
#[derive(Default)]
struct Times {
    seconds: BTreeMap<String, f64>,
}

impl Times {
    fn path() -> PathBuf {
        program::workspace().join("target/suite/seconds.json")
    }

    /// Nothing is known where nothing was written.
    fn read() -> Self {
        let text = fs::read(Self::path()).unwrap_or_default();
        Self {
            seconds: serde_json::from_slice(&text).unwrap_or_default(),
        }
    }

    fn write(&self) -> Result<()> {
        let path = Self::path();
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let text = serde_json::to_vec_pretty(&self.seconds)?;
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("failed to write {}", path.display()))
    }

    /// Those that nothing is known of may take long.
    fn sorted(&self, mut programs: Vec<Program>) -> Vec<Program> {
        let seconds = |program: &Program| self.seconds.get(&program.name);
        let seconds = |program: &Program| seconds(program).copied().unwrap_or(f64::MAX);
        programs.sort_by(|one, other| seconds(other).total_cmp(&seconds(one)));
        programs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_among_what_cargo_says_and_nothing_else() {
        let artifact = |test: bool, executable: &str| {
            let manifest = program::workspace().join("agent/Cargo.toml");
            let message = format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"{}","target":{{"name":"delivery","kind":["test"]}},"profile":{{"test":{test}}},"executable":{executable}}}"#,
                manifest.display()
            );
            Program::of(serde_json::from_str(&message).unwrap()).map(|program| program.name)
        };
        let found = artifact(true, r#""/target/debug/deps/delivery-1""#);
        assert_eq!(found.as_deref(), Some("agent test delivery"));
        assert_eq!(artifact(false, r#""/target/debug/delivery""#), None);
        assert_eq!(artifact(true, "null"), None);
        let finished: Message =
            serde_json::from_str(r#"{"reason":"build-finished","success":true}"#).unwrap();
        assert!(Program::of(finished).is_none());
    }

    #[test]
    fn what_took_longest_comes_first_after_what_is_not_known() {
        let program = |name: &str| Program {
            name: name.into(),
            kind: Kind::Examples,
        };
        let times = Times {
            seconds: [("short".to_owned(), 1.0), ("long".to_owned(), 9.0)].into(),
        };
        let sorted = times.sorted(vec![program("short"), program("long"), program("new")]);
        let names: Vec<_> = sorted.into_iter().map(|program| program.name).collect();
        assert_eq!(names, ["new", "long", "short"]);
    }
}
