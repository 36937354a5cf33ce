//! Measures what the product promises to cost, and compares with the promise. Asserts nothing: a test must not depend
//! on how busy a machine is.

mod agent;
mod bundle;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::{Deserialize, Serialize};

use crate::program;

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

/// All figures of a run.
#[derive(Clone, Debug)]
pub struct Figures(Vec<Figure>);

/// Measures everything; takes some minutes and wants the machine for itself.
///
/// # Errors
/// When something cannot be measured; a figure above its budget is no error.
pub async fn run() -> Result<Figures> {
    let mut figures = agent::measure()?;
    figures.extend(bundle::measure().await?);
    Ok(Figures(figures))
}

impl Figures {
    /// The figures for a terminal.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(["what", "measured", "budget", "unit", "holds"]);
        for figure in &self.0 {
            let budget = figure.budget.map(number).unwrap_or_default();
            let holds = match figure.holds {
                Some(true) => "yes",
                Some(false) => "no",
                None => "",
            };
            let value = number(figure.value);
            table.add_row([&figure.name, &value, &budget, &figure.unit, holds]);
        }
        for column in table.column_iter_mut().skip(1).take(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// How many budgets hold, and of how many.
    pub fn score(&self) -> (usize, usize) {
        let budgets = self.0.iter().filter_map(|figure| figure.holds);
        (
            budgets.clone().filter(|holds| *holds).count(),
            budgets.count(),
        )
    }

    /// Writes `target/bench/results.json`; returns its path.
    pub fn save(&self) -> Result<PathBuf> {
        let folder = program::workspace().join("target/bench");
        fs::create_dir_all(&folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
        let path = folder.join("results.json");
        let json = serde_json::to_string_pretty(&self.0).context("failed to write the results")?;
        fs::write(&path, json + "\n")
            .with_context(|| format!("failed to write {}", path.display()))?;
        Ok(path)
    }
}

/// Whole numbers from 100 on, two digits below.
fn number(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}
