//! Wakes the controller at a time of day: what is due then is nobody's change.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use tokio::task::JoinHandle;

use crate::cache::{Change, Signal};

/// How long the alarm sleeps at a time. Clocks are set, and a machine that sleeps does not count.
const NAP: Duration = Duration::from_mins(10);

/// One alarm; setting it anew forgets the one before.
#[derive(Debug)]
pub struct Alarm {
    signal: Arc<Signal>,
    set: Option<(Timestamp, JoinHandle<()>)>,
}

impl Alarm {
    /// One that is not set.
    pub fn new(signal: &Arc<Signal>) -> Self {
        Self {
            signal: signal.clone(),
            set: None,
        }
    }

    /// Sets it.
    pub fn set(&mut self, at: Timestamp) {
        if let Some((before, task)) = &self.set {
            if *before == at && !task.is_finished() {
                return;
            }
            task.abort();
        }
        let signal = self.signal.clone();
        let task = tokio::spawn(async move {
            loop {
                let left = Duration::try_from(at.duration_since(Timestamp::now()));
                match left {
                    Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(NAP)).await,
                    _ => return signal.raise(Change::Plan),
                }
            }
        });
        self.set = Some((at, task));
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.set {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::SignedDuration;

    use super::*;

    #[tokio::test]
    async fn an_alarm_wakes_the_controller_when_its_time_has_come() {
        let signal = Arc::new(Signal::default());
        let mut alarm = Alarm::new(&signal);
        alarm.set(Timestamp::now() + SignedDuration::from_hours(1));
        alarm.set(Timestamp::now() + SignedDuration::from_millis(20));
        let woken = signal.changed(Duration::ZERO);
        let change = tokio::time::timeout(Duration::from_secs(20), woken).await;
        assert_eq!(change, Ok(Change::Plan));
    }
}
