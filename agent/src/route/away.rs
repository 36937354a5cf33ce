//! What came and went while no agent was running: it was never read, and is not to vanish without a word.

use std::{collections::HashMap, sync::Arc};

use super::trouble::{Kind, Trouble};
use crate::{
    cursor::{Beginning, FileKey, Place},
    files::Files,
};

/// Of which containers files were known when the agent before this one ended: the last start of each.
#[derive(Debug, Default)]
pub(super) struct Away(HashMap<Arc<str>, u32>);

impl Away {
    pub(super) fn since(known: &[(FileKey, Place)]) -> Self {
        let mut last = HashMap::new();
        for (file, _) in known {
            let restart = last.entry(Arc::clone(&file.container)).or_default();
            *restart = file.restart.max(*restart);
        }
        Self(last)
    }

    /// Whether a file that is not there any more may have had more in it than was seen: something could be added to it.
    ///
    /// The kubelet deletes no file of a container of which there is no newer one.
    pub(super) fn has_missed_end_of(&self, file: &FileKey, place: &Place, there: &Files) -> bool {
        let is_newer =
            |other: &FileKey| other.container == file.container && other.restart >= file.restart;
        self.0.contains_key(&file.container)
            && !place.done
            && there.iter().any(|other| is_newer(&other.key))
    }

    /// Containers that were started and have ended, and whose files are gone; how much was in them nobody knows.
    pub(super) fn missed(&self, there: &Files) -> Vec<Trouble> {
        let missed = |(container, last): (&Arc<str>, &u32)| {
            let restarts = || {
                let files = there.iter().filter(|file| file.key.container == *container);
                files.map(|file| file.key.restart)
            };
            let newest = restarts().max()?;
            let mut missing =
                (last + 1..newest).filter(|restart| restarts().all(|known| known != *restart));
            let first = missing.next()?;
            let through = missing.last().unwrap_or(first);
            let file = FileKey {
                container: Arc::clone(container),
                restart: first,
                beginning: Beginning::of(&[]),
            };
            Some(Trouble::new(&file, Kind::Missed(through)))
        };
        let mut missed: Vec<Trouble> = self.0.iter().filter_map(missed).collect();
        missed.sort_by(|one, other| one.file().container.cmp(&other.file().container));
        missed
    }
}
