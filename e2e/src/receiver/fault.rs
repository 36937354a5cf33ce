//! Faults of a receiver and the script by which they happen; the server carries them out.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

/// Something that goes wrong with one request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Refused with this answer, whatever the request holds.
    Answer {
        /// HTTP status.
        status: u16,
        /// The header `Retry-After`.
        retry_after: Option<RetryAfter>,
        /// Body of the answer.
        body: String,
    },
    /// The connection is reset (TCP RST) before the body is read.
    Reset,
    /// The connection is reset when so many bytes of the body have come; nothing is taken.
    ResetDuring(usize),
    /// The connection is reset when the whole body has come; nothing is taken.
    ResetAfter,
    /// The request is taken, and the connection is reset instead of an answer: the sender cannot know.
    TakeThenReset,
    /// The request is read and never answered.
    Stall,
    /// The request is judged as always, and the answer comes one byte at a time, this long after each other.
    Slow(Duration),
    /// The request is judged as always, and the answer comes late.
    Late(Duration),
    /// Nothing is read any more and nothing said: a new connection is accepted and left alone.
    HalfOpen,
}

/// The two forms of `Retry-After` (RFC 9110 §10.2.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetryAfter {
    /// So many seconds from now.
    Seconds(u64),
    /// At this time, which the header says in whole seconds.
    At(SystemTime),
}

impl Fault {
    /// An answer with this status and an empty body.
    pub fn status(status: u16) -> Self {
        Self::Answer {
            status,
            retry_after: None,
            body: String::new(),
        }
    }

    /// An answer with this status that asks for patience.
    pub fn retry_after(status: u16, when: RetryAfter) -> Self {
        Self::Answer {
            status,
            retry_after: Some(when),
            body: String::new(),
        }
    }
}

/// How often a fault happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Times {
    /// To so many requests.
    Exactly(u32),
    /// Until the receiver is told to behave.
    UntilTold,
}

/// A fault that has not happened as often as it should.
#[derive(Debug)]
struct Pending {
    fault: Fault,
    times: Times,
    /// Only requests whose path begins so.
    path: String,
}

/// Faults in the order in which they are to happen.
#[derive(Debug, Default)]
pub(crate) struct Script(VecDeque<Pending>);

impl Script {
    pub(crate) fn push(&mut self, fault: Fault, times: Times, path: &str) {
        let path = path.to_owned();
        if times != Times::Exactly(0) {
            self.0.push_back(Pending { fault, times, path });
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault of the next request, which is one to this path.
    pub(crate) fn next(&mut self, path: &str) -> Option<Fault> {
        let place = self
            .0
            .iter()
            .position(|pending| path.starts_with(&pending.path))?;
        Some(self.happen(place))
    }

    /// Whether the next connection is left alone; its requests are never seen, so they have no path.
    pub(crate) fn leaves_connection_alone(&mut self) -> bool {
        let is_next = self
            .0
            .front()
            .is_some_and(|pending| pending.fault == Fault::HalfOpen && pending.path.is_empty());
        if is_next {
            self.happen(0);
        }
        is_next
    }

    fn happen(&mut self, place: usize) -> Fault {
        let pending = &mut self.0[place];
        let fault = pending.fault.clone();
        if let Times::Exactly(left) = &mut pending.times {
            *left -= 1;
            if *left == 0 {
                self.0.remove(place);
            }
        }
        fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_happen_in_order_and_as_often_as_told() {
        let mut script = Script::default();
        script.push(Fault::Stall, Times::Exactly(0), "");
        script.push(Fault::Reset, Times::Exactly(2), "");
        script.push(Fault::status(503), Times::UntilTold, "");
        let happened: Vec<_> = (0..4).map_while(|_| script.next("/")).collect();
        let busy = Fault::status(503);
        assert_eq!(happened, [Fault::Reset, Fault::Reset, busy.clone(), busy]);
        script.clear();
        assert_eq!(script.next("/"), None);
    }

    #[test]
    fn a_fault_of_one_path_leaves_the_others_alone() {
        let mut script = Script::default();
        script.push(Fault::Stall, Times::Exactly(1), "/ack");
        script.push(Fault::Reset, Times::Exactly(1), "");
        assert_eq!(script.next("/event"), Some(Fault::Reset));
        assert_eq!(script.next("/event"), None);
        assert_eq!(script.next("/ack?channel=1"), Some(Fault::Stall));
        assert_eq!(script.next("/ack"), None);
    }

    #[test]
    fn a_connection_is_left_alone_when_its_turn_has_come() {
        let mut script = Script::default();
        script.push(Fault::Reset, Times::Exactly(1), "");
        script.push(Fault::HalfOpen, Times::Exactly(1), "");
        assert!(!script.leaves_connection_alone());
        assert_eq!(script.next("/"), Some(Fault::Reset));
        assert!(script.leaves_connection_alone());
        assert!(!script.leaves_connection_alone());
    }
}
