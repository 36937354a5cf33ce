//! What a policy no longer takes: it is not read any more, and counted. Nobody wants it, so it is not lost; and it was
//! wanted when it was written, so it does not vanish.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use super::{
    Route, Source, begin,
    room::Room,
    track::{Track, View, for_each_unsent},
};
use crate::{
    assemble::FileNumber,
    cursor::{FileKey, Place},
    files::LogFile,
    process::trail::Memory,
};

/// Records of a container that its policy no longer takes, and that were not acknowledged.
#[derive(Debug)]
pub struct Declined {
    /// The container.
    pub container: Arc<str>,
    /// How many.
    pub records: u64,
}

impl Route {
    /// Whether it reads something that the policy does not take any more.
    pub fn reads_declined(&self, source: &Source) -> bool {
        let policy = self.policy.borrow();
        let labels = source.labels.borrow();
        let tracks = self.tracks.borrow();
        let mut containers = tracks.iter().map(|track| &track.file.key.container);
        containers.any(|container| !policy.takes(&labels, container))
    }

    /// Stops reading, because the policy takes nothing of this pod any more.
    pub fn decline_all(&self) -> Vec<Declined> {
        let tracks = std::mem::take(&mut *self.tracks.borrow_mut());
        let mut parked = self.parked.borrow_mut();
        self.decline(tracks, &mut parked)
    }

    /// Parks what is not acknowledged of these files, in the order of their lines, with the number of its records: the
    /// policy may take it again. What is held by being read alone can then no longer be there, and is dropped now.
    pub(super) fn decline(
        &self,
        mut tracks: Vec<Track>,
        parked: &mut HashMap<FileKey, Place>,
    ) -> Vec<Declined> {
        if tracks.is_empty() {
            return Vec::new();
        }
        let is_gone = |track: &&mut Track| track.file.is_deleted() || track.file.is_cut();
        self.leave_to_object(tracks.iter_mut().filter(is_gone));
        let mut unsent: HashMap<FileNumber, u64> = HashMap::new();
        let view = View {
            ready: &self.for_counting(),
            filtered: false,
            id: |_: &FileKey| 0,
            passed: |_: &str| Memory::default(),
            until: None,
        };
        for_each_unsent(&tracks, &view, |file, _| {
            *unsent.entry(file).or_default() += 1;
        });
        let mut declined: Vec<Declined> = Vec::new();
        for track in tracks {
            let key = &track.file.key;
            let records = unsent.remove(&track.file.number).unwrap_or_default();
            if track.file.is_deleted() || track.file.is_cut() {
                self.count(|counts| counts.dropped += records);
            } else {
                let place = Place {
                    declined: Some(records),
                    ..track.place(false)
                };
                parked.insert(key.clone(), place);
            }
            match declined.last_mut() {
                Some(last) if last.container == key.container => last.records += records,
                _ => declined.push(Declined {
                    container: Arc::clone(&key.container),
                    records,
                }),
            }
        }
        declined.retain(|declined| declined.records > 0);
        declined
    }
}

/// A file that an agent before this one was reading, and that the policy has ceased to take meanwhile.
pub(super) fn uncounted(
    parked: &mut HashMap<FileKey, Place>,
    file: &Rc<LogFile>,
    room: &Rc<Room>,
) -> Option<Track> {
    let place = parked.get(&file.key)?;
    if place.done || place.declined.is_some() {
        return None;
    }
    Some(Track::new(file, begin(parked, file)?, room))
}
