//! What the agent costs: lines delivered for each second of processor time, memory, and how long lines and pods wait.
//!
//! The agent runs as it is shipped, as a process over log files of CRI lines of 150 bytes, and speaks to a receiver on
//! loopback that answers as the vendor does. The divisor is the processor time of the agent alone, kernel time
//! included. Every line is counted by its number after the timed part, and a run that lost one is an error. Prints one
//! JSON object a line: a figure, a curve, or what another agent made of the same work.
//!
//! `cargo bench -p katonic-log-agent --bench measure -- [section…]`; without a section, all but `peers`.

mod count;
mod ending;
mod isolation;
mod kinds;
mod lines;
mod memory;
mod peers;
mod pod;
mod process;
mod receiver;
mod report;
mod steady;
mod throughput;
mod waiting;

use std::error::Error;

use lines::Logs;

/// What a measurement gives, or why there is none.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A part of the benchmark: its name, and what measures it.
type Section = (&'static str, fn(&Logs) -> Outcome<()>);

/// The parts, by the names that the command line takes.
const SECTIONS: [Section; 8] = [
    ("throughput", throughput::of_splunk),
    ("kinds", throughput::of_every_kind),
    ("processing", throughput::of_processing),
    ("memory", memory::measure),
    ("waiting", waiting::measure),
    ("isolation", isolation::measure),
    ("ending", ending::measure),
    ("steady", steady::measure),
];

/// The part that runs when it is asked for by name, because it takes as long as all others.
const PEERS: Section = ("peers", peers::measure);

fn sections() -> impl Iterator<Item = Section> {
    SECTIONS.into_iter().chain([PEERS])
}

fn main() -> Outcome<()> {
    // Cargo adds flags of its own, such as `--bench`.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    if let Some(unknown) = wanted
        .iter()
        .find(|name| sections().all(|(section, _)| section != *name))
    {
        return Err(format!("there is no section {unknown}").into());
    }
    let logs = Logs::new()?;
    for (name, measure) in sections() {
        let is_wanted = if wanted.is_empty() {
            name != PEERS.0
        } else {
            wanted.iter().any(|one| one == name)
        };
        if is_wanted {
            measure(&logs).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    Ok(())
}
