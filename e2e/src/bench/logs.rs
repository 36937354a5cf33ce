//! Reading an execution back with `katonic-logging logs`: how fast, and with how much memory.

use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::task::spawn_blocking;

use super::{
    Figure,
    process::{cpu_of_children, peak},
};
use crate::{
    cluster::progress::Progress,
    images::Image,
    receiver::{
        Minio,
        minio::{User, documented_policy},
    },
    simulated::archive::Archive,
};

const BUCKET: &str = "bench";

/// Lines of one object: some 16 MB before compression, as agents cut them.
const OF_OBJECT: usize = 50_000;

/// What is promised of the memory, in MiB: it does not grow with the log.
const MEMORY: f64 = 64.0;

/// A reading.
struct Reading {
    /// Processor time, the kernel's included.
    cpu: Duration,
    took: Duration,
    /// Peak of resident memory, in MiB.
    memory: f64,
}

pub(super) async fn measure() -> Result<Vec<Figure>> {
    // The very program that is in the image.
    let program = spawn_blocking(|| Image::Operator.executable()).await??;
    let minio = Minio::start(None).await?;
    minio.make_bucket(BUCKET).await?;
    let rights = documented_policy("readers", BUCKET, "logs")?;
    let reader = minio.user("reader", "of-the-readers", &rights).await?;
    let read = async |id: &str, pods: usize, lines: usize| {
        let progress = Progress::start(&format!("archiving {lines} lines of {pods} pods"));
        archive(&minio, id, pods, lines).await?;
        progress.done();
        let (program, url, id) = (program.clone(), minio.url(), id.to_owned());
        let reader = reader.clone();
        spawn_blocking(move || read_back(&program, &url, &reader, &id, lines)).await?
    };
    let small = read("small", 1, 1_000_000).await?;
    let large = read("large", 1, 10_000_000).await?;
    let wide = read("wide", 100, 1_000_000).await?;
    let a_second = |lines: f64, reading: &Reading| lines / reading.cpu.as_secs_f64();
    Ok(vec![
        Figure::told(
            "execution of 10,000,000 lines read back and verified",
            a_second(10e6, &large),
            "lines/s of CPU second",
        ),
        Figure::told(
            "the same by the clock, beside its store",
            10e6 / large.took.as_secs_f64(),
            "lines/s",
        ),
        Figure::at_most("its reader's memory at most", large.memory, "MiB", MEMORY),
        Figure::told("the same for 1,000,000 lines", small.memory, "MiB"),
        Figure::told(
            "1,000,000 lines of 100 pods that ran at the same time, merged and verified",
            a_second(1e6, &wide),
            "lines/s of CPU second",
        ),
        Figure::told("its reader's memory", wide.memory, "MiB"),
    ])
}

/// Archives lines of pods that print at the same time, a line each microsecond in all.
async fn archive(minio: &Minio, id: &str, pods: usize, lines: usize) -> Result<()> {
    let begin = Timestamp::from_second(1_795_428_907)?;
    let of_pod = lines / pods;
    for number in 0..pods {
        let mut pod = Archive::new(BUCKET, "logs/", id, &format!("run-{number}"));
        pod.labels
            .insert("app.kubernetes.io/name".to_owned(), "training".to_owned());
        for first in (0..of_pod).step_by(OF_OBJECT) {
            let printed: Vec<(Timestamp, String)> = (first..of_pod.min(first + OF_OBJECT))
                .map(|line| {
                    let microseconds = i64::try_from(line * pods + number)?;
                    let time = begin.checked_add(SignedDuration::from_micros(microseconds))?;
                    let loss = 1.0 / f64::from(u32::try_from(1 + line)?);
                    let text = format!(
                        "epoch {} step {line} loss {loss:.6} learning rate 0.0003 throughput {} samples/s",
                        line / 1000,
                        900 + line % 97
                    );
                    anyhow::Ok((time, text))
                })
                .collect::<Result<_>>()?;
            let printed = printed.iter().map(|(time, text)| (*time, text.as_bytes()));
            pod.object(minio, printed).await?;
        }
        pod.record(minio).await?;
    }
    Ok(())
}

fn read_back(program: &Path, url: &str, reader: &User, id: &str, lines: usize) -> Result<Reading> {
    let (began, before) = (Instant::now(), cpu_of_children()?);
    let mut child = Command::new(program)
        .args([
            "logs",
            id,
            "--bucket",
            BUCKET,
            "--prefix",
            "logs",
            "--endpoint",
            url,
        ])
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", &reader.id)
        .env("AWS_SECRET_ACCESS_KEY", &reader.secret)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to run katonic-logging logs")?;
    let mut memory = 0.0;
    while child.try_wait()?.is_none() {
        // Gone once it has ended.
        memory = peak(child.id()).unwrap_or(memory);
        thread::sleep(Duration::from_millis(5));
    }
    let took = began.elapsed();
    let output = child.wait_with_output()?;
    let cpu = cpu_of_children()?.saturating_sub(before);
    let said = String::from_utf8_lossy(&output.stderr);
    let digits: String = said.chars().filter(char::is_ascii_digit).collect();
    if !output.status.success() || !digits.starts_with(&lines.to_string()) {
        bail!("{lines} lines were not verified: {said}");
    }
    Ok(Reading { cpu, took, memory })
}
