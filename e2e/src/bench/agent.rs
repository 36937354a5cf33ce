//! The agent's own benchmark, run by cargo; its figures are taken over as they are.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::Figure;
use crate::{cluster::progress::Progress, program};

pub(super) fn measure() -> Result<Vec<Figure>> {
    let progress = Progress::start("measuring the agent: throughput, memory, latency");
    let output = program::cargo()
        .args([
            "bench",
            "--quiet",
            "--locked",
            "--package",
            "katonic-log-agent",
        ])
        .args(["--bench", "throughput"])
        .stderr(Stdio::inherit())
        .output()
        .context("failed to start cargo")?;
    ensure!(
        output.status.success(),
        "failed to measure the agent: cargo ended with {}",
        output.status
    );
    let figures: Vec<Figure> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).with_context(|| format!("failed to read {line}")))
        .collect::<Result<_>>()?;
    ensure!(
        !figures.is_empty(),
        "the agent's benchmark printed no figure"
    );
    progress.done();
    Ok(figures)
}
