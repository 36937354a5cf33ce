//! How long a pod is held up at its end: from SIGTERM to the agent's exit, with lines written just before.

use super::{
    Outcome,
    count::Lines,
    kinds::{Kind, OTHERS, SPLUNK},
    lines::{self, Logs},
    pod::{Pod, policy},
    report,
    throughput::PATIENCE,
};

/// Pods that start together, and end one after the other.
const PODS: usize = 10;

/// How often.
const ROUNDS: usize = 10;

/// How often with each other kind of sink.
const ROUNDS_OF_OTHERS: usize = 2;

/// The other kinds, each in the form that most are used in.
const KINDS: [&str; 7] = [
    "http, JSON lines",
    "loggly",
    "newRelic",
    "otlp, protobuf",
    "syslog, TCP",
    "syslog, TLS",
    "syslog, UDP",
];

/// Lines that are written just before the end.
const LAST_LINES: u32 = 100;

/// What 99 of 100 pods may be held up, in milliseconds, by a sink that answers.
const BUDGET: f64 = 300.0;

pub fn measure(_: &Logs) -> Outcome<()> {
    let mut waits = ends(&SPLUNK, ROUNDS)?;
    let median = report::median(&mut waits);
    let p99 = report::quantile(&mut waits, 0.99);
    report::told("pod held up at its end, median", median, "ms");
    report::at_most("pod held up at its end, p99", p99, "ms", BUDGET);
    for kind in OTHERS.iter().filter(|kind| KINDS.contains(&kind.name)) {
        let mut waits = ends(kind, ROUNDS_OF_OTHERS)?;
        let (median, most) = (
            report::median(&mut waits),
            report::quantile(&mut waits, 1.0),
        );
        let what = format!("pod held up at its end, {}", kind.name);
        report::told(&format!("{what}, median"), median, "ms");
        let pods = waits.len();
        report::told(&format!("{what}, longest of {pods}"), most, "ms");
    }
    Ok(())
}

/// Milliseconds that each of so many rounds of pods was held up by a sink of this kind.
fn ends(kind: &Kind, rounds: usize) -> Outcome<Vec<f64>> {
    let mut waits = Vec::new();
    for _ in 0..rounds {
        let mut pods = Vec::new();
        for _ in 0..PODS {
            let receiver = kind.receiver()?;
            let pod = Pod::new(vec![policy(vec![kind.sink("sink", &receiver)?])])?;
            lines::append(&pod.container("web"), 0..1)?;
            pods.push((pod.start(&[])?, pod, receiver));
        }
        let all = 1 + LAST_LINES;
        for (mut agent, pod, receiver) in pods {
            let mut came = Lines::expected(all)?;
            receiver.until(&mut came, PATIENCE, |lines| lines.unique == 1)?;
            lines::append(&pod.container("web"), 1..all)?;
            let end = agent.terminate(PATIENCE)?;
            // Of a stream the last of it may still be on its way to the receiver's thread.
            receiver.settle()?;
            receiver.count(&mut came)?;
            let is_whole = came.complete() || kind.may_lose();
            if !end.status.success() || !is_whole {
                let (name, status, missing) = (kind.name, end.status, came.missing());
                let said = agent.said();
                return Err(format!("{name}: {status}, {missing} lines missing\n{said}").into());
            }
            waits.push(end.after.as_secs_f64() * 1000.0);
        }
    }
    Ok(waits)
}
