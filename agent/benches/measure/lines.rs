//! Log files as the kubelet keeps them: CRI lines of 150 bytes, each with its number in it.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::Outcome;

/// Length of what the container wrote in each line.
pub const LENGTH: usize = 150;

/// The container that wrote the long logs.
pub const CONTAINER: &str = "nucleus-frontend";

/// The pod that it belongs to.
pub const POD: &str = "nucleus-frontend-7d4b9c6f5d-x2x9k";

/// What stands before a line's number, and nowhere else.
pub const MARK: &[u8] = b"request ";

/// Digits of a line's number.
pub const DIGITS: usize = 9;

/// Stands in some lines, for a redaction to find.
pub const SECRET: &[u8] = b"078-05-1120";

/// What the content of the lines is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text of a web server, which compresses neither very well nor very badly.
    Text,
    /// The same as one JSON object a line.
    Json,
}

/// Chance that is the same in each run (xorshift).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick<'a>(&mut self, from: [&'a str; 4]) -> &'a str {
        from[usize::from(self.next().to_le_bytes()[0] % 4)]
    }
}

/// Log folders that several runs read, each written when it is first asked for.
#[derive(Debug)]
pub struct Logs(TempDir);

impl Logs {
    /// None yet.
    pub fn new() -> Outcome<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    /// The log folder of a pod with one container that wrote so many lines.
    pub fn of(&self, lines: u32, content: Content) -> Outcome<PathBuf> {
        let logs = self.0.path().join(format!("{content:?}-{lines}"));
        if !logs.exists() {
            write_log(&logs.join(CONTAINER), lines, content)?;
        }
        Ok(logs)
    }
}

/// Writes the log of a container that wrote lines from 0 to `lines`.
fn write_log(container: &Path, lines: u32, content: Content) -> Outcome<()> {
    fs::create_dir_all(container)?;
    let mut log = BufWriter::with_capacity(1 << 20, File::create(container.join("0.log"))?);
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    for number in 0..lines {
        let line = match content {
            Content::Text => text(number, &mut chance),
            Content::Json => json(number, &mut chance),
        };
        let (minute, second) = (number / 60_000 % 60, number / 1000 % 60);
        let nanos = chance.next() % 1_000_000_000;
        writeln!(
            log,
            "2026-11-23T10:{minute:02}:{second:02}.{nanos:09}Z stdout F {line}"
        )?;
    }
    log.flush()?;
    Ok(())
}

/// What the runtime cuts a long line into (containerd's `max_container_log_line_size`).
const PART: usize = 16 << 10;

/// So many parts are as much as the agent sends in one record.
pub const PARTS_OF_RECORD: usize = (1 << 20) / PART;

/// Adds lines to a container's log, at once.
pub fn append(container: &Path, numbers: std::ops::Range<u32>) -> Outcome<()> {
    append_as(container, "stdout", numbers)
}

/// Adds lines of a stream to a container's log, at once.
pub fn append_as(container: &Path, stream: &str, numbers: std::ops::Range<u32>) -> Outcome<()> {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut lines = Vec::new();
    for number in numbers {
        let line = text(number, &mut chance);
        writeln!(lines, "2026-11-23T10:15:07.123456789Z {stream} F {line}")?;
    }
    Ok(open(container)?.write_all(&lines)?)
}

/// Adds so many parts of a line, of which none is the last one.
pub fn append_parts(container: &Path, stream: &str, parts: usize) -> Outcome<()> {
    let mut log = BufWriter::with_capacity(1 << 20, open(container)?);
    let part = "x".repeat(PART);
    for _ in 0..parts {
        writeln!(log, "2026-11-23T10:15:07.123456789Z {stream} P {part}")?;
    }
    Ok(log.flush()?)
}

/// Adds a line as long as so many parts, whole.
pub fn append_uncut(container: &Path, parts: usize) -> Outcome<()> {
    let mut log = BufWriter::with_capacity(1 << 20, open(container)?);
    write!(log, "2026-11-23T10:15:07.123456789Z stdout F ")?;
    let part = "x".repeat(PART);
    for _ in 0..parts {
        write!(log, "{part}")?;
    }
    writeln!(log)?;
    Ok(log.flush()?)
}

fn open(container: &Path) -> Outcome<File> {
    fs::create_dir_all(container)?;
    let mut options = File::options();
    Ok(options
        .append(true)
        .create(true)
        .open(container.join("0.log"))?)
}

fn text(number: u32, chance: &mut Chance) -> String {
    let level = chance.pick(["INFO", "DEBUG", "WARN", "ERROR"]);
    let path = chance.pick(["/v4/projects", "/v4/users/self", "/healthz", "/v1/jobs"]);
    let mut line = format!(
        "{level} nucleus.frontend request {number:09} GET {path}/{:016x} status {} in {} ms trace {:016x} ",
        chance.next(),
        200 + chance.next() % 300,
        chance.next() % 2000,
        chance.next(),
    );
    while line.len() < LENGTH {
        line.push_str(match chance.next() % 16 {
            0 => "ssn 078-05-1120 ",
            _ => "user agent Mozilla/5.0 ",
        });
    }
    line.truncate(LENGTH);
    line
}

fn json(number: u32, chance: &mut Chance) -> String {
    let level = chance.pick(["INFO", "DEBUG", "WARN", "ERROR"]);
    let path = chance.pick(["/v4/projects", "/v4/users/self", "/healthz", "/v1/jobs"]);
    let head = format!(
        r#"{{"level":"{level}","msg":"request {number:09}","path":"{path}","status":{},"ms":{},"trace":"{:016x}","agent":""#,
        200 + chance.next() % 300,
        chance.next() % 2000,
        chance.next(),
    );
    let filler = "Mozilla/5.0 ".repeat(LENGTH / 12);
    format!("{head}{}\"}}", &filler[..LENGTH - head.len() - 2])
}
