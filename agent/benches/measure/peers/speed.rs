//! How fast a peer delivers a long log, and what memory and processor it takes, at full speed and idle.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{PATIENCE, Peer, Work};
use crate::{
    Outcome,
    count::Lines,
    lines::{self, Content, Logs},
    process::Process,
    receiver::Receiver,
    report,
    throughput::{PAUSE, number},
};

const LINES: u32 = 1_000_000;

/// How long an idle peer is watched.
const WINDOW: Duration = Duration::from_secs(5);

pub(super) fn measure(peer: &Peer, program: &Path, logs: &Logs) -> Outcome<Value> {
    let (idle_memory, idle_load) = idle(peer, program)?;
    let receiver = peer.receiver()?;
    let work = Work::over(&logs.of(LINES, Content::Text)?, &receiver)?;
    let begun = Instant::now();
    let agent = peer.start(program, &work)?;
    let watch = agent.watch_memory(begun, Duration::from_millis(50));
    let mut lines = Lines::expected(LINES)?;
    let cpu = until_rest(&agent, &receiver, &mut lines)
        .map_err(|error| format!("{error}\n{}", agent.said()))?;
    let peak_memory = agent.peak_memory()?;
    let last = lines.last().unwrap_or(begun);
    let wall = last.duration_since(begun);
    let memory: Vec<(f64, f64)> = watch
        .stop()?
        .into_iter()
        .filter(|(time, _)| *time <= wall.as_secs_f64())
        .collect();
    report::curve("throughput", peer.name, &lines.rates(begun, 0.25));
    report::curve("memory", peer.name, &memory);
    let came = number(lines.unique);
    Ok(json!({
        "linesPerCpuSecond": (came / cpu.as_secs_f64()).round(),
        "linesPerSecond": lines.pace(begun).map(f64::round),
        "bytesPerLine": number(lines.bytes) / came,
        "missing": lines.missing(),
        "busyMemory": peak_memory,
        "idleMemory": idle_memory,
        "idleLoad": idle_load,
    }))
}

/// Waits until every line has come, or nothing more does; returns the processor time up to then.
fn until_rest(agent: &Process, receiver: &Receiver, lines: &mut Lines) -> Outcome<Duration> {
    let mut cpu = None;
    loop {
        match receiver.until_rest(PAUSE, PATIENCE) {
            Ok(()) => {}
            // What is missing is told as a figure.
            Err(error) => return cpu.ok_or(error),
        }
        let now = agent.cpu()?;
        receiver.count(lines)?;
        if lines.complete() {
            return Ok(now);
        }
        cpu = Some(now);
    }
}

/// MiB and thousandths of a processor, after some lines were delivered.
fn idle(peer: &Peer, program: &Path) -> Outcome<(f64, f64)> {
    let receiver = peer.receiver()?;
    let work = Work::new(&receiver)?;
    lines::append(&work.container(), 0..10)?;
    let agent = peer.start(program, &work)?;
    receiver
        .until_complete(&mut Lines::expected(10)?, PATIENCE)
        .map_err(|error| format!("{error}\n{}", agent.said()))?;
    let before = agent.cpu()?;
    // The window of the measurement, in which nothing happens.
    thread::sleep(WINDOW);
    let used = agent.cpu()?.saturating_sub(before);
    Ok((
        agent.memory()?,
        1000.0 * used.as_secs_f64() / WINDOW.as_secs_f64(),
    ))
}
