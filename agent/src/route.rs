//! A sink of a policy and how far it has come in each log file. Sends nothing.

mod age;
mod away;
mod condition;
mod declined;
mod ends;
mod making;
mod object;
mod remains;
mod room;
#[cfg(test)]
mod tests;
mod track;
mod trouble;

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use katonic_log_config::{Execution, Filter, Policy, Sink, Target, report::AuditReport};

use away::{Away, may_have_grown};
pub use condition::{Condition, Health, Reason};
pub use declined::Declined;
use declined::uncounted;
pub use ends::Ends;
use making::Making;
pub use object::{Content as ObjectContent, Due, Made, Ripe};
use object::{OnItsWay, park_done};
pub use remains::Remains;
pub use room::Room;
use track::{End, Track, Unshown, View, end_of, for_each_unsent, order, settle};
use trouble::Kind;
pub use trouble::Trouble;

use crate::{
    archive::ledger::Ledger,
    assemble::{FileNumber, Record},
    batch::{Body, Limits, Packer},
    counts::Counts,
    credential,
    cursor::{Beginning, FileKey, Place, Position, Progress, RouteKey},
    encode::{Heads, Origin},
    files::{Content, Files, LogFile},
    pod::{self, Labels, Pod},
    process::{
        NotReady, Processing, Ready, Waits,
        filter::Scratch,
        rate_limit::Passed,
        trail::{Memory, Trail},
    },
    reader::{AtEnd, Reached},
    sink::packing::Packing,
    timestamp::Timestamp,
};

/// Of so many files a route keeps what goes with their records, and what reads them; of more it makes that anew for each
/// reading.
const FEW: usize = if cfg!(test) { 1 } else { 256 };

/// What all routes read from.
#[derive(Debug)]
pub struct Source {
    /// The pod.
    pub pod: Pod,
    /// Its labels.
    pub labels: RefCell<Labels>,
    /// Where the execution's id is found.
    pub execution: RefCell<Execution>,
    /// Its log files.
    pub files: RefCell<Files>,
    /// Changes whenever labels or the set of files do.
    pub revision: Cell<u64>,
    /// The only large buffers of the process: one batch is made at a time.
    pub workshop: RefCell<Workshop>,
    /// What is held of lines that have begun and not ended.
    pub room: Rc<Room>,
}

/// Buffers for making a batch.
#[derive(Debug, Default)]
pub struct Workshop {
    packer: Packer,
    buffer: Vec<u8>,
    scratch: Scratch,
}

/// A batch: what is sent, and what it means once the sink has it.
#[derive(Debug)]
pub struct Batch {
    /// The request's body.
    pub body: Body,
    /// What is settled when it is acknowledged.
    pub ends: Ends,
}

/// What was read in one go.
#[derive(Debug)]
pub struct Filled {
    /// What is to be sent; none when no record came of it.
    pub body: Option<Body>,
    /// What is settled when that, and everything read before it, is acknowledged.
    pub ends: Ends,
}

/// What was found to be lost with files that are gone.
#[derive(Debug, Default)]
pub struct Losses {
    /// Records in files that were deleted long ago and were given up.
    pub abandoned: u64,
    /// Files that went before they were read to their end, or came and went unseen; each counts as one record.
    pub gone: Vec<Trouble>,
    /// What is not lost, because the policy no longer takes it.
    pub declined: Vec<Declined>,
}

impl Losses {
    /// How many records they count for.
    pub fn records(&self) -> u64 {
        self.abandoned + self.gone.len() as u64
    }
}

/// What there is to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pending {
    /// Whether there is anything.
    pub any: bool,
    /// About how many bytes.
    pub bytes: u64,
    /// Whether something of it has waited for long enough.
    pub overdue: bool,
}

/// What goes with the records of a file.
#[derive(Debug)]
struct FileHeads {
    heads: Heads,
    /// The file in their ids.
    id: u64,
}

