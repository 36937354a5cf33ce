//! What is said of an execution's log once it was read, and the exit code that a script can use.

use std::{collections::BTreeSet, fmt};

use super::proof::{Damage, Standing};

/// What a reader can rely on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Every line is there, and the archive proves it.
    Complete,
    /// Nothing is known to be missing, and nothing proves that nothing is: it goes on, or a pod ended before everything was
    /// delivered.
    Open,
    /// Lines are missing, or what is there is not what was stored.
    Damaged,
    /// Nothing is known of the execution.
    Nothing,
}

impl Verdict {
    /// The exit code of `katonic-logging logs`; 1 and 2 are errors.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Open => 3,
            Self::Damaged => 4,
            Self::Nothing => 5,
        }
    }
}

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Records of the archive.
    archived: u64,
    /// Lines of running pods that the archive does not have.
    live: u64,
    dropped: u64,
    pods: BTreeSet<String>,
    runs: u64,
    /// Runs of which the archive does not say that they are whole.
    open: Vec<String>,
    /// Objects that were not read, because they are older than what was asked for.
    unread: u64,
    damages: Vec<Damage>,
}

impl Summary {
    /// Adds a run of the archive. `pod` sets pods apart, `shown` names the run to a person.
    pub fn run(
        &mut self,
        pod: &str,
        shown: &str,
        lines: u64,
        (standing, damages): (Standing, Vec<Damage>),
    ) {
        self.pods.insert(pod.to_owned());
        self.runs += 1;
        self.archived += lines;
        self.damages.extend(damages);
        match standing {
            Standing::Whole { dropped, .. } => self.dropped += dropped,
            Standing::Open => self.open.push(shown.to_owned()),
            Standing::Damaged => {}
        }
    }

    /// Adds a container that runs, or ran, and has no archive.
    pub fn unarchived(&mut self, pod: &str, shown: &str) {
        self.pods.insert(pod.to_owned());
        self.runs += 1;
        self.open.push(shown.to_owned());
    }

    /// Adds lines that only the pods themselves have.
    pub fn live(&mut self, lines: u64) {
        self.live += lines;
    }

    /// Adds objects that were passed over.
    pub fn unread(&mut self, objects: u64) {
        self.unread += objects;
    }

    /// What is wrong.
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    /// What a reader can rely on.
    pub fn verdict(&self) -> Verdict {
        if !self.damages.is_empty() {
            Verdict::Damaged
        } else if self.runs == 0 {
            Verdict::Nothing
        } else if self.open.is_empty() {
            Verdict::Complete
        } else {
            Verdict::Open
        }
    }
}

/// A number with commas: `1,234,567`.
#[derive(Clone, Copy, Debug)]
pub struct Grouped(pub u64);

impl fmt::Display for Grouped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.char_indices() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                formatter.write_str(",")?;
            }
            write!(formatter, "{digit}")?;
        }
        Ok(())
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    let what = if count == 1 { one } else { many };
    format!("{} {what}", Grouped(count))
}

/// How many runs are named; the rest is counted.
const NAMED: usize = 3;

/// One line, without its end.
impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = counted(self.archived, "line", "lines");
        match self.verdict() {
            Verdict::Complete if self.unread == 0 => {
                write!(formatter, "verified: {lines}, complete")?;
            }
            Verdict::Complete => write!(
                formatter,
                "complete by names and numbers: {lines} read, and {} from before not",
                counted(self.unread, "object", "objects")
            )?,
            Verdict::Open => {
                write!(formatter, "not complete yet: {lines} from the archive")?;
                if self.live > 0 {
                    write!(formatter, " and {} from pods", Grouped(self.live))?;
                }
                let named: Vec<&str> = self.open.iter().take(NAMED).map(String::as_str).collect();
                write!(
                    formatter,
                    "; no completeness record of {}",
                    named.join(", ")
                )?;
                if self.open.len() > NAMED {
                    write!(formatter, " and {} more", self.open.len() - NAMED)?;
                }
            }
            Verdict::Damaged => write!(
                formatter,
                "not complete: {lines} read, {}",
                counted(self.damages.len() as u64, "fault", "faults")
            )?,
            Verdict::Nothing => return formatter.write_str("nothing found"),
        }
        let mut notes = Vec::new();
        if self.pods.len() > 1 {
            notes.push(counted(self.pods.len() as u64, "pod", "pods"));
        }
        if self.runs > 1 {
            notes.push(counted(self.runs, "run", "runs"));
        }
        if self.dropped > 0 {
            notes.push(format!(
                "{} left out by filters",
                counted(self.dropped, "more line was", "more lines were")
            ));
        }
        if notes.is_empty() {
            Ok(())
        } else {
            write!(formatter, " ({})", notes.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Standing = Standing::Whole {
        dropped: 0,
        is_read: true,
    };

    #[test]
    fn what_is_proven_is_said_in_one_line_with_a_code() {
        let mut summary = Summary::default();
        assert_eq!(summary.to_string(), "nothing found");
        assert_eq!(summary.verdict().exit_code(), 5);
        summary.run("u-1", "run-1/run", 1_234_567, (WHOLE, vec![]));
        assert_eq!(summary.to_string(), "verified: 1,234,567 lines, complete");
        assert_eq!(summary.verdict().exit_code(), 0);
        let dropped = Standing::Whole {
            dropped: 12,
            is_read: true,
        };
        summary.run("u-2", "run-2/run", 1, (dropped, vec![]));
        assert_eq!(
            summary.to_string(),
            "verified: 1,234,568 lines, complete (2 pods, 2 runs, 12 more lines were left out by filters)"
        );
        let mut since = summary.clone();
        since.unread(3);
        assert_eq!(
            since.to_string(),
            "complete by names and numbers: 1,234,568 lines read, and 3 objects from before not (2 pods, 2 runs, 12 more lines were left out by filters)"
        );
        summary.run("u-2", "run-2/run restart 1", 4, (Standing::Open, vec![]));
        summary.live(7);
        assert!(summary.to_string().starts_with(
            "not complete yet: 1,234,572 lines from the archive and 7 from pods; no completeness record of run-2/run restart 1 (2 pods"
        ), "{summary}");
        assert_eq!(summary.verdict().exit_code(), 3);
        let damage = Damage::Twice { key: "x".into() };
        summary.run("u-3", "run-3/run", 0, (Standing::Damaged, vec![damage]));
        assert!(
            summary
                .to_string()
                .starts_with("not complete: 1,234,572 lines read, 1 fault"),
            "{summary}"
        );
        assert_eq!(summary.verdict().exit_code(), 4);
    }

    #[test]
    fn many_open_runs_are_counted() {
        let mut summary = Summary::default();
        for number in 1..=5 {
            summary.unarchived(&format!("u-{number}"), &format!("run-{number}/run"));
        }
        assert_eq!(
            summary.to_string(),
            "not complete yet: 0 lines from the archive; no completeness record of run-1/run, run-2/run, run-3/run and 2 more (5 pods, 5 runs)"
        );
        assert_eq!(Grouped(1_000).to_string(), "1,000");
        assert_eq!(Grouped(999).to_string(), "999");
    }
}
