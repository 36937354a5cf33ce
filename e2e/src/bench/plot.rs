//! Quantities over time as SVG: one plot a file, one curve for each thing that was measured.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    drawing::IntoDrawingArea as _,
    element::PathElement,
    prelude::SVGBackend,
    series::LineSeries,
    style::{Color as _, RGBColor, ShapeStyle},
};
use serde::Deserialize;

/// Size of a plot, in pixels.
const SIZE: (u32, u32) = (760, 320);

/// Colours that can be told apart by everybody (Okabe and Ito, "Color Universal Design").
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(0, 0, 0),
];

/// Room above the highest value.
const HEADROOM: f64 = 1.1;

/// A quantity of one thing over time.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Curve {
    /// The plot that it belongs to.
    pub plot: Plot,
    /// What it is a quantity of.
    pub of: String,
    /// Seconds and values.
    pub points: Vec<(f64, f64)>,
}

/// The plots that there are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "camelCase")]
pub enum Plot {
    /// Lines that arrive, for each second.
    Throughput,
    /// Resident memory.
    Memory,
}

impl Plot {
    fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Memory => "memory",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Throughput => "thousand lines/s",
            Self::Memory => "MiB",
        }
    }

    /// What a value is divided by to be in the plot's unit.
    fn scale(self) -> f64 {
        match self {
            Self::Throughput => 1000.0,
            Self::Memory => 1.0,
        }
    }
}

/// Draws every plot that has curves into a file of the folder: `<title>-<plot>.svg`.
pub fn draw(folder: &Path, title: &str, curves: &[Curve]) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let mut plots: Vec<Plot> = curves.iter().map(|curve| curve.plot).collect();
    plots.sort_unstable();
    plots.dedup();
    plots
        .into_iter()
        .map(|plot| {
            let path = folder.join(format!("{title}-{}.svg", plot.name()));
            let of_plot: Vec<&Curve> = curves.iter().filter(|curve| curve.plot == plot).collect();
            let svg = svg(plot, &of_plot)
                .with_context(|| format!("failed to draw {}", path.display()))?;
            fs::write(&path, svg).with_context(|| format!("failed to write {}", path.display()))?;
            Ok(path)
        })
        .collect()
}

fn svg(plot: Plot, curves: &[&Curve]) -> Result<String> {
    let mut svg = String::new();
    draw_into(&mut svg, plot, curves).map_err(|error| anyhow!("{error}"))?;
    Ok(svg)
}

fn draw_into(
    svg: &mut String,
    plot: Plot,
    curves: &[&Curve],
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let longest = points().map(|(time, _)| *time).fold(0.0, f64::max);
    let highest = points().map(|(_, value)| value / plot.scale());
    let highest = highest.fold(0.0, f64::max) * HEADROOM;
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&plotters::style::WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..longest, 0.0..highest)?;
    chart
        .configure_mesh()
        .light_line_style(plotters::style::TRANSPARENT)
        .x_desc("seconds since the start")
        .y_desc(plot.unit())
        .x_label_formatter(&|value| format!("{value}"))
        .y_label_formatter(&|value| format!("{value}"))
        .draw()?;
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let style = ShapeStyle::from(colour).stroke_width(2);
        let points = curve.points.iter();
        let points = points.map(|(time, value)| (*time, value / plot.scale()));
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(&curve.of)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(plotters::style::WHITE.mix(0.8))
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(plot: Plot, of: &str) -> Curve {
        Curve {
            plot,
            of: of.to_owned(),
            points: vec![(0.0, 1.0), (1.0, 3.0), (2.0, 2.0)],
        }
    }

    #[test]
    fn each_plot_is_a_file_with_every_curve_named() {
        let folder = tempfile::tempdir().unwrap();
        let curves = [
            curve(Plot::Memory, "ours"),
            curve(Plot::Throughput, "ours"),
            curve(Plot::Memory, "theirs"),
        ];
        let files = draw(folder.path(), "agent", &curves).unwrap();
        let names =
            ["agent-throughput.svg", "agent-memory.svg"].map(|name| folder.path().join(name));
        assert_eq!(files, names);
        let memory = fs::read_to_string(&files[1]).unwrap();
        assert!(
            memory.starts_with("<svg") && memory.contains("MiB"),
            "{memory}"
        );
        assert!(
            memory.contains("ours") && memory.contains("theirs"),
            "{memory}"
        );
        assert!(!fs::read_to_string(&files[0]).unwrap().contains("theirs"));
    }
}
