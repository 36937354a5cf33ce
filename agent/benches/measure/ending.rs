//! How long a pod is held up at its end: from SIGTERM to the agent's exit, with lines written just before.

use super::{
    Outcome,
    count::Lines,
    kinds::SPLUNK,
    lines::{self, Logs},
    pod::{Pod, policy},
    report,
    throughput::PATIENCE,
};

/// Pods that start together, and end one after the other.
const PODS: usize = 10;

/// How often.
const ROUNDS: usize = 10;

/// Lines that are written just before the end.
const LAST_LINES: u32 = 100;

/// What 99 of 100 pods may be held up, in milliseconds.
const BUDGET: f64 = 300.0;

pub fn measure(_: &Logs) -> Outcome<()> {
    let mut waits = Vec::new();
    for _ in 0..ROUNDS {
        let mut pods = Vec::new();
        for _ in 0..PODS {
            let receiver = SPLUNK.receiver()?;
            let pod = Pod::new(vec![policy(vec![SPLUNK.sink("splunk", &receiver)?])])?;
            lines::append(&pod.container("web"), 0..1)?;
            pods.push((pod.start(&[])?, pod, receiver));
        }
        let all = 1 + LAST_LINES;
        for (mut agent, pod, receiver) in pods {
            let mut came = Lines::expected(all)?;
            receiver.until(&mut came, PATIENCE, |lines| lines.unique == 1)?;
            lines::append(&pod.container("web"), 1..all)?;
            let end = agent.terminate(PATIENCE)?;
            receiver.count(&mut came)?;
            if !end.status.success() || !came.complete() {
                let (status, missing) = (end.status, came.missing());
                return Err(format!("{status}, {missing} lines missing\n{}", agent.said()).into());
            }
            waits.push(end.after.as_secs_f64() * 1000.0);
        }
    }
    let median = report::median(&mut waits);
    let p99 = report::quantile(&mut waits, 0.99);
    report::told("pod held up at its end, median", median, "ms");
    report::at_most("pod held up at its end, p99", p99, "ms", BUDGET);
    Ok(())
}
