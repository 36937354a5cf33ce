//! The record of audit events in its store: which containers it is of, and their events one after the other. Holds no more than a
//! piece of an object for each container.

use std::collections::{BTreeMap, VecDeque};

use futures::TryStreamExt as _;
use k8s_openapi::jiff::Timestamp;
use katonic_log_config::archive::{Completeness, Folder, RunName, Top};
use katonic_logging_core::{
    execution::{Catalogue, Damage, Run, Standing, catalogue::Object},
    trail::{Stream, Window},
};

use super::place::Scope;
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
    /// The sink that has it, as keys have it.
    pub route: String,
    beginning: Beginning,
    has_objects: bool,
    store: Store,
    waiting: VecDeque<(Run, Since)>,
    reading: Option<Archived>,
    has_begun: bool,
    buffer: Vec<u8>,
}

/// Whether a container's events are there from the first on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Beginning {
    /// They have to be.
    Whole,
    /// The first are from before what is asked for.
    Left,
    /// The first may have been kept for as long as they were to be. If nothing that is there is so old, it is not known whether they
    /// were: when the first object was stored that is there.
    Kept(Option<Timestamp>),
}

/// What comes next of a container.
#[derive(Debug)]
pub enum Next {
    /// A run of the container is begun.
    Begin(Box<Begin>),
    /// A record.
    Record(Rendered),
    /// A run of the container was read to its end.
    End(Box<End>),
    /// Everything was read.
    Over,
}

/// A run of a container before any of it is read.
#[derive(Debug)]
pub struct Begin {
    /// Its name.
    pub name: RunName,
    /// Whose it is.
    pub folder: Folder,
    /// What its completeness record says.
    pub record: Option<Completeness>,
    /// Whether it is read from its beginning.
    pub is_from_beginning: bool,
}

/// A run of a container that was read to its end.
#[derive(Debug)]
pub struct End {
    /// What is known of it.
    pub standing: Standing,
    /// What is wrong with it.
    pub damages: Vec<Damage>,
}

/// What is read.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// The time that is asked for.
    pub window: Window,
    /// What time it is.
    pub now: Timestamp,
}

/// Everything that there is to read of some sinks, and its size.
pub async fn sources(
    store: &Store,
    extent: Extent,
    scope: &Scope,
) -> Result<(Vec<Source>, u64), Failure> {
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
        if matches!(run.folder.top, Top::Audit(_)) && scope.wants(&name.route) {
            let stream = streams.entry((name.folder, name.route)).or_default();
            stream.push(run);
        }
    }
    let mut bytes = 0;
    let sources = streams.into_iter().map(|((folder, route), runs)| {
        let expiry = scope.expiry(&route, extent.now);
        let (waiting, beginning) = wanted(runs, extent.window, expiry);
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
            route,
            beginning,
            has_objects: false,
            store: store.clone(),
            waiting,
            reading: None,
            has_begun: false,
            buffer: Vec::new(),
        }
    });
    let sources = sources.collect();
    Ok((sources, bytes))
}

/// What is read of the runs of a container, and whether something is left out: objects that were stored before the time that is asked
/// for, but for the last of them, which binds what follows to what was before.
fn wanted(
    mut runs: Vec<Run>,
    window: Window,
    expiry: Option<Timestamp>,
) -> (VecDeque<(Run, Since)>, Beginning) {
    runs.sort_by_key(|run| run.name.restart);
    let beginning = beginning(&runs, expiry);
    let all = |runs: Vec<Run>| {
        let all = |run| (run, since(Timestamp::MIN));
        runs.into_iter().map(all).collect()
    };
    let Some(from) = stored_from(window) else {
        return (all(runs), beginning);
    };
    let is_old = |object: &&Object| object.stored < from;
    let has_old = |run: &Run| run.objects.iter().any(|object| object.stored < from);
    let Some(at) = runs.iter().rposition(has_old) else {
        return (all(runs), beginning);
    };
    let runs = runs.split_off(at);
    let newest = runs[0].objects.iter().filter(is_old);
    let newest = newest.map(|object| object.stored).max().unwrap_or(from);
    let runs = runs.into_iter().enumerate();
    let from_here = runs.map(|(index, run)| match index {
        0 => (run, since(newest)),
        _ => (run, since(Timestamp::MIN)),
    });
    (from_here.collect(), Beginning::Left)
}

