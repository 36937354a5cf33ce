//! What a listing of an archive says: the runs of containers, and the objects of each in the order of its log.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::jiff::Timestamp;
use katonic_log_config::archive::{Completeness, Folder, Name, Range, RunName};

use super::restarts::Which;

/// Everything that is listed below an execution.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// By what their names begin with.
    pub runs: BTreeMap<RunName, Run>,
    /// How many names are of no agent's making, and the first of them.
    pub strangers: Option<(u64, String)>,
}

/// A run of a container, from its start to its next restart, as one sink of one policy has archived it.
#[derive(Clone, Debug)]
pub struct Run {
    /// What the names of its objects begin with.
    pub name: RunName,
    /// Whose it is.
    pub folder: Folder,
    /// Its objects, by number once [`Catalogue::sort`] was called.
    pub objects: Vec<Object>,
    /// Whether there is a completeness record.
    pub is_recorded: bool,
}

/// An object with records. Small: a workspace of a year has half a million of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Object {
    /// Number within the run.
    pub number: u64,
    /// The log file.
    pub file: Arc<str>,
    /// First byte of the log file.
    pub first: u64,
    /// First byte that is not in it.
    pub next: u64,
    /// Bytes as it is stored.
    pub size: u64,
    /// When the store got it, by the store's clock.
    pub stored: Timestamp,
}

impl Object {
    /// Which bytes of the log it holds.
    pub fn range(&self) -> Range {
        Range {
            number: self.number,
            file: self.file.to_string(),
            first: self.first,
            next: self.next,
        }
    }
}

impl Run {
    /// Which run it is.
    pub fn which(&self) -> Which {
        Which {
            pod_uid: self.folder.pod_uid.clone(),
            pod: self.folder.pod.clone(),
            container: self.folder.container.clone(),
            restart: self.name.restart,
        }
    }

    /// The name of one of its objects, below the prefix.
    pub fn key(&self, object: &Object) -> String {
        self.name.object(&object.range())
    }

    /// Bytes of its objects as they are stored.
    pub fn size(&self) -> u64 {
        self.objects.iter().map(|object| object.size).sum()
    }

    /// The same container of the same pod, whoever has archived it.
    fn container(&self) -> (&str, u32) {
        (&self.name.folder, self.name.restart)
    }
}

impl Catalogue {
    /// Adds what is listed under a name below the prefix.
    pub fn add(&mut self, name: &str, size: u64, stored: Timestamp) {
        match Name::parse(name) {
            Some(Name::Object(run, range)) => {
                let Some(run) = self.run(&run) else {
                    return self.add_stranger(name);
                };
                // The objects of a log file stand together.
                let file = match run.objects.last() {
                    Some(last) if *last.file == range.file => Arc::clone(&last.file),
                    _ => range.file.into(),
                };
                run.objects.push(Object {
                    number: range.number,
                    file,
                    first: range.first,
                    next: range.next,
                    size,
                    stored,
                });
            }
            Some(Name::Record(run)) => match self.run(&run) {
                Some(run) => run.is_recorded = true,
                None => self.add_stranger(name),
            },
            None => self.add_stranger(name),
        }
    }

    fn run(&mut self, name: &RunName) -> Option<&mut Run> {
        // Not `entry`: most objects are of a run that is known.
        if !self.runs.contains_key(name) {
            let run = Run {
                folder: Folder::parse(&name.folder)?,
                name: name.clone(),
                objects: Vec::new(),
                is_recorded: false,
            };
            self.runs.insert(name.clone(), run);
        }
        self.runs.get_mut(name)
    }

    fn add_stranger(&mut self, name: &str) {
        let (count, _) = self.strangers.get_or_insert_with(|| (0, name.to_owned()));
        *count += 1;
    }

    /// Brings the objects of each run into the order of its log.
    pub fn sort(&mut self) {
        for run in self.runs.values_mut() {
            // Stores list by name; a number beyond eight digits, or one that is there twice, is where it belongs so too.
            run.objects
                .sort_by_key(|object| (object.number, object.stored, object.first));
        }
    }

