//! Our agent beside others: the same log through each that is there, in one run. The agent's benchmark does the work.

mod debian;
mod otelcol;

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::{Deserialize, Serialize};

use super::{
    agent, folder, markdown, number,
    plot::{self, Curve},
    write, write_text,
};
use crate::cluster::progress::Progress;

/// What became of every peer.
#[derive(Clone, Debug)]
pub struct Comparison {
    peers: Vec<Peer>,
    curves: Vec<Curve>,
}

/// What one made of the work, or why it did none.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Peer {
    #[serde(rename = "peer")]
    name: String,
    #[serde(flatten)]
    result: Outcome,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Outcome {
    Absent {
        absent: String,
    },
    Measured {
        version: String,
        speed: Speed,
        ends: Vec<End>,
    },
}

/// A long log from its beginning.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Speed {
    lines_per_cpu_second: f64,
    /// Until 99 of 100 lines had come.
    lines_per_second: Option<f64>,
    bytes_per_line: f64,
    missing: u64,
    /// MiB.
    busy_memory: f64,
    /// MiB.
    idle_memory: f64,
    /// Thousandths of a processor.
    idle_load: f64,
}

/// What is lost at an end.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct End {
    /// When it comes.
    when: String,
    /// Lines that were written.
    lines: u64,
    /// Had not come when the agent had ended.
    missing_at_exit: u64,
    /// Had not come after it was started again; none: it was not.
    missing: Option<u64>,
    /// Came more than once.
    duplicates: Option<u64>,
    /// From SIGTERM to its end.
    seconds: f64,
    /// Whether it had to be killed.
    killed: bool,
}

/// A line of the benchmark's output.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Peer(Peer),
    Curve(Curve),
}

/// Runs the comparison; takes some minutes and wants the machine for itself.
///
/// # Errors
/// When our own agent cannot be measured; a peer that cannot is told as absent.
pub fn run() -> Result<Comparison> {
    let mut environment = Vec::new();
    if let Some(program) = debian::syslog_ng() {
        environment.push(("SYSLOG_NG", program));
    }
    if let Some(program) = otelcol::by_otlp() {
        environment.push(("OTELCOL_OTLP", program));
    }
    let progress = Progress::start("measuring the agent and its peers");
    let environment: Vec<(&str, OsString)> = environment
        .into_iter()
        .map(|(name, path): (_, PathBuf)| (name, path.into_os_string()))
        .collect();
    let borrowed: Vec<_> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_os_str()))
        .collect();
    let lines = agent::run::<Line>(&["peers"], &borrowed)?;
    progress.done();
    let (mut peers, mut curves) = (Vec::new(), Vec::new());
    for line in lines {
        match line {
            Line::Peer(peer) => peers.push(peer),
            Line::Curve(curve) => curves.push(curve),
        }
    }
    Ok(Comparison { peers, curves })
}

impl Comparison {
    /// One column for each that was measured; in brackets how many times ours is better.
    pub fn table(&self) -> Result<Table> {
        let (header, rows) = self.rows()?;
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(header);
        table.add_rows(rows);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Ok(table)
    }

