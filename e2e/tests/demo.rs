//! The demo keeps its promise, with a node and without.

use std::{
    env,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result};
use katonic_logging_e2e::{
    cluster::{GIVEN, Tier},
    demo,
};

const PROMISE: &str = "archive: verified: 100 lines, complete, of execution 63d16b3ebe3729589c5bd9d8, read back by \
                       katonic-logging logs\n\
                       demo: 20000 of 20000 lines delivered, 0 missing, 0 duplicates, \
                       policy application-logs Ready after ";

/// Runs the program as `make` does, with a folder of its own for what is temporary: `demo stop` ends what is in there alone.
fn demo(temporary: &Path, arguments: &[&str], keep: &str) -> Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(arguments)
        .env("TMPDIR", temporary)
        .env("KEEP", keep)
        .stdin(Stdio::null())
        .output()
        .context("failed to run the demo")
}

#[test]
fn the_demo_delivers_every_line_with_a_node_and_leaves_its_cluster_up_until_it_is_told()
-> Result<()> {
    // It never touches a cluster that somebody else runs.
    if env::var_os(GIVEN).is_some() || !Tier::Node.available_or_skip()? {
        return Ok(());
    }
    let temporary = tempfile::Builder::new().prefix("kl-").tempdir()?;
    let shown = demo(temporary.path(), &[], "1")?;
    let stdout = String::from_utf8(shown.stdout)?;
    let stderr = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert!(shown.status.success(), "{stdout}{stderr}");
    let promise = stdout.rfind(PROMISE).map(|at| &stdout[at..]);
    let promise = promise.with_context(|| format!("no promise in {stdout}"))?;
    assert!(promise.ends_with(" s\n"), "{promise}");

    let said = |what: &str| {
        let line = stdout
            .lines()
            .find_map(|line| line.trim().strip_prefix(what));
        line.map(str::trim)
            .with_context(|| format!("{what} is not in {stdout}"))
    };
    let kubeconfig = said("use it")?
        .strip_prefix("export KUBECONFIG=")
        .context("no kubeconfig")?;
    let policies = Command::new(said("its kubectl")?)
        .args(["get", "lp", "-o", "name"])
        .env("KUBECONFIG", kubeconfig)
        .output()?;
    let policies = String::from_utf8(policies.stdout)?;
    assert!(policies.contains("/application-logs\n"), "{policies:?}");
    assert_eq!(said("take it down")?, "make demo-stop");

    let stopped = demo(temporary.path(), &["stop"], "")?;
    let told = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(
        stopped.status.success() && told.contains("stopped katonic-e2e-"),
        "{told}"
    );
    assert!(!Path::new(kubeconfig).exists());
    Ok(())
}

#[test]
fn the_demo_says_how_it_is_called_and_touches_no_cluster_but_its_own() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let called = demo(temporary.path(), &["start"], "")?;
    assert!(!called.status.success());
    assert!(String::from_utf8_lossy(&called.stderr).contains("usage: demo [stop]"));
    let given = Command::new(env!("CARGO_BIN_EXE_demo"))
        .env("TMPDIR", temporary.path())
        .env(GIVEN, "/nowhere/kubeconfig")
        .output()?;
    assert!(!given.status.success());
    let told = String::from_utf8_lossy(&given.stderr).into_owned();
    assert!(told.contains(&format!("unset {GIVEN}")), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_delivers_every_line_without_a_node_and_says_so() -> Result<()> {
    if env::var_os(GIVEN).is_some() {
        return Ok(());
    }
    let outcome = demo::without_node(false, "no node is wanted").await?;
    assert!(outcome.holds(), "{outcome:?}");
    let line = outcome.to_string();
    let note = " s (no node is wanted; agents as local processes over simulated pod logs)";
    assert!(line.starts_with(PROMISE) && line.ends_with(note), "{line}");
    Ok(())
}
