//! What came and went while no agent was running: it was never read, and is not to vanish without a word.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::trouble::{Kind, Trouble};
use crate::{
    cursor::{Beginning, FileKey, Place},
    files::Files,
};

/// What the agent before this one knew.
#[derive(Debug, Default)]
pub(super) struct Away {
    /// The last start of each container whose files were read; of those alone of which it is not yet known what is there.
    last: BTreeMap<Arc<str>, u32>,
}

impl Away {
    pub(super) fn since<'a>(known: impl Iterator<Item = (&'a FileKey, &'a Place)> + Clone) -> Self {
        // What nobody wanted meanwhile is not missed.
        let declined = known.clone().filter(|(_, place)| place.declined.is_some());
        let declined: BTreeSet<_> = declined.map(|(file, _)| &file.container).collect();
        let mut last = BTreeMap::new();
        for (file, _) in known.filter(|(file, _)| !declined.contains(&file.container)) {
            let restart = last.entry(Arc::clone(&file.container)).or_default();
            *restart = file.restart.max(*restart);
        }
        Self { last }
    }

    /// Containers that were started and have ended, and whose files were gone when this agent looked first; how much was in
    /// them nobody knows. Each is given once.
    pub(super) fn missed(&mut self, files: &Files) -> Vec<Trouble> {
        let mut missed = Vec::new();
        self.last.retain(|container, last| {
            let Some(there) = files.there_at_first(container) else {
                return true;
            };
            let mut before = *last;
            for restart in there.iter().filter(|restart| **restart > *last) {
                if restart - before > 1 {
                    let file = FileKey {
                        container: Arc::clone(container),
                        restart: before + 1,
                        beginning: Beginning::of(&[]),
                    };
                    missed.push(Trouble::new(&file, Kind::Missed(restart - 1)));
                }
                before = *restart;
            }
            false
        });
        missed
    }
}

/// Whether a file that is not there any more may have had more in it than was seen, if no agent was running: something could be
/// added to it. The kubelet deletes no file of a container of which there is no newer one.
pub(super) fn may_have_grown(file: &FileKey, place: &Place, there: &Files) -> bool {
    let is_newer =
        |other: &FileKey| other.container == file.container && other.restart >= file.restart;
    !place.done && there.iter().any(|other| is_newer(&other.key))
}
