//! Waiting for facts: asks again until the answer is there or the deadline has passed. Never just waits.

use std::{fmt::Display, future::Future, ops::RangeInclusive, time::Duration};

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// How long to wait between two questions: a tenth of what was waited so far, within these bounds. Questions cost work, which
/// the answer then waits for.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_millis(250);

/// Asks `probe` until it answers `Ok(Some(value))`, for `within` at most.
///
/// An `Err` of the probe is "not yet": a server that starts refuses connections at first.
///
/// ```
/// # use std::time::Duration;
/// # use katonic_logging_e2e::eventually::eventually;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let left = std::cell::Cell::new(3);
/// let answer = eventually("the counter reaches zero", Duration::from_secs(5), async || {
///     left.set(left.get() - 1);
///     Ok((left.get() == 0).then_some("zero"))
/// });
/// assert_eq!(answer.await.unwrap(), "zero");
/// # });
/// ```
///
/// # Errors
/// When the deadline passes; with the probe's last error, if it had one.
pub async fn eventually<T, F>(
    what: impl Display,
    within: Duration,
    mut probe: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let begun = Instant::now();
    let deadline = begun + within;
    loop {
        let last = match probe().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() >= deadline {
            match last {
                Some(error) => {
                    return Err(error.context(format!("not within {within:?}: {what}")));
                }
                None => bail!("not within {within:?}: {what}"),
            }
        }
        sleep((begun.elapsed() / 10).clamp(*INTERVALS.start(), *INTERVALS.end())).await;
    }
}
