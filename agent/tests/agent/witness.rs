//! What a test has seen so far, and waiting for it to be enough. Never sleeps for a fixed time.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Longer than anything should take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Everything that was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests that a server read to their end.
    pub requests: usize,
    /// Records that a server accepted, in order.
    pub records: Vec<Value>,
    /// What the agent said of itself.
    pub said: Vec<Value>,
}

/// Shared by a test, its servers and the reader of the agent's stderr.
#[derive(Clone, Debug, Default)]
pub struct Witness(Arc<(Mutex<Seen>, Condvar)>);

impl Witness {
    /// What was seen.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to it.
    pub fn add(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.0.1.notify_all();
    }

    /// Waits until enough was seen; fails with everything the agent said.
    pub fn wait(&self, what: &str, enough: impl Fn(&Seen) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.seen();
            let begun = Instant::now();
            if enough(&seen) {
                return;
            }
            let took = begun.elapsed();
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited in vain for {what}; {}",
                describe(&seen)
            );
            // A check reads everything and keeps the servers waiting: they get most of the time.
            drop(self.0.1.wait_timeout(seen, left));
            sleep(4 * took);
        }
    }

    /// Waits until the agent has said something of itself with these details.
    pub fn wait_said(&self, message: &str, details: &[(&str, &str)]) {
        self.wait(message, |seen| {
            seen.said.iter().any(|line| {
                line["message"] == message
                    && details.iter().all(|(name, value)| line[*name] == **value)
            })
        });
    }

    /// Waits until the numbered lines `1..=expected` have arrived and gives how.
    pub fn wait_lines(&self, expected: usize) -> Tally {
        self.wait(&format!("{expected} lines"), |seen| {
            tally(&seen.records, expected).missing == 0
        });
        tally(&self.seen().records, expected)
    }

    /// How the numbered lines have arrived so far.
    pub fn tally(&self, expected: usize) -> Tally {
        tally(&self.seen().records, expected)
    }
}

fn describe(seen: &Seen) -> String {
    let said: Vec<String> = seen.said.iter().map(ToString::to_string).collect();
    format!(
        "{} requests, {} records; the agent said:\n{}",
        seen.requests,
        seen.records.len(),
        said.join("\n")
    )
}

/// How numbered lines arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tally {
    /// Different lines.
    pub unique: usize,
    /// Lines that did not arrive.
    pub missing: usize,
    /// Lines that arrived again.
    pub duplicates: usize,
    /// Lines that arrived for the first time after a later one.
    pub out_of_order: usize,
}

impl Tally {
    /// Every line once and in order.
    pub fn perfect(lines: usize) -> Self {
        Self {
            unique: lines,
            missing: 0,
            duplicates: 0,
            out_of_order: 0,
        }
    }
}

/// The text of a numbered line, 150 bytes long.
pub fn numbered(number: usize) -> String {
    format!("line {number:06} {}", "x".repeat(138))
}

/// The text of a record, in either format.
pub fn text(record: &Value) -> Option<&str> {
    [
        &record["event"],
        &record["event"]["message"],
        &record["message"],
    ]
    .into_iter()
    .find_map(Value::as_str)
}

fn tally(records: &[Value], expected: usize) -> Tally {
    let mut seen = vec![false; expected + 1];
    let mut tally = Tally {
        unique: 0,
        missing: 0,
        duplicates: 0,
        out_of_order: 0,
    };
    let mut last = 0;
    for record in records {
        let number =
            text(record).and_then(|text| text.strip_prefix("line ")?.get(..6)?.parse().ok());
        let Some(number): Option<usize> = number else {
            continue;
        };
        match seen.get_mut(number) {
            Some(seen) if !*seen => {
                *seen = true;
                tally.unique += 1;
                tally.out_of_order += usize::from(number < last);
                last = last.max(number);
            }
            _ => tally.duplicates += 1,
        }
    }
    tally.missing = expected - tally.unique;
    tally
}
