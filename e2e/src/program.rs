//! Programs of this workspace, built by cargo when they are asked for. Runs none of them.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Where the binaries are that this process has built with the development profile, by package and name.
static BUILT: Mutex<BTreeMap<(String, String), PathBuf>> = Mutex::new(BTreeMap::new());

/// Builds a binary with the development profile and says where it is. Once for each process: cargo takes a fifth of a second of
/// work to find that nothing has changed, and nothing changes while tests run.
///
/// # Errors
/// When it does not compile; the compiler's messages are on stderr.
pub fn build(package: &str, binary: &str) -> Result<PathBuf> {
    // Held while cargo runs: others that want the same wait for it anyway.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (package.to_owned(), binary.to_owned());
    if let Some(path) = built.get(&key) {
        return Ok(path.clone());
    }
    let path = build_now(package, binary)?;
    built.insert(key, path.clone());
    Ok(path)
}

fn build_now(package: &str, binary: &str) -> Result<PathBuf> {
    let output = cargo()
        // With the features that the whole workspace wants, like the tests: nothing is built for this alone.
        .args(["build", "--quiet", "--locked", "--workspace"])
        .args([
            "--bin",
            binary,
            "--message-format",
            "json-render-diagnostics",
        ])
        .stderr(Stdio::inherit())
        .output()
        .context("failed to start cargo")?;
    if !output.status.success() {
        bail!(
            "failed to build {binary}: cargo ended with {}",
            output.status
        );
    }
    // Cargo prints one JSON object a line; the executable's path is in the artifact of the binary.
    output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == binary)
        .filter(|message| {
            let id = message["package_id"].as_str();
            id.is_some_and(|id| id.contains(package))
        })
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("failed to find {binary} among what cargo built"))
}

/// Cargo, in the workspace, as if called from a shell.
///
/// A Cargo that runs this program has described the program's own package in the environment. Build scripts ask for
/// some of that, so passed on it would make whole crates be built again each time the caller is another.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let about_the_caller = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_BIN_",
            "CARGO_CRATE_",
            "CARGO_PRIMARY_",
        ];
        if about_the_caller
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            cargo.env_remove(&name);
        }
    }
    cargo.current_dir(workspace()).stdin(Stdio::null());
    cargo
}

/// The directory of the workspace.
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}
