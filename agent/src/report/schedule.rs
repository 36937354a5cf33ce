//! When an agent reports. Knows no report and no clock.

use std::time::{Duration, Instant};

use crate::backoff::{Backoff, Bounds};

/// From the moment on at which it is known where to report: long enough for the first lines to be delivered, most often.
const FIRST: Duration = Duration::from_millis(400);
/// What chance adds to it.
const FIRST_CHANCE: Duration = Duration::from_millis(600);

/// Between two reports at least.
const APART: Duration = Duration::from_secs(1);

/// From a change to its report: what changes with it is in the same one.
const AT_ONCE: Duration = Duration::from_millis(100);
/// What chance adds to it.
const AT_ONCE_CHANCE: Duration = Duration::from_millis(300);

/// So many reports in a row may be at once; something that changes all the time is told less often.
const MOST_AT_ONCE: u32 = 10;
/// After this time there may be another one.
const REGAINED: Duration = Duration::from_secs(10);

/// Between two reports when nothing changes, unless the operator says otherwise.
const INTERVAL: Duration = Duration::from_mins(1);
/// The least that it can ask for.
const LEAST_INTERVAL: Duration = Duration::from_secs(10);
/// The most.
const MOST_INTERVAL: Duration = Duration::from_hours(1);

/// The first wait after a failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// When the next report is due.
#[derive(Debug)]
pub struct Schedule {
    interval: Duration,
    next: Instant,
    /// The next one is because of a change.
    at_once: bool,
    /// Before this there is none because of a change.
    earliest: Instant,
    /// How many there may still be in a row.
    allowance: u32,
    /// When the allowance grew last.
    regained: Instant,
    /// The last one has not arrived.
    is_failing: bool,
    backoff: Backoff,
}

/// A part of a time that is left to chance.
fn part(whole: Duration, chance: u64) -> Duration {
    let thousandths = u32::try_from(chance % 1000).unwrap_or_default();
    whole * thousandths / 1000
}

fn backoff(interval: Duration) -> Backoff {
    Backoff::within(Bounds {
        first: FIRST_WAIT,
        longest: interval,
        longest_asked: MOST_INTERVAL,
    })
}

impl Schedule {
    /// The first report is due soon.
    pub fn new(now: Instant, chance: u64) -> Self {
        Self {
            interval: INTERVAL,
            next: now + FIRST + part(FIRST_CHANCE, chance),
            at_once: false,
            earliest: now,
            allowance: MOST_AT_ONCE,
            regained: now,
            is_failing: false,
            backoff: backoff(INTERVAL),
        }
    }

    /// Whether it is time for a report.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// Something has changed that is to be told at once.
    pub fn changed(&mut self, now: Instant, chance: u64) {
        // Whoever does not get reports gets no more of them for it.
        if self.at_once || self.is_failing {
            return;
        }
        self.regain(now);
        let allowed = if self.allowance > 0 {
            self.earliest
        } else {
            self.regained + REGAINED
        };
        let at = now.max(allowed) + AT_ONCE + part(AT_ONCE_CHANCE, chance);
        if at < self.next {
            self.next = at;
            self.at_once = true;
        }
    }

    fn regain(&mut self, now: Instant) {
        while self.allowance < MOST_AT_ONCE && now >= self.regained + REGAINED {
            self.allowance += 1;
            self.regained += REGAINED;
        }
        if self.allowance == MOST_AT_ONCE {
            self.regained = now;
        }
    }

    /// A report is sent.
    pub fn begun(&mut self, now: Instant, chance: u64) {
        if std::mem::take(&mut self.at_once) {
            self.regain(now);
            self.allowance = self.allowance.saturating_sub(1);
        }
        self.earliest = now + APART;
        self.next = now + self.regular(chance);
    }

    /// It has arrived, and the operator wants the next one after so many seconds.
    pub fn received(&mut self, now: Instant, interval: Option<u32>, chance: u64) {
        self.is_failing = false;
        if let Some(seconds) = interval {
            let asked = Duration::from_secs(seconds.into());
            self.interval = asked.clamp(LEAST_INTERVAL, MOST_INTERVAL);
        }
        self.backoff = backoff(self.interval);
        let regular = now + self.regular(chance);
        // Something may have changed while it was on its way.
        self.next = if self.at_once {
            self.next.min(regular)
        } else {
            regular
        };
    }

    /// It has not arrived; the operator may have asked for some time.
    pub fn failed(&mut self, now: Instant, asked: Option<Duration>, chance: u64) {
        self.is_failing = true;
        self.at_once = false;
        let wait = self.backoff.next(asked);
        // So that those who were told the same do not return together.
        let more = asked.map_or(Duration::ZERO, |_| part(wait / 10, chance));
        self.next = now + wait + more;
    }

