//! `katonic-logging logs` on a real store of objects, and on those of other clouds as they document themselves, as a person and a
//! script use it.

mod beginning;
mod cloud;
mod faults;
mod read;
mod rights;
mod unidentified;

use std::process::Stdio;

use anyhow::{Context as _, Result};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use katonic_logging_e2e::{
    program,
    receiver::{Minio, Record, Tally, minio::User},
    simulated::{
        archive::{Archive, Keeps},
        load::numbered_line,
    },
};
use serde_json::Value;
use tokio::{process::Command, task::spawn_blocking};

use crate::{BUCKET, EXECUTION, rights_of};

/// A store, and a reader who has the documented rights and no others.
struct Shelf {
    minio: Minio,
    reader: User,
}

impl Shelf {
    async fn start_or_skip() -> Result<Option<Self>> {
        let Some(minio) = Minio::start_or_skip(None).await? else {
            return Ok(None);
        };
        Self::prepared(minio).await.map(Some)
    }

    async fn prepared(minio: Minio) -> Result<Self> {
        minio.make_bucket(BUCKET).await?;
        let policy = rights_of("readers")?;
        let reader = minio.user("reader", "of-the-readers", &policy).await?;
        Ok(Self { minio, reader })
    }

    /// What the command says of that execution.
    async fn logs(&self, flags: &[&str]) -> Result<Said> {
        self.logs_as(&self.reader, EXECUTION, flags).await
    }

    async fn logs_as(&self, user: &User, id: &str, flags: &[&str]) -> Result<Said> {
        let url = self.minio.url();
        let mut arguments = vec![
            id,
            "--bucket",
            BUCKET,
            "--prefix",
            "logs",
            "--endpoint",
            &url,
        ];
        arguments.extend(flags);
        Said::of(&arguments, Some(user)).await
    }
}

/// A pod of the execution that most tests read.
fn pod_named(name: &str) -> Archive {
    Archive::new(BUCKET, "logs/", EXECUTION, name)
}

/// How a run of the command went.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    async fn of(arguments: &[&str], user: Option<&User>) -> Result<Self> {
        let said = Self::of_command(command(arguments, user).await?).await?;
        if let Some(user) = user {
            assert!(!said.stderr.contains(&user.secret), "{said:?}");
        }
        Ok(said)
    }

    async fn of_command(mut command: Command) -> Result<Self> {
        let output = command.output().await;
        let output = output.context("failed to run katonic-logging logs")?;
        Ok(Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// The last line on stderr, and the exit code.
    fn verdict(&self) -> (&str, Option<i32>) {
        let last = self.stderr.lines().last().unwrap_or_default();
        (last.trim_start_matches("katonic-logging: "), self.code)
    }

    /// It ended with this code, and said this.
    fn fails(&self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(
            self.stderr.contains(words),
            "{words:?} is missing in {self:?}"
        );
    }

    /// The records, where the output is JSON.
    fn records(&self) -> Result<Vec<Value>> {
        let lines = self.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}")))
            .collect()
    }

    /// What came of the numbered lines of a pod.
    fn tally(&self, pod: &str) -> Result<Tally> {
        let records = self.records()?.into_iter();
        let records: Vec<Record> = records
            .filter(|record| record["pod"] == pod)
            .map(|record| Record {
                line: record["message"].as_str().unwrap_or_default().to_owned(),
                ..Record::default()
            })
            .collect();
        Ok(Tally::of(&records))
    }
}

async fn command(arguments: &[&str], user: Option<&User>) -> Result<Command> {
    let program =
        spawn_blocking(|| program::build("katonic-logging-operator", "katonic-logging")).await??;
    let mut command = Command::new(program);
    // Nothing of this machine's own configuration is read.
    command
        .env_clear()
        .env("HOME", "/nonexistent")
        .arg("logs")
        .args(arguments)
        .stdin(Stdio::null());
    if let Some(user) = user {
        command
            .env("AWS_ACCESS_KEY_ID", &user.id)
            .env("AWS_SECRET_ACCESS_KEY", &user.secret);
    }
    Ok(command)
}

/// The time of the line with this number: one each millisecond.
fn at(number: usize) -> Timestamp {
    let begin = Timestamp::from_second(1_795_428_907).unwrap_or_default();
    let milliseconds = i64::try_from(number).unwrap_or_default();
    begin
        .checked_add(SignedDuration::from_millis(milliseconds))
        .unwrap_or_default()
}

/// Archives the numbered lines of a pod in objects of so many lines; gives the objects' keys.
async fn archive(
    shelf: &Shelf,
    pod: &mut Archive,
    lines: std::ops::RangeInclusive<usize>,
    total: usize,
    of_object: usize,
) -> Result<Vec<String>> {
    archive_in(&shelf.minio, pod, lines, total, of_object).await
}

async fn archive_in(
    store: &impl Keeps,
    pod: &mut Archive,
    lines: std::ops::RangeInclusive<usize>,
    total: usize,
    of_object: usize,
) -> Result<Vec<String>> {
    let numbers: Vec<usize> = lines.collect();
    let mut keys = Vec::new();
    for chunk in numbers.chunks(of_object) {
        let lines: Vec<(Timestamp, String)> = chunk
            .iter()
            .map(|number| (at(*number), numbered_line(*number, total)))
            .collect();
        let lines = lines.iter().map(|(time, line)| (*time, line.as_bytes()));
        keys.push(pod.object(store, lines).await?);
    }
    Ok(keys)
}

/// All lines came, once and in order.
fn whole(lines: usize) -> Tally {
    Tally {
        expected: lines,
        unique: lines,
        ..Tally::default()
    }
}
