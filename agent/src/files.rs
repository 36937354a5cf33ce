//! The log files of the pod's containers: finds them, holds them open, says which are finished. Reads no lines.
//!
//! There is no inotify here on purpose. Every agent of a node runs as the same user, and the kernel's default allows
//! that user 128 inotify instances in all (`fs.inotify.max_user_instances`): a full node of sidecars would take them
//! from the kubelet. Asking a handful of open files for their size five times a second costs less than it saves.

mod log_file;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use log_file::{Generation, parse_name};
pub use log_file::{LogFile, short_digest};

use crate::cursor::FileKey;

/// A log file that is followed by another one is finished when nothing was added to it for this long.
const SETTLED: Duration = Duration::from_secs(1);

/// What happened to the files since they were last looked at.
#[derive(Debug, Default)]
pub struct Changes {
    /// Whether there is anything new to read.
    pub any: bool,
    /// Whether files appeared, were renamed or lost their name.
    pub set: bool,
    /// Whether files were given up that were not read to their end.
    pub abandoned: bool,
    /// Files that became shorter: what was in them is gone. Container and restart.
    pub truncated: Vec<(String, u32)>,
    /// Directories and files that could not be read, with the reason.
    pub failed: BTreeMap<PathBuf, String>,
}

/// All log files of the pod.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    /// The agent's own container: reading its log would make more of it.
    own_container: String,
    /// How many bytes of deleted files may be held.
    most_held: u64,
    open: Vec<Rc<LogFile>>,
}

impl Files {
    /// The files below a pod's log directory; of deleted ones, at most `most_held` bytes are kept for slow sinks.
    pub fn new(directory: &Path, own_container: &str, most_held: u64) -> Self {
        Self {
            most_held,
            directory: directory.to_owned(),
            own_container: own_container.to_owned(),
            open: Vec::new(),
        }
    }

