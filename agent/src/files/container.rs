//! The log files of one container: finds them by what is in them, keeps their order. Reads no lines.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    fs, io,
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Changes,
    descriptors::Descriptors,
    log_file::{LogFile, Look, Stamp, identify},
    name::Name,
};
use crate::{
    assemble::FileNumber,
    cursor::{Beginning, FileKey},
};

/// The kubelet looks for logs to rotate at most this often (`containerLogMonitorInterval`), and leaves one rotated file at least
/// (`containerLogMaxFiles`): within this time nothing of a run that has begun is deleted.
const ROTATION: Duration = Duration::from_secs(3);

/// A directory whose time does not change is listed again after so many scans all the same.
const RELIST: u32 = 30;

/// The log files of one container.
#[derive(Debug)]
pub(super) struct Container {
    name: Arc<str>,
    /// Of the pod's logs.
    pod: Rc<Path>,
    /// From the oldest to the newest.
    files: Vec<Rc<LogFile>>,
    listing: Listing,
    /// Of which starts there were files when it was listed first, in their order.
    at_first: Option<Box<[u32]>>,
    /// Runs of which a file was seen, and those before them.
    begun: Option<u32>,
    /// When it was known last which runs there were.
    watched: Option<Instant>,
    /// As many of the oldest files need no more looks.
    quiet: usize,
}

/// What is known of a directory since it was listed last.
#[derive(Debug, Default)]
struct Listing {
    stamp: Option<Stamp>,
    /// It was listed twice with the same time, so nothing changed within the grain of its clock.
    settled: bool,
    scans: u32,
    /// Files that the last listing did not show: the next one may, if they were being renamed.
    missing: Vec<FileNumber>,
    /// Runs that had printed nothing.
    empty: BTreeSet<u32>,
}

/// What is found in a directory.
#[derive(Debug, Default)]
struct Found {
    files: HashMap<u32, (Name, Stamp)>,
    /// Whether there may be more: something could not be looked at.
    partial: bool,
    /// Whether there is a file that cannot be told apart yet.
    young: bool,
    /// Runs with a file in which there is nothing.
    empty: BTreeSet<u32>,
}

/// A place on a disk under a name of some form; what is there can be another file later.
type Place = (u32, bool, (u64, u64));

/// What is behind a name.
#[derive(Debug)]
enum Sight {
    File(Rc<LogFile>, Stamp),
    /// It cannot be told apart from others yet.
    Young(Stamp),
    NoFile,
}

impl Found {
    /// A file can be there twice: just compressed, or copied by somebody. The form that is in use comes first.
    fn add(&mut self, file: &LogFile, name: Name, stamp: Stamp) {
        let is_own = |name: &Name, stamp: Stamp| {
            !name.packed
                && file
                    .stamp(false)
                    .is_some_and(|own| own.inode() == stamp.inode())
        };
        match self.files.entry(file.number.0) {
            Entry::Vacant(entry) => {
                entry.insert((name, stamp));
            }
            Entry::Occupied(mut entry) => {
                let (other, seen) = entry.get();
                if !is_own(other, *seen) && (is_own(&name, stamp) || other.packed) {
                    entry.insert((name, stamp));
                }
            }
        }
    }
}

/// What a listing needs from all files.
#[derive(Debug)]
pub(super) struct Stock {
    pub(super) descriptors: Rc<Descriptors>,
    /// How many files were opened.
    pub(super) opened: u32,
    /// Whether half a first line is enough to know a file by: nothing more will be written.
    pub(super) young: bool,
}

impl Container {
    /// A container; `watched` is when it was not there yet, as far as anybody knows.
    pub(super) fn new(name: Arc<str>, pod: &Rc<Path>, watched: Option<Instant>) -> Self {
        Self {
            name,
            pod: Rc::clone(pod),
            files: Vec::new(),
            listing: Listing::default(),
            at_first: None,
            begun: None,
            watched,
            quiet: 0,
        }
    }

