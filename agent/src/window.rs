//! What was sent and not yet settled, in the order of reading. Keeps no body and knows no clock: what is sent again is
//! read again.

use std::collections::VecDeque;

/// What becomes of the records of an entry when it is settled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fate {
    /// The sink has them.
    Taken,
    /// The sink has them but for some that it refused for good.
    Partly {
        /// How many it refused.
        rejected: u64,
        /// For people.
        reason: String,
    },
    /// The sink refuses them for their content.
    Refused {
        /// For people.
        reason: String,
    },
}

/// How far an entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State<T> {
    /// The sink has it and has not confirmed it.
    Sent(T),
    /// Refused by a sink that has taken nothing yet: perhaps it is not the record that is wrong.
    Suspected,
    /// Nothing is to come; only those before it are waited for.
    Settled,
}

#[derive(Debug)]
struct Entry<E, T> {
    ends: E,
    fate: Fate,
    state: State<T>,
}

/// Entries leave in the order in which they came, so that a cursor never passes over what is not settled. `E` is what
/// an entry settles, `T` how its confirmation is recognised.
#[derive(Debug)]
pub struct Window<E, T> {
    entries: VecDeque<Entry<E, T>>,
}

impl<E, T> Default for Window<E, T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
        }
    }
}

impl<E, T> Window<E, T> {
    /// Adds what the sink has and has not confirmed.
    pub fn sent(&mut self, ends: E, ticket: T) {
        self.push(ends, Fate::Taken, State::Sent(ticket));
    }

    /// Adds what needs no confirmation.
    pub fn settled(&mut self, ends: E, fate: Fate) {
        self.push(ends, fate, State::Settled);
    }

    /// Adds what a sink refused that has taken nothing yet.
    pub fn suspected(&mut self, ends: E, reason: String) {
        self.push(ends, Fate::Refused { reason }, State::Suspected);
    }

    fn push(&mut self, ends: E, fate: Fate, state: State<T>) {
        self.entries.push_back(Entry { ends, fate, state });
    }

    /// How many entries wait, for whatever.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The newest entry, for what needs nothing but to be settled with it.
    pub fn newest(&mut self) -> Option<&mut E> {
        self.entries.back_mut().map(|entry| &mut entry.ends)
    }

    /// The newest entry that was sent, if nothing came after it.
    pub fn newest_sent(&mut self) -> Option<(&mut E, &mut T)> {
        match self.entries.back_mut() {
            Some(Entry {
                ends,
                state: State::Sent(ticket),
                ..
            }) => Some((ends, ticket)),
            _ => None,
        }
    }

    /// What every unconfirmed entry is recognised by, oldest first.
    pub fn tickets(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|entry| match &entry.state {
            State::Sent(ticket) => Some(ticket),
            State::Suspected | State::Settled => None,
        })
    }

    /// What every entry settles, oldest first.
    pub fn ends(&self) -> impl Iterator<Item = &E> {
        self.entries.iter().map(|entry| &entry.ends)
    }

    /// The sink has confirmed these.
    pub fn confirm(&mut self, is_confirmed: impl Fn(&T) -> bool) {
        for entry in &mut self.entries {
            if let State::Sent(ticket) = &entry.state
                && is_confirmed(ticket)
            {
                entry.state = State::Settled;
            }
        }
    }

    /// How many are suspected.
    pub fn suspects(&self) -> usize {
        let suspected = |entry: &&Entry<E, T>| matches!(entry.state, State::Suspected);
        self.entries.iter().filter(suspected).count()
    }

    /// The sink takes others, so it was the records.
    pub fn convict(&mut self) {
        for entry in &mut self.entries {
            if matches!(entry.state, State::Suspected) {
                entry.state = State::Settled;
            }
        }
    }

    /// The oldest entry, if it waits for nothing.
    pub fn pop(&mut self) -> Option<(E, Fate)> {
        self.entries
            .pop_front_if(|entry| matches!(entry.state, State::Settled))
            .map(|entry| (entry.ends, entry.fate))
    }

    /// Forgets everything: it will be read and sent again.
    pub fn clear(&mut self) {
        self.entries = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(window: &mut Window<u32, u32>) -> Vec<u32> {
        std::iter::from_fn(|| window.pop().map(|(ends, _)| ends)).collect()
    }

    #[test]
    fn what_is_confirmed_waits_for_what_came_before_it() {
        let mut window = Window::default();
        window.sent(1, 10);
        window.sent(2, 20);
        window.settled(3, Fate::Taken);
        window.confirm(|ticket| *ticket == 20);
        assert!(drain(&mut window).is_empty());
        assert_eq!(window.tickets().copied().collect::<Vec<_>>(), [10]);
        window.confirm(|_| true);
        assert_eq!(drain(&mut window), [1, 2, 3]);
        assert!(window.is_empty());
    }

    #[test]
    fn a_suspect_is_settled_when_the_sink_takes_another() {
        let mut window: Window<u32, u32> = Window::default();
        window.suspected(1, "HTTP 400".into());
        window.settled(2, Fate::Taken);
        assert_eq!((window.suspects(), drain(&mut window)), (1, vec![]));
        window.convict();
        let refused = Fate::Refused {
            reason: "HTTP 400".into(),
        };
        assert_eq!(window.pop(), Some((1, refused)));
        assert_eq!(window.pop(), Some((2, Fate::Taken)));
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Sent,
        Settled,
        Suspected,
        Confirm(u32),
        Convict,
        Clear,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => Just(Act::Sent),
            2 => Just(Act::Settled),
            1 => Just(Act::Suspected),
            4 => (0_u32..40).prop_map(Act::Confirm),
            1 => Just(Act::Convict),
            1 => Just(Act::Clear),
        ]
    }

    proptest! {
        /// Whatever happens, what leaves was read in that order, nothing is passed over, and nothing leaves twice.
        #[test]
        fn entries_leave_in_the_order_of_reading(acts in proptest::collection::vec(act(), 0..80)) {
            let mut window = Window::default();
            let (mut read, mut left) = (0, 0);
            for act in acts {
                match act {
                    Act::Sent => window.sent(read, read),
                    Act::Settled => window.settled(read, Fate::Taken),
                    Act::Suspected => window.suspected(read, String::new()),
                    Act::Confirm(one) => window.confirm(|ticket| *ticket == one),
                    Act::Convict => window.convict(),
                    Act::Clear => {
                        window.clear();
                        read = left;
                    }
                }
                if matches!(act, Act::Sent | Act::Settled | Act::Suspected) {
                    read += 1;
                }
                for one in drain(&mut window) {
                    prop_assert_eq!(one, left);
                    left += 1;
                }
                prop_assert_eq!(window.ends().copied().collect::<Vec<_>>(), (left..read).collect::<Vec<_>>());
            }
        }
    }
}
