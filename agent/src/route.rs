//! A sink of a policy and how far it has come in each log file. Sends nothing.

mod track;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use katonic_log_config::{Policy, Target};

use track::{Track, order};

use crate::{
    batch::{Body, Limits, Packer},
    cri::Stream,
    cursor::{FileKey, Position, Progress, RouteKey},
    encode::{Format, Head, Origin},
    files::{Files, LogFile, short_digest},
    pod::{Labels, Pod},
    reader::{AtEnd, Reached},
    sink,
};

/// What all routes read from.
#[derive(Debug)]
pub struct Source {
    /// The pod.
    pub pod: Pod,
    /// Its labels.
    pub labels: RefCell<Labels>,
    /// Label that holds the execution's id.
    pub execution_id_label: RefCell<Option<String>>,
    /// Its log files.
    pub files: RefCell<Files>,
    /// Changes whenever labels or the set of files do.
    pub revision: Cell<u64>,
    /// The only large buffers of the process: one batch is made at a time.
    pub workshop: RefCell<Workshop>,
}

/// Buffers for making a batch.
#[derive(Debug, Default)]
pub struct Workshop {
    packer: Packer,
    buffer: Vec<u8>,
}

/// A batch with the places that are reached when it is acknowledged.
#[derive(Debug)]
pub struct Batch {
    /// The request's body.
    pub body: Body,
    ends: Vec<End>,
}

#[derive(Debug)]
struct End {
    /// By file, not by place among the tracks: those may be others by the time of the answer.
    file: Rc<LogFile>,
    position: Position,
    done: bool,
}

/// What there is to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pending {
    /// Whether there is anything.
    pub any: bool,
    /// About how many bytes.
    pub bytes: u64,
}

/// How many records had which fate.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Counts {
    /// Acknowledged.
    pub delivered: u64,
    /// Refused for their content.
    pub rejected: u64,
    /// Given up: at the end of the pod, or because too much had to be kept for a sink that takes nothing.
    pub lost: u64,
}

/// A sink of a policy.
#[derive(Debug)]
pub struct Route {
    /// What its cursors are saved under.
    pub key: RouteKey,
    policy: RefCell<Policy>,
    target: RefCell<Target>,
    format: RefCell<Format>,
    counts: Cell<Counts>,
    tracks: RefCell<Vec<Track>>,
    /// Cursors of files that are not being read: not found yet, or not taken at the moment.
    parked: RefCell<BTreeMap<FileKey, Position>>,
    synced: Cell<Option<u64>>,
    /// Which container comes first in the next batch, so that none starves.
    turn: Cell<usize>,
}

impl Route {
    /// A route that goes on where `progress` ends.
    pub fn new(key: RouteKey, policy: Policy, target: Target, progress: Progress) -> Self {
        let counts = Counts {
            delivered: progress.delivered,
            rejected: progress.rejected,
            lost: 0,
        };
        Self {
            key,
            format: RefCell::new(sink::format(&target)),
            policy: RefCell::new(policy),
            target: RefCell::new(target),
            counts: Cell::new(counts),
            tracks: RefCell::default(),
            parked: RefCell::new(progress.files.into_iter().collect()),
            synced: Cell::default(),
            turn: Cell::default(),
        }
    }

    /// Name of the policy, for people.
    pub fn policy_name(&self) -> String {
        self.policy.borrow().name.clone()
    }

    /// Where it goes.
    pub fn target(&self) -> Target {
        self.target.borrow().clone()
    }

