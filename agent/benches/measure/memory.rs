//! Resident memory of the agent when it is idle, and when sinks do not take what it has.

use std::{
    thread,
    time::{Duration, Instant},
};

use katonic_log_config::Policy;

use super::{
    Outcome,
    count::Lines,
    kinds::SPLUNK,
    lines::{self, Content, Logs},
    pod::{Pod, policy},
    receiver::{Mode, Receiver},
    report,
    throughput::PATIENCE,
};

/// What the sidecar may have by default: above it the kernel ends the agent.
const LIMIT: f64 = 32.0;

const LINES: u32 = 1_000_000;

/// Lines of the log that is read when the sink goes down.
const MANY_LINES: u32 = 3_000_000;

/// Requests before it does: about a quarter of all.
const SOME: usize = 600;

/// How long it is down.
const DOWN: Duration = Duration::from_secs(2);

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Sinks of which none answers.
const DEAD: usize = 40;

/// Log files of one pod.
const FILES: u32 = 10_000;

/// Lines of each of them.
const LINES_OF_FILE: u32 = 10;

/// A line that the runtime cuts into so many parts: 1 GiB.
const PARTS: usize = 64 << 10;

/// Policies, and containers that each wrote almost a whole record to both streams and not the end of it.
const UNFINISHED: (usize, usize) = (10, 5);

pub fn measure(logs: &Logs) -> Outcome<()> {
    report::at_most("memory, idle", idle()?, "MiB", 6.0);
    let three = three_sinks(logs)?;
    report::at_most("memory, three sinks, one of them dead", three, "MiB", 24.0);
    report::told(
        "memory, sink down in the middle of a long log",
        outage(logs)?,
        "MiB",
    );
    let (forty, routes) = (dead_sinks(logs)?, DEAD);
    report::told(&format!("memory, {routes} dead sinks"), forty, "MiB");
    let within_limit = |what: &str, value| {
        report::at_most(&format!("memory, {what}"), value, "MiB", LIMIT);
    };
    within_limit(&format!("{FILES} log files"), many_files()?);
    within_limit("a line of 1 GiB", long_line()?);
    within_limit("a sink that answers one byte a second", drip(logs)?);
    let (policies, containers) = UNFINISHED;
    within_limit(
        &format!("{policies} policies, {containers} containers in the middle of long lines"),
        unfinished_lines()?,
    );
    Ok(())
}

/// After the first lines, when all is delivered.
fn idle() -> Outcome<f64> {
    let receiver = SPLUNK.receiver()?;
    let pod = Pod::new(vec![policy(vec![SPLUNK.sink("splunk", &receiver)?])])?;
    let agent = pod.start(&[])?;
    lines::append(&pod.container("web"), 0..10)?;
    receiver.until_complete(&mut Lines::expected(10)?, PATIENCE)?;
    // Nothing is waited for: this is how long it has been idle.
    thread::sleep(Duration::from_secs(3));
    agent.memory()
}

/// The most that it takes while two sinks are sent everything and the third never answers.
fn three_sinks(logs: &Logs) -> Outcome<f64> {
    let receivers = [SPLUNK.receiver()?, SPLUNK.receiver()?, SPLUNK.receiver()?];
    receivers[2].become_(Mode::Silent);
    let sinks = ["one", "two", "dead"].into_iter().zip(&receivers);
    let sinks = sinks
        .map(|(name, receiver)| SPLUNK.sink(name, receiver))
        .collect::<Outcome<_>>()?;
    let pod = Pod::over(&logs.of(LINES, Content::Text)?, vec![policy(sinks)])?;
    let agent = pod.start(&[])?;
    let watch = agent.watch_memory(Instant::now(), LOOK);
    for receiver in &receivers[..2] {
        receiver.until_complete(&mut Lines::expected(LINES)?, PATIENCE)?;
    }
    receivers[2].until_requests("the dead sink's request", PATIENCE, |requests| requests > 0)?;
    report::curve("memory", "three sinks, one dead", &watch.stop()?);
    agent.peak_memory()
}

/// The most that it takes when its sink is down for a while, with curves.
fn outage(logs: &Logs) -> Outcome<f64> {
    let receiver = SPLUNK.receiver()?;
    let pod = Pod::over(
        &logs.of(MANY_LINES, Content::Text)?,
        vec![policy(vec![SPLUNK.sink("splunk", &receiver)?])],
    )?;
    let begun = Instant::now();
    let agent = pod.start(&[])?;
    let watch = agent.watch_memory(begun, LOOK);
    let mut lines = Lines::expected(MANY_LINES)?;
    receiver.until_requests("some requests", PATIENCE, |requests| requests > SOME)?;
    receiver.become_(Mode::Refusing(503));
    receiver.until_refused(PATIENCE)?;
    // The outage itself: nothing is waited for.
    thread::sleep(DOWN);
    receiver.become_(Mode::Healthy);
    receiver.until_complete(&mut lines, PATIENCE)?;
    report::curve("throughput", "sink down for 2 s", &lines.rates(begun, 0.1));
    report::curve("memory", "sink down for 2 s", &watch.stop()?);
    agent.peak_memory()
}

