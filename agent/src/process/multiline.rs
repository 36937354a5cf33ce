//! Joins lines that belong together, for each stream of a container by itself. Reads no file and no clock.

mod go;
mod java;
mod node;
mod python;
mod rule;

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use katonic_log_config::processing;

use crate::{
    assemble::{Begin, MAX_RECORD, Record, SHORT_RECORD, Taken},
    cri::Stream,
    timestamp::Timestamp,
};
pub(super) use rule::Rule;
use rule::{State, Step};

/// Which lines make one record, and for how long it is waited for more of them.
#[derive(Debug)]
pub struct Multiline {
    rule: Rc<Rule>,
    timeout: Duration,
    longest: usize,
}

/// How lines are joined while a file is read.
#[derive(Clone, Copy, Debug)]
pub struct Joining<'a> {
    /// Which lines.
    pub multiline: &'a Multiline,
    /// The time of the reading, by which it is judged for how long a record has waited.
    pub now: Instant,
}

/// The records that have begun and may go on.
#[derive(Debug, Default)]
pub struct Joiner {
    open: [Option<Open>; 2],
    /// Whether the last line of the stream goes on in the next record.
    inside: [bool; 2],
    is_short: bool,
}

#[derive(Debug)]
struct Open {
    time: Timestamp,
    begin: Begin,
    content: Vec<u8>,
    state: State,
    /// When its last line was read.
    touched: Instant,
}

impl Multiline {
    /// What a policy says, with its rule.
    pub(super) fn new(rule: Rc<Rule>, multiline: &processing::Multiline) -> Self {
        Self {
            rule,
            timeout: Duration::from_millis(multiline.timeout_ms.get().into()),
            longest: usize::try_from(multiline.max_bytes.get())
                .map_or(MAX_RECORD, |bytes| bytes.min(MAX_RECORD)),
        }
    }
}

impl Joiner {
    /// Whether no more than [`SHORT_RECORD`] is joined.
    pub fn shorten(&mut self, is_short: bool) {
        self.is_short = is_short;
    }

    /// Bytes that it holds.
    pub fn held(&self) -> usize {
        let open = self.open.iter().flatten();
        open.map(|open| open.content.capacity()).sum()
    }

    /// Adds a line, and offers the record that it ends, if any, and the line itself if it belongs to no other.
    ///
    /// # Guarantees
    /// When `take` answers [`Taken::No`], the line has not been consumed, and it is to be added again.
    pub fn push(
        &mut self,
        joining: Joining<'_>,
        line: &Record<'_>,
        take: &mut impl FnMut(&Record<'_>) -> Taken,
    ) -> Taken {
        let Joining { multiline, now } = joining;
        let index = line.stream.index();
        let longest = if self.is_short {
            multiline.longest.min(SHORT_RECORD)
        } else {
            multiline.longest
        };
        let slot = &mut self.open[index];
        if self.inside[index] || line.continues {
            // A piece of a line longer than a record: where it is cut means nothing.
            if end(slot, line.stream, take) == Taken::No || take(line) == Taken::No {
                return Taken::No;
            }
            self.inside[index] = line.continues;
            return Taken::Yes;
        }
        let state = slot.as_ref().map(|open| open.state);
        match (multiline.rule.step(state, line.content), &mut *slot) {
            (Step::Joins(state), Some(open)) => {
                if open.content.len() + 1 + line.content.len() <= longest {
                    open.content.push(b'\n');
                    open.content.extend_from_slice(line.content);
                    open.state = state;
                    open.touched = now;
                    return Taken::Yes;
                }
                if take(&open.record(line.stream, true)) == Taken::No {
                    return Taken::No;
                }
                *slot = Some(Open::new(line, state, now));
                Taken::Yes
            }
            (Step::Begins(state) | Step::Joins(state), _) => {
                if end(slot, line.stream, take) == Taken::No {
                    return Taken::No;
                }
                *slot = Some(Open::new(line, state, now));
                Taken::Yes
            }
            (Step::Alone, _) => {
                if end(slot, line.stream, take) == Taken::No {
                    return Taken::No;
                }
                take(line)
            }
        }
    }

    /// Offers the records that have waited for long enough.
    pub fn expire(
        &mut self,
        joining: Joining<'_>,
        take: &mut impl FnMut(&Record<'_>) -> Taken,
    ) -> Taken {
        self.end_those(|open| open.due(joining.multiline) <= joining.now, take)
    }

    /// Offers the records that have begun as they stand, because no line of them will come.
    pub fn flush(&mut self, take: &mut impl FnMut(&Record<'_>) -> Taken) -> Taken {
        self.end_those(|_| true, take)
    }

    fn end_those(
        &mut self,
        which: impl Fn(&Open) -> bool,
        take: &mut impl FnMut(&Record<'_>) -> Taken,
    ) -> Taken {
        let mut streams = Stream::ALL;
        // A record that began in an earlier file has a place in that file.
        streams.sort_by_key(|stream| {
            let open = self.open[stream.index()].as_ref();
            open.map(|open| (open.time, open.begin.offset))
        });
        for stream in streams {
            let slot = &mut self.open[stream.index()];
            if slot.as_ref().is_some_and(&which) && end(slot, stream, take) == Taken::No {
                return Taken::No;
            }
        }
        Taken::Yes
    }

    /// When the first of the records has waited for long enough.
    pub fn due(&self, multiline: &Multiline) -> Option<Instant> {
        let open = self.open.iter().flatten();
        open.map(|open| open.due(multiline)).min()
    }

    /// Whether it could be forgotten.
    pub fn is_idle(&self) -> bool {
        self.open.iter().all(Option::is_none) && self.inside == [false; 2]
    }

    /// Where the record of each stream begins that has not ended.
    pub fn open(&self) -> [Option<Begin>; 2] {
        self.open
            .each_ref()
            .map(|open| open.as_ref().map(|open| open.begin))
    }
}

/// Ends the record of a stream, if one has begun.
fn end(
    slot: &mut Option<Open>,
    stream: Stream,
    take: &mut impl FnMut(&Record<'_>) -> Taken,
) -> Taken {
    if let Some(open) = slot {
        if take(&open.record(stream, false)) == Taken::No {
            return Taken::No;
        }
        *slot = None;
    }
    Taken::Yes
}

impl Open {
    fn new(line: &Record<'_>, state: State, now: Instant) -> Self {
        Self {
            time: line.time,
            begin: Begin {
                file: line.file,
                offset: line.offset,
            },
            content: line.content.to_vec(),
            state,
            touched: now,
        }
    }

    fn due(&self, multiline: &Multiline) -> Instant {
        self.touched + multiline.timeout
    }

    fn record(&self, stream: Stream, continues: bool) -> Record<'_> {
        Record {
            time: self.time,
            stream,
            file: self.begin.file,
            offset: self.begin.offset,
            content: &self.content,
            continues,
            // No rule joins the lines of audit events.
            continued: false,
            audit: None,
        }
    }
}

#[cfg(test)]
mod tests;
