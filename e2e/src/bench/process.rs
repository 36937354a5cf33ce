//! What a child process costs.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike as _},
};

/// Processor time of the children that have ended, the kernel's included: children that are measured run one after the other.
pub(super) fn cpu_of_children() -> Result<Duration> {
    let usage =
        getrusage(UsageWho::RUSAGE_CHILDREN).context("failed to ask for processor times")?;
    let time = |time: TimeVal| -> Result<Duration> {
        Ok(Duration::from_micros(u64::try_from(
            time.num_microseconds(),
        )?))
    };
    Ok(time(usage.user_time())? + time(usage.system_time())?)
}

/// Peak of a process's resident memory, in MiB; none once it is gone.
pub(super) fn peak(id: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes / 1024.0)
}

/// Processor time that a process has used, in milliseconds.
pub(super) fn processor_time(id: u32) -> Result<f64> {
    // Ticks are hundredths of a second on every architecture that Linux runs on (proc(5), `USER_HZ`).
    const TICK: f64 = 10.0;
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))
        .with_context(|| format!("process {id} has ended"))?;
    // The name stands in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("failed to read /proc")?;
    let field = |index: usize| -> Result<f64> {
        let field = fields.split_whitespace().nth(index);
        Ok(field.context("failed to read /proc")?.parse()?)
    };
    // User and system time are the fields 14 and 15; the state, the third, comes first here.
    Ok((field(11)? + field(12)?) * TICK)
}