    /// Takes over a changed policy; says whether anything is different for this route.
    pub fn update(&self, policy: &Policy, target: &Target) -> bool {
        let changed = *self.policy.borrow() != *policy || *self.target.borrow() != *target;
        if changed {
            self.format.replace(sink::format(target));
            self.policy.replace(policy.clone());
            self.target.replace(target.clone());
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

    /// Begins to read files that appeared and stops with those that no longer belong to it; gives the number of
    /// records that were in files that had to be given up.
    ///
    /// From then on the route holds the files, so they can be deleted while it waits for its sink.
    pub fn sync(&self, source: &Source) -> u64 {
        if self.synced.replace(Some(source.revision.get())) == Some(source.revision.get()) {
            return 0;
        }
        let mut lost = 0;
        let policy = self.policy.borrow();
        let labels = source.labels.borrow();
        let files = source.files.borrow();
        let mut parked = self.parked.borrow_mut();
        let mut old = std::mem::take(&mut *self.tracks.borrow_mut());
        let mut tracks = Vec::new();
        for file in files
            .iter()
            .filter(|file| policy.takes(&labels, &file.key.container))
        {
            let existing = old.iter().position(|track| Rc::ptr_eq(&track.file, file));
            // It may have been read to its end already, and is only waiting to be let go.
            if file.is_deleted() && existing.is_none() {
                continue;
            }
            let track = existing.map_or_else(
                || {
                    let saved = parked.remove(&file.key).unwrap_or_default();
                    // Shorter than what was acknowledged: not the content that it was.
                    let committed = if saved.next > file.length() {
                        Position::default()
                    } else {
                        saved
                    };
                    Track::new(Rc::clone(file), committed)
                },
                |index| old.swap_remove(index),
            );
            if track.file.is_abandoned() {
                lost += track.unsent();
            } else if !(track.done && track.file.is_deleted()) {
                // Otherwise nothing is left of it on disk and nothing is left to send.
                tracks.push(track);
            }
        }
        for track in old {
            if !track.file.is_deleted() {
                parked.insert(track.file.key.clone(), track.committed);
            }
        }
        self.tracks.replace(tracks);
        self.count(|counts| counts.lost += lost);
        lost
    }

    /// What there is to read.
    pub fn pending(&self) -> Pending {
        let mut pending = Pending::default();
        let mut waiting_for = None;
        for track in self.tracks.borrow_mut().iter_mut() {
            track.reopen();
            let container = track.file.key.container.clone();
            if waiting_for.as_ref() == Some(&container) {
                continue;
            }
            if track.is_pending() {
                pending.any = true;
                pending.bytes += track.unread();
            } else if track.blocks_later_files() {
                waiting_for = Some(container);
            }
        }
        pending
    }

    /// Whether something is to be looked at again after a while, though nothing happens.
    pub fn needs_time(&self) -> bool {
        let needs_time = |track: &Track| track.failed || track.reader.has_open_line();
        self.tracks.borrow().iter().any(needs_time)
    }

    /// Tries files again that could not be read.
    pub fn retry_failed(&self) {
        for track in self
            .tracks
            .borrow_mut()
            .iter_mut()
            .filter(|track| track.failed)
        {
            track.rewind();
        }
    }

    /// Makes the next batch; none when no line is complete. A file that cannot be read is passed over and named.
    pub fn fill(
        &self,
        source: &Source,
        limits: Limits,
        failed: &mut Vec<(FileKey, std::io::Error)>,
    ) -> Option<Batch> {
        let mut tracks = self.tracks.borrow_mut();
        let mut workshop = source.workshop.borrow_mut();
        let Workshop { packer, buffer } = &mut *workshop;
        packer.begin(limits);
        let mut ends = Vec::new();
        let mut waiting_for: Option<String> = None;
        for index in order(&tracks, self.turn.get()) {
            let track = &mut tracks[index];
            let container = track.file.key.container.as_str();
            if track.done || waiting_for.as_deref() == Some(container) {
                continue;
            }
            let at_end = track.at_end();
            let length = track.file.length();
            let heads = &*track
                .heads
                .get_or_insert_with(|| self.heads(source, &track.file.key));
            let read = track.reader.read(&*track.file, at_end, buffer, |record| {
                let head = &heads[record.stream.index()];
                let longest = packer.longest();
                packer.add(|out| head.write(record, longest, out))
            });
            let reached = match read {
                Ok(reached) => reached,
                Err(error) => {
                    failed.push((track.file.key.clone(), error));
                    track.rewind();
                    track.failed = true;
                    continue;
                }
            };
            let done = reached == Reached::End && at_end == AtEnd::Flush;
            track.seen = (reached == Reached::End).then_some((length, at_end));
            ends.push(End {
                file: Rc::clone(&track.file),
                position: track.reader.position(),
                done,
            });
            if reached == Reached::Full {
                break;
            }
            if !done {
                // A later file of the same container has later lines.
                waiting_for = Some(container.to_owned());
            }
        }
        let body = packer.finish();
        drop(workshop);
        if let Some(body) = body {
            return Some(Batch { body, ends });
        }
        drop(tracks);
        self.advance(&ends);
        None
    }

    /// The sink has the batch.
    pub fn delivered(&self, batch: &Batch) {
        self.turn.set(self.turn.get().wrapping_add(1));
        self.count(|counts| counts.delivered += batch.body.records as u64);
        self.advance(&batch.ends);
    }

    /// The sink refuses the only record of the batch.
    pub fn rejected(&self, batch: &Batch) {
        self.count(|counts| counts.rejected += batch.body.records as u64);
        self.advance(&batch.ends);
    }

    /// Everything that is not acknowledged will be read again.
    pub fn rewind(&self) {
        for track in self
            .tracks
            .borrow_mut()
            .iter_mut()
            .filter(|track| !track.done)
        {
            track.rewind();
        }
    }

    /// Counts what is not acknowledged as lost; gives their number.
    pub fn give_up(&self, source: &Source) -> u64 {
        let abandoned = self.sync(source);
        let lost = self.tracks.borrow().iter().map(Track::unsent).sum::<u64>();
        self.count(|counts| counts.lost += lost);
        abandoned + lost
    }

    /// What is saved. Of files that no longer exist nothing is.
    pub fn progress(&self, source: &Source) -> Progress {
        let files = source.files.borrow();
        let exists = |key: &FileKey| {
            files
                .iter()
                .any(|file| file.key == *key && !file.is_deleted())
        };
        let tracks = self.tracks.borrow();
        let parked = self.parked.borrow();
        let reading = tracks
            .iter()
            .map(|track| (&track.file.key, track.committed));
        let Counts {
            delivered,
            rejected,
            ..
        } = self.counts.get();
        Progress {
            delivered,
            rejected,
            files: reading
                .chain(parked.iter().map(|(key, position)| (key, *position)))
                .filter(|(key, _)| exists(key))
                .map(|(key, position)| (key.clone(), position))
                .collect(),
        }
    }

    fn advance(&self, ends: &[End]) {
        let mut tracks = self.tracks.borrow_mut();
        for end in ends {
            let track = tracks
                .iter_mut()
                .find(|track| Rc::ptr_eq(&track.file, &end.file));
            if let Some(track) = track {
                track.committed = end.position;
                track.done = end.done;
                if end.done && track.file.is_deleted() {
                    // The next look at the files lets go of it.
                    self.synced.set(None);
                }
            }
        }
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    fn heads(&self, source: &Source, key: &FileKey) -> [Head; 2] {
        let labels = source.labels.borrow();
        let execution_id = source.execution_id_label.borrow();
        let pod = &source.pod;
        let file_id = short_digest(
            format!(
                "{}/{}/{}/{}",
                pod.uid, key.container, key.restart, key.beginning
            )
            .as_bytes(),
        );
        let origin = Origin {
            namespace: &pod.namespace,
            pod: &pod.name,
            pod_uid: &pod.uid,
            node: &pod.node,
            labels: &labels,
            execution_id: execution_id
                .as_ref()
                .and_then(|label| labels.get(label))
                .map(String::as_str),
            container: &key.container,
            restart: key.restart,
            file_id: &file_id,
        };
        Stream::ALL.map(|stream| Head::new(&self.format.borrow(), &origin, stream))
    }
}
