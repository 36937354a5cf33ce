//! A route over log files that are written, rotated and compressed while batches wait, are refused or are forgotten.

mod audit;
mod processing;

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use katonic_log_config::{Endpoint, Http};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{cri::Stream, files::Descriptors};

/// A line of a container's log: whether it is stderr, whether it is a part, and what is in it.
type Line = (bool, bool, String);

#[derive(Clone, Debug)]
enum Event {
    /// The container writes.
    Written(Vec<Line>),
    /// The kubelet rotates, and compresses what was rotated before.
    Rotated,
    /// The agent looks at the files.
    Looked,
    /// So many records, at most, are sent.
    Sent(usize),
    /// The sink acknowledges the first batch that waits.
    Acknowledged,
    /// The sink refuses the last one.
    Refused,
    /// The connection breaks: nothing that waits is acknowledged.
    Broken,
    /// The agent is killed and started again.
    Killed,
    /// The policy no longer takes the container, or takes it again.
    Toggled,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let line = (any::<bool>(), any::<bool>(), "[a-z]{0,3}");
    let event = prop_oneof![
        4 => proptest::collection::vec(line, 1..5).prop_map(Event::Written),
        2 => Just(Event::Rotated),
        4 => Just(Event::Looked),
        6 => (1_usize..5).prop_map(Event::Sent),
        4 => Just(Event::Acknowledged),
        1 => Just(Event::Refused),
        1 => Just(Event::Broken),
        1 => Just(Event::Killed),
        1 => Just(Event::Toggled),
    ];
    proptest::collection::vec(event, 1..60)
}

/// A container's log on disk.
struct Log {
    directory: tempfile::TempDir,
    rotations: usize,
    lines: Vec<Line>,
}

impl Log {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("web")).unwrap();
        Self {
            directory,
            rotations: 0,
            lines: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("web").join(name)
    }

    fn write(&mut self, lines: &[Line]) {
        let path = self.path("0.log");
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        for (stderr, partial, content) in lines {
            let stream = Stream::ALL[usize::from(*stderr)].as_str();
            let tag = if *partial { 'P' } else { 'F' };
            let time = self.lines.len();
            self.lines.push((*stderr, *partial, content.clone()));
            writeln!(
                file,
                "2026-11-23T10:15:07.{time:09}Z {stream} {tag} {content}"
            )
            .unwrap();
        }
    }

    fn rotate(&mut self) {
        if !self.path("0.log").exists() {
            return;
        }
        let name = |rotation: usize| format!("0.log.20261123-{rotation:06}");
        if self.rotations > 0 {
            let plain = self.path(&name(self.rotations));
            let packed = File::create(plain.with_extension("tmp")).unwrap();
            let mut encoder = GzEncoder::new(packed, Compression::fast());
            encoder.write_all(&fs::read(&plain).unwrap()).unwrap();
            encoder.finish().unwrap();
            let finished = format!("{}.gz", name(self.rotations));
            fs::rename(plain.with_extension("tmp"), self.path(&finished)).unwrap();
            fs::remove_file(plain).unwrap();
        }
        self.rotations += 1;
        fs::rename(self.path("0.log"), self.path(&name(self.rotations))).unwrap();
    }

    /// What each stream says, by whole line.
    fn expected(&self) -> [Vec<String>; 2] {
        let mut whole: [Vec<String>; 2] = Default::default();
        let mut open: [Option<String>; 2] = Default::default();
        for (stderr, partial, content) in &self.lines {
            let stream = usize::from(*stderr);
            let line = open[stream].take().unwrap_or_default() + content;
            if *partial {
                open[stream] = Some(line);
            } else {
                whole[stream].push(line);
            }
        }
        for (whole, open) in whole.iter_mut().zip(open) {
            whole.extend(open);
        }
        whole
    }
}

fn source(directory: &Path) -> Source {
    Source {
        pod: Pod::default(),
        labels: RefCell::default(),
        execution: RefCell::default(),
        files: RefCell::new(Files::new(
            directory,
            "agent",
            u64::MAX,
            Descriptors::new(1024),
        )),
        revision: Cell::new(1),
        workshop: RefCell::default(),
        room: Rc::default(),
    }
}

