//! What is said of a record of audit events once it was read, and the exit code that a script can use.

use std::fmt;

use super::Findings;
use crate::execution::summary::Grouped;

/// What a reader can rely on. Ordered: what is greater is worse.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Verdict {
    /// There is no event.
    Nothing,
    /// Every event is there, as it was written and where it was written, and the archive proves it.
    Complete,
    /// Nothing is known to be missing, and nothing proves that nothing is: a container runs, ended before everything was delivered, or
    /// nobody has seen how it began.
    Open,
    /// Something is missing, or not as it was.
    Damaged,
}

impl Verdict {
    /// The exit code of `katonic-logging audit verify`; 1 and 2 are errors.
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
    /// Events in the time that is asked for.
    pub events: u64,
    /// Those of them that are meant as events and are none.
    pub faulty: u64,
    /// Streams: containers, each as one sink has it.
    pub streams: u64,
    /// Streams of which it is not proven that they have everything.
    pub open: u64,
    /// What is wrong with the streams.
    pub findings: Findings,
    /// What is wrong with objects and completeness records.
    pub damages: u64,
    /// What another copy lacks, and what it alone has.
    pub differing: u64,
}

impl Summary {
    /// What a reader can rely on.
    pub fn verdict(&self) -> Verdict {
        if !self.findings.is_empty() || self.damages > 0 || self.differing > 0 {
            Verdict::Damaged
        } else if self.open > 0 {
            // Also where it has no event: the newest may be what was taken away.
            Verdict::Open
        } else if self.events == 0 {
            Verdict::Nothing
        } else {
            Verdict::Complete
        }
    }
}

fn events(count: u64) -> String {
    let noun = if count == 1 { "event" } else { "events" };
    format!("{} {noun}", Grouped(count))
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verdict() {
            Verdict::Nothing => return formatter.write_str("nothing: no events in this time"),
            Verdict::Complete => write!(formatter, "complete: {}", events(self.events))?,
            Verdict::Open => write!(formatter, "not proven complete: {}", events(self.events))?,
            Verdict::Damaged => write!(formatter, "incomplete: {}", events(self.events))?,
        }
        if self.streams > 1 {
            write!(formatter, " of {} containers", Grouped(self.streams))?;
        }
        if self.faulty > 0 {
            let faulty = Grouped(self.faulty);
            write!(formatter, " ({faulty} not as the contract has them)")?;
        }
        let Findings {
            missing,
            changed,
            inserted,
            moved,
            broken,
            refused,
            ..
        } = self.findings;
        let is_intact = self.findings.is_empty();
        let parts = [
            (missing, "missing"),
            (changed, "changed"),
            (inserted, "inserted"),
            (moved, "out of order"),
            (refused, "unreadable"),
        ];
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(formatter, ", {} {what}", Grouped(count))?;
        }
        if self.damages > 0 {
            let noun = if self.damages == 1 {
                "object"
            } else {
                "objects"
            };
            write!(formatter, ", {} {noun} damaged", Grouped(self.damages))?;
        }
        if self.differing > 0 {
            write!(formatter, ", {} unlike the copy", Grouped(self.differing))?;
        }
        let chain = if is_intact {
            "intact"
        } else if broken > 0 {
            "begun anew or contradicted"
        } else {
            "broken"
        };
        write!(formatter, ", chain {chain}")?;
        if self.open > 0 {
            let noun = if self.open == 1 { "stream" } else { "streams" };
            write!(formatter, ", {} {noun} open", Grouped(self.open))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Entry, Stream, entry::tests::lines},
        *,
    };

    #[test]
    fn one_line_says_what_a_reader_can_rely_on() {
        let mut summary = Summary::default();
        assert_eq!(summary.to_string(), "nothing: no events in this time");
        assert_eq!(summary.verdict().exit_code(), 5);
        // What is not proven to have everything is not called empty.
        let open = Summary {
            streams: 1,
            open: 1,
            ..Summary::default()
        };
        assert_eq!(open.verdict().exit_code(), 3);
        summary.events = 12_345;
        summary.streams = 1;
        assert_eq!(summary.to_string(), "complete: 12,345 events, chain intact");
        assert_eq!(summary.verdict().exit_code(), 0);
        summary.streams = 2;
        summary.faulty = 3;
        assert_eq!(
            summary.to_string(),
            "complete: 12,345 events of 2 containers (3 not as the contract has them), chain intact"
        );
        summary.open = 1;
        assert_eq!(
            summary.to_string(),
            "not proven complete: 12,345 events of 2 containers (3 not as the contract has them), chain intact, 1 stream open"
        );
        assert_eq!(summary.verdict().exit_code(), 3);
        let mut removed = lines(5);
        removed.remove(2);
        removed[3] = removed[3].replace("ada", "eve");
        let mut stream = Stream::default();
        for line in &removed {
            stream.entry(&Entry::read(line.as_bytes()).unwrap());
        }
        let summary = Summary {
            events: 1,
            streams: 1,
            findings: stream.finish(),
            damages: 1,
            differing: 2,
            ..Summary::default()
        };
        assert_eq!(
            summary.to_string(),
            "incomplete: 1 event, 1 missing, 1 changed, 1 object damaged, 2 unlike the copy, chain broken"
        );
        assert_eq!(summary.verdict().exit_code(), 4);
    }
}
