//! A container's log as containerd writes it and the kubelet rotates it. Knows nothing of who reads it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use flate2::{Compression, write::GzEncoder};
use k8s_openapi::jiff::{SignedDuration, Timestamp, ToSpan as _, tz::TimeZone};

/// `max_container_log_line_size` of containerd, in bytes.
const MAX_PART: usize = 16 << 10;

/// `containerLogMaxFiles` of the kubelet: generations that are kept, the live one among them.
const MAX_FILES: usize = 5;

/// Where a container wrote a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The log of one container.
#[derive(Debug)]
pub struct ContainerLog {
    folder: PathBuf,
    restart: u32,
    file: File,
    size: u64,
    rotate_at: u64,
    /// `containerLogMaxFiles` of the kubelet's configuration.
    max_files: usize,
    rotated_at: Timestamp,
    /// How far the node's clock is ahead of the test's.
    ahead: SignedDuration,
}

impl ContainerLog {
    pub(super) fn create(folder: &Path, rotate_at: u64) -> Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            restart: 0,
            file: open(&folder.join("0.log")).context("failed to make a container's log")?,
            size: 0,
            rotate_at,
            max_files: MAX_FILES,
            rotated_at: Timestamp::now(),
            ahead: SignedDuration::ZERO,
        })
    }

    /// Sets the node's clock by so many seconds, back where they are negative: the times of lines and the names of
    /// rotated files go by it.
    pub fn set_clock(&mut self, by_seconds: i64) {
        let by = SignedDuration::from_secs(by_seconds);
        self.ahead += by;
        self.rotated_at += by;
    }

    /// Has the kubelet keep every file, whatever becomes of the agent meanwhile.
    #[must_use]
    pub fn keeping_all(mut self) -> Self {
        self.max_files = usize::MAX;
        self
    }

    fn now(&self) -> Timestamp {
        Timestamp::now() + self.ahead
    }

    /// What a container gets when it prints a line: one entry, or several when the line is long.
    pub fn line(&mut self, stream: Stream, line: &[u8]) -> Result<()> {
        let mut parts = line.chunks(MAX_PART).peekable();
        if parts.peek().is_none() {
            self.entry(stream, 'F', b"")?;
        }
        while let Some(part) = parts.next() {
            let tag = if parts.peek().is_some() { 'P' } else { 'F' };
            self.entry(stream, tag, part)?;
        }
        if self.size >= self.rotate_at {
            self.rotate()?;
        }
        Ok(())
    }

    /// What a container gets when it ends in the middle of a line.
    pub fn unfinished_line(&mut self, stream: Stream, line: &[u8]) -> Result<()> {
        line.chunks(MAX_PART)
            .try_for_each(|part| self.entry(stream, 'P', part))
    }

    fn entry(&mut self, stream: Stream, tag: char, content: &[u8]) -> Result<()> {
        let mut entry = format!("{} {} {tag} ", self.now(), stream.as_str()).into_bytes();
        entry.extend_from_slice(content);
        entry.push(b'\n');
        // One call for one entry, as containerd does: a reader sees whole entries, mostly.
        self.file
            .write_all(&entry)
            .context("failed to write a container's log")?;
        self.size += entry.len() as u64;
        Ok(())
    }

    /// Rotates as the kubelet does: what is too old is deleted, what was rotated before is compressed, then the live
    /// file is renamed and a new one begun.
    pub fn rotate(&mut self) -> Result<()> {
        self.try_rotate()
            .with_context(|| format!("failed to rotate a log in {}", self.folder.display()))
    }

    fn try_rotate(&mut self) -> io::Result<()> {
        let live = self.folder.join(format!("{}.log", self.restart));
        let rotated = self.rotated_files()?;
        // The live file becomes one more, and a new one is begun.
        let too_many = (rotated.len() + 2).saturating_sub(self.max_files);
        for (place, path) in rotated.iter().enumerate() {
            if place < too_many {
                fs::remove_file(path)?;
            } else if path.extension().is_none_or(|extension| extension != "gz") {
                compress(path)?;
            }
        }
        // The name has whole seconds; the kubelet never rotates twice in one, a test may.
        self.rotated_at = self.now().max(self.rotated_at + 1.second());
        let time = self
            .rotated_at
            .to_zoned(TimeZone::UTC)
            .strftime("%Y%m%d-%H%M%S");
        fs::rename(
            &live,
            self.folder.join(format!("{}.log.{time}", self.restart)),
        )?;
        self.file = open(&live)?;
        self.size = 0;
        Ok(())
    }

    /// How many rotated files there are by now.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn rotations(&self) -> Result<usize> {
        let rotated = self.rotated_files();
        Ok(rotated.context("failed to list a container's logs")?.len())
    }

    /// Rotated generations of the current run, the oldest first.
    fn rotated_files(&self) -> io::Result<Vec<PathBuf>> {
        let prefix = format!("{}.log.", self.restart);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    }

    /// The container ended and is started again: its next run has a file of its own.
    pub fn restart(&mut self) -> Result<()> {
        self.restart += 1;
        let path = self.folder.join(format!("{}.log", self.restart));
        self.file = open(&path).context("failed to make the log of the next run")?;
        self.size = 0;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn compress(path: &Path) -> io::Result<()> {
    let name = path.to_string_lossy();
    let (temporary, finished) = (format!("{name}.tmp"), format!("{name}.gz"));
    let mut encoder = GzEncoder::new(File::create(&temporary)?, Compression::fast());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(temporary, finished)?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_long_line_is_split_and_an_empty_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = ContainerLog::create(folder.path(), u64::MAX).unwrap();
        log.line(Stream::Stdout, &vec![b'x'; MAX_PART + 1]).unwrap();
        log.line(Stream::Stderr, b"").unwrap();
        log.unfinished_line(Stream::Stdout, b"end").unwrap();
        let text = fs::read_to_string(folder.path().join("0.log")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let ends: Vec<_> = lines
            .iter()
            .map(|line| line.split_once(' ').unwrap().1)
            .map(|rest| rest.get(..11).unwrap_or(rest))
            .collect();
        assert_eq!(
            ends,
            ["stdout P xx", "stdout F x", "stderr F ", "stdout P en"]
        );
        assert!(lines[0].split_once(' ').unwrap().0.ends_with('Z'));
    }

    #[test]
    fn rotation_keeps_five_generations_of_which_only_the_newest_are_plain() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = ContainerLog::create(folder.path(), 1).unwrap();
        for _ in 0..6 {
            log.line(Stream::Stdout, b"a").unwrap();
        }
        let names = names(folder.path());
        assert_eq!(names.len(), 5, "{names:?}");
        assert_eq!(names[0], "0.log");
        let compressed: Vec<_> = names
            .iter()
            .map(|name| Path::new(name).extension() == Some("gz".as_ref()))
            .collect();
        assert_eq!(compressed, [false, true, true, true, false], "{names:?}");
        log.restart().unwrap();
        assert!(folder.path().join("1.log").exists());
    }
}