fn plain() -> Policy {
    let url = Endpoint::try_from("http://127.0.0.1:1".to_owned()).unwrap();
    let sink = Sink::new("s", Target::Http(Http::to(url)));
    Policy::of_everything("p", "u", vec![sink])
}

fn route(policy: Policy, progress: Progress) -> Route {
    let sink = policy.sinks[0].clone();
    let key = RouteKey {
        policy_uid: "u".into(),
        sink: "s".into(),
    };
    let processing = Rc::new(Processing::of(&policy).unwrap());
    Route::new(key, policy, processing, sink, progress)
}

fn unpack(body: &Body) -> Vec<Value> {
    let mut text = String::new();
    let mut decoder = GzDecoder::new(&body.bytes[..]);
    decoder.read_to_string(&mut text).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// An agent with one sink, and what that sink has.
struct Agent {
    source: Source,
    route: Route,
    waiting: VecDeque<(Vec<Value>, Ends)>,
    acknowledged: [Vec<String>; 2],
    /// The same records as they came.
    records: Vec<Value>,
    /// What each record said, by its id.
    said: HashMap<String, String>,
    policy: Policy,
}

impl Agent {
    fn new(log: &Log, policy: Policy) -> Self {
        let mut agent = Self {
            source: source(log.directory.path()),
            route: route(policy.clone(), Progress::default()),
            waiting: VecDeque::new(),
            acknowledged: Default::default(),
            records: Vec::new(),
            said: HashMap::new(),
            policy,
        };
        agent.look();
        agent
    }

    fn look(&mut self) {
        let changes = self.source.files.borrow_mut().scan();
        assert_eq!(changes.failed, Some(std::collections::BTreeMap::new()));
        self.source.files.borrow_mut().settle_now();
        self.sync();
    }

    fn sync(&mut self) {
        self.source.revision.set(self.source.revision.get() + 1);
        assert_eq!(self.route.sync(&self.source).records(), 0);
    }

    fn send(&mut self, records: usize) {
        let limits = Limits {
            records,
            ..Limits::default()
        };
        let mut troubles = Vec::new();
        let ready = self.route.ready(Path::new("")).unwrap();
        let Filled { body, ends } = self.route.fill(&self.source, &ready, limits, &mut troubles);
        assert!(troubles.is_empty(), "{troubles:?}");
        match (body, self.waiting.back_mut()) {
            (Some(body), _) => {
                let records = unpack(&body);
                for record in &records {
                    let id = record["record_id"].as_str().unwrap().to_owned();
                    // With its place among audit events, if it is one.
                    let said = ["message", "sequence", "chain"].map(|name| &record[name]);
                    let said = format!("{said:?}");
                    let before = self.said.insert(id, said.clone());
                    assert!(before.is_none_or(|before| before == said));
                }
                self.waiting.push_back((records, ends));
            }
            (None, Some((_, last))) => last.then(ends),
            (None, None) => self.route.delivered(&ends),
        }
    }

    fn acknowledge(&mut self) {
        let Some((records, ends)) = self.waiting.pop_front() else {
            return;
        };
        for record in records {
            let stream = usize::from(record["stream"] == "stderr");
            let message = record["message"].as_str().unwrap();
            self.acknowledged[stream].push(message.to_owned());
            self.records.push(record);
        }
        self.route.delivered(&ends);
    }

    fn refuse(&mut self) {
        if self.waiting.pop_back().is_some() {
            self.route
                .rewind_to(self.waiting.iter().map(|(_, ends)| ends));
        }
    }

    fn start_over(&mut self) {
        self.waiting.clear();
        self.route.rewind();
    }

    fn takes(&self) -> bool {
        self.policy.takes(&Labels::new(), "web")
    }

    /// The policy no longer takes the container, or takes it again.
    fn toggle(&mut self) {
        self.look();
        let exclude = &mut self.policy.containers.exclude;
        if exclude.is_empty() {
            exclude.insert("web".to_owned().try_into().unwrap());
        } else {
            exclude.clear();
        }
        // The agent starts a delivery anew that reads what is no longer taken.
        self.start_over();
        let processing = self.route.processing(&self.policy).unwrap();
        let sink = self.policy.sinks[0].clone();
        assert!(self.route.update(&self.policy, &processing, &sink));
        assert_eq!(self.route.reads_declined(&self.source), {
            let has_tracks = !self.route.tracks.borrow().is_empty();
            !self.takes() && has_tracks
        });
        self.sync();
    }

    fn restart(&mut self, log: &Log) {
        self.waiting.clear();
        let progress = self.route.progress();
        let state = crate::cursor::State {
            cursors: [(self.route.key.clone(), progress)].into(),
            ..Default::default()
        };
        let saved = crate::cursor::State::decode(&state.encode().unwrap()).unwrap();
        let progress = saved.cursors.into_values().next().unwrap();
        self.route = route(self.policy.clone(), progress);
        self.source = source(log.directory.path());
        self.look();
    }

    /// Everything is read, sent and acknowledged.
    fn end(&mut self) {
        self.source.files.borrow_mut().scan();
        self.source.files.borrow_mut().finish();
        self.sync();
        while self.route.pending().any || !self.waiting.is_empty() {
            self.send(3);
            self.acknowledge();
        }
    }

    /// How many records are neither acknowledged nor dropped, and how many of them would be dropped.
    fn unsent(&self) -> (u64, u64) {
        let mut records = 0;
        let tracks = self.route.tracks.borrow();
        let dropped = self
            .route
            .for_each_unsent(&self.source, &tracks, None, |_, _| records += 1)
            .dropped;
        (records, dropped)
    }

    fn do_all(&mut self, log: &mut Log, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Written(lines) => log.write(&lines),
                Event::Rotated => {
                    // It rotates no faster than the agent looks.
                    self.look();
                    log.rotate();
                }
                Event::Looked => self.look(),
                Event::Sent(records) => self.send(records),
                Event::Acknowledged => self.acknowledge(),
                Event::Refused => self.refuse(),
                Event::Broken => self.start_over(),
                Event::Killed => self.restart(log),
                Event::Toggled => self.toggle(),
            }
        }
        if !self.takes() {
            self.toggle();
        }
        self.source.files.borrow_mut().scan();
        self.source.files.borrow_mut().finish();
        self.sync();
    }
}

