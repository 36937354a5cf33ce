//! Whether it is proven that a stream has everything, or only that nothing of it is known to be missing.

use std::fmt;

use k8s_openapi::jiff::Timestamp;
use katonic_log_config::archive::{Completeness, RunName};

use crate::execution::{Standing, summary::Grouped};

/// Why a stream is open: nothing of it is known to be missing, and nothing proves that nothing is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Open {
    /// What the names of the run begin with.
    run: String,
    why: Why,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Why {
    /// Its last run has no completeness record.
    Unrecorded,
    /// Its last run has more than the record speaks of.
    Further,
    /// The record of its last run says that another one came, or does not say that none did.
    Followed,
    /// Nobody has said whether the run begins where the archive does.
    Unseen,
    /// Something of the run was lost, perhaps after the time that is asked for.
    Lossy,
    /// Events before this one are not there, and may have expired; the object with this one was stored then.
    Expired(u64, Timestamp),
}

impl fmt::Display for Open {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::Unrecorded => {
                "there is no completeness record: it still runs, ended before everything was delivered, or the record was removed"
            }
            Why::Further => {
                "there is more than its completeness record speaks of: it went on, and its end is not recorded yet"
            }
            Why::Followed => {
                "its completeness record says that the container was started again, and nothing is there of that run"
            }
            Why::Unseen => {
                "no completeness record says that it begins where its archive does: what was lost before is not known"
            }
            Why::Lossy => {
                "its completeness record tells of lines that were lost, perhaps after the time that was asked for"
            }
            Why::Expired(first, stored) => {
                let first = Grouped(first);
                return write!(
                    formatter,
                    "not proven: it begins with event {first}, stored at {stored}, where the retention ends or later: whether what was before has expired or was removed is not known: {}",
                    self.run
                );
            }
        };
        write!(formatter, "not proven: {why}: {}", self.run)
    }
}

/// The runs of a stream, from the first to the last that is read.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    runs: Vec<Run>,
    is_passed: bool,
    expired: Option<Open>,
}

#[derive(Clone, Debug)]
struct Run {
    name: String,
    is_recorded: bool,
    unseen: Option<Why>,
    lossy: Option<Why>,
    /// Whether it was read to its end.
    is_read: bool,
    /// Why its end is open.
    open: Option<Why>,
}

impl Ends {
    /// A run is read, `is_from_beginning` unless what is asked for begins within it.
    pub fn begin(
        &mut self,
        name: &RunName,
        record: Option<&Completeness>,
        is_from_beginning: bool,
    ) {
        let begins = record.and_then(|record| record.begins);
        let is_unseen = is_from_beginning && begins.is_none();
        let is_lossy = record.is_some_and(|record| {
            record.lost > 0 || !record.complete || is_from_beginning && begins == Some(false)
        });
        self.runs.push(Run {
            name: name.to_string(),
            is_recorded: record.is_some(),
            unseen: is_unseen.then_some(Why::Unseen),
            lossy: is_lossy.then_some(Why::Lossy),
            is_read: false,
            open: None,
        });
    }

    /// An event is bound whose line was written so long after the time that is asked for that nothing of that comes later.
    pub fn pass(&mut self) {
        self.is_passed = true;
    }

    /// The stream begins with this event of its first run, although it was to be read from its beginning: what was before may have
    /// expired. `stored` is when the object with it was.
    pub fn expired(&mut self, first: u64, stored: Timestamp) {
        let run = self.runs.first().map(|run| run.name.clone());
        self.expired = Some(Open {
            run: run.unwrap_or_default(),
            why: Why::Expired(first, stored),
        });
    }

    /// The run that was begun last was read to its end.
    pub fn end(&mut self, standing: &Standing) {
        if let Some(run) = self.runs.last_mut() {
            run.is_read = true;
            run.open = match standing {
                Standing::Open if run.is_recorded => Some(Why::Further),
                Standing::Open => Some(Why::Unrecorded),
                Standing::Whole {
                    followed: Some(false),
                    ..
                }
                // What is wrong with it is told.
                | Standing::Damaged => None,
                Standing::Whole { .. } => Some(Why::Followed),
            };
        }
    }