/// The most that it takes when each of many sinks has been sent a full body and does not answer.
fn dead_sinks(logs: &Logs) -> Outcome<f64> {
    let receiver = SPLUNK.receiver()?;
    receiver.become_(Mode::Silent);
    let policies = (0..DEAD)
        .map(|number| {
            let sink = SPLUNK.sink("dead", &receiver)?;
            let name = format!("policy-{number}");
            Ok(Policy::of_everything(&name, &name, vec![sink]))
        })
        .collect::<Outcome<_>>()?;
    let pod = Pod::over(&logs.of(LINES, Content::Text)?, policies)?;
    let agent = pod.start(&[])?;
    receiver.until_requests("a request of each sink", PATIENCE, |requests| {
        requests >= DEAD
    })?;
    agent.peak_memory()
}

/// The most that it takes for a pod of many log files, each with some lines.
fn many_files() -> Outcome<f64> {
    let receiver = SPLUNK.receiver()?;
    let pod = Pod::new(vec![policy(vec![SPLUNK.sink("splunk", &receiver)?])])?;
    for file in 0..FILES {
        let numbers = file * LINES_OF_FILE..(file + 1) * LINES_OF_FILE;
        lines::append(&pod.container(&format!("container-{file}")), numbers)?;
    }
    let agent = pod.start(&[])?;
    let mut lines = Lines::expected(FILES * LINES_OF_FILE)?;
    receiver.until_complete(&mut lines, PATIENCE)?;
    agent.peak_memory()
}

/// The most that it takes for one line without an end, nearly.
fn long_line() -> Outcome<f64> {
    let receiver = SPLUNK.receiver()?;
    let pod = Pod::new(vec![policy(vec![SPLUNK.sink("splunk", &receiver)?])])?;
    lines::append(&pod.container("web"), 0..1)?;
    let agent = pod.start(&[])?;
    let mut lines = Lines::expected(2)?;
    receiver.until(&mut lines, PATIENCE, |lines| lines.unique == 1)?;
    lines::append_parts(&pod.container("web"), "stdout", PARTS)?;
    lines::append(&pod.container("web"), 1..2)?;
    receiver.until_complete(&mut lines, PATIENCE)?;
    agent.peak_memory()
}

/// The most that it takes when each answer comes one byte a second, beside a sink that is well.
fn drip(logs: &Logs) -> Outcome<f64> {
    let receivers = [SPLUNK.receiver()?, SPLUNK.receiver()?];
    receivers[1].become_(Mode::Dripping);
    let sinks = ["well", "dripping"].into_iter().zip(&receivers);
    let sinks = sinks
        .map(|(name, receiver)| SPLUNK.sink(name, receiver))
        .collect::<Outcome<_>>()?;
    let pod = Pod::over(&logs.of(LINES, Content::Text)?, vec![policy(sinks)])?;
    let agent = pod.start(&[])?;
    receivers[0].until_complete(&mut Lines::expected(LINES)?, PATIENCE)?;
    receivers[1].until_requests("a request", PATIENCE, |requests| requests > 0)?;
    agent.peak_memory()
}

/// The most that it takes when nothing can be sent because no line has ended, for many sinks.
fn unfinished_lines() -> Outcome<f64> {
    let (policies, containers) = UNFINISHED;
    let receivers: Vec<Receiver> = (0..policies)
        .map(|_| SPLUNK.receiver())
        .collect::<Outcome<_>>()?;
    let policies = receivers.iter().enumerate().map(|(number, receiver)| {
        let name = format!("policy-{number}");
        let sink = SPLUNK.sink("splunk", receiver)?;
        Ok(Policy::of_everything(&name, &name, vec![sink]))
    });
    let pod = Pod::new(policies.collect::<Outcome<_>>()?)?;
    let mut number = 0;
    for container in 0..containers {
        let container = pod.container(&format!("container-{container}"));
        for stream in ["stdout", "stderr"] {
            lines::append_parts(&container, stream, lines::PARTS_OF_RECORD - 1)?;
        }
        // Below the open lines, so that it shows that those have been read.
        lines::append_as(&container, "stderr", number..number + 1)?;
        lines::append_parts(&container, "stderr", lines::PARTS_OF_RECORD - 1)?;
        number += 1;
    }
    let agent = pod.start(&[])?;
    for receiver in &receivers {
        receiver.until_complete(&mut Lines::expected(number)?, PATIENCE)?;
    }
    agent.peak_memory()
}
