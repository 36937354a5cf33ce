//! The mounted bundle Secret: when it changes, and what is in it. Decodes and applies nothing.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use katonic_log_config::layout;

/// A Secret volume. The kubelet replaces all of its files at once by pointing the link `..data` elsewhere.
#[derive(Clone, Debug)]
pub struct Mount {
    directory: PathBuf,
}

/// What a mount looked like; another one means that something has changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Version {
    /// The target of `..data`.
    Linked(PathBuf),
    /// Without such a link: each file's name, size, time and inode.
    Files(Vec<(PathBuf, u64, i64, u64)>),
}

impl Mount {
    /// The Secret mounted there.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// What it looks like now.
    pub fn version(&self) -> Version {
        if let Ok(target) = fs::read_link(self.directory.join("..data")) {
            return Version::Linked(target);
        }
        let mut files: Vec<_> = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let metadata = fs::metadata(entry.path()).ok()?;
                let modified = metadata.mtime().wrapping_mul(1_000_000_000) + metadata.mtime_nsec();
                Some((entry.path(), metadata.len(), modified, metadata.ino()))
            })
            .collect();
        files.sort();
        Version::Files(files)
    }

    /// The directory with the files of one version, so that bundle and credentials belong together.
    pub fn current(&self) -> PathBuf {
        match fs::read_link(self.directory.join("..data")) {
            Ok(target) => self.directory.join(target),
            Err(_) => self.directory.clone(),
        }
    }

    /// The bundle's bytes; none when the Secret has none, which means that there are no policies.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read_bundle(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.current().join(layout::BUNDLE_FILE)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_swap_of_the_link_is_the_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for version in ["..1", "..2"] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("token"), version).unwrap();
        }
        symlink("..1", path("..data")).unwrap();
        let mount = Mount::new(directory.path());
        let before = mount.version();
        assert_eq!(mount.version(), before);
        symlink("..2", path("..new")).unwrap();
        fs::rename(path("..new"), path("..data")).unwrap();
        assert_ne!(mount.version(), before);
        assert_eq!(fs::read(mount.current().join("token")).unwrap(), b"..2");
    }

    #[test]
    fn without_a_link_a_changed_file_is_the_change() {
        let directory = tempfile::tempdir().unwrap();
        let mount = Mount::new(directory.path());
        assert!(
            mount.read_bundle().unwrap().is_none(),
            "no bundle, no policies"
        );
        let before = mount.version();
        fs::write(directory.path().join(layout::BUNDLE_FILE), "garbage").unwrap();
        assert_ne!(mount.version(), before);
        assert_eq!(mount.read_bundle().unwrap().unwrap(), b"garbage");
    }
}
