//! A body that goes to a file while it is made, so that it can be large. Knows nothing of records.

use std::{
    fs::File,
    io::{self, Write},
};

use sha2::{Digest, Sha256};

/// A file that takes a body.
#[derive(Debug)]
pub struct Spill {
    file: File,
    digest: Sha256,
    length: u64,
    failed: Option<io::Error>,
}

/// What a file holds by now.
#[derive(Debug)]
pub struct Spilled {
    /// The file, written to its end.
    pub file: File,
    /// Bytes in it.
    pub length: u64,
    /// SHA-256 of them.
    pub sha256: [u8; 32],
}

impl Spill {
    /// Begins at the beginning of an empty file.
    pub fn to(file: File) -> Self {
        Self {
            file,
            digest: Sha256::new(),
            length: 0,
            failed: None,
        }
    }

    /// Appends; a failure is told at the end.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
        self.failed = self.file.write_all(bytes).err();
    }

    /// What was written.
    ///
    /// # Errors
    /// The first one of the file system.
    pub fn finish(self) -> io::Result<Spilled> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(Spilled {
                file: self.file,
                length: self.length,
                sha256: self.digest.finalize().into(),
            }),
        }
    }
}
