//! What is said of an execution's log once it was read, and the exit code that a script can use.

use std::{collections::BTreeSet, fmt};

use super::{
    proof::{Damage, Standing},
    restarts::{Restarts, Which},
};

/// What a reader can rely on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Every line is there, and the archive proves it.
    Complete,
    /// Nothing is known to be missing, and nothing proves that nothing is: it goes on, a pod ended before everything was
    /// delivered, or nobody has seen how a run began.
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
    /// Runs that are whole from where the archive begins, and nobody knows whether the run begins there.
    unseen: Vec<String>,
    restarts: Restarts,
    /// Objects that were not read, because they are older than what was asked for.
    unread: u64,
    damages: Vec<Damage>,
}

impl Summary {
    /// Adds a run of the archive.
    pub fn run(&mut self, which: &Which, lines: u64, (standing, damages): (Standing, Vec<Damage>)) {
        self.pods.insert(which.pod_uid.clone());
        self.runs += 1;
        self.archived = self.archived.saturating_add(lines);
        self.damages.extend(damages);
        let mut said = None;
        match standing {
            Standing::Whole {
                dropped,
                is_from_beginning,
                followed,
                ..
            } => {
                // What a record says may be anything.
                self.dropped = self.dropped.saturating_add(dropped);
                said = followed;
                if !is_from_beginning {
                    self.unseen.push(which.to_string());
                }
            }
            Standing::Open => self.open.push(which.to_string()),
            Standing::Damaged => {}
        }
        self.restarts.archived(which, said);
    }

    /// Adds a container that runs, or ran, and has no archive.
    pub fn unarchived(&mut self, which: &Which) {
        self.pods.insert(which.pod_uid.clone());
        self.runs += 1;
        self.open.push(which.to_string());
        self.restarts.live(which);
    }

    /// Judges which runs there must have been, once all were added that are known.
    pub fn close(&mut self) {
        let absent = self.restarts.absent();
        self.damages.extend(absent.into_iter().map(Damage::Absent));
        let awaited = self.restarts.awaited();
        self.open.extend(awaited.iter().map(ToString::to_string));
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
        } else if self.open.is_empty() && self.unseen.is_empty() {
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

/// Runs by name.
struct Named<'s>(&'s [String]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (named, more) = self.0.split_at(self.0.len().min(NAMED));
        formatter.write_str(&named.join(", "))?;
        match more.len() {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}

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
            Verdict::Open if self.open.is_empty() => write!(
                formatter,
                "not proven complete: {lines}, nothing missing from where the archive begins; nobody has seen whether anything was before it of {}",
                Named(&self.unseen)
            )?,
            Verdict::Open => {
                write!(formatter, "not complete yet: {lines} from the archive")?;
                if self.live > 0 {
                    write!(formatter, " and {} from pods", Grouped(self.live))?;
                }
                let open = Named(&self.open);
                write!(formatter, "; no completeness record of {open}")?;
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

    const WHOLE: Standing = followed(false);

    const fn followed(followed: bool) -> Standing {
        Standing::Whole {
            dropped: 0,
            is_read: true,
            is_from_beginning: true,
            followed: Some(followed),
        }
    }

    fn which(number: u32, restart: u32) -> Which {
        Which {
            pod_uid: format!("u-{number}"),
            pod: format!("run-{number}"),
            container: "run".into(),
            restart,
        }
    }

    #[test]
    fn what_is_proven_is_said_in_one_line_with_a_code() {
        let mut summary = Summary::default();
        assert_eq!(summary.to_string(), "nothing found");
        assert_eq!(summary.verdict().exit_code(), 5);
        summary.run(&which(1, 0), 1_234_567, (WHOLE, vec![]));
        assert_eq!(summary.to_string(), "verified: 1,234,567 lines, complete");
        assert_eq!(summary.verdict().exit_code(), 0);
        let dropped = Standing::Whole {
            dropped: 12,
            is_read: true,
            is_from_beginning: true,
            followed: None,
        };
        summary.run(&which(2, 0), 1, (dropped, vec![]));
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
        summary.run(&which(2, 1), 4, (Standing::Open, vec![]));
        summary.live(7);
        assert!(summary.to_string().starts_with(
            "not complete yet: 1,234,572 lines from the archive and 7 from pods; no completeness record of run-2/run (restart 1) (2 pods"
        ), "{summary}");
        assert_eq!(summary.verdict().exit_code(), 3);
        let damage = Damage::Twice { key: "x".into() };
        summary.run(&which(3, 0), 0, (Standing::Damaged, vec![damage]));
        assert!(
            summary
                .to_string()
                .starts_with("not complete: 1,234,572 lines read, 1 fault"),
            "{summary}"
        );
        assert_eq!(summary.verdict().exit_code(), 4);
    }

    #[test]
    fn a_whole_run_that_was_removed_with_its_record_is_missed() {
        let mut summary = Summary::default();
        summary.run(&which(1, 0), 10, (followed(true), vec![]));
        summary.run(&which(1, 2), 10, (followed(false), vec![]));
        summary.close();
        assert_eq!(
            summary.damages()[0].to_string(),
            "nothing of restart 1 of run-1/run is there, although restart 2 is: it was removed, or gone before it could be archived"
        );
        assert_eq!(summary.verdict(), Verdict::Damaged);
        assert_eq!(
            summary.to_string(),
            "not complete: 20 lines read, 1 fault (2 runs)"
        );
    }

    #[test]
    fn a_run_that_must_have_followed_keeps_an_execution_open() {
        let mut summary = Summary::default();
        summary.run(&which(1, 0), 10, (followed(true), vec![]));
        let mut running = summary.clone();
        summary.close();
        assert_eq!(summary.verdict(), Verdict::Open);
        assert_eq!(
            summary.to_string(),
            "not complete yet: 10 lines from the archive; no completeness record of run-1/run (restart 1)"
        );
        running.unarchived(&which(1, 1));
        running.close();
        assert!(
            running
                .to_string()
                .ends_with("no completeness record of run-1/run (restart 1) (2 runs)"),
            "{running}"
        );
    }

    #[test]
    fn a_run_of_which_nobody_has_seen_how_it_began_is_not_called_verified() {
        let mut summary = Summary::default();
        let unseen = Standing::Whole {
            dropped: 0,
            is_read: true,
            is_from_beginning: false,
            followed: None,
        };
        summary.run(&which(1, 0), 10, (unseen, vec![]));
        summary.close();
        assert_eq!(summary.verdict().exit_code(), 3);
        assert_eq!(
            summary.to_string(),
            "not proven complete: 10 lines, nothing missing from where the archive begins; nobody has seen whether anything was before it of run-1/run"
        );
    }

    #[test]
    fn many_open_runs_are_counted() {
        let mut summary = Summary::default();
        for number in 1..=5 {
            summary.unarchived(&which(number, 0));
        }
        assert_eq!(
            summary.to_string(),
            "not complete yet: 0 lines from the archive; no completeness record of run-1/run, run-2/run, run-3/run and 2 more (5 pods, 5 runs)"
        );
        assert_eq!(Grouped(1_000).to_string(), "1,000");
        assert_eq!(Grouped(999).to_string(), "999");
    }
}
