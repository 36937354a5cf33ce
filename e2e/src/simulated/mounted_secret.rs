//! A Secret as the kubelet mounts it: all files change together, by the swap of one symbolic link.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The link through which all files are reached (Kubernetes: `atomic_writer.go`).
const DATA: &str = "..data";

/// A directory that is written as the kubelet writes a Secret volume.
#[derive(Debug)]
pub struct MountedSecret {
    dir: PathBuf,
    generation: u32,
}

impl MountedSecret {
    /// An empty mount: the Secret is optional and does not exist.
    pub fn new(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        Ok(Self { dir, generation: 0 })
    }

    /// Where it is mounted.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Replaces all files at once.
    pub fn write(&mut self, files: &BTreeMap<String, Vec<u8>>) -> Result<()> {
        self.swap(files)
            .with_context(|| format!("failed to write {}", self.dir.display()))
    }

    fn swap(&mut self, files: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
        let old = fs::read_link(self.dir.join(DATA)).ok();
        self.generation += 1;
        let new = format!("..2026_01_01_00_00_00.{:09}", self.generation);
        fs::create_dir(self.dir.join(&new))?;
        for (name, content) in files {
            fs::write(self.dir.join(&new).join(name), content)?;
        }
        let temporary = self.dir.join("..data_tmp");
        symlink(&new, &temporary)?;
        fs::rename(&temporary, self.dir.join(DATA))?;
        for name in files.keys() {
            let link = self.dir.join(name);
            if link.symlink_metadata().is_err() {
                symlink(Path::new(DATA).join(name), link)?;
            }
        }
        let Some(old) = old else { return Ok(()) };
        for entry in fs::read_dir(self.dir.join(&old))? {
            let name = entry?.file_name();
            if !files.contains_key(&*name.to_string_lossy()) {
                fs::remove_file(self.dir.join(name))?;
            }
        }
        fs::remove_dir_all(self.dir.join(old))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_change_and_go_together() {
        let folder = tempfile::tempdir().unwrap();
        let mut secret = MountedSecret::new(folder.path().join("secret")).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join("secret").join(name)).ok();
        let file = |name: &str, content: &str| (name.to_owned(), content.as_bytes().to_vec());
        secret
            .write(&BTreeMap::from([file("a", "1"), file("b", "1")]))
            .unwrap();
        assert_eq!((read("a"), read("b")), (Some("1".into()), Some("1".into())));
        secret
            .write(&BTreeMap::from([file("a", "2"), file("c", "2")]))
            .unwrap();
        assert_eq!(
            (read("a"), read("b"), read("c")),
            (Some("2".into()), None, Some("2".into()))
        );
        let entries = fs::read_dir(secret.dir()).unwrap().count();
        assert_eq!(entries, 4, "..data, its directory and two files");
    }
}
