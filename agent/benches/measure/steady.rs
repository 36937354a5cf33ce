//! Processor time of a pod that writes steadily, and of one that writes nothing.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    Outcome,
    count::Lines,
    kinds::SPLUNK,
    lines::{self, Logs},
    pod::{Pod, policy},
    process::Process,
    report,
    throughput::PATIENCE,
};

/// How long each is watched.
const WINDOW: Duration = Duration::from_secs(8);

/// Time between two writes.
const INTERVAL: Duration = Duration::from_millis(10);

/// Lines of each write: 1,000 lines a second.
const LINES_OF_WRITE: u32 = 10;

pub fn measure(_: &Logs) -> Outcome<()> {
    let receiver = SPLUNK.receiver()?;
    let pod = Pod::new(vec![policy(vec![SPLUNK.sink("splunk", &receiver)?])])?;
    let agent = pod.start(&[])?;
    let container = pod.container("web");
    let writes = u32::try_from(WINDOW.as_millis() / INTERVAL.as_millis())?;
    let mut came = Lines::expected(1 + writes * LINES_OF_WRITE)?;
    lines::append(&container, 0..1)?;
    receiver.until(&mut came, PATIENCE, |lines| lines.unique == 1)?;

    // The window of the measurement, in which nothing happens.
    let idle = load(&agent, || {
        thread::sleep(WINDOW);
        Ok(())
    })?;
    let busy = load(&agent, || {
        let begun = Instant::now();
        for write in 0..writes {
            // By the clock, so that a late write is made good.
            thread::sleep((INTERVAL * write).saturating_sub(begun.elapsed()));
            let first = 1 + write * LINES_OF_WRITE;
            lines::append(&container, first..first + LINES_OF_WRITE)?;
        }
        receiver.until_complete(&mut came, PATIENCE)
    })?;
    report::told("processor when idle", idle, "mCPU");
    report::told("processor at 1,000 lines/s", busy, "mCPU");
    Ok(())
}

/// Thousandths of a processor that the agent uses meanwhile.
fn load(agent: &Process, meanwhile: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    let (begun, before) = (Instant::now(), agent.cpu()?);
    meanwhile()?;
    let used = agent.cpu()?.saturating_sub(before);
    Ok(1000.0 * used.as_secs_f64() / begun.elapsed().as_secs_f64())
}