    /// Why it is not proven that the stream has everything; empty where it is.
    pub fn finish(self) -> Vec<Open> {
        let Self {
            mut runs,
            is_passed,
            expired,
        } = self;
        let last = runs.pop_if(|_| !is_passed);
        let before = runs.into_iter().flat_map(|run| {
            // Of what is read to its end losses are told as damage.
            let lossy = run.lossy.filter(|_| !run.is_read);
            let unseen = run.unseen;
            let open = move |why| Open {
                run: run.name.clone(),
                why,
            };
            lossy.into_iter().chain(unseen).map(open)
        });
        let last = last.into_iter().filter_map(|run| {
            let why = run.open.or(run.unseen)?;
            Some(Open { run: run.name, why })
        });
        expired.into_iter().chain(before).chain(last).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::proof::tests::record;

    const WHOLE: Standing = followed(Some(false));

    const fn followed(followed: Option<bool>) -> Standing {
        Standing::Whole {
            dropped: 0,
            is_read: true,
            is_from_beginning: true,
            followed,
        }
    }

    fn name(restart: u32) -> RunName {
        RunName {
            folder: "audit/platform/tracker-1_u-1/event-tracker/".into(),
            restart,
            route: "aaaaaaaa".into(),
        }
    }

    fn told(ends: Ends) -> Vec<String> {
        let open = ends.finish().into_iter();
        open.map(|open| {
            let text = open.to_string();
            let short = text.strip_prefix("not proven: ").unwrap();
            short.replace("audit/platform/tracker-1_u-1/event-tracker/", "")
        })
        .collect()
    }

    /// A stream with one run.
    fn one(record: Option<&Completeness>, standing: &Standing) -> Vec<String> {
        let mut ends = Ends::default();
        ends.begin(&name(0), record, true);
        ends.end(standing);
        told(ends)
    }

    #[test]
    fn a_stream_is_proven_by_the_record_of_its_last_run_alone() {
        let record = record(&[]);
        assert_eq!(one(Some(&record), &WHOLE), Vec::<String>::new());
        assert_eq!(one(Some(&record), &Standing::Damaged), Vec::<String>::new());
        for (standing, record, expected) in [
            (Standing::Open, None, "there is no completeness record"),
            (Standing::Open, Some(&record), "there is more than its"),
            (
                followed(Some(true)),
                Some(&record),
                "its completeness record says that the container was started again",
            ),
            (
                followed(None),
                Some(&record),
                "its completeness record says that the container was started again",
            ),
        ] {
            let told = one(record, &standing);
            assert!(
                told.len() == 1
                    && told[0].starts_with(expected)
                    && told[0].ends_with("0000-aaaaaaaa"),
                "{told:?}"
            );
        }
    }

    #[test]
    fn a_run_that_another_one_follows_needs_no_record_but_to_say_how_it_began() {
        let record = record(&[]);
        let mut ends = Ends::default();
        ends.begin(&name(0), Some(&record), true);
        ends.end(&followed(Some(true)));
        ends.begin(&name(1), Some(&record), true);
        ends.end(&WHOLE);
        assert_eq!(told(ends.clone()), Vec::<String>::new());
        let mut unknown = record.clone();
        unknown.begins = None;
        ends.begin(&name(2), Some(&unknown), true);
        ends.end(&WHOLE);
        ends.begin(&name(3), Some(&record), true);
        ends.end(&WHOLE);
        let told = told(ends);
        assert!(
            told.len() == 1
                && told[0].starts_with("no completeness record says that it begins")
                && told[0].ends_with("0002-aaaaaaaa"),
            "{told:?}"
        );
    }

    #[test]
    fn a_stream_says_that_it_begins_where_the_retention_ends() {
        let mut ends = Ends::default();
        ends.begin(&name(1), Some(&record(&[])), false);
        ends.expired(41, "2026-11-30T09:12:44Z".parse().unwrap());
        ends.end(&WHOLE);
        assert_eq!(
            told(ends),
            [
                "it begins with event 41, stored at 2026-11-30T09:12:44Z, where the retention ends or later: whether what was before has expired or was removed is not known: 0001-aaaaaaaa"
            ]
        );
    }

    #[test]
    fn a_time_that_a_later_event_closes_is_proven_while_the_container_runs() {
        let mut ends = Ends::default();
        ends.begin(&name(0), None, false);
        ends.pass();
        assert_eq!(told(ends), Vec::<String>::new());
        // But how it began is not known before its record.
        let mut ends = Ends::default();
        ends.begin(&name(0), None, true);
        ends.pass();
        assert_eq!(told(ends).len(), 1);
        let mut lossy = record(&[]);
        lossy.lost = 3;
        let mut ends = Ends::default();
        ends.begin(&name(0), Some(&lossy), true);
        ends.pass();
        let told = told(ends);
        assert!(
            told[0].starts_with("its completeness record tells of lines that were lost"),
            "{told:?}"
        );
    }
}
