//! Runs every test that this machine can run and adds up the results. It knows no test by name.

mod results;

use std::{
    env, fmt,
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
    thread,
};

use anyhow::{Context as _, Result};

use crate::{
    cluster::{
        GIVEN, Tier,
        binaries::Binaries,
        progress::{Progress, say},
    },
    images::Image,
    program,
};
use results::Results;

/// Tests of one program at the same time. Most start a cluster of their own, and promise times that hold on two cores.
const MOST_AT_ONCE: usize = 4;

/// How the suite ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Summary {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed, and test programs that ended without a result.
    pub failed: usize,
    /// Tests that this machine cannot run, and those marked as ignored.
    pub skipped: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(
            formatter,
            "{passed} passed, {failed} failed, {skipped} skipped"
        )
    }
}

/// Builds what the tests need, so that none of them waits for it, then runs them.
///
/// # Errors
/// When something cannot be built or cargo cannot be started; failed tests are no error.
pub fn run() -> Result<Summary> {
    prepare()?;
    let skipped =
        tempfile::NamedTempFile::new().context("failed to make a file for skipped tests")?;
    let threads = thread::available_parallelism()
        .map_or(2, usize::from)
        .min(MOST_AT_ONCE);
    let mut cargo = program::cargo()
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .env("KATONIC_E2E_SKIPPED", skipped.path())
        .env("RUST_TEST_THREADS", threads.to_string())
        // A changed snapshot is a failure, not a file to review.
        .env("INSTA_UPDATE", "no")
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start cargo")?;
    let output = cargo.stdout.take().context("cargo has no output")?;
    let mut results = Results::default();
    let mut terminal = std::io::stdout();
    for line in BufReader::new(output).split(b'\n') {
        // A test may print anything.
        let line = line.context("failed to read the output of the tests")?;
        let text = String::from_utf8_lossy(&line);
        results.read(&text);
        writeln!(terminal, "{text}").context("failed to show the output of the tests")?;
    }
    let status = cargo.wait().context("failed to wait for cargo")?;
    let skipped =
        std::fs::read_to_string(skipped.path()).context("failed to read the skipped tests")?;
    for test in results.failed_tests() {
        say(&format!("failed: {test}"));
    }
    for line in skipped.lines() {
        say(&format!("skipped: {}", line.replace('\t', ": ")));
    }
    Ok(results.summary(skipped.lines().count(), status.success()))
}

fn prepare() -> Result<()> {
    if env::var_os(GIVEN).is_none() {
        let node = Tier::Node.available().is_ok();
        Binaries::of(if node { Tier::Node } else { Tier::Controllers })?;
        if node {
            for image in Image::ALL {
                image.build()?;
            }
        }
    }
    let progress = Progress::start("building the operator, the agent and the harness");
    for (package, binary) in [
        ("katonic-log-agent", "katonic-log-agent"),
        ("katonic-logging-operator", "katonic-logging"),
        ("katonic-logging-e2e", "cluster-supervisor"),
    ] {
        program::build(package, binary)?;
    }
    progress.done();
    Ok(())
}
