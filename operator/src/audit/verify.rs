//! `katonic-logging audit verify`: follows the chain of each container from its first event to its last, and compares what is there with
//! another copy.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use futures::TryStreamExt as _;
use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::{
    execution::{Damage, Judged, Standing, Versions, summary::Grouped},
    trail::{Compared, Ends, Entry, Few, Index, Stream, Summary, Verdict, Window},
};

use super::{
    args::VerifyArgs,
    place::{self, Scope},
    read::{self, Next, Source, line},
};
use crate::logs::{
    Failure,
    show::{Form, Output, Rendered, say},
    store::{self, Store},
};

/// Most bytes of a line of a copy: a record has at most 1 MiB, and JSON writes a byte in up to six.
const LONGEST: u64 = 16 << 20;

/// So much is told line by line; of more the number is.
const TOLD: usize = 100;

/// Verifies what was asked for.
pub async fn verify(args: &VerifyArgs, now: Timestamp) -> Result<Verdict, Failure> {
    let window = args.record.window(now);
    // Before minutes of reading, not after them.
    let copy = args.against.as_deref().map(open).transpose()?;
    let (store, scope) = place::store(&args.record).await?;
    let extent = read::Extent { window, now };
    let (sources, bytes) = read::sources(&store, extent, &scope).await?;
    let mut verification = Verification {
        window,
        summaries: BTreeMap::new(),
        index: copy.is_some().then(Index::default),
        told: Told::default(),
        output: Output::of_result(bytes),
    };
    verification.look(&store, &scope).await?;
    for source in sources {
        verification.follow(source).await?;
    }
    verification.output.done();
    let Verification {
        mut summaries,
        index,
        told,
        ..
    } = verification;
    let mut told = told.into_lines();
    let mut others = None;
    if let (Some(copy), Some(index)) = (copy, index) {
        let compared = compare(copy, index, window)?;
        told.extend(differences(&compared));
        let differing = compared.differing();
        if summaries.len() > 1 {
            others = (differing > 0).then_some(differing);
        } else if let Some(summary) = summaries.values_mut().next() {
            summary.differing = differing;
        } else {
            others = Some(differing);
        }
    }
    let mut verdicts = verdicts(&summaries, &scope);
    if let Some(differing) = others {
        let of_copy = Summary {
            differing,
            ..Summary::default()
        };
        verdicts.push((of_copy.verdict(), of_copy.to_string()));
    }
    // The worst is the last line.
    verdicts.sort_by_key(|(verdict, _)| *verdict);
    let verdict = verdicts
        .last()
        .map_or(Verdict::Nothing, |(worst, _)| *worst);
    if verdicts.is_empty() {
        told.push(Summary::default().to_string());
    }
    told.extend(verdicts.into_iter().map(|(_, line)| line));
    let mut output = Output::new(0, Form::Text);
    for line in told {
        output.write(&Rendered {
            time: now,
            bytes: format!("{line}\n").into_bytes(),
        })?;
    }
    output.flush()?;
    Ok(verdict)
}

/// What each sink's record proves, in words: other policies have other events, and each sink has streams of its own.
fn verdicts(summaries: &BTreeMap<String, Summary>, scope: &Scope) -> Vec<(Verdict, String)> {
    let told = |(_, summary): &(&String, &Summary)| summary.verdict() != Verdict::Nothing;
    let told: Vec<_> = summaries.iter().filter(told).collect();
    let is_alone = told.len() < 2;
    let line = |(route, summary): (&String, &Summary)| {
        let line = if is_alone {
            summary.to_string()
        } else {
            format!("{}: {summary}", scope.name(route))
        };
        (summary.verdict(), line)
    };
    told.into_iter().map(line).collect()
}

/// Events of a container.
#[derive(Clone, Copy, Default)]
struct Events {
    all: u64,
    faulty: u64,
}

struct Verification {
    window: Window,
    /// By sink, as keys have them.
    summaries: BTreeMap<String, Summary>,
    /// What another copy is expected to have.
    index: Option<Index>,
    told: Told,
    output: Output,
}