/// How reading on in a file ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Read {
    /// There was no room for the next record.
    Full,
    /// On the way to its place in a compressed file: others have their turn before it goes on.
    Approaching,
    /// At its end, and nothing will be added to it.
    Complete,
    /// At its end for now.
    Incomplete,
    /// It could not be read.
    Failed,
}

/// The end of a wait for a sink, and the digest of the credentials that were tried.
pub type Wait = (tokio::time::Instant, [u8; 32]);

/// A sink of a policy.
#[derive(Debug)]
pub struct Route {
    /// What its cursors are saved under.
    pub key: RouteKey,
    policy: RefCell<Policy>,
    sink: RefCell<Sink>,
    packing: RefCell<Packing>,
    processing: RefCell<Rc<Processing>>,
    /// What is remembered of each container, as far as it is acknowledged.
    passed: RefCell<HashMap<Arc<str>, Memory>>,
    /// The same, as far as it is read.
    passing: RefCell<HashMap<Arc<str>, Memory>>,
    counts: Cell<Counts>,
    condition: RefCell<Condition>,
    /// Whether something has happened of which the operator is to know at once.
    news: Cell<bool>,
    tracks: RefCell<Vec<Track>>,
    /// Cursors of files that are not being read: done, not found yet, or not taken at the moment.
    parked: RefCell<HashMap<FileKey, Place>>,
    /// What a compressed file is read with that was not read to its end.
    unpacking: RefCell<Option<(FileNumber, Content)>>,
    /// What the agent before this one knew, until all that is there is known; none where there was none.
    away: RefCell<Option<Away>>,
    /// What was archived, where the sink is an archive.
    ledger: RefCell<Ledger>,
    /// The object that is written down and not yet in the store.
    on_its_way: RefCell<Option<OnItsWay>>,
    /// Whether it gets nothing but what other sinks have left.
    is_fallback: Cell<bool>,
    synced: Cell<Option<u64>>,
    /// Until when its task waits for the sink, and the digest of the credentials that were tried.
    wait: Cell<Option<Wait>>,
    /// Which container comes first in the next batch, so that none starves.
    turn: Cell<usize>,
}

impl Route {
    /// A route that goes on where `progress` ends.
    pub fn new(
        key: RouteKey,
        policy: Policy,
        processing: Rc<Processing>,
        sink: Sink,
        progress: Progress,
    ) -> Self {
        let passed = memories(progress.trails);
        Self {
            key,
            packing: RefCell::new(Packing::of(&sink)),
            processing: RefCell::new(processing),
            passing: RefCell::new(passed.clone()),
            passed: RefCell::new(passed),
            policy: RefCell::new(policy),
            sink: RefCell::new(sink),
            counts: Cell::new(progress.counts),
            away: RefCell::default(),
            condition: RefCell::default(),
            news: Cell::default(),
            tracks: RefCell::default(),
            parked: RefCell::new(progress.files.into_iter().collect()),
            unpacking: RefCell::default(),
            ledger: RefCell::new(progress.ledger),
            on_its_way: RefCell::default(),
            is_fallback: Cell::default(),
            synced: Cell::default(),
            wait: Cell::default(),
            turn: Cell::default(),
        }
    }

    /// It goes on where the agent before this one was ended: what came and went meanwhile was not read.
    pub fn was_away(&self) {
        let away = Away::since(self.parked.borrow().iter());
        self.away.replace(Some(away));
    }

    /// Name of the policy, for people.
    pub fn policy_name(&self) -> String {
        self.policy.borrow().name.clone()
    }

    /// How long a line may wait for others, if the policy says so.
    pub fn flush(&self) -> Option<Duration> {
        let millis = self.sink.borrow().batch.flush_ms?;
        Some(Duration::from_millis(millis.get().into()))
    }

    /// What a batch may hold at most.
    pub fn limits(&self) -> Limits {
        self.packing.borrow().limits
    }

    /// Where it goes.
    pub fn target(&self) -> Target {
        self.sink.borrow().target.clone()
    }

    /// A digest of the credentials that its records and requests need, as they are in this directory.
    pub fn credentials(&self, directory: &Path) -> [u8; 32] {
        let sink = self.sink.borrow();
        let policy = self.policy.borrow();
        let of_filters = policy.filters.iter().filter_map(Filter::credential);
        credential::digest(directory, sink.credentials().into_iter().chain(of_filters))
    }