    pub(super) fn files(&self) -> &[Rc<LogFile>] {
        &self.files
    }

    pub(super) fn find(&self, key: &FileKey) -> Option<&Rc<LogFile>> {
        self.known(key.restart, key.beginning)
    }

    /// The file that goes by this: of several, the one that was found last. The kubelet keeps a handful.
    fn known(&self, restart: u32, beginning: Beginning) -> Option<&Rc<LogFile>> {
        let same = self
            .files
            .iter()
            .filter(|file| file.key.restart == restart && file.key.beginning == beginning);
        same.max_by_key(|file| file.number.0)
    }

    pub(super) fn there_at_first(&self) -> Option<&[u32]> {
        self.at_first.as_deref()
    }

    /// Whether everything that is there is known.
    pub(super) fn is_settled(&self) -> bool {
        self.listing.settled
    }

    /// Looks at files that may have grown.
    pub(super) fn poll(&mut self, changes: &mut Changes) {
        let from = self.quiet.min(self.files.len().saturating_sub(2));
        let mut cut = false;
        for file in &self.files[from..] {
            match file.look() {
                Look::Same => {}
                Look::Grown => changes.any = true,
                Look::Reopened => {
                    changes.any = true;
                    changes.set = true;
                }
                Look::Cut => cut |= note_cut(file, changes),
            }
        }
        // It is another file by now.
        self.listing.settled &= !cut;
    }

    /// Looks for files that appeared, were renamed, compressed or deleted.
    pub(super) fn scan(&mut self, force: bool, stock: &mut Stock, changes: &mut Changes) {
        let directory = self.pod.join(&*self.name);
        let stamp = match fs::metadata(&directory) {
            Ok(metadata) => Some(Stamp::from(&metadata)),
            Err(error) if is_gone(&error) => None,
            Err(error) => {
                changes.fail(&directory, &error);
                self.listing.settled = false;
                self.watched = None;
                return;
            }
        };
        let same = stamp.is_some() && self.listing.stamp == stamp;
        self.listing.scans += 1;
        let now = Instant::now();
        if same && self.listing.settled && self.listing.scans < RELIST && !force {
            self.watched = Some(now);
            return;
        }
        self.listing.stamp = stamp;
        let mut found = Found::default();
        if let Err(error) = self.list(&directory, stock, changes, &mut found) {
            changes.fail(&directory, &error);
            found.partial = true;
        }
        let missing = self.lose(&found, changes);
        self.take_names(found.files, changes);
        let was_watched = self.watched.is_some_and(|then| now - then < ROTATION);
        self.begin_runs(was_watched, found.partial);
        self.watched = (!found.partial).then_some(now);
        self.listing = Listing {
            stamp,
            settled: same && !found.partial && !found.young && missing.is_empty(),
            scans: 0,
            missing,
            empty: found.empty,
        };
    }

    /// Notes of runs that are seen for the first time whether they begin with the oldest file that is there.
    fn begin_runs(&mut self, was_watched: bool, is_partial: bool) {
        let mut before: Option<&Rc<LogFile>> = None;
        let mut begun = self.begun;
        for file in &self.files {
            let restart = file.key.restart;
            let is_oldest = before.is_none_or(|before| !file.is_of_the_run_of(before));
            before = Some(file);
            if is_oldest && self.begun.is_none_or(|begun| restart > begun) {
                // While nothing was rotated, nothing can have been deleted.
                let is_seen = was_watched || !file.is_rotated() && !is_partial;
                file.set_begins(is_seen.then_some(true));
                begun = begun.max(Some(restart));
            } else if file.begins().is_none() && !is_oldest {
                file.set_begins(Some(false));
            }
        }
        self.begun = begun;
    }