proptest! {
    /// At whatever moment a policy ceases to take a container: what was not acknowledged by then is dropped, what comes
    /// later is nobody's, and nothing is lost.
    #[test]
    fn what_is_no_longer_taken_is_counted_to_the_record(events in events(), is_killed in any::<bool>(), later in 0_usize..4) {
        let mut log = Log::new();
        let mut agent = Agent::new(&log, plain());
        agent.do_all(&mut log, events);
        let total = log.expected().iter().map(Vec::len).sum::<usize>() as u64;
        let delivered = agent.route.counts().delivered;
        agent.toggle();
        log.write(&vec![(false, false, "later".to_owned()); later]);
        agent.look();
        if is_killed {
            agent.restart(&log);
        }
        let (losses, remains) = agent.route.give_up(&agent.source, None, Instant::now() + Duration::from_hours(1));
        prop_assert_eq!((losses.records(), remains), (0, Remains::default()));
        let expected = Counts { delivered, dropped: total - delivered, ..Counts::default() };
        prop_assert_eq!(agent.route.counts(), expected);
    }

    /// However lines are cut by rotation, and whatever happens to batches and to the agent, each line is one record
    /// with one id that comes once and in order, and the acknowledged ones and those that would be lost are all there
    /// are.
    #[test]
    fn every_line_is_one_record_and_is_accounted_for(events in events()) {
        let mut log = Log::new();
        let mut agent = Agent::new(&log, plain());
        agent.do_all(&mut log, events);
        let expected = log.expected();
        let total = expected.iter().map(Vec::len).sum::<usize>() as u64;
        let (unsent, dropped) = agent.unsent();
        prop_assert_eq!(dropped, 0);
        prop_assert_eq!(agent.route.counts().delivered + unsent, total);
        agent.end();
        prop_assert_eq!(&agent.acknowledged, &expected);
        prop_assert_eq!(agent.route.counts().delivered, total);
        prop_assert_eq!(agent.route.counts().lost, 0);
        prop_assert!(agent.route.tracks.borrow().is_empty());
    }
}

