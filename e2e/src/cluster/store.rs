//! What a cluster has stored, kept after its end, so that another one can begin with it. Starts none.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The folder of etcd in the directory of a run.
pub(super) const ETCD: &str = "etcd";

/// How much of a file is looked at for being empty, in bytes.
const BLOCK: usize = 64 << 10;

/// What a cluster has stored, as it was when its components were stopped.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The one that is kept under this name; `None` where there is none yet, and then the lock for making it.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub(crate) fn kept(folder: &Path, name: &str) -> Result<Result<Self, Making>> {
        fs::create_dir_all(folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
        let store = Self {
            folder: folder.join(name),
        };
        if store.folder.is_dir() {
            return Ok(Ok(store));
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))
            .context("failed to open the lock of the kept stores")?;
        lock.lock().context("failed to lock the kept stores")?;
        // Whoever held the lock may have made it.
        if store.folder.is_dir() {
            return Ok(Ok(store));
        }
        Ok(Err(Making { store, _lock: lock }))
    }

    /// Gives a copy to the cluster whose run has this directory.
    pub(super) fn copy_to(&self, directory: &Path) -> Result<()> {
        copy(&self.folder, &directory.join(ETCD)).context("failed to copy a kept store")
    }
}

/// A store that is being made; nobody else makes it meanwhile.
#[derive(Debug)]
pub(crate) struct Making {
    store: Store,
    _lock: File,
}

impl Making {
    /// Keeps what the stopped cluster has stored whose run has this directory. Others of this folder go: what they were made
    /// for has changed.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub(crate) fn keep(self, directory: &Path, outdated: impl Fn(&str) -> bool) -> Result<Store> {
        let folder = self
            .store
            .folder
            .parent()
            .context("a kept store without a folder")?;
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() && outdated(&entry.file_name().to_string_lossy()) {
                // A test may be copying it.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let unfinished = tempfile::Builder::new()
            .prefix(".unfinished-")
            .tempdir_in(folder)
            .context("failed to make a folder for a store")?;
        let content = unfinished.path().join(ETCD);
        copy(&directory.join(ETCD), &content).context("failed to keep a store")?;
        fs::rename(&content, &self.store.folder).context("failed to keep a store")?;
        Ok(self.store)
    }
}

/// Copies a folder and leaves out what is empty in its files: etcd reserves 64 MB for what it may write.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&source, &target)?;
        } else {
            copy_file(&source, &target)?;
        }
    }
    // etcd insists on it.
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let (mut source, mut target) = (File::open(from)?, File::create(to)?);
    target.set_len(source.metadata()?.len())?;
    target.set_permissions(source.metadata()?.permissions())?;
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    loop {
        let read = source.read(&mut block)?;
        let Some(content) = block.get(..read).filter(|content| !content.is_empty()) else {
            return Ok(());
        };
        if content.iter().any(|byte| *byte != 0) {
            target.seek(SeekFrom::Start(at))?;
            target.write_all(content)?;
        }
        at += content.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_kept_once_and_copied_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let run = tempfile::tempdir().unwrap();
        let wal = run.path().join(ETCD).join("member/wal");
        fs::create_dir_all(&wal).unwrap();
        let mut content = vec![0; 3 * BLOCK + 17];
        content[BLOCK + 5] = 7;
        content[3 * BLOCK + 16] = 9;
        fs::write(wal.join("0.wal"), &content).unwrap();
        fs::create_dir_all(folder.path().join("old")).unwrap();
        let making = Store::kept(folder.path(), "new").unwrap().unwrap_err();
        making.keep(run.path(), |name| name == "old").unwrap();
        assert!(!folder.path().join("old").exists());
        let store = Store::kept(folder.path(), "new").unwrap().unwrap();
        let other = tempfile::tempdir().unwrap();
        store.copy_to(other.path()).unwrap();
        let copied = fs::read(other.path().join(ETCD).join("member/wal/0.wal")).unwrap();
        assert!(copied == content);
    }
}
