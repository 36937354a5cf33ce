//! The wall clock of one program, which can be set while it runs. What measures time by itself goes on as it did.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::cluster::{prerequisites, skip};

/// A clock for programs that are linked dynamically, by libfaketime.
#[derive(Debug)]
pub struct WallClock {
    library: PathBuf,
    folder: TempDir,
}

impl WallClock {
    /// A clock that is right; none, and the calling test counted as skipped, where the library is missing and cannot be
    /// installed.
    pub async fn new_or_skip() -> Result<Option<Self>> {
        let library = match spawn_blocking(prerequisites::faketime).await? {
            Ok(library) => library,
            Err(reason) => return skip(&format!("{reason:#}")).map(|()| None),
        };
        let folder = TempDir::with_prefix("katonic-clock-")
            .context("failed to make a folder for a clock")?;
        let clock = Self { library, folder };
        clock.set(0)?;
        Ok(Some(clock))
    }

    /// Sets it so many seconds ahead of the machine's, or behind it.
    pub fn set(&self, ahead: i64) -> Result<()> {
        let unfinished = self.folder.path().join("new");
        fs::write(&unfinished, format!("{ahead:+}\n"))
            // At once, because it is read at any moment.
            .and_then(|()| fs::rename(unfinished, self.file()))
            .context("failed to set a clock")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }

    /// What a program is told that goes by it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file())),
            // Read anew each time, and of nothing but the wall clock.
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::Command,
        time::{SystemTime, UNIX_EPOCH},
    };

    use super::*;

    #[tokio::test]
    async fn a_program_goes_by_it() {
        let Some(clock) = WallClock::new_or_skip().await.unwrap() else {
            return;
        };
        for ahead in [0, 86_400, -86_400] {
            clock.set(ahead).unwrap();
            let mut date = Command::new("date");
            date.arg("+%s").envs(clock.environment());
            let said = String::from_utf8(date.output().unwrap().stdout).unwrap();
            let seconds: i64 = said.trim().parse().unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let off = seconds - i64::try_from(now.as_secs()).unwrap() - ahead;
            assert!((-30..=30).contains(&off), "{off} s off with {ahead}");
        }
    }
}
