//! A fault of the agent itself.

use std::{
    env, fs,
    io::{Error, Result},
    process::{Command, Stdio},
};

use katonic_log_agent::panic::tell_of_any;
use serde_json::Value;

/// Names the termination message of the process that has the fault.
const FILE: &str = "KATONIC_PANIC_TERMINATION_LOG";

/// What a panic may quote.
const LINE: &str = "password=hunter2";

/// The process is this test again: what a panic calls is there once for all threads of a process.
#[test]
fn a_fault_of_the_agent_is_told_by_its_place_and_without_a_line() -> Result<()> {
    if let Some(path) = env::var_os(FILE) {
        tell_of_any(path.clone().into());
        assert!(path.is_empty(), "{LINE}");
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("termination-log");
    // As the agent leaves it while it ends.
    fs::write(&path, r#"{"ending":true,"delivered":5,"sinks":[]}"#)?;
    let output = Command::new(env::current_exe()?)
        .args(["--exact", "--nocapture"])
        .arg("panic::a_fault_of_the_agent_is_told_by_its_place_and_without_a_line")
        .env(FILE, &path)
        .stdin(Stdio::null())
        .output()?;
    assert!(!output.status.success());
    let message = fs::read_to_string(&path)?;
    let value: Value = serde_json::from_str(&message).map_err(Error::other)?;
    let place = value["panicked"].as_str().unwrap_or_default();
    assert!(place.contains("agent/tests/agent/panic.rs:"), "{message}");
    assert_eq!(value["delivered"], 5, "{message}");
    let said = String::from_utf8_lossy(&output.stderr);
    let told: Vec<Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert_eq!(told.len(), 1, "{said}");
    assert_eq!(told[0]["panicked"], place, "{said}");
    assert!(!said.contains(LINE) && !message.contains(LINE), "{said}");
    Ok(())
}
