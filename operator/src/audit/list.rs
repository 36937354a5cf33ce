//! `katonic-logging audit list`: merges the events of all containers in the order in which they were written, and shows those that are
//! wanted.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::{
    execution::Standing,
    trail::{Entry, Query, Stream, Verdict, as_json, heading, listed},
};

use super::{
    args::ListArgs,
    place,
    read::{self, Next, Source, line},
};
use crate::logs::{
    Failure,
    show::{Form, Output, Rendered, say},
};

/// Requests for the beginnings of containers that are on their way at the same time.
const AT_ONCE: usize = 16;

/// So many faults are told one by one; of more the number is.
const TOLD: u64 = 100;

/// From so many containers on, the first record of each is looked at, so that none is opened before its time.
const MANY: usize = 8;

/// Lists what is wanted.
pub async fn list(args: &ListArgs, now: Timestamp) -> Result<Verdict, Failure> {
    let query = Query {
        events: args.event.clone(),
        actors: args.actor.clone(),
        targets: args.target.clone(),
        window: args.record.window(now),
    };
    let (store, scope) = place::store(&args.record).await?;
    let extent = read::Extent {
        window: query.window,
        now,
    };
    let (sources, bytes) = read::sources(&store, extent, &scope).await?;
    let mut list = List {
        open: 0,
        shown: 0,
        damages: 0,
        again: Again::default(),
        output: Output::new(bytes, args.output),
        form: args.output,
        query,
    };
    list.merge(sources).await?;
    list.output.flush()?;
    list.output.done();
    if list.damages > TOLD {
        say(&format!("and {} more", list.damages - TOLD));
    }
    Ok(match list {
        List { damages: 1.., .. } => Verdict::Damaged,
        List { shown: 0, .. } => {
            say(&format!(
                "nothing found in {}: check --from, --to, --event, --actor and --target",
                store.location.bucket
            ));
            Verdict::Nothing
        }
        _ => Verdict::Complete,
    })
}

struct List {
    query: Query,
    form: Form,
    output: Output,
    /// How many containers are being read.
    open: usize,
    shown: u64,
    damages: u64,
    again: Again,
}

/// The records of the newest time: several sinks may have archived the same container, and each event is shown once.
#[derive(Default)]
struct Again {
    time: Option<Timestamp>,
    ids: HashSet<String>,
}

impl Again {
    fn is_new(&mut self, entry: &Entry<'_>) -> bool {
        if self.time.replace(entry.time) != Some(entry.time) {
            self.ids.clear();
        }
        self.ids.insert(entry.id.to_string())
    }
}

impl List {
    async fn merge(&mut self, mut sources: Vec<Source>) -> Result<(), Failure> {
        let mut streams: Vec<Stream> = sources.iter().map(Source::stream).collect();
        let mut heap: BinaryHeap<Reverse<(Timestamp, usize)>> = BinaryHeap::new();
        let begins: Vec<(usize, Option<Timestamp>)> = if sources.len() > MANY {
            let begins =
                stream::iter(sources.iter().enumerate()).map(|(index, source)| async move {
                    Ok::<_, Failure>((index, source.begins().await?))
                });
            begins.buffer_unordered(AT_ONCE).try_collect().await?
        } else {
            (0..sources.len()).map(|index| (index, None)).collect()
        };
        for (index, begins) in begins {
            heap.push(Reverse((begins.unwrap_or(Timestamp::MIN), index)));
        }
        let mut heads: Vec<Option<Rendered>> = sources.iter().map(|_| None).collect();
        let mut is_open = vec![false; sources.len()];
        while let Some(Reverse((_, index))) = heap.pop() {
            let source = &mut sources[index];
            if let Some(record) = heads[index].take() {
                self.show(&record)?;
                source.give_back(record);
            } else if !std::mem::replace(&mut is_open[index], true) {
                self.open += 1;
            }
            let next = self.next(source, &mut streams[index]).await?;
            self.output.progress(source.take_fetched());
            if let Some(record) = next {
                heap.push(Reverse((record.time, index)));
                heads[index] = Some(record);
            } else {
                source.stop();
                self.open -= 1;
            }
        }
        for (source, stream) in sources.iter().zip(streams) {
            if !stream.finish().is_empty() {
                self.damaged(&format!(
                    "the events of {} are not all there as they were written: `katonic-logging audit verify` says which are not",
                    source.folder.trim_end_matches('/')
                ));
            }
        }
        Ok(())
    }

    fn damaged(&mut self, what: &str) {
        self.damages += 1;
        if self.damages <= TOLD {
            say(what);
        }
    }

    /// The next record of a container; what is wrong with its runs is said.
    async fn next(
        &mut self,
        source: &mut Source,
        stream: &mut Stream,
    ) -> Result<Option<Rendered>, Failure> {
        loop {
            match source.next(self.open).await? {
                Next::Begin(begin) => {
                    stream.begin(&begin.folder, begin.name.restart, begin.record.as_ref());
                }
                Next::Record(record) => {
                    let is_bound = match Entry::read(line(&record)) {
                        Ok(entry) => stream.entry(&entry),
                        Err(reason) => {
                            let time = record.time;
                            let place = source.folder.trim_end_matches('/');
                            self.damaged(&format!(
                                "a record of {time} cannot be read: {reason}: {place}"
                            ));
                            source.give_back(record);
                            continue;
                        }
                    };
                    if is_bound && read::is_over(self.query.window, record.time) {
                        return Ok(None);
                    }
                    return Ok(Some(record));
                }
                Next::Over => return Ok(None),
                Next::End(end) => {
                    stream.end(matches!(end.standing, Standing::Whole { .. }));
                    for damage in &end.damages {
                        self.damaged(&damage.to_string());
                    }
                }
            }
        }
    }

    fn show(&mut self, record: &Rendered) -> Result<(), Failure> {
        // What is no record was told of.
        let Ok(entry) = Entry::read(line(record)) else {
            return Ok(());
        };
        let event = entry.event();
        if !self.query.wants(&entry, &event) || !self.again.is_new(&entry) {
            return Ok(());
        }
        let text = match self.form {
            Form::Text if self.shown == 0 => heading() + &listed(&entry, &event),
            Form::Text => listed(&entry, &event),
            Form::Json => as_json(&entry),
        };
        self.shown += 1;
        self.output.write(&Rendered {
            time: entry.time,
            bytes: text.into_bytes(),
        })?;
        Ok(())
    }
}