    /// Sets until when its task waits; gives what was set before, which a task that follows goes on with.
    pub fn waits(&self, wait: Option<Wait>) -> Option<Wait> {
        self.wait.replace(wait)
    }

    /// What it does with lines, if that is what the policy says.
    pub fn processing(&self, policy: &Policy) -> Option<Rc<Processing>> {
        let mine = self.policy.borrow();
        (mine.multiline == policy.multiline
            && mine.filters == policy.filters
            && mine.audit == policy.audit)
            .then(|| Rc::clone(&self.processing.borrow()))
    }

    /// The policy, if its patterns are in use.
    pub fn policy_in_force(&self) -> Option<Policy> {
        let is_in_force = self.processing.borrow().waits().is_none();
        is_in_force.then(|| self.policy.borrow().clone())
    }

    /// Whether its patterns wait for one of these containers.
    pub fn waits_for(&self, containers: &[Arc<str>], labels: &Labels) -> bool {
        let policy = self.policy.borrow();
        self.processing.borrow().waits() == Some(Waits::ForContainer)
            && containers
                .iter()
                .any(|container| policy.takes(labels, container))
    }

    /// What it needs to make records, with the credentials that there are now.
    ///
    /// # Errors
    /// When one is missing; then no record can be made.
    pub fn ready(&self, credentials: &Path) -> Result<Ready, NotReady> {
        self.processing.borrow().ready(credentials)
    }

    /// Takes over a changed policy; says whether anything is different for this route, which is then to be read again.
    pub fn update(&self, policy: &Policy, processing: &Rc<Processing>, sink: &Sink) -> bool {
        let changed = *self.policy.borrow() != *policy
            || *self.sink.borrow() != *sink
            || !Rc::ptr_eq(&self.processing.borrow(), processing);
        if changed {
            self.packing.replace(Packing::of(sink));
            let before = self.processing.replace(Rc::clone(processing));
            if !Rc::ptr_eq(&before, processing) {
                // Of other limits; the chain of what was sent goes on.
                for memory in self.passed.borrow_mut().values_mut() {
                    memory.limits = Passed::default();
                }
            }
            self.policy.replace(policy.clone());
            let before = self.sink.replace(sink.clone());
            if before != *sink {
                self.wait.take();
            }
            if before.target != sink.target {
                // Of another place nothing is known.
                self.is(&Health::Unknown);
            }
            self.forget_heads();
        }
        changed
    }

    /// Makes the next records with the pod's labels as they are by now.
    pub fn forget_heads(&self) {
        self.synced.set(None);
        for track in self.tracks.borrow_mut().iter_mut() {
            track.heads = None;
        }
    }

    /// What became of its records.
    pub fn counts(&self) -> Counts {
        self.counts.get()
    }

