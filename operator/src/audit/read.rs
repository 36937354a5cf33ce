//! The record of audit events in its store: which containers it is of, and their events one after the other. Holds no more than a
//! piece of an object for each container.

use std::collections::{BTreeMap, VecDeque};

use futures::TryStreamExt as _;
use k8s_openapi::jiff::Timestamp;
use katonic_log_config::archive::{Completeness, Top};
use katonic_logging_core::{
    execution::{Catalogue, Damage, Run, Standing, catalogue::Object},
    trail::Window,
};

use crate::logs::{
    Failure,
    archived::{self, Archived, Since, Wanted},
    args::SKEW,
    show::{Form, Rendered, say},
    store::{self, Store},
};

/// One container's events, as one sink has them, in the order in which they were written.
#[derive(Debug)]
pub struct Source {
    /// Its folder below the prefix.
    pub folder: String,
    /// Whether the beginning is not read: it is from before what was asked for.
    pub is_later_part: bool,
    store: Store,
    waiting: VecDeque<(Run, Since)>,
    reading: Option<(Archived, Option<Completeness>)>,
    buffer: Vec<u8>,
}

/// What comes next of a container.
#[derive(Debug)]
pub enum Next {
    /// A record.
    Record(Rendered),
    /// A run of the container was read to its end.
    End(Box<End>),
    /// Everything was read.
    Over,
}

/// A run of a container that was read to its end.
#[derive(Debug)]
pub struct End {
    /// What its completeness record says.
    pub record: Option<Completeness>,
    /// What is known of it.
    pub standing: Standing,
    /// What is wrong with it.
    pub damages: Vec<Damage>,
}

/// Everything that there is to read of a time, and its size.
pub async fn sources(store: &Store, window: Window) -> Result<(Vec<Source>, u64), Failure> {
    let location = &store.location;
    let mut catalogue = Catalogue::default();
    let mut listed = store.list(&location.of_audit());
    while let Some(object) = listed.try_next().await? {
        if let Some(name) = location.name(&object.key) {
            catalogue.add(name, object.size, object.stored);
        }
    }
    catalogue.sort();
    if let Some((count, first)) = &catalogue.strangers {
        say(&format!(
            "{count} objects are not of an agent's making and are passed over, the first is {first}"
        ));
    }
    let mut streams: BTreeMap<(String, String), Vec<Run>> = BTreeMap::new();
    for (name, run) in catalogue.runs {
        if matches!(run.folder.top, Top::Audit(_)) {
            let stream = streams.entry((name.folder, name.route)).or_default();
            stream.push(run);
        }
    }
    let mut bytes = 0;
    let sources = streams.into_iter().map(|((folder, _), runs)| {
        let (waiting, is_later_part) = wanted(runs, window);
        let sizes = waiting.iter().flat_map(|(run, since)| {
            let read = run
                .objects
                .iter()
                .filter(|object| object.stored >= since.objects);
            read.map(|object| object.size)
        });
        bytes += sizes.sum::<u64>();
        Source {
            folder,
            is_later_part,
            store: store.clone(),
            waiting,
            reading: None,
            buffer: Vec::new(),
        }
    });
    let sources = sources.collect();
    Ok((sources, bytes))
}

/// What is read of the runs of a container, and whether something is left out: objects that were stored before the time that is asked
/// for, but for the last of them, which binds what follows to what was before.
fn wanted(mut runs: Vec<Run>, window: Window) -> (VecDeque<(Run, Since)>, bool) {
    runs.sort_by_key(|run| run.name.restart);
    let from = window
        .from
        .map(|from| from.checked_sub(SKEW).unwrap_or(Timestamp::MIN));
    let Some(from) = from else {
        let all = |run| (run, since(Timestamp::MIN));
        return (runs.into_iter().map(all).collect(), false);
    };
    let is_old = |object: &&Object| object.stored < from;
    let has_old = |run: &Run| run.objects.iter().any(|object| object.stored < from);
    let Some(at) = runs.iter().rposition(has_old) else {
        return (
            runs.into_iter().map(|run| (run, since(from))).collect(),
            false,
        );
    };
    let runs = runs.split_off(at);
    let newest = runs[0].objects.iter().filter(is_old);
    let newest = newest.map(|object| object.stored).max().unwrap_or(from);
    let runs = runs.into_iter().enumerate();
    let from_here = runs.map(|(index, run)| match index {
        0 => (run, since(newest)),
        _ => (run, since(Timestamp::MIN)),
    });
    (from_here.collect(), true)
}

fn since(objects: Timestamp) -> Since {
    Since {
        lines: Timestamp::MIN,
        objects,
    }
}

impl Source {
    /// When its first record was written; none where nothing is left, or that cannot be seen.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn begins(&self) -> Result<Option<Timestamp>, Failure> {
        let Some((run, since)) = self.waiting.front() else {
            return Ok(None);
        };
        let mut run = run.clone();
        run.objects.retain(|object| object.stored >= since.objects);
        Ok(archived::first(&self.store, &run, "").await?.time)
    }

    /// What comes next; `open` is how many containers are being read.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn next(&mut self, open: usize) -> Result<Next, Failure> {
        if self.reading.is_none() {
            let Some((run, since)) = self.waiting.pop_front() else {
                return Ok(Next::Over);
            };
            self.reading = Some(self.open(run, since).await?);
        }
        let Some((archived, _)) = &mut self.reading else {
            return Ok(Next::Over);
        };
        archived.advance(&mut self.buffer, open).await?;
        if let Some(head) = archived.take_head() {
            return Ok(Next::Record(head));
        }
        let Some((archived, record)) = self.reading.take() else {
            return Ok(Next::Over);
        };
        let (_, (standing, damages)) = archived.finish_proof();
        Ok(Next::End(Box::new(End {
            record,
            standing,
            damages,
        })))
    }

    /// Gives a record's room back.
    pub fn give_back(&mut self, record: Rendered) {
        self.buffer = record.bytes;
    }

    /// Compressed bytes that were fetched since the last question.
    pub fn take_fetched(&mut self) -> u64 {
        let reading = self.reading.as_mut();
        reading.map_or(0, |(archived, _)| archived.take_fetched())
    }

    /// Reads no more of it.
    pub fn stop(&mut self) {
        self.waiting.clear();
        self.reading = None;
    }

    async fn open(
        &self,
        run: Run,
        since: Since,
    ) -> Result<(Archived, Option<Completeness>), Failure> {
        let key = run.name.record();
        let record = if run.is_recorded {
            let key = self.store.location.prefix.join(&key);
            match self.store.record(&key).await {
                Ok(json) => serde_json::from_slice::<Completeness>(&json)
                    .map(Some)
                    .map_err(|error| format!("it is no completeness record: {error}")),
                Err(error @ (store::Error::Gone | store::Error::Unusable(_))) => {
                    Err(error.to_string())
                }
                Err(error) => return Err(error.into()),
            }
        } else {
            Ok(None)
        };
        let wanted = Wanted {
            form: Form::Json,
            origin: None,
            since: Some(since),
            is_followed: false,
        };
        let (record, fault) = match record {
            Ok(record) => (record, None),
            Err(reason) => (None, Some(reason)),
        };
        let mut archived = Archived::new(self.store.clone(), run, record.clone(), wanted);
        if let Some(reason) = fault {
            archived.unreadable(key, reason);
        }
        Ok((archived, record))
    }
}

/// The line of a record, without its end.
pub fn line(record: &Rendered) -> &[u8] {
    record.bytes.strip_suffix(b"\n").unwrap_or(&record.bytes)
}
