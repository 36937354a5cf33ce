//! Faults of a receiver and the script by which they happen; the server carries them out.

use std::{collections::VecDeque, time::Duration};

/// Something that goes wrong with one request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Refused with this answer, whatever the request holds.
    Answer {
        /// HTTP status.
        status: u16,
        /// Value of `Retry-After`, in seconds.
        retry_after: Option<u64>,
        /// Body of the answer.
        body: String,
    },
    /// The connection is reset (TCP RST) before the body is read.
    Reset,
    /// The request is taken, and the connection is reset instead of an answer: the sender cannot know.
    TakeThenReset,
    /// The request is read and never answered.
    Stall,
    /// The request is judged as always, and the answer comes late.
    Late(Duration),
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
}

/// How often a fault happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Times {
    /// To so many requests.
    Exactly(u32),
    /// Until the receiver is told to behave.
    UntilTold,
}

/// Faults in the order in which they are to happen.
#[derive(Debug, Default)]
pub(crate) struct Script(VecDeque<(Fault, Times)>);

impl Script {
    pub(crate) fn push(&mut self, fault: Fault, times: Times) {
        self.0.push_back((fault, times));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault of the next request.
    pub(crate) fn next(&mut self) -> Option<Fault> {
        loop {
            let (fault, times) = self.0.front_mut()?;
            match times {
                Times::UntilTold => return Some(fault.clone()),
                Times::Exactly(0) => {
                    self.0.pop_front();
                }
                Times::Exactly(left) => {
                    *left -= 1;
                    return Some(fault.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_happen_in_order_and_as_often_as_told() {
        let mut script = Script::default();
        script.push(Fault::Reset, Times::Exactly(2));
        script.push(Fault::status(503), Times::UntilTold);
        let happened: Vec<_> = (0..4).map_while(|_| script.next()).collect();
        let busy = Fault::status(503);
        assert_eq!(happened, [Fault::Reset, Fault::Reset, busy.clone(), busy]);
        script.clear();
        assert_eq!(script.next(), None);
    }
}