impl Verification {
    /// What the versions of objects say, where the store has them and the reader may list them.
    async fn look(&mut self, store: &Store, scope: &Scope) -> Result<(), Failure> {
        let Some(mut pages) = store.versions(&store.location.of_audit()) else {
            say(
                "versions of objects are looked at in S3 alone: that one was deleted or replaced is seen by what is left",
            );
            return Ok(());
        };
        let mut versions = Versions::new(Judged {
            location: store.location.clone(),
            retention: scope.kept(),
            from: read::stored_from(self.window),
            routes: scope.routes(),
        });
        loop {
            let page = match pages.try_next().await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(error @ (store::Error::Denied { .. } | store::Error::Unusable(_))) => {
                    say(&format!(
                        "versions of objects are not looked at, and that one was deleted or replaced is seen by what is left: {error}"
                    ));
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            for version in page.versions {
                let judged = versions.add(version);
                self.tampered(judged);
            }
        }
        self.tampered(versions.finish());
        Ok(())
    }

    fn tampered(&mut self, judged: Option<(String, Damage)>) {
        if let Some((route, damage)) = judged {
            self.damaged(&route, vec![damage]);
        }
    }

    fn damaged(&mut self, route: &str, damages: Vec<Damage>) {
        let summary = self.summary(route);
        for damage in &damages {
            let count = match damage {
                Damage::More { count, .. } => *count,
                _ => 1,
            };
            summary.damages = summary.damages.saturating_add(count);
        }
        for damage in damages {
            self.told.add(damage.to_string());
        }
    }

    fn summary(&mut self, route: &str) -> &mut Summary {
        self.summaries.entry(route.to_owned()).or_default()
    }

    /// Reads a container from its first event to its last.
    async fn follow(&mut self, mut source: Source) -> Result<(), Failure> {
        let mut stream = source.stream();
        let route = source.route.clone();
        let mut events = Events::default();
        let mut ends = Ends::default();
        let place = source.folder.trim_end_matches('/').to_owned();
        loop {
            let next = source.next(1).await?;
            self.output.progress(source.take_fetched());
            match next {
                Next::Begin(begin) => {
                    let record = begin.record.as_ref();
                    stream.begin(&begin.folder, begin.name.restart, record);
                    ends.begin(&begin.name, record, begin.is_from_beginning);
                }
                Next::Record(record) => {
                    let is_bound = self.take(&record, &mut stream, &mut events);
                    let is_over = is_bound && read::is_over(self.window, record.time);
                    source.give_back(record);
                    if is_over {
                        // It binds the last one in the time that is asked for.
                        ends.pass();
                        source.stop();
                        break;
                    }
                }
                Next::End(end) => {
                    self.damaged(&route, end.damages);
                    stream.end(matches!(end.standing, Standing::Whole { .. }));
                    ends.end(&end.standing);
                }
                Next::Over => break,
            }
        }
        if let Some(first) = stream.cut()
            && let Some(stored) = source.unknown_before()
        {
            ends.expired(first, stored);
        }
        let open = ends.finish();
        let findings = stream.finish();
        for open in &open {
            self.told.add(open.to_string());
        }
        for finding in findings.told() {
            self.told.add(format!("{finding}: {place}"));
        }
        self.told.more(findings.untold());
        let summary = self.summary(&route);
        summary.open += u64::from(!open.is_empty());
        summary.streams += u64::from(events.all > 0);
        summary.events += events.all;
        summary.faulty += events.faulty;
        summary.findings.extend(findings);
        Ok(())
    }

    /// Whether the record is bound to the one before it.
    fn take(&mut self, record: &Rendered, stream: &mut Stream, events: &mut Events) -> bool {
        let entry = match Entry::read(line(record)) {
            Ok(entry) => entry,
            Err(reason) => {
                stream.refused(record.time, reason);
                return false;
            }
        };
        let is_bound = stream.entry(&entry);
        if self.window.holds(entry.time) {
            self.output.pass();
            events.all += 1;
            events.faulty += u64::from(entry.fault.is_some());
            if let Some(index) = &mut self.index {
                index.add(&entry);
            }
        }
        is_bound
    }
}

/// What is told one by one, and of how much more the number is.
#[derive(Debug, Default)]
struct Told {
    lines: Vec<String>,
    more: u64,
}

impl Told {
    fn add(&mut self, line: String) {
        if self.lines.len() < TOLD {
            self.lines.push(line);
        } else {
            self.more(1);
        }
    }

    fn more(&mut self, count: u64) {
        self.more = self.more.saturating_add(count);
    }

    fn into_lines(mut self) -> Vec<String> {
        if self.more > 0 {
            let more = Grouped(self.more);
            self.lines.push(format!("and {more} more"));
        }
        self.lines
    }
}

type Copy = Box<dyn BufRead>;

fn open(path: &Path) -> Result<Copy, Failure> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let unreadable = |error: io::Error| {
        Failure::Unreadable(format!("{} cannot be read: {error}", path.display()))
    };
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    Ok(Box::new(BufReader::with_capacity(128 << 10, file)))
}

fn compare(mut copy: Copy, mut index: Index, window: Window) -> Result<Compared, Failure> {
    let mut compared = Compared::default();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = io::Read::take(&mut copy, LONGEST).read_until(b'\n', &mut line);
        let read = read.map_err(|error| {
            Failure::Unreadable(format!("line {number} of the copy cannot be read: {error}"))
        })?;
        if read == 0 {
            break;
        }
        if read as u64 == LONGEST && line.last() != Some(&b'\n') {
            return Err(Failure::Unreadable(format!(
                "line {number} of the copy is longer than 16 MiB: write one record on each line"
            )));
        }
        index.compare(&String::from_utf8_lossy(&line), window, &mut compared);
    }
    index.finish(&mut compared);
    Ok(compared)
}

/// What the copy and the record say of each other, in words.
fn differences(compared: &Compared) -> Vec<String> {
    let mut told = Vec::new();
    for (few, what) in [
        (&compared.missing, "is in the record and not in the copy"),
        (&compared.only, "is in the copy and not in the record"),
        (&compared.different, "says something else in the copy"),
    ] {
        let Few { told: ids, count } = few;
        told.extend(ids.iter().map(|id| format!("record {id} {what}")));
        let more = count - ids.len() as u64;
        if more > 0 {
            told.push(format!("and {} more of which each {what}", Grouped(more)));
        }
    }
    for (count, what) in [
        (
            compared.nameless,
            "lines of the copy name no record and are not compared",
        ),
        (
            compared.undated,
            "records of the copy are not among those of this time, and do not say when they were written",
        ),
        (
            compared.again,
            "records are there more than once in the copy, as where something was sent again",
        ),
    ] {
        if count > 0 {
            say(&format!("{} {what}", Grouped(count)));
        }
    }
    let both = Grouped(compared.both);
    say(&format!("{both} records are in the record and in the copy"));
    told
}