    /// Leaves one run for each run of a container that several sinks have archived: each of them has the whole log, and
    /// a reader wants it once. Taken is the one that is proven whole, else the one that has most.
    pub fn without_copies(&mut self, records: &BTreeMap<RunName, Completeness>) -> Vec<Run> {
        let rank = |run: &Run| {
            let record = records.get(&run.name);
            let is_complete = record.is_some_and(|record| record.complete);
            let lines = record.map(|record| record.lines);
            (is_complete, lines, run.objects.len())
        };
        let mut best: BTreeMap<(&str, u32), &Run> = BTreeMap::new();
        for run in self.runs.values() {
            let known = best.entry(run.container()).or_insert(run);
            if rank(run) > rank(known) {
                *known = run;
            }
        }
        let kept: BTreeSet<RunName> = best.into_values().map(|run| run.name.clone()).collect();
        let (kept, copies) = std::mem::take(&mut self.runs)
            .into_iter()
            .partition(|(name, _)| kept.contains(name));
        self.runs = kept;
        let copies: BTreeMap<RunName, Run> = copies;
        copies.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = "executions/63d1/run-1_u-1/run/";

    fn catalogue(names: &[&str]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for name in names {
            catalogue.add(&format!("{FOLDER}{name}"), 10, Timestamp::UNIX_EPOCH);
        }
        catalogue.sort();
        catalogue
    }

    #[test]
    fn objects_are_found_in_the_order_of_their_log() {
        let catalogue = catalogue(&[
            "0000-aaaaaaaa-00000001-f-7-9.ndjson.gz",
            "0000-aaaaaaaa-00000000-f-0-7.ndjson.gz",
            "0000-aaaaaaaa-100000000-g-0-7.ndjson.gz",
            "0000-aaaaaaaa-99999999-f-9-10.ndjson.gz",
            "0000-aaaaaaaa-complete.json",
            "0001-aaaaaaaa-00000000-h-0-7.ndjson.gz",
        ]);
        let runs: Vec<_> = catalogue.runs.values().collect();
        assert_eq!(runs.len(), 2);
        let numbers: Vec<_> = runs[0].objects.iter().map(|object| object.number).collect();
        assert_eq!(numbers, [0, 1, 99_999_999, 100_000_000]);
        assert!(runs[0].is_recorded && !runs[1].is_recorded);
        assert_eq!(runs[0].size(), 40);
        let key = runs[0].key(&runs[0].objects[0]);
        assert_eq!(
            key,
            format!("{FOLDER}0000-aaaaaaaa-00000000-f-0-7.ndjson.gz")
        );
        assert_eq!(runs[0].folder.pod, "run-1");
        assert_eq!(catalogue.strangers, None);
    }

    #[test]
    fn what_no_agent_has_written_is_counted_and_passed_over() {
        let catalogue = catalogue(&[
            "notes.txt",
            "0000-aaaaaaaa-complete.json.bak",
            "old/0000-a-complete.json",
        ]);
        assert!(catalogue.runs.is_empty());
        assert_eq!(catalogue.strangers, Some((3, format!("{FOLDER}notes.txt"))));
    }

    #[test]
    fn of_two_archives_of_one_container_one_is_read() {
        let mut catalogue = catalogue(&[
            "0000-aaaaaaaa-00000000-f-0-7.ndjson.gz",
            "0000-aaaaaaaa-00000001-f-7-9.ndjson.gz",
            "0000-bbbbbbbb-00000000-f-0-9.ndjson.gz",
            "0000-bbbbbbbb-complete.json",
            "0001-aaaaaaaa-00000000-g-0-7.ndjson.gz",
        ]);
        let record = crate::execution::proof::tests::record(&[]);
        let recorded = catalogue.runs.keys().find(|name| name.route == "bbbbbbbb");
        let records = BTreeMap::from([(recorded.unwrap().clone(), record)]);
        let copies = catalogue.clone().without_copies(&records);
        assert_eq!(copies.len(), 1);
        assert_eq!(copies[0].name.route, "aaaaaaaa");
        // Without a record the one that has come further.
        let copies = catalogue.without_copies(&BTreeMap::new());
        assert_eq!(copies[0].name.route, "bbbbbbbb");
        assert_eq!(catalogue.runs.len(), 2);
    }
}