    /// The names of the columns, and the rows.
    fn rows(&self) -> Result<(Vec<String>, Vec<Vec<String>>)> {
        let measured: Vec<(String, &Speed, &Vec<End>)> = self
            .peers
            .iter()
            .filter_map(|peer| match &peer.result {
                Outcome::Measured {
                    version,
                    speed,
                    ends,
                } => Some((format!("{} {version}", peer.name), speed, ends)),
                Outcome::Absent { .. } => None,
            })
            .collect();
        let (_, ours, our_ends) = measured.first().context("our agent was not measured")?;
        let names = measured.iter().map(|(name, ..)| name.clone());
        let header = [String::new()].into_iter().chain(names).collect();
        let mut rows = Vec::new();
        let mut row = |what: &str, cell: &dyn Fn(&Speed) -> String| {
            let cells = measured.iter().map(|(_, speed, _)| cell(speed));
            rows.push([what.to_owned()].into_iter().chain(cells).collect());
        };
        row("lines/s of CPU second", &|speed| {
            let times = ours.lines_per_cpu_second / speed.lines_per_cpu_second;
            compared(speed.lines_per_cpu_second, times)
        });
        row("lines/s by the clock", &|speed| {
            speed.lines_per_second.map(number).unwrap_or_default()
        });
        row("bytes sent for a line", &|speed| {
            number(speed.bytes_per_line)
        });
        row("lines lost on the way", &|speed| speed.missing.to_string());
        row("memory at full speed, MiB", &|speed| {
            compared(speed.busy_memory, speed.busy_memory / ours.busy_memory)
        });
        row("memory idle, MiB", &|speed| {
            compared(speed.idle_memory, speed.idle_memory / ours.idle_memory)
        });
        row("processor idle, mCPU", &|speed| number(speed.idle_load));
        for (index, end) in our_ends.iter().enumerate() {
            let cells = measured.iter().map(|(_, _, ends)| {
                let cell = ends.get(index).map(End::told);
                cell.unwrap_or_else(|| "not possible".to_owned())
            });
            let what = format!("SIGTERM {}, {} lines", end.when, end.lines);
            rows.push([what].into_iter().chain(cells).collect());
        }
        Ok((header, rows))
    }

    /// Those that were not measured, with the reason.
    pub fn absent(&self) -> impl Iterator<Item = String> {
        self.peers.iter().filter_map(|peer| match &peer.result {
            Outcome::Absent { absent } => Some(format!("{}: {absent}", peer.name)),
            Outcome::Measured { .. } => None,
        })
    }

    /// Writes `target/bench/peers.json`, the same as Markdown, and the plots; returns their paths.
    pub fn save(&self) -> Result<Vec<PathBuf>> {
        let (header, rows) = self.rows()?;
        let mut paths = vec![
            write("peers.json", &self.peers)?,
            write_text("peers.md", &markdown::table(&header, &rows))?,
        ];
        paths.extend(plot::draw(&folder(), "peers", &self.curves)?);
        Ok(paths)
    }
}

impl End {
    fn told(&self) -> String {
        let mut told = vec![format!("{} missing at exit", self.missing_at_exit)];
        if let (Some(missing), Some(duplicates)) = (self.missing, self.duplicates) {
            told.push(format!("{missing} lost, {duplicates} twice after restart"));
        }
        let how = if self.killed { "killed after" } else { "in" };
        told.push(format!("{how} {:.2} s", self.seconds));
        told.join("\n")
    }
}

fn compared(value: f64, times: f64) -> String {
    format!("{} ({times:.1})", number(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_stand_side_by_side_and_the_absent_are_named() {
        let measured = |name: &str, rate: f64| {
            let json = serde_json::json!({
                "peer": name, "version": "1.2",
                "speed": {"linesPerCpuSecond": rate, "linesPerSecond": null, "bytesPerLine": 80.0, "missing": 0,
                    "busyMemory": 4.0, "idleMemory": 4.0, "idleLoad": 0.5},
                "ends": [{"when": "under load", "lines": 10, "missingAtExit": 7, "missing": 1, "duplicates": 2,
                    "seconds": 30.1, "killed": true}],
            });
            serde_json::from_value(json).unwrap()
        };
        let absent = serde_json::json!({"peer": "Vector", "absent": "not on PATH"});
        let comparison = Comparison {
            peers: vec![
                measured("ours", 1_000_000.0),
                measured("theirs", 100_000.0),
                serde_json::from_value(absent).unwrap(),
            ],
            curves: Vec::new(),
        };
        let table = comparison.table().unwrap().to_string();
        for text in [
            "ours 1.2",
            "theirs 1.2",
            "100000 (10.0)",
            "1 lost, 2 twice",
            "killed after 30.10 s",
        ] {
            assert!(table.contains(text), "{text} is not in\n{table}");
        }
        assert_eq!(
            comparison.absent().collect::<Vec<_>>(),
            ["Vector: not on PATH"]
        );
    }
}