    /// Runs that have printed nothing, and will not: another one has followed, or `ended` says that none will print any more.
    pub(super) fn silent(&self, ended: bool) -> impl Iterator<Item = u32> {
        let newest = self.listing.empty.last().copied().max(self.begun);
        let is_over = move |restart: &u32| ended || newest.is_some_and(|newest| *restart < newest);
        let has_file = |restart: u32| self.files.iter().any(|file| file.key.restart == restart);
        let empty = self.listing.empty.iter().copied();
        empty.filter(move |restart| is_over(restart) && !has_file(*restart))
    }

    fn list(
        &mut self,
        directory: &Path,
        stock: &mut Stock,
        changes: &mut Changes,
        found: &mut Found,
    ) -> io::Result<()> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let by_inode: HashMap<Place, _> = self
            .files
            .iter()
            .flat_map(|file| [false, true].map(|packed| (file, packed)))
            .filter_map(|(file, packed)| {
                let stamp = file.stamp(packed)?;
                Some(((file.key.restart, packed, stamp.inode()), Rc::clone(file)))
            })
            .collect();
        let mut there = BTreeSet::new();
        for entry in entries {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().and_then(Name::parse) else {
                continue;
            };
            there.insert(name.restart);
            let path = entry.path();
            match self.look_at(&path, &name, &by_inode, stock, changes) {
                Ok(Sight::File(file, stamp)) => found.add(&file, name, stamp),
                Ok(Sight::Young(stamp)) => {
                    found.young = true;
                    if stamp.is_empty() {
                        found.empty.insert(name.restart);
                    }
                }
                Ok(Sight::NoFile) => {}
                // Renamed or deleted since the directory was read.
                Err(error) if is_gone(&error) => found.partial = true,
                Err(error) => {
                    changes.fail(&path, &error);
                    found.partial = true;
                }
            }
        }
        self.at_first
            .get_or_insert_with(|| there.into_iter().collect());
        Ok(())
    }

    fn look_at(
        &mut self,
        path: &Path,
        name: &Name,
        by_inode: &HashMap<Place, Rc<LogFile>>,
        stock: &mut Stock,
        changes: &mut Changes,
    ) -> io::Result<Sight> {
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return Ok(Sight::NoFile);
        }
        let stamp = Stamp::from(&metadata);
        let place = (name.restart, name.packed, stamp.inode());
        if let Some(file) = by_inode.get(&place)
            && is_still(file, name, stamp, changes)
        {
            return Ok(Sight::File(Rc::clone(file), stamp));
        }
        self.identify(path, name, stock, changes)
    }

    /// The file that has this content, a new one if no other has; none while it is too young to be told apart.
    fn identify(
        &mut self,
        path: &Path,
        name: &Name,
        stock: &mut Stock,
        changes: &mut Changes,
    ) -> io::Result<Sight> {
        let identified = identify(path, name.packed, stock.young)?;
        let stamp = identified.stamp;
        let Some(beginning) = identified.beginning else {
            return Ok(Sight::Young(stamp));
        };
        if let Some(known) = self.known(name.restart, beginning)
            && !known.is_cut()
        {
            return Ok(Sight::File(Rc::clone(known), stamp));
        }
        stock.opened += 1;
        let key = FileKey {
            container: Arc::clone(&self.name),
            restart: name.restart,
            beginning,
        };
        let file = Rc::new(LogFile::new(
            key,
            FileNumber(stock.opened),
            &self.pod,
            &stock.descriptors,
            name.clone(),
            identified,
        )?);
        self.files.push(Rc::clone(&file));
        changes.any = true;
        changes.set = true;
        Ok(Sight::File(file, stamp))
    }

    /// Notes which files have no name any more; gives those that may only be between two names.
    fn lose(&self, found: &Found, changes: &mut Changes) -> Vec<FileNumber> {
        let mut missing = Vec::new();
        for file in &self.files {
            if file.is_deleted() || found.files.contains_key(&file.number.0) {
                continue;
            }
            let was_missing = self.listing.missing.contains(&file.number);
            // Where not all could be looked at, it may have a name after all.
            if file.is_unlinked() || was_missing && !found.partial {
                changes.set |= file.lose_name();
            } else {
                missing.push(file.number);
            }
        }
        missing
    }

    fn take_names(&mut self, mut names: HashMap<u32, (Name, Stamp)>, changes: &mut Changes) {
        for file in &self.files {
            if let Some((name, stamp)) = names.remove(&file.number.0) {
                changes.set |= file.found(name, stamp);
            }
        }
        self.files.sort_by(|one, other| one.order(other));
    }

    /// Declares files finished that are followed by others, and were quiet for some time if the runtime may still
    /// have them open.
    pub(super) fn settle(&mut self, quiet: Duration) -> bool {
        let mut changed = false;
        for index in self.quiet.min(self.files.len())..self.files.len() {
            let file = &self.files[index];
            if file.is_finished() {
                continue;
            }
            let is_over = match self.files.get(index + 1) {
                _ if file.is_packed() => true,
                Some(next) if file.is_of_the_run_of(next) && next.is_rotated() => true,
                Some(_) => file.quiet_for() >= quiet,
                None => file.is_deleted() && file.quiet_for() >= quiet,
            };
            changed |= is_over && file.finish();
        }
        changed
    }

    /// Forgets files that nobody can read any more, and lets go of those that nobody has to.
    pub(super) fn tidy(&mut self, review: bool) {
        let is_over = |file: &LogFile| file.is_deleted() && !file.has_readers();
        self.files.retain(|file| !is_over(file));
        if !review {
            return;
        }
        let last = self.files.len().saturating_sub(1);
        for (index, file) in self.files.iter().enumerate() {
            if !file.has_readers() && (!file.is_finished() || self.is_complete(index, last)) {
                file.release();
            }
        }
        let needs_no_look = |file: &Rc<LogFile>| file.is_finished() && !file.is_held();
        self.quiet = self
            .files
            .iter()
            .take_while(|file| needs_no_look(file))
            .count();
    }

    /// Whether a finished file cannot grow against all expectation: the runtime has opened another one for sure.
    fn is_complete(&self, index: usize, last: usize) -> bool {
        let file = &self.files[index];
        file.is_packed()
            || file.is_deleted()
            || (index < last && {
                let next = &self.files[index + 1];
                !file.is_of_the_run_of(next) || next.is_rotated()
            })
    }

    /// Whether it is gone and nothing of it is held.
    pub(super) fn is_over(&self) -> bool {
        self.listing.scans == 0 && self.listing.stamp.is_none() && self.files.is_empty()
    }

    /// Declares every file finished.
    pub(super) fn finish(&self) {
        for file in &self.files {
            file.finish();
        }
    }
}

/// Whether a file that was found under the inode of a known one is that file.
fn is_still(file: &Rc<LogFile>, name: &Name, stamp: Stamp, changes: &mut Changes) -> bool {
    if file.is_cut() {
        return false;
    }
    if file.stamp(name.packed) == Some(stamp) {
        return true;
    }
    // While it is held open as it was written, its inode cannot be another file's; otherwise its beginning has to say.
    if name.packed || !file.is_held_plain() {
        return false;
    }
    match file.observe(stamp) {
        Look::Same => {}
        Look::Grown => changes.any = true,
        Look::Reopened => {
            changes.any = true;
            changes.set = true;
        }
        Look::Cut => {
            note_cut(file, changes);
            return false;
        }
    }
    true
}

fn note_cut(file: &LogFile, changes: &mut Changes) -> bool {
    let news = file.cut();
    if news {
        changes.any = true;
        changes.set = true;
        changes
            .truncated
            .push((file.key.container.to_string(), file.key.restart));
    }
    news
}

/// Whether what was asked for is not there, which happens when files are rotated.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
