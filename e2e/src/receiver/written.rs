//! What another program writes to a file, one entry a line, read as it grows. Judges nothing.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{Received, Tally, lock};
use crate::eventually::eventually;

/// Adds what an entry holds to what came.
type Read = fn(entry: &[u8], received: &mut Received);

/// A file of entries.
#[derive(Debug)]
pub(super) struct Written {
    path: PathBuf,
    read: Read,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How much of the file was read: whole lines.
    offset: u64,
    received: Received,
}

impl Written {
    pub(super) fn new(path: PathBuf, read: Read) -> Self {
        Self {
            path,
            read,
            state: Mutex::default(),
        }
    }

    /// Looks at what came so far.
    pub(super) fn inspect<T>(&self, look: impl FnOnce(&Received) -> T) -> Result<T> {
        let mut state = lock(&self.state);
        let new = state
            .rest(&self.path)
            .with_context(|| format!("failed to read {}", self.path.display()))?;
        // A line that has not ended is read when it has.
        let whole = new
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        for entry in new[..whole].split_inclusive(|byte| *byte == b'\n') {
            (self.read)(&entry[..entry.len() - 1], &mut state.received);
        }
        state.offset += whole as u64;
        Ok(look(&state.received))
    }

    /// Waits until what came fulfils a condition, at most `limit`.
    pub(super) async fn until(
        &self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&Received) -> bool,
    ) -> Result<()> {
        let fulfilled = eventually(what, limit, || {
            let seen = self.inspect(&mut condition);
            async { Ok(seen?.then_some(())) }
        })
        .await;
        let Err(error) = fulfilled else { return Ok(()) };
        let came = self.inspect(|received| {
            format!(
                "came: {} records, {}; {} malformed, the first: {:?}",
                received.records.len(),
                Tally::of(&received.records),
                received.malformed.len(),
                received.malformed.first()
            )
        })?;
        Err(error.context(came))
    }
}

impl State {
    fn rest(&self, path: &PathBuf) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        match File::open(path) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(self.offset))?;
                file.read_to_end(&mut rest)?;
            }
            // Nothing was written yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write as _};

    use super::*;

    #[test]
    fn whole_lines_are_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let written = Written::new(path.clone(), |entry, received| {
            received
                .malformed
                .push(String::from_utf8_lossy(entry).into_owned());
        });
        let read = || {
            written
                .inspect(|received| received.malformed.clone())
                .unwrap()
        };
        assert_eq!(read(), Vec::<String>::new());
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        file.write_all(b"one\n\ntw").unwrap();
        assert_eq!(read(), ["one", ""]);
        file.write_all(b"o\n").unwrap();
        assert_eq!(read(), ["one", "", "two"]);
    }
}
