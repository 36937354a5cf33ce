//! The log files of the pod's containers: finds them, holds them open, says which are finished. Reads no lines.
//!
//! There is no inotify here on purpose. Every agent of a node runs as the same user, and the kernel's default allows
//! that user 128 inotify instances in all (`fs.inotify.max_user_instances`): a full node of sidecars would take them
//! from the kubelet. Asking a handful of open files for their size five times a second costs less than it saves.

mod container;
mod descriptors;
mod log_file;
mod name;
mod unpack;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use container::{Container, Stock, is_gone};
pub use descriptors::Descriptors;
use log_file::Stamp;
pub use log_file::{Content, LogFile, Reading};

use crate::cursor::FileKey;

/// A log file that is followed by another one is finished when nothing was added to it for this long.
const SETTLED: Duration = Duration::from_secs(1);

/// What happened to the files since they were last looked at.
#[derive(Debug, Default)]
pub struct Changes {
    /// Whether there is anything new to read.
    pub any: bool,
    /// Whether files appeared, were renamed, lost their name or grew though they were finished.
    pub set: bool,
    /// Whether files were given up that were not read to their end.
    pub abandoned: bool,
    /// Files that were truncated: what was in them is gone. Container and restart.
    pub truncated: Vec<(String, u32)>,
    /// Directories and files that could not be read, with the reason; none when directories were not looked at.
    pub failed: Option<BTreeMap<PathBuf, String>>,
}

impl Changes {
    fn fail(&mut self, path: &Path, error: &io::Error) {
        let failed = self.failed.get_or_insert_default();
        failed.insert(path.to_owned(), error.to_string());
    }
}

/// All log files of the pod.
#[derive(Debug)]
pub struct Files {
    directory: Rc<Path>,
    /// The agent's own container: reading its log would make more of it.
    own_container: String,
    /// How many bytes of deleted files may be held.
    most_held: u64,
    containers: BTreeMap<Arc<str>, Container>,
    /// What the directory was when it was listed last, and whether it was the same the time before.
    listed: (Option<Stamp>, bool),
    /// When it was known last which containers there were.
    watched: Option<Instant>,
    /// Whether the containers have ended.
    finished: bool,
    stock: Stock,
}

impl Files {
    /// The files below a pod's log directory; of deleted ones, at most `most_held` bytes are kept for slow sinks.
    pub fn new(
        directory: &Path,
        own_container: &str,
        most_held: u64,
        descriptors: Descriptors,
    ) -> Self {
        Self {
            most_held,
            directory: directory.into(),
            own_container: own_container.to_owned(),
            containers: BTreeMap::new(),
            listed: (None, false),
            watched: None,
            finished: false,
            stock: Stock {
                descriptors: Rc::new(descriptors),
                opened: 0,
                young: false,
            },
        }
    }