fn beginning(runs: &[Run], expiry: Option<Timestamp>) -> Beginning {
    let Some(expiry) = expiry else {
        return Beginning::Whole;
    };
    let objects = runs.iter().flat_map(|run| &run.objects);
    match objects.map(|object| object.stored).min() {
        Some(oldest) if oldest < expiry => Beginning::Kept(None),
        oldest => Beginning::Kept(Some(oldest.unwrap_or(expiry))),
    }
}

fn since(objects: Timestamp) -> Since {
    Since {
        lines: Timestamp::MIN,
        objects,
    }
}

impl Source {
    /// Its chain, of which nothing is followed yet.
    pub fn stream(&self) -> Stream {
        match self.beginning {
            Beginning::Whole => Stream::default(),
            Beginning::Left | Beginning::Kept(_) => Stream::later_part(),
        }
    }

    /// When its first object was stored, if it is not known whether those before have expired.
    pub fn unknown_before(&self) -> Option<Timestamp> {
        match self.beginning {
            Beginning::Kept(stored) => stored,
            Beginning::Whole | Beginning::Left => None,
        }
    }

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
            let is_first = !std::mem::replace(&mut self.has_begun, true);
            let (mut archived, record) = self.open(run, since).await?;
            if self.beginning != Beginning::Whole && !self.has_objects {
                archived.may_have_expired();
            }
            let run = archived.run();
            let is_from_beginning = match self.beginning {
                Beginning::Whole => true,
                _ if !is_first => true,
                Beginning::Left => false,
                Beginning::Kept(_) => match run.objects.first() {
                    Some(object) => object.number == 0,
                    None => record.as_ref().is_some_and(|record| record.objects == 0),
                },
            };
            self.has_objects |= !run.objects.is_empty();
            let begin = Begin {
                name: run.name.clone(),
                folder: run.folder.clone(),
                record,
                is_from_beginning,
            };
            self.reading = Some(archived);
            return Ok(Next::Begin(Box::new(begin)));
        }
        let Some(archived) = &mut self.reading else {
            return Ok(Next::Over);
        };
        archived.advance(&mut self.buffer, open).await?;
        if let Some(head) = archived.take_head() {
            return Ok(Next::Record(head));
        }
        let Some(archived) = self.reading.take() else {
            return Ok(Next::Over);
        };
        let (_, (standing, damages)) = archived.finish_proof();
        Ok(Next::End(Box::new(End { standing, damages })))
    }

    /// Gives a record's room back.
    pub fn give_back(&mut self, record: Rendered) {
        self.buffer = record.bytes;
    }

    /// Compressed bytes that were fetched since the last question.
    pub fn take_fetched(&mut self) -> u64 {
        let reading = self.reading.as_mut();
        reading.map_or(0, Archived::take_fetched)
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

/// When the first object was stored, by the store's clock, that may have something of a time; none: any may.
pub fn stored_from(window: Window) -> Option<Timestamp> {
    let from = window.from?;
    Some(from.checked_sub(SKEW).unwrap_or(Timestamp::MIN))
}

/// Whether nothing more of a time is to come after a record that was written then: both streams of a container take the times of
/// their lines before one file gets them, and a node's clock may be put right.
pub fn is_over(window: Window, time: Timestamp) -> bool {
    let time = time.checked_sub(SKEW).unwrap_or(Timestamp::MIN);
    window.is_before(time)
}

/// The line of a record, without its end.
pub fn line(record: &Rendered) -> &[u8] {
    record.bytes.strip_suffix(b"\n").unwrap_or(&record.bytes)
}
