//! `katonic-logging audit verify`: follows the chain of each container from its first event to its last, and compares what is there with
//! another copy.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::{
    execution::{Standing, summary::Grouped},
    trail::{Compared, Entry, Few, Index, Stream, Summary, Verdict, Window},
};

use super::{
    args::VerifyArgs,
    place,
    read::{self, Next, Source, line},
};
use crate::logs::{
    Failure,
    show::{Form, Output, Rendered, say},
};

/// Most bytes of a line of a copy: a record has at most 1 MiB, and JSON writes a byte in up to six.
const LONGEST: u64 = 16 << 20;

/// Verifies what was asked for.
pub async fn verify(args: &VerifyArgs, now: Timestamp) -> Result<Verdict, Failure> {
    let window = args.record.window(now);
    // Before minutes of reading, not after them.
    let copy = args.against.as_deref().map(open).transpose()?;
    let store = place::store(&args.record).await?;
    let (sources, bytes) = read::sources(&store, window).await?;
    let mut verification = Verification {
        window,
        summary: Summary::default(),
        index: copy.is_some().then(Index::default),
        open: 0,
        findings: Vec::new(),
        output: Output::of_result(bytes),
    };
    // Of a container that several sinks have archived, each archive is verified and its events are counted once.
    let mut events: BTreeMap<String, Events> = BTreeMap::new();
    for source in sources {
        let folder = source.folder.clone();
        let found = verification.follow(source).await?;
        let known = events.entry(folder).or_default();
        known.all = known.all.max(found.all);
        known.faulty = known.faulty.max(found.faulty);
    }
    verification.output.done();
    let mut summary = verification.summary;
    for Events { all, faulty } in events.into_values().filter(|events| events.all > 0) {
        summary.streams += 1;
        summary.events += all;
        summary.faulty += faulty;
    }
    let mut told = verification.findings;
    if let (Some(copy), Some(index)) = (copy, verification.index) {
        let compared = compare(copy, index, window)?;
        summary.differing = compared.differing();
        told.extend(differences(&compared));
    }
    if verification.open > 0 {
        say(&format!(
            "{} containers have no completeness record yet: they still run, or ended before everything was delivered; whether their newest events were removed, only another copy can show",
            verification.open
        ));
    }
    told.push(summary.to_string());
    let mut output = Output::new(0, Form::Text);
    for line in told {
        output.write(&Rendered {
            time: now,
            bytes: format!("{line}\n").into_bytes(),
        })?;
    }
    output.flush()?;
    Ok(summary.verdict())
}

/// Events of a container.
#[derive(Clone, Copy, Default)]
struct Events {
    all: u64,
    faulty: u64,
}

struct Verification {
    window: Window,
    summary: Summary,
    /// What another copy is expected to have.
    index: Option<Index>,
    /// Containers that may have more.
    open: u64,
    /// What is wrong, in words.
    findings: Vec<String>,
    output: Output,
}

impl Verification {
    /// Reads a container from its first event to its last.
    async fn follow(&mut self, mut source: Source) -> Result<Events, Failure> {
        let mut stream = if source.is_later_part {
            Stream::later_part()
        } else {
            Stream::default()
        };
        let mut events = Events::default();
        let mut is_open = false;
        loop {
            let next = source.next(1).await?;
            self.output.progress(source.take_fetched());
            match next {
                Next::Record(record) => {
                    let is_after = self.window.is_before(record.time);
                    self.take(&record, &mut stream, &mut events);
                    source.give_back(record);
                    if is_after {
                        // The first one after the time that is asked for binds the last one in it.
                        source.stop();
                        is_open = false;
                        break;
                    }
                }
                Next::End(end) => {
                    for damage in &end.damages {
                        self.findings.push(damage.to_string());
                    }
                    self.summary.damages += end.damages.len() as u64;
                    is_open = matches!(end.standing, Standing::Open);
                    if let Some(link) = end.record.and_then(|record| record.audit) {
                        stream.recorded(link);
                    }
                }
                Next::Over => break,
            }
        }
        self.open += u64::from(is_open);
        let findings = stream.finish();
        let place = source.folder.trim_end_matches('/');
        for finding in findings.told() {
            self.findings.push(format!("{finding}: {place}"));
        }
        if findings.untold() > 0 {
            let more = Grouped(findings.untold());
            self.findings.push(format!("and {more} more: {place}"));
        }
        self.summary.findings.extend(findings);
        Ok(events)
    }

    fn take(&mut self, record: &Rendered, stream: &mut Stream, events: &mut Events) {
        // What is no record is told of with its object.
        let Ok(entry) = Entry::read(line(record)) else {
            return;
        };
        stream.entry(&entry);
        if !self.window.holds(entry.time) {
            return;
        }
        self.output.pass();
        events.all += 1;
        events.faulty += u64::from(entry.fault.is_some());
        if let Some(index) = &mut self.index {
            index.add(&entry);
        }
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
