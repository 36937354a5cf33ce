//! The agent's own benchmark, run by cargo; its figures are taken over as they are. The sizes are measured here.

use std::{ffi::OsStr, fs, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, de::DeserializeOwned};

use super::{Figure, plot::Curve};
use crate::{cluster::progress::Progress, images::Image, program};

/// What the agent's image may weigh, in MiB (`docs/performance.md`).
const IMAGE_BUDGET: f64 = 12.0;

/// A line of the benchmark's output.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Figure(Figure),
    Curve(Curve),
}

pub(super) fn measure() -> Result<(Vec<Figure>, Vec<Curve>)> {
    let progress = Progress::start("measuring the agent: throughput, memory, latency");
    // The very program that is in the image.
    let shipped = Image::Agent.executable()?;
    let lines = run::<Line>(&[], &[("KATONIC_LOG_AGENT", shipped.as_os_str())])?;
    progress.done();
    let (mut figures, mut curves) = (Vec::new(), Vec::new());
    for line in lines {
        match line {
            Line::Figure(figure) => figures.push(figure),
            Line::Curve(curve) => curves.push(curve),
        }
    }
    figures.extend(sizes()?);
    Ok((figures, curves))
}

/// Runs sections of the agent's benchmark and reads what it prints: one JSON object a line.
pub(super) fn run<T: DeserializeOwned>(
    sections: &[&str],
    environment: &[(&str, &OsStr)],
) -> Result<Vec<T>> {
    let output = program::cargo()
        .args([
            "bench",
            "--quiet",
            "--locked",
            "--package",
            "katonic-log-agent",
        ])
        .args(["--bench", "measure", "--"])
        .args(sections)
        .envs(environment.iter().copied())
        .stderr(Stdio::inherit())
        .output()
        .context("failed to start cargo")?;
    ensure!(
        output.status.success(),
        "failed to measure the agent: cargo ended with {}",
        output.status
    );
    let lines: Vec<T> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).with_context(|| format!("failed to read {line}")))
        .collect::<Result<_>>()?;
    ensure!(!lines.is_empty(), "the agent's benchmark printed nothing");
    Ok(lines)
}

fn sizes() -> Result<Vec<Figure>> {
    let program = program::build_shipped("katonic-log-agent", "katonic-log-agent", "release")?;
    // A current image is built in an instant.
    let image = Image::Agent.build()?;
    let size = |path: &std::path::Path| -> Result<f64> {
        let metadata = fs::metadata(path);
        let metadata = metadata.with_context(|| format!("failed to look at {}", path.display()))?;
        // Exact up to 2^32 bytes, and an agent has some millions.
        Ok(f64::from(u32::try_from(metadata.len())?) / f64::from(1 << 20))
    };
    Ok(vec![
        Figure::told("agent's program", size(&program)?, "MiB"),
        Figure::at_most("agent's image", size(&image)?, "MiB", IMAGE_BUDGET),
    ])
}