    /// Begins to read files that appeared and stops with those that no longer belong to it; gives what was lost with
    /// those that are gone.
    ///
    /// From then on the route holds the files, so they can be deleted while it waits for its sink.
    pub fn sync(&self, source: &Source) -> Losses {
        if self.synced.replace(Some(source.revision.get())) == Some(source.revision.get()) {
            return Losses::default();
        }
        let policy = self.policy.borrow();
        let labels = source.labels.borrow();
        let files = source.files.borrow();
        let mut parked = self.parked.borrow_mut();
        // Where each is, rather than each itself in a map: of many files that would be as large as all else.
        let mut old: Vec<Option<Track>> = std::mem::take(&mut *self.tracks.borrow_mut())
            .into_iter()
            .map(Some)
            .collect();
        let places: HashMap<FileNumber, usize> = old
            .iter()
            .enumerate()
            .filter_map(|(place, track)| Some((track.as_ref()?.file.number, place)))
            .collect();
        let mut take = |file: FileNumber| old.get_mut(*places.get(&file)?)?.take();
        let mut abandoned = Vec::new();
        let mut declined = Vec::new();
        let mut tracks = Vec::with_capacity(files.iter().count());
        let mut all = files.iter().peekable();
        let begins_runs = self.keeps_runs();
        while let Some(file) = all.next() {
            if !policy.takes(&labels, &file.key.container) {
                let before = take(file.number);
                declined.extend(before.or_else(|| uncounted(&mut parked, file, &source.room)));
                continue;
            }
            let track = take(file.number).or_else(|| {
                let position = begin(&mut parked, file)?;
                if begins_runs {
                    let begins = if position.next == 0 {
                        file.begins()
                    } else {
                        Some(false)
                    };
                    let mut ledger = self.ledger.borrow_mut();
                    ledger.begin(&file.key.container, file.key.restart, begins);
                }
                Some(Track::new(file, position, &source.room))
            });
            let Some(mut track) = track else {
                continue;
            };
            track.next = all
                .peek()
                .filter(|next| next.is_of_the_run_of(file))
                .map(|next| next.number);
            if file.is_abandoned() {
                abandoned.push(track);
            } else {
                tracks.push(track);
            }
        }
        let mut losses = Losses {
            declined: self.decline(declined, &mut parked),
            ..Losses::default()
        };
        self.leave_to_object(abandoned.iter_mut());
        let mut unsent: HashMap<FileNumber, u64> = HashMap::new();
        let unshown = self.for_each_unsent(source, &abandoned, None, |file, _| {
            *unsent.entry(file).or_default() += 1;
        });
        let mut dropped = unshown.dropped;
        losses.abandoned = unsent.values().sum();
        for track in &abandoned {
            let unsent = unsent.get(&track.file.number).copied();
            self.note_lost(source, &track.file.key, unsent.unwrap_or_default());
        }
        let is_wanted = |file: &FileKey| policy.takes(&labels, &file.container);
        let unwanted;
        (losses.gone, unwanted) = self.miss(&files, &mut parked, is_wanted);
        for (file, records) in unwanted {
            dropped += records;
            if is_wanted(&file) {
                // Nobody wanted it for a while. It is missing all the same in what an archive proves.
                self.note_lost(source, &file, records);
            }
        }
        for gone in &losses.gone {
            for file in gone.files() {
                self.note_lost(source, &file, 1);
            }
        }
        if tracks.len() > FEW {
            // After a restart all were parked, and of that the room would stay.
            parked.shrink_to_fit();
            tracks.shrink_to_fit();
        }
        self.tracks.replace(tracks);
        self.count(|counts| {
            counts.lost += losses.records();
            counts.dropped += dropped;
        });
        losses
    }

    /// Forgets files that are gone; gives those of which something was wanted and not read, and of which nobody wanted so many records
    /// when they could still be read.
    fn miss(
        &self,
        files: &Files,
        parked: &mut HashMap<FileKey, Place>,
        is_wanted: impl Fn(&FileKey) -> bool,
    ) -> (Vec<Trouble>, Vec<(FileKey, u64)>) {
        let mut gone = Vec::new();
        if let Some(away) = &mut *self.away.borrow_mut() {
            let missed = away.missed(files).into_iter();
            gone.extend(missed.filter(|missed| is_wanted(missed.file())));
        }
        let mut unwanted = Vec::new();
        if !files.are_complete() {
            return (gone, unwanted);
        }
        let was_away = self.away.take().is_some();
        parked.retain(|key, place| {
            let is_there = files.find(key).is_some();
            if !is_there && let Some(position) = self.position_in_object(key) {
                place.position = position;
            }
            match place.declined {
                _ if is_there => {}
                Some(declined) => unwanted.push((key.clone(), declined)),
                None if !place.has_more() => {
                    if was_away && may_have_grown(key, place, files) && is_wanted(key) {
                        gone.push(Trouble::new(key, Kind::Unseen));
                    }
                }
                None if is_wanted(key) => {
                    gone.push(Trouble::new(key, Kind::Gone(place.unread())));
                }
                // It was not counted and cannot be: it is at least one.
                None => unwanted.push((key.clone(), 1)),
            }
            is_there
        });
        (gone, unwanted)
    }

