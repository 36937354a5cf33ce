//! Runs every test that this machine can run and adds up the results. It knows no test by name, and one program.

mod programs;
mod results;

use std::{collections::BTreeMap, env, fmt, io::Write as _, thread};

use anyhow::{Context as _, Result};

use crate::{
    cluster::{
        GIVEN, Minor, Tier,
        binaries::{Binaries, Binary},
        prerequisites,
        progress::{Progress, say},
    },
    images::Image,
    program,
};
use programs::{Outcome, Program};
use results::Results;

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
    let images = prepare()?;
    let skipped =
        tempfile::NamedTempFile::new().context("failed to make a file for skipped tests")?;
    let environment = BTreeMap::from([
        ("KATONIC_E2E_SKIPPED", skipped.path().display().to_string()),
        // A changed snapshot is a failure, not a file to review.
        ("INSTA_UPDATE", "no".to_owned()),
    ]);
    let mut results = Results::default();
    let mut success = true;
    let show = |outcome: &Outcome| {
        let mut terminal = std::io::stdout().lock();
        // A test may print anything.
        let text = String::from_utf8_lossy(&outcome.output);
        text.lines().for_each(|line| results.read(line));
        success &= outcome.success;
        writeln!(terminal, "{}:\n{text}", outcome.name)
            .context("failed to show the output of the tests")
    };
    // Shipped programs are optimised as a whole by one core, which leaves the others to the tests. A test that needs an
    // image waits for it.
    thread::scope(|scope| {
        let images = scope.spawn(|| -> Result<()> {
            images
                .iter()
                .try_for_each(|image| image.build().map(|_| ()))
        });
        let quiet = || match images.join() {
            Ok(built) => built,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        programs::run(build()?, &environment, quiet, show)
    })?;
    let skipped =
        std::fs::read_to_string(skipped.path()).context("failed to read the skipped tests")?;
    for test in results.failed_tests() {
        say(&format!("failed: {test}"));
    }
    for line in skipped.lines() {
        say(&format!("skipped: {}", line.replace('\t', ": ")));
    }
    Ok(results.summary(skipped.lines().count(), success))
}

/// Everything that is not built of this workspace; says which images the tests will want.
fn prepare() -> Result<&'static [Image]> {
    let mut images = &[][..];
    if env::var_os(GIVEN).is_none() {
        let node = Tier::Node.available().is_ok();
        Binaries::of(
            if node { Tier::Node } else { Tier::Controllers },
            Minor::Newest,
        )?;
        Binaries::of(Tier::ApiServer, Minor::Oldest)?;
        if node {
            images = &Image::ALL;
        }
    }
    Binaries::find(&[
        Binary::OtelCollector,
        Binary::Promtool,
        Binary::Promql,
        Binary::Helm,
        Binary::Health,
    ])?;
    // Their tests are skipped where they cannot be had.
    for reason in [prerequisites::rsyslog(), prerequisites::faketime()] {
        if let Err(reason) = reason {
            say(&format!("{reason:#}"));
        }
    }
    if let Err(reason) = Binaries::find(&[Binary::Minio, Binary::MinioUser]) {
        say(&format!("{reason:#}"));
    }
    Ok(images)
}

/// The tests and the programs that they start, so that no test waits for a compiler.
fn build() -> Result<Vec<Program>> {
    let progress = Progress::start("building the operator, the agent and the tests");
    for (package, binary) in [
        ("katonic-log-agent", "katonic-log-agent"),
        ("katonic-logging-operator", "katonic-logging"),
        ("katonic-logging-e2e", "cluster-supervisor"),
    ] {
        program::build(package, binary)?;
    }
    let programs = programs::build()?;
    progress.done();
    Ok(programs)
}