    /// All files, those of one container together and from the oldest to the newest.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<LogFile>> {
        self.open.iter()
    }

    /// Asks the open files for their size; new files are found by [`Files::scan`].
    pub fn poll(&self) -> bool {
        let mut changed = false;
        for file in &self.open {
            changed |= !file.is_finished() && file.look();
        }
        changed |= self.settle(SETTLED);
        changed
    }

    /// Looks for files that appeared, were renamed, deleted or truncated.
    pub fn scan(&mut self) -> Changes {
        let mut changes = Changes::default();
        let before = self.names();
        let mut present = Vec::new();
        let containers = list(&self.directory, &mut changes);
        for (container, path) in containers {
            if container == self.own_container {
                continue;
            }
            for (name, path) in list(&path, &mut changes) {
                let Some((restart, generation)) = parse_name(&name) else {
                    continue;
                };
                match self.find_or_open(&container, restart, &path) {
                    Ok(Some(found)) => {
                        changes.any |= found.1;
                        found.0.rename(generation);
                        present.push(found.0);
                    }
                    Ok(None) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        changes.failed.insert(path, error.to_string());
                    }
                }
            }
        }
        for file in &self.open {
            let named = present.iter().any(|other| Rc::ptr_eq(file, other))
                // Where a directory cannot be listed, nothing is known of its files.
                || changes.failed.contains_key(&self.directory)
                || changes.failed.contains_key(&self.directory.join(&file.key.container));
            if file.set_named(named) && file.is_truncated() {
                file.finish();
                let key = &file.key;
                changes.truncated.push((key.container.clone(), key.restart));
            }
        }
        for file in present {
            // By key: renamed while the directory was being listed, it was found under both names.
            if !self.open.iter().any(|other| file.key == other.key) {
                changes.any = true;
                self.open.push(file);
            }
        }
        // Nobody else holds a file that was read to its end.
        self.open
            .retain(|file| !file.is_deleted() || Rc::strong_count(file) > 1);
        self.open.sort_by(|one, other| one.order(other));
        changes.any |= self.settle(SETTLED);
        changes.abandoned = self.abandon();
        changes.set = before != self.names();
        changes
    }

    /// Gives up the oldest deleted files while too much is held: a dead sink must not fill the node's disk.
    fn abandon(&self) -> bool {
        let mut held: Vec<_> = self
            .open
            .iter()
            .filter(|file| file.is_deleted() && !file.is_abandoned())
            .collect();
        held.sort_by_key(|file| file.modified());
        let mut bytes: u64 = held.iter().map(|file| file.length()).sum();
        let mut any = false;
        for file in held {
            if bytes <= self.most_held {
                break;
            }
            bytes -= file.length();
            file.abandon();
            any = true;
        }
        any
    }

    fn names(&self) -> Vec<(FileKey, Generation, bool)> {
        self.open
            .iter()
            .map(|file| (file.key.clone(), file.generation(), file.is_deleted()))
            .collect()
    }

    /// Declares every file finished: the containers have ended.
    pub fn finish(&self) {
        self.settle(Duration::ZERO);
        for file in &self.open {
            file.finish();
        }
    }

    fn settle(&self, quiet: Duration) -> bool {
        let mut changed = false;
        for (index, file) in self.open.iter().enumerate() {
            let followed = self
                .open
                .get(index + 1)
                .is_some_and(|next| next.key.container == file.key.container);
            if (followed || file.is_deleted()) && file.quiet_for() >= quiet && file.finish() {
                changed = true;
            }
        }
        changed
    }

    /// The file behind a path, and whether there is something new in it; none while it is too young to be told apart.
    fn find_or_open(
        &self,
        container: &str,
        restart: u32,
        path: &Path,
    ) -> io::Result<Option<(Rc<LogFile>, bool)>> {
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let known = self.open.iter().find(|file| {
            (file.key.device, file.key.inode) == (metadata.dev(), metadata.ino())
                && file.key.container == container
                && file.key.restart == restart
        });
        if let Some(known) = known
            && metadata.len() >= known.length()
            && known.is_unchanged()?
        {
            return Ok(Some((Rc::clone(known), known.observe(&metadata))));
        }
        let opened = LogFile::open(container, restart, path)?;
        Ok(opened.map(|file| (Rc::new(file), true)))
    }
}

