//! A route whose sink is an archive: which file is due, what goes into an object, and what that settles. Sends nothing.

use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use katonic_log_config::{ArchiveLayout, ObjectStorage, Target};

use super::{Filled, Making, Route, Source, Track, Trouble, file_id, order, settle};
use crate::{
    archive::{
        key,
        ledger::{Addition, Run, Spot},
        spool::{Header, Settled},
    },
    assemble::FileNumber,
    batch::{Body, Limits, Spill, Spilled},
    cursor::{FileKey, Place, Position, Progress},
    process::Ready,
};

/// Which file is to be archived next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ripe {
    /// This one, now.
    Now(FileNumber),
    /// One of them at this time, if nothing happens before.
    At(Instant),
    /// None.
    Nothing,
}

/// When a file is due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// When its first line has waited for so long.
    pub age: Duration,
    /// When so many bytes of it wait.
    pub bytes: u64,
    /// At once: nothing more will come.
    pub ended: bool,
}

/// What was read of one file for one object.
#[derive(Debug)]
pub struct Made {
    /// What is in the object; none when no record came of what was read.
    pub content: Option<Content>,
    /// How far each file is settled with it.
    pub settles: Vec<Settled>,
    /// Records that were left out.
    pub dropped: u64,
    /// Records that were gone.
    pub lost: u64,
    /// The file.
    file: FileKey,
    /// How far it was archived before.
    from: Position,
}

/// The content of an object.
#[derive(Debug)]
pub struct Content {
    /// Records, and bytes before compression. The bytes are here where there is no file.
    pub body: Body,
    /// The file with the bytes.
    pub spilled: Option<io::Result<Spilled>>,
}

/// An object that is written down and not yet in the store.
#[derive(Debug)]
pub(super) struct OnItsWay {
    settles: Vec<Settled>,
    records: u64,
}

impl OnItsWay {
    /// How far a file is in the object.
    fn position(&self, file: &FileKey) -> Option<Position> {
        let settled = self.settles.iter().find(|settled| settled.file == *file)?;
        Some(settled.position)
    }
}

impl Route {
    /// The archive that its sink is, if it is one.
    pub fn archive(&self) -> Option<ObjectStorage> {
        match &self.sink.borrow().target {
            Target::ObjectStorage(archive) => Some(archive.clone()),
            _ => None,
        }
    }

    /// The file that is due, one container after the other.
    pub fn ripe(&self, due: Due, now: Instant) -> Ripe {
        let mut tracks = self.tracks.borrow_mut();
        let processing = self.processing.borrow();
        let joining = processing.joining();
        let mut waiting_for: Option<Arc<str>> = None;
        let mut first: Option<Instant> = None;
        for index in order(&tracks, self.turn.get()) {
            let track = &mut tracks[index];
            if waiting_for.as_ref() == Some(&track.file.key.container) {
                continue;
            }
            if !track.is_pending(joining) {
                if track.blocks_later_files() {
                    waiting_for = Some(Arc::clone(&track.file.key.container));
                }
                continue;
            }
            let since = *track.waiting.get_or_insert(now);
            let is_ripe = due.ended
                || track.file.is_finished()
                || track.unread() >= due.bytes
                || now.duration_since(since) >= due.age;
            if is_ripe {
                return Ripe::Now(track.file.number);
            }
            let then = since + due.age;
            first = Some(first.map_or(then, |first| first.min(then)));
            waiting_for = Some(Arc::clone(&track.file.key.container));
        }
        first.map_or(Ripe::Nothing, Ripe::At)
    }

    /// Reads a file as far as an object may go, into a file where there is one; none when the log file is not read any
    /// more.
    pub fn make_object(
        &self,
        source: &Source,
        ready: &Ready,
        file: FileNumber,
        spill: Option<Spill>,
        troubles: &mut Vec<Trouble>,
    ) -> Option<Made> {
        let mut tracks = self.tracks.borrow_mut();
        let index = tracks.iter().position(|track| track.file.number == file)?;
        let mut workshop = source.workshop.borrow_mut();
        let packing = self.packing.borrow();
        let mut making = Making::new(&mut workshop, ready, &packing, Limits::NONE);
        if let Some(spill) = spill {
            making.spill_to(spill);
        }
        let track = &mut tracks[index];
        track.waiting = None;
        let (file, from) = (track.file.key.clone(), track.committed);
        let mut ends = Vec::new();
        let mut lost = 0;
        self.read(
            source,
            &mut tracks,
            index,
            &mut making,
            &mut ends,
            &mut lost,
            troubles,
        );
        settle(&mut tracks, &mut ends);
        let Filled { body, ends } = making.finish(ends, lost);
        let spilled = workshop.packer.take_spill().map(Spill::finish);
        let settles = ends.places.iter().filter_map(|end| {
            let track = tracks.iter().find(|track| track.file.number == end.file)?;
            Some(Settled {
                file: track.file.key.clone(),
                position: end.position,
                done: end.done,
            })
        });
        Some(Made {
            content: body.map(|body| Content { body, spilled }),
            settles: settles.collect(),
            dropped: ends.dropped.total(),
            lost: ends.lost,
            file,
            from,
        })
    }

