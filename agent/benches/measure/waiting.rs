//! How long a single line takes from being written to being acknowledged.

use std::{num::NonZeroU32, thread, time::Duration, time::Instant};

use super::{
    Outcome,
    count::Lines,
    kinds::SPLUNK,
    lines::{self, Logs},
    pod::{Pod, policy},
    report,
    throughput::PATIENCE,
};

/// Agents that are measured at the same time; each is idle nearly always.
const PODS: u32 = 10;

/// Lines of each, one after the other.
const SAMPLES: u32 = 12;

/// What 99 of 100 lines must keep at the default flush, in milliseconds.
const BUDGET: f64 = 1200.0;

/// The same at a flush of 200 ms: that, the 200 ms at which files are looked at, and 100 ms for the way.
const BUDGET_AT_200: f64 = 500.0;

pub fn measure(_: &Logs) -> Outcome<()> {
    let mut usual = samples(None)?;
    let p99 = report::quantile(&mut usual, 0.99);
    let p50 = report::median(&mut usual);
    let what = "line written to acknowledged";
    report::told(&format!("{what}, median"), p50, "ms");
    report::at_most(&format!("{what}, p99"), p99, "ms", BUDGET);
    let mut quick = samples(NonZeroU32::new(200))?;
    let p99 = report::quantile(&mut quick, 0.99);
    let p50 = report::median(&mut quick);
    report::told(&format!("{what}, flush 200 ms, median"), p50, "ms");
    report::at_most(
        &format!("{what}, flush 200 ms, p99"),
        p99,
        "ms",
        BUDGET_AT_200,
    );
    Ok(())
}

/// Milliseconds of each line.
fn samples(flush_ms: Option<NonZeroU32>) -> Outcome<Vec<f64>> {
    thread::scope(|scope| {
        let pods: Vec<_> = (0..PODS)
            .map(|pod| scope.spawn(move || of_one_pod(u64::from(pod), flush_ms)))
            .collect();
        let mut all = Vec::new();
        for pod in pods {
            all.extend(pod.join().map_err(|_| "a pod's thread ended early")??);
        }
        Ok(all)
    })
}

fn of_one_pod(pod: u64, flush_ms: Option<NonZeroU32>) -> Outcome<Vec<f64>> {
    let receiver = SPLUNK.receiver()?;
    let mut sink = SPLUNK.sink("splunk", &receiver)?;
    sink.batch.flush_ms = flush_ms;
    let sample = Pod::new(vec![policy(vec![sink])])?;
    let agent = sample.start(&[])?;
    let container = sample.container("web");
    let mut came = Lines::expected(SAMPLES + 1)?;
    let mut waits = Vec::new();
    for number in 0..=SAMPLES {
        let begun = Instant::now();
        lines::append(&container, number..number + 1)?;
        let before = came.unique;
        receiver
            .until(&mut came, PATIENCE, |lines| lines.unique > before)
            .map_err(|error| format!("{error}\n{}", agent.said()))?;
        let at = came.last().ok_or("the line has no time")?;
        // The first line waits for the agent to start.
        if number > 0 {
            waits.push(at.duration_since(begun).as_secs_f64() * 1000.0);
        }
        // Nothing is waited for: this only moves the next line to another moment of the agent's clock.
        thread::sleep(Duration::from_millis(
            (37 * u64::from(number) + 61 * pod) % 200,
        ));
    }
    Ok(waits)
}