/// Names and paths in a directory; none, and an entry in `changes`, when it cannot be read.
fn list(directory: &Path, changes: &mut Changes) -> Vec<(String, PathBuf)> {
    match fs::read_dir(directory) {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
            .collect(),
        // A file beside the containers' directories, or a directory that has just been deleted.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotADirectory | io::ErrorKind::NotFound
            ) =>
        {
            Vec::new()
        }
        Err(error) => {
            changes
                .failed
                .insert(directory.to_owned(), error.to_string());
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, time::SystemTime};

    use super::*;

    const LINE: &str = "2026-11-23T10:15:07.1Z stdout F ";

    struct Pod {
        directory: tempfile::TempDir,
        files: Files,
    }

    impl Pod {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let files = Files::new(directory.path(), "agent", 100);
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

        fn lengths(&self) -> Vec<(String, u32, u64)> {
            let describe =
                |file: &Rc<LogFile>| (file.key.container.clone(), file.key.restart, file.length());
            self.files.iter().map(describe).collect()
        }
    }

    #[test]
    fn only_logs_of_other_containers_are_found() {
        let mut pod = Pod::new();
        for name in [
            "web/0.log",
            "web/1.log",
            "agent/0.log",
            "web/0.log.20261123-101010.gz",
            "web/x.tmp",
            "note",
        ] {
            pod.append(name, &format!("{LINE}{name}\n"));
        }
        assert!(pod.files.scan().any);
        let found: Vec<_> = pod
            .lengths()
            .into_iter()
            .map(|one| (one.0, one.1))
            .collect();
        assert_eq!(found, [("web".to_owned(), 0), ("web".to_owned(), 1)]);
        assert!(!pod.files.scan().any, "nothing has changed");
    }

    #[test]
    fn a_file_without_a_whole_first_line_is_left_for_later() {
        let mut pod = Pod::new();
        pod.append("web/0.log", LINE);
        pod.files.scan();
        assert_eq!(pod.lengths(), []);
        pod.append("web/0.log", "a\n");
        assert!(pod.files.scan().any);
        assert_eq!(pod.lengths().len(), 1);
    }

    #[test]
    fn a_renamed_file_is_the_same_file_and_comes_first() {
        let mut pod = Pod::new();
        pod.append("web/0.log", &format!("{LINE}old\n"));
        pod.files.scan();
        let old = Rc::clone(pod.files.iter().next().unwrap());
        fs::rename(pod.path("web/0.log"), pod.path("web/0.log.20261123-101010")).unwrap();
        pod.append("web/0.log", &format!("{LINE}new\n"));
        pod.files.scan();
        let files: Vec<_> = pod.files.iter().collect();
        assert_eq!(files.len(), 2);
        assert!(Rc::ptr_eq(files[0], &old));
        assert!(!files[1].is_finished());
        // What the runtime still writes to the old file is seen.
        pod.append("web/0.log.20261123-101010", &format!("{LINE}late\n"));
        assert!(pod.files.poll());
        assert_eq!(old.length(), 2 * (LINE.len() as u64) + 9);
    }

    #[test]
    fn a_followed_file_is_finished_when_it_is_quiet() {
        let mut pod = Pod::new();
        pod.append("web/0.log", &format!("{LINE}a\n"));
        pod.append("web/1.log", &format!("{LINE}b\n"));
        let past = SystemTime::now() - Duration::from_secs(5);
        File::options()
            .append(true)
            .open(pod.path("web/0.log"))
            .unwrap()
            .set_modified(past)
            .unwrap();
        File::options()
            .append(true)
            .open(pod.path("web/1.log"))
            .unwrap()
            .set_modified(past)
            .unwrap();
        pod.files.scan();
        let finished: Vec<_> = pod.files.iter().map(|file| file.is_finished()).collect();
        assert_eq!(finished, [true, false]);
    }

    #[test]
    fn a_deleted_file_stays_as_long_as_somebody_reads_it() {
        let mut pod = Pod::new();
        pod.append("web/0.log", &format!("{LINE}a\n"));
        pod.files.scan();
        let held = Rc::clone(pod.files.iter().next().unwrap());
        fs::remove_file(pod.path("web/0.log")).unwrap();
        pod.files.scan();
        assert_eq!(pod.lengths().len(), 1);
        drop(held);
        pod.files.scan();
        assert_eq!(pod.lengths(), []);
    }

    #[test]
    fn of_deleted_files_only_so_much_is_held() {
        let mut pod = Pod::new();
        let long = "x".repeat(60);
        for name in ["web/0.log", "web/1.log"] {
            pod.append(name, &format!("{LINE}{long}\n"));
        }
        pod.files.scan();
        let held: Vec<_> = pod.files.iter().cloned().collect();
        fs::remove_file(pod.path("web/0.log")).unwrap();
        assert!(!pod.files.scan().abandoned);
        fs::remove_file(pod.path("web/1.log")).unwrap();
        assert!(pod.files.scan().abandoned);
        let abandoned: Vec<_> = held.iter().map(|file| file.is_abandoned()).collect();
        assert_eq!(abandoned, [true, false], "the oldest first");
    }

    #[test]
    fn a_truncated_file_is_another_file() {
        let mut pod = Pod::new();
        pod.append("web/0.log", &format!("{LINE}first\n{LINE}second\n"));
        pod.files.scan();
        File::options()
            .write(true)
            .open(pod.path("web/0.log"))
            .unwrap()
            .set_len(0)
            .unwrap();
        assert_eq!(pod.files.scan().truncated, [("web".to_owned(), 0)]);
        pod.append("web/0.log", &format!("{LINE}third\n"));
        assert!(pod.files.scan().any);
        let files: Vec<_> = pod.files.iter().collect();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].length(), LINE.len() as u64 + 6);
    }
}
