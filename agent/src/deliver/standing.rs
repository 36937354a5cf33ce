//! What a refusal of a record is worth, by what else the sink has taken and refused. Sends nothing.

use std::time::Duration;

use tokio::time::Instant;

/// A sink that has refused so many records, each alone, and taken none: it is not the records.
pub const MOST_SUSPECTS: usize = 8;

/// How long others are waited for that a sink might take, when it has refused a record and taken none.
const SUSPENSE: Duration = Duration::from_secs(1);

/// A sink that takes records is believed so many refusals in a row.
const BELIEVED: u32 = 8;

/// It is believed no more than so many a minute in the end: a gateway that is in trouble for an hour costs thousands of records, not all
/// that were written.
const MOST_BELIEVED: u32 = 256;

/// For so long it is asked again about the next one: a gateway in trouble refuses everything for a while. A sink that
/// still refuses it is believed twice as many, so that a long run of bad records does not stop the rest for good.
const DOUBT: Duration = Duration::from_mins(1);

/// What is known of a sink, as it is configured now.
#[derive(Debug)]
pub struct Standing {
    /// It has taken something: what it refuses after that is the record's fault.
    proven: bool,
    /// Why it refused the last record, before it had taken any.
    suspicion: Option<(String, Instant)>,
    /// Records that it has refused, each alone, since it took one or was doubted.
    refused: u32,
    /// How many of those are believed.
    believed: u32,
    /// Since when it is asked again about the same record.
    doubted: Option<Instant>,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            proven: false,
            suspicion: None,
            refused: 0,
            believed: BELIEVED,
            doubted: None,
        }
    }
}

impl Standing {
    /// Whether it has taken anything.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Whether it has refused something and taken nothing.
    pub fn is_suspected(&self) -> bool {
        !self.proven && self.suspicion.is_some()
    }

    /// Until when others are waited for that it might take.
    pub fn suspense(&self) -> Option<Instant> {
        let (_, since) = self.suspicion.as_ref()?;
        Some(*since + SUSPENSE)
    }

    /// Why it refused the last record before it had taken any.
    pub fn suspicion(&self) -> &str {
        self.suspicion.as_ref().map_or("", |(reason, _)| reason)
    }

    /// It has taken something; says whether it never had before.
    pub fn takes(&mut self) -> bool {
        let first = !self.proven;
        *self = Self {
            proven: true,
            ..Self::default()
        };
        first
    }

    /// It has refused a record alone, for this reason, and has never taken any.
    pub fn suspect(&mut self, reason: String, now: Instant) {
        self.suspicion = Some((reason, now));
    }

    /// Whether a record that it refuses alone, and does not name, is to be sent again: it may be the sink after all.
    pub fn is_doubtful(&mut self, now: Instant) -> bool {
        if !self.proven {
            return false;
        }
        if self.refused < self.believed {
            self.refused += 1;
            return false;
        }
        let since = *self.doubted.get_or_insert(now);
        if now.duration_since(since) < DOUBT {
            return true;
        }
        self.doubted = None;
        self.refused = 1;
        self.believed = (self.believed * 2).min(MOST_BELIEVED);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many refusals are believed until one is doubted.
    fn believed(standing: &mut Standing, now: Instant) -> usize {
        let mut count = 0;
        while !standing.is_doubtful(now) {
            count += 1;
        }
        count
    }

    #[test]
    fn refusals_in_a_row_are_doubted_for_a_while_and_then_believed_twice_as_often() {
        let mut standing = Standing::default();
        let mut now = Instant::now();
        assert!(standing.takes());
        let mut all = Vec::new();
        for _ in 0..7 {
            all.push(believed(&mut standing, now));
            assert!(standing.is_doubtful(now + DOUBT / 2), "it is asked again");
            now += DOUBT;
        }
        assert_eq!(all, [8, 16, 32, 64, 128, 256, 256]);
        assert!(!standing.takes());
        assert_eq!(believed(&mut standing, now), 8);
    }

    #[test]
    fn a_sink_that_has_taken_nothing_is_suspected_and_not_doubted() {
        let mut standing = Standing::default();
        let now = Instant::now();
        assert!(!standing.is_doubtful(now) && !standing.is_suspected());
        standing.suspect("no".to_owned(), now);
        assert!(standing.is_suspected() && standing.suspicion() == "no");
        assert_eq!(standing.suspense(), Some(now + SUSPENSE));
        assert!(standing.takes() && !standing.is_suspected());
    }
}
