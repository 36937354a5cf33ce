//! Measures what the product promises to cost, and compares with the promise. Asserts nothing: a test must not depend
//! on how busy a machine is.

mod admission;
mod agent;
mod archive;
mod bundle;
mod coverage;
mod fleet;
mod logs;
mod markdown;
pub mod peers;
pub mod plot;
mod pod_start;
mod process;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::{Deserialize, Serialize};

use self::plot::Curve;
use crate::program;

const HEADER: [&str; 5] = ["what", "measured", "budget", "unit", "holds"];

/// One measured figure.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: String,
    /// What was promised; none: told for information.
    #[serde(default)]
    pub budget: Option<f64>,
    /// Whether the value keeps the promise.
    #[serde(default)]
    pub holds: Option<bool>,
}

impl Figure {
    /// For information.
    fn told(name: &str, value: f64, unit: &str) -> Self {
        Self {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            budget: None,
            holds: None,
        }
    }

    /// Promised not to be above its budget.
    fn at_most(name: &str, value: f64, unit: &str, budget: f64) -> Self {
        Self {
            budget: Some(budget),
            holds: Some(value <= budget),
            ..Self::told(name, value, unit)
        }
    }
}

/// All figures of a run, and the curves behind them.
#[derive(Clone, Debug)]
pub struct Figures {
    figures: Vec<Figure>,
    curves: Vec<Curve>,
}

/// A part of what is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Section {
    /// The agent alone: throughput, memory, latency, sizes.
    Agent,
    /// Counting pods.
    Coverage,
    /// From a changed policy to its bundles.
    Bundle,
    /// Creating pods: by the admission policy, by the webhook and without either.
    Admission,
    /// Starting pods on a node.
    PodStart,
    /// Archiving executions: throughput, memory, the end of a short Job.
    Archive,
    /// Reading an execution back from its archive.
    Logs,
    /// The operator with all policies and pods that it is planned for, and their reports.
    Fleet,
}

/// Measures these sections, or everything where none is named; takes some minutes and wants the machine for itself.
///
/// # Errors
/// When something cannot be measured; a figure above its budget is no error.
pub async fn run(sections: &[Section]) -> Result<Figures> {
    let sections = if sections.is_empty() {
        Section::value_variants()
    } else {
        sections
    };
    let (mut figures, mut curves) = (Vec::new(), Vec::new());
    for section in sections {
        match section {
            Section::Agent => {
                let measured = agent::measure()?;
                figures.extend(measured.0);
                curves.extend(measured.1);
            }
            Section::Coverage => figures.extend(coverage::measure()?),
            Section::Bundle => figures.extend(bundle::measure().await?),
            Section::Admission => figures.extend(admission::measure().await?),
            Section::Archive => figures.extend(archive::measure().await?),
            Section::Logs => figures.extend(logs::measure().await?),
            Section::PodStart => figures.extend(pod_start::measure().await?),
            Section::Fleet => figures.extend(fleet::measure().await?),
        }
    }
    Ok(Figures { figures, curves })
}

impl Figures {
    /// The figures for a terminal.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(HEADER);
        table.add_rows(self.rows());
        for column in table.column_iter_mut().skip(1).take(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |figure: &Figure| {
            let budget = figure.budget.map(number).unwrap_or_default();
            let holds = match figure.holds {
                Some(true) => "yes",
                Some(false) => "no",
                None => "",
            };
            let value = number(figure.value);
            let (name, unit) = (figure.name.clone(), figure.unit.clone());
            vec![name, value, budget, unit, holds.to_owned()]
        };
        self.figures.iter().map(row).collect()
    }

    /// How many budgets hold, and of how many.
    pub fn score(&self) -> (usize, usize) {
        let budgets = self.figures.iter().filter_map(|figure| figure.holds);
        (
            budgets.clone().filter(|holds| *holds).count(),
            budgets.count(),
        )
    }

    /// Writes `target/bench/results.json`, the same as Markdown, and the plots; returns their paths.
    pub fn save(&self) -> Result<Vec<PathBuf>> {
        let header = HEADER.map(str::to_owned);
        let mut paths = vec![
            write("results.json", &self.figures)?,
            write_text("results.md", &markdown::table(&header, &self.rows()))?,
        ];
        paths.extend(plot::draw(&folder(), "agent", &self.curves)?);
        Ok(paths)
    }
}

/// Where results are written.
fn folder() -> PathBuf {
    program::workspace().join("target/bench")
}

fn write(name: &str, what: &impl Serialize) -> Result<PathBuf> {
    let json = serde_json::to_string_pretty(what).context("failed to write the results")?;
    write_text(name, &(json + "\n"))
}

fn write_text(name: &str, text: &str) -> Result<PathBuf> {
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Whole numbers from 100 on, two digits below.
fn number(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}