#[test]
fn what_there_is_no_time_to_count_is_told_in_bytes_and_is_one_record_at_least() {
    let mut log = Log::new();
    let mut agent = Agent::new(&log, plain());
    log.write(&vec![(false, false, "line".to_owned()); 100]);
    agent.look();
    let size = fs::metadata(log.path("0.log")).unwrap().len();
    let (losses, remains) = agent.route.give_up(&agent.source, None, Instant::now());
    assert_eq!(losses.records(), 0);
    let expected = Remains {
        lost: 1,
        uncounted_bytes: size,
        ..Remains::default()
    };
    assert_eq!(remains, expected);
    assert_eq!(agent.route.counts().lost, 1);
}

/// Passing over what is acknowledged of a huge file takes its time, which other sinks must have, too.
#[test]
fn a_place_deep_in_a_compressed_file_is_reached_in_steps_without_waiting_between_them() {
    const LINES: usize = 300_000;
    let log = Log::new();
    let line = |number: usize| format!("2026-11-23T10:15:07.1Z stdout F line {number:06}\n");
    let content: String = (0..LINES).map(line).collect();
    let packed = File::create(log.path("0.log.20261123-000001.gz")).unwrap();
    let mut encoder = GzEncoder::new(packed, Compression::fast());
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap();
    let source = source(log.directory.path());
    source.files.borrow_mut().scan();
    let key = source.files.borrow().iter().next().unwrap().key.clone();
    let position = Position {
        next: ((LINES - 3) * line(0).len()) as u64,
        open: [None, None],
    };
    let place = Place {
        position,
        ..Place::default()
    };
    let progress = Progress {
        files: vec![(key, place)],
        ..Progress::default()
    };
    let route = route(plain(), progress);
    route.sync(&source);
    let ready = route.ready(Path::new("")).unwrap();
    let mut steps = 0;
    let filled = loop {
        let mut troubles = Vec::new();
        let filled = route.fill(&source, &ready, Limits::default(), &mut troubles);
        assert!(troubles.is_empty(), "{troubles:?}");
        if filled.body.is_some() {
            break filled;
        }
        let pending = route.pending();
        assert!(pending.any && pending.overdue, "{pending:?}");
        route.delivered(&filled.ends);
        steps += 1;
    };
    // Of more than 12 MiB, at most 4 MiB in one step.
    assert_eq!((content.len() >> 20, steps), (12, 3));
    let records = unpack(&filled.body.unwrap());
    let said: Vec<_> = records
        .iter()
        .map(|one| one["message"].as_str().unwrap())
        .collect();
    assert_eq!(said, ["line 299997", "line 299998", "line 299999"]);
    route.delivered(&filled.ends);
    assert_eq!(route.counts().delivered, 3);
    assert!(!route.pending().any);
}

/// Of many files only those that are being read have in memory what reading needs.
#[test]
fn what_reads_many_files_is_let_go_once_everything_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let append = |container: &str| {
        let folder = directory.path().join(container);
        fs::create_dir_all(&folder).unwrap();
        let mut options = File::options();
        let mut file = options
            .append(true)
            .create(true)
            .open(folder.join("0.log"))
            .unwrap();
        writeln!(file, "2026-11-23T10:15:07.1Z stdout F {container}").unwrap();
    };
    let containers = ["a", "b", "c"];
    containers.into_iter().for_each(append);
    let source = source(directory.path());
    source.files.borrow_mut().scan();
    let route = route(plain(), Progress::default());
    route.sync(&source);
    let readers = || {
        let tracks = route.tracks.borrow();
        tracks.iter().filter_map(Track::reading).count()
    };
    let ready = route.ready(Path::new("")).unwrap();
    let fill = || {
        let filled = route.fill(&source, &ready, Limits::default(), &mut Vec::new());
        (unpack(&filled.body.unwrap()), filled.ends)
    };
    assert_eq!(readers(), 0);
    let (records, ends) = fill();
    assert_eq!((records.len(), readers()), (3, 3));
    route.delivered(&ends);
    assert_eq!(readers(), 0);
    // It goes on where it was.
    append("b");
    source.files.borrow_mut().poll();
    let (records, ends) = fill();
    assert_eq!((records.len(), readers()), (1, 1));
    assert_eq!(records[0]["message"], "b");
    route.delivered(&ends);
    assert_eq!((readers(), route.counts().delivered), (0, 4));
}