    /// The run to which this object, or what was read without one, belongs.
    pub fn run_of(&self, source: &Source, layout: ArchiveLayout, made: &Made) -> Run {
        let Made { file, from, .. } = made;
        let known = self
            .ledger
            .borrow()
            .run(&file.container, file.restart)
            .cloned();
        known.unwrap_or_else(|| {
            let first = Spot {
                file: file_id(&source.pod, file).to_string(),
                offset: from.next,
            };
            let folder = self.folder(source, layout, &file.container);
            let ledger = self.ledger.borrow();
            let start = ledger.start(&file.container, file.restart);
            // Without one an older agent began to read it.
            let begins = match start {
                Some(start) => start.begins,
                None => (from.next > 0).then_some(false),
            };
            Run::new(&file.container, file.restart, folder, first, begins)
        })
    }

    fn folder(&self, source: &Source, layout: ArchiveLayout, container: &str) -> String {
        let execution_id = self.execution_id(source);
        key::folder(layout, &source.pod, execution_id.as_deref(), container)
    }

    /// Whether it has a ledger of the runs of containers.
    pub(super) fn keeps_runs(&self) -> bool {
        let is_archive = matches!(self.sink.borrow().target, Target::ObjectStorage(_));
        is_archive && !self.is_fallback()
    }

    /// Whether it has archived logs of an execution whose id nobody knows.
    pub fn is_unidentified(&self) -> bool {
        let ledger = self.ledger.borrow();
        let mut runs = ledger.runs.iter();
        self.keeps_runs() && runs.any(Run::is_unidentified)
    }

    /// Of how many runs it has begun to read and archived nothing yet.
    pub fn begun(&self) -> usize {
        self.ledger.borrow().starts.len()
    }

    /// The execution that the pod belongs to, if that is known.
    pub fn execution_id(&self, source: &Source) -> Option<String> {
        let labels = source.labels.borrow();
        source.execution.borrow().id(&source.pod.name, &labels)
    }

    /// What is written down beside an object.
    pub fn header(
        &self,
        source: &Source,
        run: Run,
        made: &Made,
        content: &Body,
        stored: (u64, [u8; 32]),
    ) -> Header {
        let (length, sha256) = stored;
        let file = file_id(&source.pod, &made.file).to_string();
        // Objects of a file join without a gap, also where everything between them was left out.
        let first = if run.last.file == file {
            run.last.offset
        } else {
            0
        };
        let position = made
            .settles
            .iter()
            .find(|settled| settled.file == made.file);
        let next = position.map_or(first, |settled| settled.position.next);
        let records = content.records as u64;
        let addition = Addition {
            lines: records,
            bytes: content.size as u64,
            dropped: made.dropped,
            lost: made.lost,
        };
        Header {
            number: self.ledger.borrow().objects + 1,
            key: key::object(&run, &self.key, &file, first, next),
            length,
            sha256,
            records,
            dropped: made.dropped,
            lost: made.lost,
            settles: made.settles.clone(),
            run: run.with_object(addition, sha256, Spot { file, offset: next }),
            before: self.progress(),
            locked: None,
        }
    }

    /// Whether it gets nothing but what other sinks have left.
    pub fn is_fallback(&self) -> bool {
        self.is_fallback.get()
    }

    /// Goes on where another agent had come, before anything is read.
    pub fn restore(&self, progress: Progress) {
        self.tracks.take();
        self.synced.set(None);
        self.counts.set(progress.counts);
        self.parked.replace(progress.files.into_iter().collect());
        self.ledger.replace(progress.ledger);
    }

