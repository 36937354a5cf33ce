//! Resident memory of the agent when it is idle, and when sinks do not take what it has.

use std::{
    thread,
    time::{Duration, Instant},
};

use katonic_log_config::{Filter, Multiline, MultilineRule, Pattern, Policy, Redact, Replacement};

use super::{
    Outcome,
    count::Lines,
    kinds::SPLUNK,
    lines::{self, Content, Logs},
    pod::{Pod, policy},
    receiver::{Answer, Mode, Receiver, Wire},
    report,
    throughput::PATIENCE,
};

/// What the sidecar may have by default: above it the kernel ends the agent.
const LIMIT: f64 = 32.0;

/// What an operator answers to a report.
const REPORTS: Wire = Wire::Http(Answer {
    status: "200 OK",
    media_type: "application/json",
    body: r#"{"interval":60}"#,
});

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
    report::at_most("memory, idle", idle(None)?, "MiB", 6.0);
    let operator = Receiver::start(REPORTS, true)?;
    let reporting = idle(Some(&operator))?;
    report::at_most("memory, idle, reporting", reporting, "MiB", 6.0);
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
    within_limit(
        &format!("{FILES} log files, three sinks, one of them dead, and a restart"),
        many_files_of_three()?,
    );
    for (how, form, has_dead_sink, change) in LONG_LINES {
        let most = long_line(form, has_dead_sink, change)
            .map_err(|error| format!("a line of 1 GiB{how}: {error}"))?;
        within_limit(&format!("a line of 1 GiB{how}"), most);
    }
    within_limit("a sink that answers one byte a second", drip(logs)?);
    let (policies, containers) = UNFINISHED;
    within_limit(
        &format!("{policies} policies, {containers} containers in the middle of long lines"),
        unfinished_lines()?,
    );
    Ok(())
}

/// After the first lines, when all is delivered, and reported if there is an operator.
fn idle(operator: Option<&Receiver>) -> Outcome<f64> {
    let receiver = SPLUNK.receiver()?;
    let pod = Pod::new(vec![policy(vec![SPLUNK.sink("splunk", &receiver)?])])?;
    if let Some(operator) = operator {
        pod.report_to(operator)?;
    }
    let agent = pod.start(&[])?;
    lines::append(&pod.container("web"), 0..10)?;
    receiver.until_complete(&mut Lines::expected(10)?, PATIENCE)?;
    if let Some(operator) = operator {
        operator.until_requests("a report", PATIENCE, |requests| requests > 0)?;
    }
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
    append_to_each(&pod, 0)?;
    let agent = pod.start(&[])?;
    let mut lines = Lines::expected(FILES * LINES_OF_FILE)?;
    receiver.until_complete(&mut lines, PATIENCE)?;
    agent.peak_memory()
}

/// The same with two sinks that are well and one that never answers, of an agent that is started once more over its cursors.
fn many_files_of_three() -> Outcome<f64> {
    let receivers = [SPLUNK.receiver()?, SPLUNK.receiver()?, SPLUNK.receiver()?];
    receivers[2].become_(Mode::Silent);
    let sinks = ["one", "two", "dead"].into_iter().zip(&receivers);
    let sinks = sinks
        .map(|(name, receiver)| SPLUNK.sink(name, receiver))
        .collect::<Outcome<_>>()?;
    let pod = Pod::new(vec![policy(sinks)])?;
    let all = 2 * FILES * LINES_OF_FILE;
    let mut came = [Lines::expected(all)?, Lines::expected(all)?];
    let mut most: f64 = 0.0;
    for life in 0..2 {
        append_to_each(&pod, life)?;
        let mut agent = pod.start(&["--drain-seconds", "2"])?;
        for (receiver, came) in receivers.iter().zip(&mut came) {
            let all = usize::try_from((life + 1) * FILES * LINES_OF_FILE)?;
            receiver.until(came, PATIENCE, |lines| lines.unique == all)?;
        }
        most = most.max(agent.peak_memory()?);
        // The dead sink's records are lost each time, and wait for the next life all the same.
        agent.terminate(PATIENCE)?;
    }
    Ok(most)
}

/// Some lines more for each of many containers; `life` says how often that was done before.
fn append_to_each(pod: &Pod, life: u32) -> Outcome<()> {
    for file in 0..FILES {
        let first = (life * FILES + file) * LINES_OF_FILE;
        let container = pod.container(&format!("container-{file}"));
        lines::append(&container, first..first + LINES_OF_FILE)?;
    }
    Ok(())
}

/// How a long line stands in the log.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// In parts, as runtimes write it.
    Parts,
    /// Whole, as no runtime should.
    Uncut,
}

/// A long line: what is told of it, its form, whether there is also a sink that never answers, and what the policy does with it.
type LongLine = (&'static str, Form, bool, fn(&mut Policy) -> Outcome<()>);

const LONG_LINES: [LongLine; 5] = [
    ("", Form::Parts, false, |_| Ok(())),
    (", not cut by the runtime", Form::Uncut, false, |_| Ok(())),
    (", two sinks, one of them dead", Form::Parts, true, |_| {
        Ok(())
    }),
    (", Java multi-line", Form::Parts, false, |policy| {
        policy.multiline = Some(Multiline {
            rule: MultilineRule::Java,
            timeout_ms: 1000.try_into()?,
            max_bytes: (256 << 10).try_into()?,
        });
        Ok(())
    }),
    (", one redaction", Form::Parts, false, |policy| {
        policy.filters.push(Filter::Redact(Redact {
            pattern: Pattern::try_from("x{8}".to_owned())?,
            with: Replacement::Text("***".to_owned()),
        }));
        Ok(())
    }),
];

/// The most that it takes for one line without an end, nearly.
fn long_line(
    form: Form,
    has_dead_sink: bool,
    change: impl Fn(&mut Policy) -> Outcome<()>,
) -> Outcome<f64> {
    let (receiver, dead) = (SPLUNK.receiver()?, SPLUNK.receiver()?);
    dead.become_(Mode::Silent);
    let mut sinks = vec![SPLUNK.sink("splunk", &receiver)?];
    if has_dead_sink {
        sinks.push(SPLUNK.sink("dead", &dead)?);
    }
    let mut policy = policy(sinks);
    change(&mut policy)?;
    let pod = Pod::new(vec![policy])?;
    lines::append(&pod.container("web"), 0..1)?;
    let agent = pod.start(&[])?;
    let mut lines = Lines::expected(2)?;
    receiver.until(&mut lines, PATIENCE, |lines| lines.unique == 1)?;
    match form {
        Form::Parts => lines::append_parts(&pod.container("web"), "stdout", PARTS)?,
        Form::Uncut => lines::append_uncut(&pod.container("web"), PARTS)?,
    }
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