    /// All files, those of one container together and from the oldest to the newest.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<LogFile>> {
        self.containers.values().flat_map(Container::files)
    }

    /// Names of all containers that have a log.
    pub fn containers(&self) -> impl Iterator<Item = &Arc<str>> {
        self.containers.keys()
    }

    /// Runs of containers that have printed nothing, and will not; `ended` says that none will print any more.
    pub fn silent(&self, ended: bool) -> impl Iterator<Item = (&Arc<str>, u32)> {
        self.containers.iter().flat_map(move |(name, container)| {
            container.silent(ended).map(move |restart| (name, restart))
        })
    }

    /// The file with this content.
    pub fn find(&self, key: &FileKey) -> Option<&Rc<LogFile>> {
        self.containers.get(&key.container)?.find(key)
    }

    /// Files and directories that could not be opened, by container; no name where not even that is known.
    pub fn unopened(&self, changes: &Changes) -> Vec<String> {
        let failed = changes.failed.iter().flat_map(BTreeMap::keys);
        failed
            .filter(|path| !self.iter().any(|file| file.is_at(path)))
            .map(|path| {
                let relative = path.strip_prefix(&self.directory).ok();
                let container = relative.and_then(|path| path.iter().next()?.to_str());
                container.unwrap_or_default().to_owned()
            })
            .collect()
    }

    /// Of which starts of a container there were files, known or not, when its directory was listed first; none before that.
    pub fn there_at_first(&self, container: &str) -> Option<&[u32]> {
        self.containers.get(container)?.there_at_first()
    }

    /// Whether every file that is there is known, so that one that is not known is gone.
    pub fn are_complete(&self) -> bool {
        self.finished || self.listed.1 && self.containers.values().all(Container::is_settled)
    }

    /// Looks at files that may have grown; new files are found by [`Files::scan`].
    pub fn poll(&mut self) -> Changes {
        let mut changes = Changes::default();
        for container in self.containers.values_mut() {
            container.poll(&mut changes);
        }
        self.settle(SETTLED, &mut changes);
        changes
    }

    /// Looks for files that appeared, were renamed, compressed, deleted or truncated.
    pub fn scan(&mut self) -> Changes {
        let mut changes = Changes::default();
        // Before new files are found: those have no readers yet.
        self.tidy(&mut changes);
        self.look(false, &mut changes);
        self.settle(SETTLED, &mut changes);
        changes.abandoned = self.abandon();
        changes
    }

    /// As [`Files::scan`], and without trust in what directories say of their last change; for the end of the pod.
    pub fn scan_closely(&mut self) -> Changes {
        let mut changes = Changes::default();
        self.look(true, &mut changes);
        self.settle(SETTLED, &mut changes);
        changes.abandoned = self.abandon();
        changes
    }

    /// Declares every file finished, also those that have only begun: the containers have ended.
    pub fn finish(&mut self) -> Changes {
        let mut changes = Changes::default();
        self.stock.young = true;
        self.look(true, &mut changes);
        for container in self.containers.values() {
            container.finish();
        }
        self.finished = true;
        // Whatever the directories say, nothing more will come of them.
        changes.any = true;
        changes.set = true;
        changes
    }

    fn look(&mut self, force: bool, changes: &mut Changes) {
        let complete = self.are_complete();
        changes.failed.get_or_insert_default();
        self.list(force, changes);
        for container in self.containers.values_mut() {
            container.poll(changes);
            container.scan(force, &mut self.stock, changes);
        }
        changes.set |= self.are_complete() != complete;
    }

    fn list(&mut self, force: bool, changes: &mut Changes) {
        let stamp = fs::metadata(&self.directory).map(|metadata| Some(Stamp::from(&metadata)));
        let (before, settled) = self.listed;
        let now = Instant::now();
        let watched = self.watched.replace(now);
        let entries = match stamp {
            Ok(stamp) if stamp == before && settled && !force => return,
            Ok(stamp) => {
                self.listed = (stamp, stamp == before);
                fs::read_dir(&self.directory)
            }
            Err(error) => Err(error),
        };
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                self.listed.1 = false;
                self.watched = None;
                if !is_gone(&error) {
                    changes.fail(&self.directory, &error);
                }
                return;
            }
        };
        for entry in entries {
            let Ok(entry) = entry else {
                self.listed.1 = false;
                self.watched = None;
                continue;
            };
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let is_directory = entry.file_type().is_ok_and(|kind| !kind.is_file());
            if is_directory
                && name != self.own_container
                && !self.containers.contains_key(name.as_str())
            {
                let name: Arc<str> = name.into();
                let container = Container::new(Arc::clone(&name), &self.directory, watched);
                self.containers.insert(name, container);
            }
        }
    }

    /// As if nothing had been written for a long time.
    #[cfg(test)]
    pub(crate) fn settle_now(&mut self) -> Changes {
        let mut changes = Changes::default();
        self.settle(Duration::ZERO, &mut changes);
        changes
    }

    fn settle(&mut self, quiet: Duration, changes: &mut Changes) {
        for container in self.containers.values_mut() {
            changes.any |= container.settle(quiet);
        }
    }

    fn tidy(&mut self, changes: &mut Changes) {
        let descriptors = &self.stock.descriptors;
        let review = descriptors.needs_review();
        for container in self.containers.values_mut() {
            container.tidy(review);
        }
        self.containers.retain(|_, container| !container.is_over());
        if descriptors.was_short() {
            for file in self
                .iter()
                .filter(|file| file.has_readers() && !file.is_held())
            {
                if let Err(error) = file.hold() {
                    changes.fail(&self.directory.join(&*file.key.container), &error);
                }
            }
        }
    }

    /// Gives up the oldest deleted files while too much is held: a dead sink must not fill the node's disk.
    fn abandon(&self) -> bool {
        let mut held: Vec<_> = self.iter().filter(|file| file.keeps_disk()).collect();
        held.sort_by_key(|file| file.modified());
        let mut bytes: u64 = held.iter().map(|file| file.length()).sum();
        let mut any = false;
        for file in held {
            if bytes <= self.most_held {
                break;
            }
            bytes -= file.length();
            file.abandon();
            any |= file.is_abandoned();
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, os::unix::fs::symlink};

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::reader::ReadAt;

    const LINE: &str = "2026-11-23T10:15:07.1Z stdout F ";

    struct Pod {
        directory: tempfile::TempDir,
        files: Files,
    }

    impl Pod {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let files = Files::new(directory.path(), "agent", 100, Descriptors::new(1024));
            Self { directory, files }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn append(&self, name: &str, text: &str) {
            fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
            let mut file = File::options()
                .append(true)
                .create(true)
                .open(self.path(name))
                .unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        /// As the kubelet does, in its three steps.
        fn compress(&self, name: &str) {
            let packed = File::create(self.path(&format!("{name}.tmp"))).unwrap();
            let mut encoder = GzEncoder::new(packed, Compression::fast());
            encoder
                .write_all(&fs::read(self.path(name)).unwrap())
                .unwrap();
            encoder.finish().unwrap();
            fs::rename(
                self.path(&format!("{name}.tmp")),
                self.path(&format!("{name}.gz")),
            )
            .unwrap();
        }

        /// Looks until a look finds nothing new.
        fn scan(&mut self) {
            while {
                let changes = self.files.scan();
                assert_eq!(changes.failed, Some(BTreeMap::new()));
                changes.set
            } {}
        }

        fn names(&self) -> Vec<String> {
            self.files.iter().map(ToString::to_string).collect()
        }

        fn first(&self) -> Rc<LogFile> {
            Rc::clone(self.files.iter().next().unwrap())
        }
    }

    fn text(file: &LogFile) -> String {
        let mut buffer = vec![0; 1 << 16];
        let content = file.content(None).unwrap();
        let got = content.read_at(&mut buffer, 0).unwrap();
        buffer.truncate(got);
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn only_logs_of_other_containers_are_found() {
        let mut pod = Pod::new();
        for name in [
            "web/0.log",
            "web/1.log",
            "agent/0.log",
            "web/0.log.20261123-101010.tmp",
            "web/x.tmp",
            "note",
        ] {
            pod.append(name, &format!("{LINE}{name}\n"));
        }
        assert!(pod.files.scan().any);
        assert_eq!(pod.names(), ["web/0.log", "web/1.log"]);
        pod.scan();
        assert!(pod.files.are_complete());
        assert!(!pod.files.scan().any, "nothing has changed");
        pod.append("late/0.log", &format!("{LINE}late\n"));
        assert!(pod.files.scan().any);
        assert_eq!(pod.names(), ["late/0.log", "web/0.log", "web/1.log"]);
    }

    #[test]
    fn a_file_without_a_whole_first_line_is_left_for_later_but_not_for_ever() {
        let mut pod = Pod::new();
        pod.append("web/0.log", LINE);
        pod.append("other/0.log", LINE);
        pod.scan();
        assert!(pod.names().is_empty());
        assert!(!pod.files.are_complete());
        pod.append("web/0.log", "a\n");
        assert!(pod.files.scan().any);
        assert_eq!(pod.names(), ["web/0.log"]);
        assert!(pod.files.finish().any);
        assert_eq!(pod.names(), ["other/0.log", "web/0.log"]);
    }

    #[test]
    fn a_renamed_file_is_the_same_file_and_comes_first() {
        let mut pod = Pod::new();
        pod.append("web/0.log", &format!("{LINE}old\n"));
        pod.files.scan();
        let old = pod.first();
        let _reading = Reading::new(&old);
        let renamed = "web/0.log.20261123-101010";
        fs::rename(pod.path("web/0.log"), pod.path(renamed)).unwrap();
        pod.append("web/0.log", &format!("{LINE}new\n"));
        pod.scan();
        assert_eq!(pod.names(), [renamed, "web/0.log"]);
        assert!(Rc::ptr_eq(&pod.first(), &old));
        // What the runtime still writes to the old file is seen.
        pod.append(renamed, &format!("{LINE}late\n"));
        assert!(pod.files.poll().any);
        assert_eq!(old.length(), 2 * (LINE.len() as u64) + 9);
    }

    #[test]
    fn a_run_begins_with_its_oldest_file_where_nothing_can_have_been_deleted_before() {
        let mut pod = Pod::new();
        let begins = |pod: &Pod| -> Vec<Option<bool>> {
            pod.files.iter().map(|file| file.begins()).collect()
        };
        // What was there before the agent: of what was rotated nobody knows what is gone.
        pod.append("early/0.log", &format!("{LINE}a\n"));
        pod.append("late/0.log.20261123-101010", &format!("{LINE}a\n"));
        pod.append("late/0.log", &format!("{LINE}b\n"));
        pod.files.scan();
        assert_eq!(begins(&pod), [Some(true), None, Some(false)]);
        // What comes while it looks, even if it is rotated between two looks.
        pod.append("late/1.log.20261123-101020", &format!("{LINE}c\n"));
        pod.append("late/1.log", &format!("{LINE}d\n"));
        pod.append("new/0.log.20261123-101020", &format!("{LINE}e\n"));
        pod.append("new/0.log", &format!("{LINE}f\n"));
        pod.files.scan();
        let seen = [Some(true), Some(false)];
        let before = [Some(true), None, Some(false)];
        assert_eq!(begins(&pod), [&before[..], &seen, &seen].concat());
        // The first file goes, unread; what is left is not the beginning.
        fs::remove_file(pod.path("early/0.log")).unwrap();
        pod.append("early/0.log", &format!("{LINE}g\n"));
        pod.scan();
        pod.scan();
        assert_eq!(pod.names()[0], "early/0.log");
        assert_eq!(begins(&pod)[0], Some(false));
    }

    #[test]
    fn a_run_that_printed_nothing_is_told_once_it_is_over() {
        let mut pod = Pod::new();
        let silent = |pod: &Pod, ended| -> Vec<(String, u32)> {
            let silent = pod.files.silent(ended);
            silent
                .map(|(name, restart)| (name.to_string(), restart))
                .collect()
        };
        pod.append("web/0.log", "");
        pod.append("other/0.log", &format!("{LINE}a\n"));
        pod.files.scan();
        assert_eq!(silent(&pod, false), [], "it may print yet");
        assert_eq!(silent(&pod, true), [("web".to_owned(), 0)]);
        pod.append("web/1.log", "");
        pod.files.scan();
        assert_eq!(silent(&pod, false), [("web".to_owned(), 0)]);
        pod.append("web/0.log", &format!("{LINE}late\n"));
        pod.files.scan();
        assert_eq!(silent(&pod, false), [], "it has printed after all");
        pod.append("web/2.log", &format!("{LINE}b\n"));
        pod.files.scan();
        assert_eq!(silent(&pod, true), [("web".to_owned(), 1)]);
        // After its rotation the file of a run that prints is empty for a while.
        fs::rename(pod.path("web/2.log"), pod.path("web/2.log.20261123-101010")).unwrap();
        pod.append("web/2.log", "");
        pod.files.scan();
        assert_eq!(silent(&pod, true), [("web".to_owned(), 1)]);
    }

    #[test]
    fn a_followed_file_is_finished_when_it_is_quiet() {
        let mut pod = Pod::new();
        let rotated = ["web/0.log.20261123-101010", "web/0.log.20261123-101020"];
        for name in [rotated[0], rotated[1], "web/0.log", "other/0.log"] {
            pod.append(name, &format!("{LINE}{name}\n"));
        }
        pod.files.scan();
        let finished = |pod: &Pod| -> Vec<String> {
            pod.files
                .iter()
                .filter(|file| file.is_finished())
                .map(ToString::to_string)
                .collect()
        };
        // The runtime has another one open for sure only once there is another rotated one.
        assert_eq!(finished(&pod), rotated[..1]);
        pod.files.settle_now();
        assert_eq!(finished(&pod), rotated);
    }

    #[test]
    fn a_compressed_file_is_the_same_file() {
        let mut pod = Pod::new();
        let name = "web/0.log.20261123-101010";
        let lines = format!("{LINE}one\n{LINE}two\n");
        pod.append(name, &lines);
        pod.append("web/0.log", &format!("{LINE}new\n"));
        pod.files.scan();
        let file = pod.first();
        let reading = Reading::new(&file);
        pod.compress(name);
        pod.scan();
        assert_eq!(pod.names(), [name, "web/0.log"], "both forms, one file");
        fs::remove_file(pod.path(name)).unwrap();
        pod.scan();
        assert_eq!(pod.names(), [&format!("{name}.gz"), "web/0.log"]);
        assert!(Rc::ptr_eq(&pod.first(), &file) && !file.is_deleted());
        assert_eq!(text(&file), lines);
        // Nobody reads it any more, so nothing of it is held; and somebody wants to again.
        drop(reading);
        pod.scan();
        assert!(!file.is_held());
        assert_eq!(text(&file), lines);
        // Another agent finds the compressed one only.
        let mut other = Files::new(pod.directory.path(), "agent", 0, Descriptors::new(1024));
        other.scan();
        let found = other.iter().next().unwrap();
        assert_eq!(found.key, file.key);
        assert_eq!((found.length(), text(found)), (lines.len() as u64, lines));
    }

    #[test]
    fn another_file_with_the_inode_of_a_deleted_one_is_another_file() {
        let mut pod = Pod::new();
        pod.append("web/0.log", &format!("{LINE}one\n"));
        pod.append("web/1.log", &format!("{LINE}two\n"));
        pod.files.scan();
        pod.scan();
        let old = pod.first();
        assert!(!old.is_held(), "nobody reads it");
        // The same inode, name and size, as when an inode is used again.
        let mut file = File::options()
            .write(true)
            .open(pod.path("web/0.log"))
            .unwrap();
        file.write_all(format!("{LINE}new\n").as_bytes()).unwrap();
        fs::rename(pod.path("web/0.log"), pod.path("web/x")).unwrap();
        fs::rename(pod.path("web/x"), pod.path("web/0.log")).unwrap();
        pod.scan();
        let texts: Vec<_> = pod.files.iter().map(|file| text(file)).collect();
        assert_eq!(texts, [format!("{LINE}new\n"), format!("{LINE}two\n")]);
        assert_ne!(pod.first().key, old.key);
    }

    #[test]
    fn a_deleted_file_stays_as_long_as_somebody_reads_it() {
        let mut pod = Pod::new();
        pod.append("web/0.log", &format!("{LINE}a\n"));
        pod.files.scan();
        let held = pod.first();
        let reading = Reading::new(&held);
        fs::remove_dir_all(pod.path("web")).unwrap();
        pod.scan();
        assert!(held.is_deleted());
        assert_eq!(text(&held), format!("{LINE}a\n"));
        assert_eq!(pod.names().len(), 1);
        drop(reading);
        pod.scan();
        assert!(pod.names().is_empty() && pod.files.containers.is_empty());
    }

    #[test]
    fn what_cannot_be_looked_at_is_told_and_does_not_count_as_deleted() {
        let mut pod = Pod::new();
        pod.append("web/0.log", &format!("{LINE}a\n"));
        pod.append("web/1.log", &format!("{LINE}b\n"));
        pod.files.scan();
        pod.scan();
        fs::remove_file(pod.path("web/1.log")).unwrap();
        // A link to itself cannot be followed, whoever asks.
        symlink("2.log", pod.path("web/2.log")).unwrap();
        for _ in 0..3 {
            let changes = pod.files.scan();
            let failed = changes.failed.unwrap();
            assert!(failed.contains_key(&pod.path("web/2.log")));
            assert!(!pod.files.are_complete());
        }
        assert!(pod.files.iter().all(|file| !file.is_deleted()));
        fs::remove_file(pod.path("web/2.log")).unwrap();
        pod.scan();
        assert_eq!(pod.names(), ["web/0.log"]);
    }

    #[test]
    fn of_deleted_files_only_so_much_is_held() {
        let mut pod = Pod::new();
        let long = "x".repeat(50);
        for name in ["web/0.log", "web/1.log"] {
            pod.append(name, &format!("{LINE}{name}{long}\n"));
        }
        pod.files.scan();
        let readings: Vec<_> = pod.files.iter().map(Reading::new).collect();
        fs::remove_file(pod.path("web/0.log")).unwrap();
        assert!(!pod.files.scan().abandoned);
        fs::remove_file(pod.path("web/1.log")).unwrap();
        assert!(pod.files.scan().abandoned);
        let abandoned: Vec<_> = readings.iter().map(|file| file.is_abandoned()).collect();
        assert_eq!(abandoned, [true, false], "the oldest first");
    }

    /// Its compressed form takes less of the disk and is as good.
    #[test]
    fn instead_of_a_deleted_file_its_compressed_form_is_used() {
        let mut pod = Pod::new();
        let name = "web/0.log.20261123-101010";
        let lines = format!("{LINE}{}\n", "x".repeat(200));
        pod.append(name, &lines);
        pod.append("web/0.log", &format!("{LINE}new\n"));
        pod.files.scan();
        let file = pod.first();
        let _reading = Reading::new(&file);
        pod.compress(name);
        fs::remove_file(pod.path(name)).unwrap();
        assert!(!pod.files.scan().abandoned);
        assert!(!file.is_held() && !file.is_deleted());
        assert_eq!(text(&file), lines);
    }

    #[test]
    fn a_truncated_file_is_another_file() {
        let mut pod = Pod::new();
        pod.append("web/0.log", &format!("{LINE}first\n{LINE}second\n"));
        pod.files.scan();
        let old = pod.first();
        let _reading = Reading::new(&old);
        let truncate = || {
            let live = File::options().write(true).open(pod.path("web/0.log"));
            live.unwrap().set_len(0).unwrap();
        };
        truncate();
        assert_eq!(pod.files.poll().truncated, [("web".to_owned(), 0)]);
        pod.append("web/0.log", &format!("{LINE}third\n"));
        assert!(pod.files.scan().any);
        let new = pod.files.iter().find(|file| !file.is_cut()).unwrap();
        assert_eq!(text(new), format!("{LINE}third\n"));
        assert_eq!(text(&old), "");
        // Between two looks it can even have become longer than it was.
        let new = Rc::clone(new);
        let _reading = Reading::new(&new);
        pod.append("web/0.log", "");
        File::create(pod.path("web/0.log")).unwrap();
        let longer = format!("{LINE}fourth\n").repeat(9);
        pod.append("web/0.log", &longer);
        assert_eq!(pod.files.poll().truncated, [("web".to_owned(), 0)]);
        pod.files.scan();
        let last = pod.files.iter().find(|file| !file.is_cut()).unwrap();
        assert_eq!(text(last), longer);
    }

    #[test]
    fn more_files_than_descriptors_are_read_all_the_same() {
        const FILES: usize = 100;
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path(), "agent", 100, Descriptors::new(0));
        let mut pod = Pod { directory, files };
        let line = |number: usize| format!("{LINE}line {number}\n");
        for number in 0..FILES {
            pod.append(&format!("web/{number}.log"), &line(number));
        }
        pod.files.scan();
        let held = |pod: &Pod| pod.files.iter().filter(|file| file.is_held()).count() as u64;
        let limit = pod.files.stock.descriptors.limit();
        assert_eq!((pod.names().len(), held(&pod)), (FILES, limit));
        let mut readings: Vec<_> = pod.files.iter().map(Reading::new).collect();
        for (number, reading) in readings.iter().enumerate() {
            assert_eq!(text(reading), line(number));
        }
        assert_eq!(held(&pod), limit);
        // Those that nobody reads any more make room for the others.
        readings.drain(..FILES / 2);
        pod.files.settle_now();
        pod.scan();
        let held: Vec<_> = pod.files.iter().filter(|file| file.is_held()).collect();
        assert_eq!(held.len() as u64, limit);
        assert!(held.iter().all(|file| file.has_readers()));
    }
}