    /// How many objects the store has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.ledger.borrow().objects
    }

    /// An object is written down: until it is stored, it and not the log file has its records.
    pub fn is_on_its_way(&self, header: &Header) {
        self.on_its_way.replace(Some(OnItsWay {
            settles: header.settles.clone(),
            records: header.records,
        }));
    }

    /// The store has an object. `again`: it was written down before this route began to read.
    pub fn stored(&self, header: &Header, again: bool) {
        self.on_its_way.take();
        self.turn.set(self.turn.get().wrapping_add(1));
        self.acknowledges();
        self.count(|counts| counts.delivered += header.records);
        {
            let mut ledger = self.ledger.borrow_mut();
            ledger.objects = header.number;
            ledger.put(header.run.clone());
        }
        let gone = (header.dropped, header.lost);
        self.settle_files(&header.settles, header.records, gone, again);
    }

    /// Nothing of what was read is to be stored.
    pub fn passed(&self, run: Run, made: &Made) {
        let Made { dropped, lost, .. } = *made;
        if dropped > 0 || lost > 0 {
            let addition = Addition {
                dropped,
                lost,
                ..Addition::default()
            };
            self.ledger.borrow_mut().put(run.with(addition));
        }
        self.settle_files(&made.settles, 0, (dropped, lost), false);
    }

    fn settle_files(
        &self,
        settles: &[Settled],
        records: u64,
        (dropped, lost): (u64, u64),
        again: bool,
    ) {
        self.count(|counts| {
            counts.dropped += dropped;
            counts.lost += lost;
        });
        let mut passed = self.passed.borrow_mut();
        passed.clone_from(&self.passing.borrow());
        let mut tracks = self.tracks.borrow_mut();
        let mut parked = self.parked.borrow_mut();
        for settled in settles {
            let track = tracks
                .iter_mut()
                .find(|track| track.file.key == settled.file);
            let Some(track) = track else {
                let place = parked.get(&settled.file).copied();
                if place.is_some() || again {
                    let place = place.unwrap_or_default();
                    let is_of_object = settled.position.next > place.position.next;
                    let records = if is_of_object { records } else { 0 };
                    let place = Place {
                        position: settled.position,
                        size: place.size.max(settled.position.next),
                        done: settled.done,
                        declined: place.declined.map(|all| all.saturating_sub(records)),
                    };
                    parked.insert(settled.file.clone(), place);
                }
                continue;
            };
            track.settle_at(settled.position, settled.done);
            if again {
                track.read_from(settled.position);
            }
        }
        park_done(&mut tracks, &mut parked);
    }

    /// A run whose last object is stored and whose completeness record is not; `ended` says that no container will be
    /// restarted.
    pub fn unrecorded(&self, source: &Source, ended: bool) -> Option<Run> {
        if self.is_fallback.get() {
            return None;
        }
        let archive = self.archive()?;
        let tracks = self.tracks.borrow();
        let parked = self.parked.borrow();
        let silent = self.silent(source, archive.layout, ended);
        let is_read = |container: &str, restart: u32| {
            let mut tracks = tracks.iter();
            tracks.any(|track| {
                &*track.file.key.container == container && track.file.key.restart == restart
            })
        };
        let is_followed = |container: &str, restart: u32| {
            let tracks = tracks.iter().map(|track| &track.file.key);
            let mut files = tracks.chain(parked.keys());
            files.any(|file| &*file.container == container && file.restart > restart)
                || silent
                    .iter()
                    .any(|(name, later)| &**name == container && *later > restart)
        };
        let is_over = |container: &str, restart: u32| {
            !is_read(container, restart) && (ended || is_followed(container, restart))
        };
        self.begin_without_objects(source, archive.layout, &silent, is_over);
        let mut ledger = self.ledger.borrow_mut();
        // Of what is long over and recorded nothing need be remembered once its files are gone.
        ledger.runs.retain(|run| {
            let has_files = is_read(&run.container, run.restart)
                || parked
                    .keys()
                    .any(|file| file.container == run.container && file.restart == run.restart)
                || silent.contains(&(Arc::clone(&run.container), run.restart));
            !run.recorded || has_files || !is_followed(&run.container, run.restart)
        });
        let mut runs = ledger.runs.iter();
        let run = runs.find(|run| !run.recorded && is_over(&run.container, run.restart))?;
        Some(Run {
            followed: is_followed(&run.container, run.restart),
            ..run.clone()
        })
    }

    /// Runs of containers that it takes that have printed nothing. Only of executions somebody asks whether there was nothing.
    fn silent(
        &self,
        source: &Source,
        layout: ArchiveLayout,
        ended: bool,
    ) -> BTreeSet<(Arc<str>, u32)> {
        if layout != ArchiveLayout::Executions {
            return BTreeSet::new();
        }
        let policy = self.policy.borrow();
        let labels = source.labels.borrow();
        let files = source.files.borrow();
        files
            .silent(ended)
            .filter(|(container, _)| policy.takes(&labels, container))
            .map(|(container, restart)| (Arc::clone(container), restart))
            .collect()
    }

    /// Also of what printed nothing, or nothing that is archived, there is a record: otherwise it would be missed.
    fn begin_without_objects(
        &self,
        source: &Source,
        layout: ArchiveLayout,
        silent: &BTreeSet<(Arc<str>, u32)>,
        is_over: impl Fn(&str, u32) -> bool,
    ) {
        let parked = self.parked.borrow();
        let mut ledger = self.ledger.borrow_mut();
        let passed = parked.iter().filter(|(_, place)| place.done);
        let passed = passed.map(|(file, _)| {
            let spot = Spot {
                file: file_id(&source.pod, file).to_string(),
                offset: 0,
            };
            (&file.container, file.restart, spot)
        });
        let silent = silent.iter().map(|(container, restart)| {
            let nothing = Spot {
                file: String::new(),
                offset: 0,
            };
            (container, *restart, nothing)
        });
        for (container, restart, first) in passed.chain(silent) {
            if ledger.run(container, restart).is_some() || !is_over(container, restart) {
                continue;
            }
            let folder = self.folder(source, layout, container);
            let begins = match ledger.start(container, restart) {
                Some(start) => start.begins,
                None => first.file.is_empty().then_some(true),
            };
            ledger.put(Run::new(container, restart, folder, first, begins));
        }
    }

    /// The completeness record of a run is stored.
    pub fn recorded(&self, run: Run) {
        self.ledger.borrow_mut().put(Run {
            recorded: true,
            ..run
        });
    }

    /// Notes that records of a file are gone.
    pub(super) fn note_lost(&self, source: &Source, file: &FileKey, records: u64) {
        if records == 0 || self.is_fallback.get() {
            return;
        }
        let Some(archive) = self.archive() else {
            return;
        };
        let made = Made {
            content: None,
            settles: Vec::new(),
            dropped: 0,
            lost: records,
            file: file.clone(),
            from: Position::default(),
        };
        let run = self.run_of(source, archive.layout, &made);
        let lost = Addition {
            lost: records,
            ..Addition::default()
        };
        self.ledger.borrow_mut().put(run.with(lost));
    }

    /// Of files that are given up, what is on its way to the store is not lost.
    pub(super) fn leave_to_object<'t>(&self, tracks: impl Iterator<Item = &'t mut Track>) {
        let on_its_way = self.on_its_way.borrow();
        for track in tracks {
            let position = on_its_way
                .as_ref()
                .and_then(|object| object.position(&track.file.key));
            track.committed = position.unwrap_or(track.committed);
        }
    }

    /// How far a file is in the object that is on its way.
    pub(super) fn position_in_object(&self, file: &FileKey) -> Option<Position> {
        self.on_its_way.borrow().as_ref()?.position(file)
    }

    /// How many records are in nothing but an object that is not in the store: their log file was given up.
    pub(super) fn in_object_alone(&self, tracks: &[Track]) -> u64 {
        let on_its_way = self.on_its_way.borrow();
        let parked = self.parked.borrow();
        let is_alone = |object: &&OnItsWay| {
            let reading = tracks.iter();
            let reading = reading.map(|track| (&track.file.key, track.committed));
            let known = parked.iter().map(|(file, place)| (file, place.position));
            let mut counted = reading.chain(known).filter(|(file, position)| {
                let settled = object.position(file);
                settled.is_some_and(|settled| settled != *position)
            });
            counted.next().is_none()
        };
        let object = on_its_way.as_ref().filter(is_alone);
        object.map_or(0, |object| object.records)
    }
}

/// Puts tracks aside of which nothing is left.
pub(super) fn park_done(
    tracks: &mut Vec<Track>,
    parked: &mut std::collections::HashMap<FileKey, Place>,
) {
    tracks.retain(|track| {
        if track.done && !track.file.is_cut() {
            parked.insert(track.file.key.clone(), track.place(true));
        }
        !track.done
    });
}
