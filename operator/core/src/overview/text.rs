//! An overview as lines for a terminal or a file.

use std::fmt::Write as _;

use k8s_openapi::jiff::Timestamp;
use katonic_logging_crds::SinkStatus;

use super::{Overview, PodView, PolicyView};

/// Whether lines have colours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Palette {
    /// None: for files, pipes, and who has set `NO_COLOR`.
    Plain,
    /// Those of a terminal (ECMA-48, SGR).
    Colour,
}

#[derive(Clone, Copy)]
pub(crate) enum Tone {
    Good,
    Bad,
    Open,
    Heading,
}

impl Palette {
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Open => "33",
            Tone::Heading => "1",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// The lines, each ended by a line break.
pub fn text(overview: &Overview, palette: Palette, now: Timestamp) -> String {
    let mut text = String::new();
    if overview.policies.is_empty() {
        text.push_str("There is no logging policy.\n");
    }
    for (index, view) in overview.policies.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        policy(&mut text, view, palette, now);
    }
    if let Some(views) = &overview.pods {
        text.push('\n');
        pods(&mut text, views, palette, now);
    }
    text
}

fn policy(text: &mut String, view: &PolicyView, palette: Palette, now: Timestamp) {
    let (tone, ready) = match view.ready {
        Some(true) => (Tone::Good, "Ready"),
        Some(false) => (Tone::Bad, "not Ready"),
        None => (Tone::Open, "not seen by the operator yet"),
    };
    let mut heading = vec![
        palette.paint(Tone::Heading, &view.title()),
        palette.paint(tone, ready),
    ];
    heading.extend(view.planes.clone());
    if let Some(pods) = &view.pods {
        heading.push(format!("{} pods", pods.summary));
    }
    heading.extend(view.created.map(|created| age(created, now)));
    line(text, &heading.join("  "));
    let conditions: Vec<Vec<String>> = view
        .conditions
        .iter()
        .map(|condition| {
            vec![
                condition.type_.clone(),
                condition.status.clone(),
                condition.reason.clone(),
                age(condition.since, now),
                condition.message.clone(),
            ]
        })
        .collect();
    let tones: Vec<Tone> = view
        .conditions
        .iter()
        .map(
            |condition| match (condition.type_.as_str(), condition.status.as_str()) {
                ("Stalled", "True") | (_, "False") => Tone::Bad,
                ("Reconciling", _) | (_, "Unknown") => Tone::Open,
                _ => Tone::Good,
            },
        )
        .collect();
    let rows = columns(&conditions).into_iter().zip(tones);
    for ((row, tone), condition) in rows.zip(&view.conditions) {
        let [type_, status, rest @ ..] = &row[..] else {
            continue;
        };
        let status = palette.paint(tone, status);
        line(text, &format!("  {type_}{status}{}", rest.concat()));
        if let Some(mend) = &condition.mend {
            line(text, &format!("    → {mend}"));
        }
    }
    if !view.events.is_empty() {
        line(text, &format!("  audit events: {}", view.events.join(", ")));
    }
    sinks(text, &view.sinks, palette);
    let uncovered = view.pods.iter().flat_map(|pods| &pods.uncovered);
    let reasons: Vec<String> = uncovered
        .map(|one| format!("{} {}", one.count, one.reason))
        .collect();
    if !reasons.is_empty() {
        line(
            text,
            &format!("  pods without the present agent: {}", reasons.join(", ")),
        );
    }
}

/// Where the logs go, and whether they arrive.
fn sinks(text: &mut String, sinks: &[SinkStatus], palette: Palette) {
    let row = |sink: &SinkStatus| {
        let delivery = sink.delivery.as_ref();
        let state = delivery.map_or(&sink.reason, |delivery| &delivery.state);
        let losses = sink.losses.as_ref().map(|losses| {
            let figures = [
                (losses.lost, "lost"),
                (losses.rejected, "rejected"),
                (losses.unreported, "pods unreported"),
            ];
            let told = figures.iter().filter(|(records, _)| *records > 0);
            let told: Vec<String> = told
                .map(|(records, what)| format!("{records} {what}"))
                .collect();
            told.join(", ")
        });
        let messages = [
            losses,
            delivery.and_then(|delivery| delivery.message.clone()),
            sink.message.clone(),
        ];
        let messages: Vec<String> = messages.into_iter().flatten().collect();
        vec![
            format!("→ {}", sink.name),
            sink.kind.clone(),
            state.clone(),
            messages.join("; "),
        ]
    };
    let rows: Vec<Vec<String>> = sinks.iter().map(row).collect();
    for (row, sink) in columns(&rows).into_iter().zip(sinks) {
        let [name, kind, state, message] = &row[..] else {
            continue;
        };
        let tone = match &sink.delivery {
            _ if sink.losses.as_ref().is_some_and(|losses| losses.lost > 0) => Tone::Bad,
            None if sink.in_force => Tone::Good,
            Some(delivery) if delivery.state == "Delivering" => Tone::Good,
            Some(delivery) if ["NothingSent", "Unknown"].contains(&&*delivery.state) => Tone::Open,
            Some(_) | None => Tone::Bad,
        };
        let state = palette.paint(tone, state);
        line(text, &format!("  {name}{kind}{state}{message}"));
    }
}

fn pods(text: &mut String, views: &[PodView], palette: Palette, now: Timestamp) {
    if views.is_empty() {
        line(text, "Every selected pod has the present log agent.");
        return;
    }
    let heading = ["NAMESPACE", "POD", "OWNER", "REASON", "SINCE", "MEND"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(views.iter().map(|view| {
        let mend = match (&view.command, &view.note) {
            (Some(command), None) => command.clone(),
            (Some(command), Some(note)) => format!("{command}   # {note}"),
            (None, note) => note
                .clone()
                .map_or_else(String::new, |note| format!("# {note}")),
        };
        let since = view.since.map_or_else(String::new, |since| age(since, now));
        vec![
            view.namespace.clone(),
            view.name.clone(),
            view.owner.clone(),
            view.reason.to_owned(),
            since,
            mend,
        ]
    }));
    for (index, row) in columns(&rows).into_iter().enumerate() {
        let row = row.concat();
        if index == 0 {
            line(text, &palette.paint(Tone::Heading, row.trim_end()));
        } else {
            line(text, &row);
        }
    }
}

fn line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", line.trim_end());
}

/// Pads all cells but the last of each row, so that they stand below each other.
pub(crate) fn columns(rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let pad = |(column, cell): (usize, &String), last: usize| {
        if column == last {
            cell.clone()
        } else {
            format!("{cell:<width$}  ", width = width(column))
        }
    };
    rows.iter()
        .map(|row| {
            let last = row.len().saturating_sub(1);
            let cells = row.iter().enumerate();
            cells.map(|cell| pad(cell, last)).collect()
        })
        .collect()
}

/// As kubectl tells an age: in the largest unit that is whole.
fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