    /// Whether it holds a file that is given up.
    pub fn holds_abandoned(&self) -> bool {
        let tracks = self.tracks.borrow();
        tracks.iter().any(|track| track.file.is_abandoned())
    }

    /// What there is to read.
    pub fn pending(&self) -> Pending {
        let mut pending = Pending::default();
        let tracks = self.tracks.borrow();
        let processing = self.processing.borrow();
        let joining = processing.joining();
        // What is on its way to a place in a compressed file need not wait there for more.
        pending.overdue = self.unpacking.borrow().is_some();
        let mut waiting_for = None;
        for track in &*tracks {
            let container = &track.file.key.container;
            if waiting_for == Some(container) {
                continue;
            }
            if track.is_pending(joining) {
                pending.any = true;
                pending.overdue |= track.is_overdue(joining);
                pending.bytes += track.unread();
            } else if track.blocks_later_files() {
                waiting_for = Some(container);
            }
        }
        pending
    }

    /// Whether something is to be looked at again after a while, though nothing happens.
    pub fn needs_time(&self) -> bool {
        let needs_time = |track: &Track| track.failed || track.has_open_line();
        self.tracks.borrow().iter().any(needs_time)
    }

    /// When the first record of joined lines has waited for long enough.
    pub fn due(&self) -> Option<Instant> {
        let processing = self.processing.borrow();
        let multiline = processing.multiline.as_ref()?;
        let tracks = self.tracks.borrow();
        let waiting = tracks.iter().filter(|track| !track.failed);
        waiting.filter_map(|track| track.due(multiline)).min()
    }

    /// Tries files again that could not be read.
    pub fn retry_failed(&self) {
        for track in self
            .tracks
            .borrow_mut()
            .iter_mut()
            .filter(|track| track.failed)
        {
            track.failed = false;
            track.seen = None;
        }
    }

    /// Makes the next batch; one without a body when no record came of what was read. A file that cannot be read is
    /// passed over and told.
    pub fn fill(
        &self,
        source: &Source,
        ready: &Ready,
        limits: Limits,
        troubles: &mut Vec<Trouble>,
    ) -> Filled {
        let mut tracks = self.tracks.borrow_mut();
        let mut workshop = source.workshop.borrow_mut();
        let packing = self.packing.borrow();
        let mut making = Making::new(&mut workshop, ready, &packing, limits);
        let mut ends = Vec::new();
        let mut lost = 0;
        let mut waiting_for: Option<Arc<str>> = None;
        for index in order(&tracks, self.turn.get()) {
            let track = &tracks[index];
            if waiting_for.as_ref() == Some(&track.file.key.container) {
                continue;
            }
            if !track.is_pending(making.joining) {
                if track.blocks_later_files() {
                    waiting_for = Some(Arc::clone(&track.file.key.container));
                }
                continue;
            }
            let container = Arc::clone(&track.file.key.container);
            match self.read(
                source,
                &mut tracks,
                index,
                &mut making,
                &mut ends,
                &mut lost,
                troubles,
            ) {
                Read::Full | Read::Approaching => break,
                // A later file of the same container has later lines.
                Read::Incomplete => waiting_for = Some(container),
                Read::Complete | Read::Failed => {}
            }
        }
        settle(&mut tracks, &mut ends);
        making.finish(ends, lost)
    }

