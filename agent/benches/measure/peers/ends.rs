//! What is lost when a peer is ended: under load, with a sink that refuses, and just after a line was written.
//!
//! After SIGTERM the peer has the grace period of a pod. What has not come by then is lost where the pod is gone too,
//! so it is counted at once. Then the sink is healthy, the peer is started again over the same state, and what is
//! missing after that is lost in any case.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{GRACE, PATIENCE, Peer, Work};
use crate::{
    Outcome,
    count::Lines,
    lines::{self, Content, Logs},
    process::{End, Process},
    receiver::{Mode, Receiver, Wire},
};

/// Lines of the log that is being read when the end comes.
const MANY: u32 = 500_000;

/// It comes when so many have arrived.
const SOME: usize = 50_000;

/// Lines of a container that writes steadily: 1,000 a second.
const STEADY: u32 = 3000;

/// How many of them the sink has taken before it refuses.
const BEFORE_REFUSING: u32 = 500;

/// Lines of each write, and the time between two.
const WRITE: (u32, Duration) = (10, Duration::from_millis(10));

/// How often an end just after a line is tried.
const TRIALS: u32 = 10;

/// Lines written just before it.
const LAST_LINES: u32 = 10;

pub(super) fn measure(peer: &Peer, program: &Path, logs: &Logs) -> Outcome<Vec<Value>> {
    let mut ends = vec![just_after(peer, program)?, under_load(peer, program, logs)?];
    // A stream has no answers that could refuse.
    if matches!(peer.wire, Wire::Http(_)) {
        for status in [503, 401] {
            ends.push(refused(peer, program, status)?);
        }
    }
    Ok(ends)
}

/// The last lines of a container, and its end at once.
fn just_after(peer: &Peer, program: &Path) -> Outcome<Value> {
    let mut missing = 0;
    let mut slowest = Duration::ZERO;
    let mut killed = false;
    for _ in 0..TRIALS {
        let receiver = peer.receiver()?;
        let work = Work::new(&receiver)?;
        lines::append(&work.container(), 0..1)?;
        let mut agent = peer.start(program, &work)?;
        let mut came = Lines::expected(1 + LAST_LINES)?;
        receiver.until(&mut came, PATIENCE, |lines| lines.unique > 0)?;
        lines::append(&work.container(), 1..1 + LAST_LINES)?;
        let end = agent.terminate(GRACE)?;
        receiver.settle()?;
        receiver.count(&mut came)?;
        missing += came.missing();
        slowest = slowest.max(end.after);
        killed |= end.killed;
    }
    Ok(json!({
        "when": "just after a line was written",
        "lines": TRIALS * LAST_LINES,
        "missingAtExit": missing,
        "seconds": slowest.as_secs_f64(),
        "killed": killed,
    }))
}

/// In the middle of a long log.
fn under_load(peer: &Peer, program: &Path, logs: &Logs) -> Outcome<Value> {
    let receiver = peer.receiver()?;
    let work = Work::over(&logs.of(MANY, Content::Text)?, &receiver)?;
    let mut agent = peer.start(program, &work)?;
    let mut came = Lines::expected(MANY)?;
    receiver.until(&mut came, PATIENCE, |lines| lines.unique >= SOME)?;
    let end = agent.terminate(GRACE)?;
    after_restart(
        peer,
        program,
        &work,
        &receiver,
        &mut came,
        "under load",
        end,
    )
}

/// While the sink refuses everything with this status.
fn refused(peer: &Peer, program: &Path, status: u16) -> Outcome<Value> {
    let receiver = peer.receiver()?;
    let work = Work::new(&receiver)?;
    lines::append(&work.container(), 0..BEFORE_REFUSING)?;
    let mut agent = peer.start(program, &work)?;
    let mut came = Lines::expected(STEADY)?;
    let taken = usize::try_from(BEFORE_REFUSING)?;
    receiver.until(&mut came, PATIENCE, |lines| lines.unique == taken)?;
    receiver.become_(Mode::Refusing(status));
    let begun = Instant::now();
    for first in (BEFORE_REFUSING..STEADY).step_by(usize::try_from(WRITE.0)?) {
        lines::append(&work.container(), first..first + WRITE.0)?;
        // The pace of the lines, by the clock.
        let due = WRITE.1 * ((first - BEFORE_REFUSING) / WRITE.0 + 1);
        thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    receiver.until_refused(PATIENCE)?;
    let end = agent.terminate(GRACE)?;
    receiver.become_(Mode::Healthy);
    let what = format!("while the sink answers {status}");
    after_restart(peer, program, &work, &receiver, &mut came, &what, end)
}

/// Counts what has come, starts the peer again and counts what comes then.
fn after_restart(
    peer: &Peer,
    program: &Path,
    work: &Work,
    receiver: &Receiver,
    came: &mut Lines,
    what: &str,
    end: End,
) -> Outcome<Value> {
    receiver.settle()?;
    receiver.count(came)?;
    let missing_at_exit = came.missing();
    let mut again: Process = peer.start(program, work)?;
    if receiver.until_complete(came, PATIENCE).is_err() {
        // What is missing is told as a figure.
        receiver.count(came)?;
    }
    again.terminate(GRACE)?;
    receiver.settle()?;
    receiver.count(came)?;
    Ok(json!({
        "when": what,
        "lines": came.arrived.len(),
        "missingAtExit": missing_at_exit,
        "missing": came.missing(),
        "duplicates": came.duplicates,
        "seconds": end.after.as_secs_f64(),
        "killed": end.killed,
    }))
}