    /// The interval, more or less a tenth.
    fn regular(&self, chance: u64) -> Duration {
        self.interval * 9 / 10 + part(self.interval / 5, chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LITTLE: u64 = 0;
    const MUCH: u64 = 999;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn wait(schedule: &Schedule, now: Instant) -> Duration {
        schedule.next.saturating_duration_since(now)
    }

    #[test]
    fn the_first_report_is_within_a_second() {
        let now = Instant::now();
        for chance in [LITTLE, MUCH] {
            let schedule = Schedule::new(now, chance);
            assert!(!schedule.is_due(now));
            assert!(schedule.is_due(now + seconds(1)));
        }
    }

    #[test]
    fn the_operator_sets_the_interval_within_bounds() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now, LITTLE);
        for (asked, interval) in [
            (None, 60),
            (Some(300), 300),
            (None, 300),
            (Some(0), 10),
            (Some(u32::MAX), 3600),
        ] {
            schedule.begun(now, MUCH);
            for (chance, share) in [(LITTLE, 9), (MUCH, 11)] {
                schedule.received(now, asked, chance);
                let expected = seconds(interval) * share / 10;
                assert!(wait(&schedule, now).abs_diff(expected) < seconds(1));
            }
        }
    }

    #[test]
    fn a_change_is_told_at_once_but_not_within_a_second_of_the_last_report() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(now, LITTLE);
        now += seconds(5);
        schedule.begun(now, LITTLE);
        schedule.received(now, None, LITTLE);
        schedule.changed(now, LITTLE);
        assert_eq!(wait(&schedule, now), APART + AT_ONCE);
        // What changes meanwhile is in the same report.
        schedule.changed(now + seconds(1), MUCH);
        assert_eq!(wait(&schedule, now), APART + AT_ONCE);
        now += seconds(20);
        schedule.begun(now, LITTLE);
        // While it is on its way.
        schedule.changed(now, LITTLE);
        schedule.received(now, None, LITTLE);
        assert_eq!(wait(&schedule, now), APART + AT_ONCE);
        now += seconds(20);
        schedule.begun(now, LITTLE);
        schedule.received(now, None, LITTLE);
        schedule.changed(now + seconds(20), MUCH);
        assert!(wait(&schedule, now + seconds(20)) < seconds(1));
    }

    #[test]
    fn what_changes_all_the_time_is_told_less_often() {
        let begun = Instant::now();
        let mut now = begun;
        let mut schedule = Schedule::new(now, LITTLE);
        let mut sent = Vec::new();
        while now < begun + seconds(600) {
            schedule.changed(now, LITTLE);
            if schedule.is_due(now) {
                sent.push(now);
                schedule.begun(now, LITTLE);
                schedule.received(now, Some(3600), LITTLE);
            }
            now += Duration::from_millis(200);
        }
        assert!((60..=80).contains(&sent.len()), "{}", sent.len());
        let apart = |pair: &[Instant]| pair[1] - pair[0] >= APART;
        assert!(sent.windows(2).all(apart));
        // After some quiet there is room again.
        now += seconds(600);
        schedule.begun(now, LITTLE);
        schedule.received(now, Some(3600), LITTLE);
        for _ in 0..MOST_AT_ONCE {
            schedule.changed(now, LITTLE);
            assert!(wait(&schedule, now) <= seconds(2));
            now += seconds(2);
            schedule.begun(now, LITTLE);
            schedule.received(now, Some(3600), LITTLE);
        }
    }

    #[test]
    fn failures_are_retried_ever_less_often_up_to_the_interval() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now, LITTLE);
        let mut full = FIRST_WAIT;
        for _ in 0..20 {
            schedule.begun(now, LITTLE);
            schedule.failed(now, None, LITTLE);
            let waited = wait(&schedule, now);
            assert!((full / 2..=full).contains(&waited), "{waited:?}");
            // No change makes it come sooner.
            schedule.changed(now, LITTLE);
            assert_eq!(wait(&schedule, now), waited);
            full = (full * 2).min(INTERVAL);
        }
        schedule.received(now, Some(20), LITTLE);
        schedule.failed(now, None, LITTLE);
        assert!(wait(&schedule, now) <= FIRST_WAIT);
    }

    #[test]
    fn the_operator_may_ask_for_time_and_not_for_more_than_an_hour() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now, LITTLE);
        schedule.failed(now, Some(seconds(7)), LITTLE);
        assert_eq!(wait(&schedule, now), seconds(7));
        schedule.failed(now, Some(seconds(100)), MUCH);
        let waited = wait(&schedule, now);
        assert!((seconds(100)..=seconds(110)).contains(&waited));
        schedule.failed(now, Some(Duration::MAX), LITTLE);
        assert_eq!(wait(&schedule, now), MOST_INTERVAL);
    }
}