    /// Reads on in one file.
    #[expect(
        clippy::too_many_arguments,
        reason = "what is read from, what is made of it, and what that means"
    )]
    fn read(
        &self,
        source: &Source,
        tracks: &mut [Track],
        index: usize,
        making: &mut Making<'_>,
        ends: &mut Vec<End>,
        lost: &mut u64,
        troubles: &mut Vec<Trouble>,
    ) -> Read {
        let is_crowded = tracks.len() > FEW;
        let mut passing = self.passing.borrow_mut();
        let carried = self.carried_heads(source, tracks, index);
        let at_end = end_of(tracks, index);
        let track = &mut tracks[index];
        let length = track.file.length();
        let number = track.file.number;
        let mut reader = track.take_reader();
        let heads = &**track
            .heads
            .get_or_insert_with(|| Box::new(self.heads(source, &track.file.key)));
        let heads_of = |file| {
            let from = carried.iter().find(|(carried, _)| *carried == file);
            from.map_or(heads, |(_, heads)| heads)
        };
        let content = track.file.content(self.take_unpacking(number));
        let read = content.and_then(|content| {
            if !content.approach(reader.offset())? {
                return Ok((None, content));
            }
            let container = &track.file.key.container;
            let mut unused = Memory::default();
            let passing = if making.remembers() {
                passing.entry(Arc::clone(container)).or_default()
            } else {
                &mut unused
            };
            reader.shorten(source.room.is_short());
            let passing = (container, passing);
            let reached = making.read(&mut reader, &content, at_end, heads_of, passing)?;
            Ok((Some(reached), content))
        });
        track.put_reader(reader);
        let (reached, content) = match read {
            Ok((Some(reached), content)) => (reached, content),
            Ok((None, content)) => {
                self.unpacking.replace(Some((number, content)));
                return Read::Approaching;
            }
            Err(error) => {
                track.fail(error, troubles);
                ends.push(track.end(false));
                return Read::Failed;
            }
        };
        track.seen = (reached == Reached::End).then_some((length, at_end));
        if reached == Reached::Full {
            if content.is_packed() {
                self.unpacking.replace(Some((number, content)));
            }
            ends.push(track.end(false));
            return Read::Full;
        }
        let reader = track.reader();
        let begun = (at_end == AtEnd::Rotated && reader.has_begun()).then(|| reader.hand_over());
        let held = reader.held();
        track.share.hold(held);
        let complete = matches!(at_end, AtEnd::Rotated | AtEnd::Flush);
        *lost += track.missing(&content, troubles);
        if complete || is_crowded {
            track.heads = None;
        }
        ends.push(track.end(complete && !track.has_handed_over()));
        if let Some(begun) = begun {
            tracks[index + 1].reader().inherit(begun);
            return Read::Complete;
        }
        if complete {
            Read::Complete
        } else {
            Read::Incomplete
        }
    }

    fn take_unpacking(&self, file: FileNumber) -> Option<Content> {
        let mut unpacking = self.unpacking.borrow_mut();
        unpacking
            .take_if(|(number, _)| *number == file)
            .map(|(_, content)| content)
    }

    /// The sink has the batch of these ends, and every one before it.
    pub fn delivered(&self, ends: &Ends) {
        // In the middle of a compressed file, another container's turn would cost the file's beginning again.
        if (ends.records > 0 || ends.dropped.total() > 0) && self.unpacking.borrow().is_none() {
            self.turn.set(self.turn.get().wrapping_add(1));
        }
        if ends.records > 0 {
            self.acknowledges();
        }
        self.count(|counts| counts.delivered += ends.records);
        self.advance(ends);
    }

    /// The sink has the batch of these ends but for some records that it refused and will not be sent again.
    pub fn delivered_in_part(&self, ends: &Ends, rejected: u64) {
        self.delivered(ends);
        self.count(|counts| {
            let rejected = rejected.min(ends.records);
            counts.delivered -= rejected;
            counts.rejected += rejected;
        });
    }

    /// The sink refuses the only record of the batch of these ends.
    pub fn rejected(&self, ends: &Ends) {
        self.count(|counts| counts.rejected += ends.records);
        self.advance(ends);
    }

    /// Everything that is not acknowledged will be read again.
    pub fn rewind(&self) {
        self.passing.replace(self.passed.borrow().clone());
        for track in self.tracks.borrow_mut().iter_mut() {
            track.rewind();
        }
        self.unpacking.take();
    }

    /// Everything that was read after these ends will be read again; they are those of what waits for its
    /// acknowledgement, in the order of reading.
    pub fn rewind_to<'a>(&self, waiting: impl Iterator<Item = &'a Ends>) {
        self.rewind();
        let mut tracks = self.tracks.borrow_mut();
        let mut passing = self.passing.borrow_mut();
        for ends in waiting {
            passing.extend(ends.passed.iter().cloned());
            for end in &ends.places {
                let track = tracks
                    .iter_mut()
                    .find(|track| track.file.number == end.file);
                if let Some(track) = track {
                    track.read_from(end.position);
                }
            }
        }
    }

    /// What decides which records there are. Of a policy that waits for a container, its patterns for this moment; of one
    /// that waits for room every line is a record: there may be many, and the end of a pod leaves no time to compile.
    fn for_counting(&self) -> Ready {
        let mut processing = Rc::clone(&self.processing.borrow());
        if processing.waits() == Some(Waits::ForContainer) {
            processing = Processing::of(&self.policy.borrow()).map_or(processing, Rc::new);
        }
        processing.for_counting()
    }

    /// Shows every record of these files that is not acknowledged, as far as there is time; see [`for_each_unsent`].
    fn for_each_unsent(
        &self,
        source: &Source,
        tracks: &[Track],
        until: Option<Instant>,
        each: impl FnMut(FileNumber, Option<&Record<'_>>),
    ) -> Unshown {
        if tracks.is_empty() {
            return Unshown::default();
        }
        let passed = self.passed.borrow();
        let view = View {
            ready: &self.for_counting(),
            filtered: true,
            id: |key: &FileKey| file_id(&source.pod, key).number(),
            passed: |container: &str| passed.get(container).cloned().unwrap_or_default(),
            until,
        };
        for_each_unsent(tracks, &view, each)
    }

    /// What is saved: also of files that are gone, until it is told what became of them.
    pub fn progress(&self) -> Progress {
        let tracks = self.tracks.borrow();
        let parked = self.parked.borrow();
        let reading = tracks
            .iter()
            .map(|track| (track.file.key.clone(), track.place(false)));
        let parked = parked.iter().map(|(key, place)| (key.clone(), *place));
        Progress {
            counts: self.counts.get(),
            files: reading.chain(parked).collect(),
            ledger: self.ledger.borrow().clone(),
            trails: self.trails(),
        }
    }

    /// The audit events of each container that the sink has.
    pub fn trails(&self) -> Vec<(Arc<str>, Trail)> {
        let passed = self.passed.borrow();
        let with_events = passed.iter().filter(|(_, memory)| !memory.trail.is_empty());
        let mut trails: Vec<_> = with_events
            .map(|(container, memory)| (Arc::clone(container), memory.trail.clone()))
            .collect();
        trails.sort_by(|one, other| one.0.cmp(&other.0));
        trails
    }

    /// What the sink has of audit events at this time, where the policy is about those.
    pub fn audit_report(&self, now: SystemTime) -> Option<AuditReport> {
        self.policy.borrow().audit.as_ref()?;
        let now = Timestamp::from(now).seconds;
        let passed = self.passed.borrow();
        let trails = || passed.values().map(|memory| &memory.trail);
        let newest = trails().filter_map(|trail| trail.newest).max();
        let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
        for (fault, lines) in trails().flat_map(|trail| &trail.faults) {
            *faults.entry(fault).or_default() += lines;
        }
        let most = faults.iter().max_by_key(|(_, lines)| **lines);
        Some(AuditReport {
            // What was written a moment ahead of this clock was written now.
            last_event: newest.map(|newest| u64::try_from(now - newest).unwrap_or_default()),
            faulty: faults.values().sum(),
            fault: most.map(|(fault, _)| (*fault).to_owned()),
        })
    }

    fn advance(&self, ends: &Ends) {
        self.count(|counts| {
            counts.lost += ends.lost;
            counts.dropped += ends.dropped.total();
        });
        if !ends.passed.is_empty() {
            let mut passed = self.passed.borrow_mut();
            passed.extend(ends.passed.iter().cloned());
        }
        let mut tracks = self.tracks.borrow_mut();
        let mut any_done = false;
        let is_crowded = tracks.len() > FEW;
        // Ends come in the order of the tracks, mostly.
        let mut from = 0;
        for end in &ends.places {
            let found = (from..tracks.len())
                .chain(0..from)
                .find(|index| tracks[*index].file.number == end.file);
            let Some(index) = found else {
                continue;
            };
            from = index;
            let track = &mut tracks[index];
            track.settle_at(end.position, end.done);
            if is_crowded {
                track.rest();
            }
            any_done |= track.done;
        }
        if any_done {
            park_done(&mut tracks, &mut self.parked.borrow_mut());
        }
    }

    /// What goes with the lines that the reader of this track has taken over from earlier files.
    fn carried_heads(
        &self,
        source: &Source,
        tracks: &[Track],
        index: usize,
    ) -> Vec<(FileNumber, FileHeads)> {
        let Some(reader) = tracks[index].reading().filter(|reader| reader.has_begun()) else {
            return Vec::new();
        };
        tracks[..index]
            .iter()
            .rev()
            .take_while(|earlier| earlier.file.is_of_the_run_of(&tracks[index].file))
            .filter(|earlier| reader.files().any(|file| file == earlier.file.number))
            .map(|earlier| (earlier.file.number, self.heads(source, &earlier.file.key)))
            .collect()
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let before = self.counts.get();
        let mut counts = before;
        change(&mut counts);
        self.counts.set(counts);
        if (before.lost, before.rejected) != (counts.lost, counts.rejected) {
            self.loses();
        }
        // The first one, and then each time their number has at least doubled.
        let size = |counts: Counts| [counts.lost, counts.rejected].map(u64::checked_ilog2);
        if size(before) != size(counts) {
            self.news.set(true);
        }
    }

    fn heads(&self, source: &Source, key: &FileKey) -> FileHeads {
        let labels = source.labels.borrow();
        let policy = self.policy.borrow();
        let wanted = match &policy.pod_labels {
            None => Cow::Borrowed(&*labels),
            Some(wanted) => Cow::Owned(pod::only(&labels, wanted)),
        };
        let pod = &source.pod;
        let execution_id = source.execution.borrow().id(&pod.name, &labels);
        let id = file_id(pod, key);
        let file_id = id.to_string();
        let origin = Origin {
            namespace: &pod.namespace,
            pod: &pod.name,
            pod_uid: &pod.uid,
            node: &pod.node,
            labels: &wanted,
            execution_id: execution_id.as_deref(),
            container: &key.container,
            restart: key.restart,
            file_id: &file_id,
        };
        FileHeads {
            heads: Heads::new(&self.packing.borrow().format, policy.parse, &origin),
            id: id.number(),
        }
    }
}

