//! An OpenTelemetry Collector for the comparison: built from its modules, because no registry of packages has one.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::cluster::{binaries, prerequisites::on_path, progress::Progress};

/// A Collector that reads files and sends OTLP: none where one was named, or it cannot be built.
pub(super) fn by_otlp() -> Option<PathBuf> {
    let named = env::var_os("OTELCOL_OTLP").is_some_and(|named| !named.is_empty());
    if named || on_path("go").is_none() {
        return None;
    }
    let progress = Progress::start("building an OpenTelemetry Collector");
    match built() {
        Ok(program) => {
            progress.done();
            Some(program)
        }
        Err(error) => {
            progress.failed();
            eprintln!("OpenTelemetry Collector: {error:#}");
            None
        }
    }
}

fn built() -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/otelcol");
    let folder = binaries::cache_directory()?.join("peers");
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    // Go rebuilds what has changed and nothing else.
    let program = folder.join("otelcol-otlp");
    let output = Command::new("go")
        .args([
            "build",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            "-s -w",
            "-o",
        ])
        .arg(&program)
        .arg(".")
        .current_dir(&source)
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .output()
        .context("failed to run go")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "go failed: {}", said.trim());
    Ok(program)
}