/// What is remembered of each container after a restart.
fn memories(trails: Vec<(Arc<str>, Trail)>) -> HashMap<Arc<str>, Memory> {
    let memory = |trail| Memory {
        trail,
        ..Memory::default()
    };
    let trails = trails.into_iter();
    trails
        .map(|(container, trail)| (container, memory(trail)))
        .collect()
}

/// What sets a log file apart from all others of all pods; the beginning of the id of its records.
fn file_id(pod: &Pod, key: &FileKey) -> Beginning {
    let file = format!(
        "{}/{}/{}/{}",
        pod.uid, key.container, key.restart, key.beginning
    );
    Beginning::of(file.as_bytes())
}

/// Where reading a file begins that is not being read; none when nothing of it is left to read, or nothing is known of
/// it and it has no name any more: it may have been read before.
fn begin(parked: &mut HashMap<FileKey, Place>, file: &LogFile) -> Option<Position> {
    let Some(place) = parked.get(&file.key).copied() else {
        return (!file.is_deleted() && !file.is_cut()).then(Position::default);
    };
    // A file that was taken for finished can grow after all.
    if place.done && !(file.can_grow() && file.length() > place.position.next) {
        return None;
    }
    parked.remove(&file.key);
    // Shorter than what was acknowledged: not the content that it was.
    let is_another = file.can_grow() && place.position.next > file.length();
    Some(if is_another {
        Position::default()
    } else {
        place.position
    })
}
