//! How many log files may be held open at a time. Opens none.

use std::{cell::Cell, rc::Rc};

/// Descriptors that log files leave to connections, to the bundle, to cursors and to the runtime.
const RESERVE: u64 = 128;

/// However few descriptors there are, as many files are held.
const FEWEST: u64 = 16;

/// The descriptors of all log files.
#[derive(Debug)]
pub struct Descriptors {
    limit: u64,
    held: Cell<u64>,
    /// Whether a file could not be held since this was last asked.
    short: Cell<bool>,
    /// Whether a file may have become one that need not be held.
    review: Cell<bool>,
}

/// The right to hold one file open.
#[derive(Debug)]
pub(super) struct Slot(Rc<Descriptors>);

impl Descriptors {
    /// For a process that may have so many open.
    pub fn new(limit: u64) -> Self {
        Self {
            limit: limit.saturating_sub(RESERVE).max(FEWEST),
            held: Cell::new(0),
            short: Cell::new(false),
            review: Cell::new(false),
        }
    }

    /// How many log files are held at most.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether there is a slot for one more file; if not, it is held as soon as there is.
    pub(super) fn has_room(&self) -> bool {
        let has_room = self.held.get() < self.limit;
        if !has_room {
            self.short.set(true);
        }
        has_room
    }

    /// A file that should be held is not.
    pub(super) fn ask_again(&self) {
        self.short.set(true);
    }

    /// A slot for one more file; none when all are taken.
    pub(super) fn take(self: &Rc<Self>) -> Option<Slot> {
        if !self.has_room() {
            return None;
        }
        self.held.set(self.held.get() + 1);
        self.review.set(true);
        Some(Slot(Rc::clone(self)))
    }

    /// Whether files had to go without since this was last asked, and there may be room by now.
    pub(super) fn was_short(&self) -> bool {
        self.short.take()
    }

    /// A file may have become one that need not be held.
    pub(super) fn ask_review(&self) {
        self.review.set(true);
    }

    /// Whether to look for files that need not be held.
    pub(super) fn needs_review(&self) -> bool {
        self.review.take()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.held.set(self.0.held.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_back_when_they_are_dropped() {
        let descriptors = Rc::new(Descriptors::new(RESERVE + FEWEST + 1));
        let mut slots = Vec::new();
        while let Some(slot) = descriptors.take() {
            slots.push(slot);
        }
        assert_eq!(slots.len() as u64, FEWEST + 1);
        assert!(descriptors.was_short());
        assert!(!descriptors.was_short());
        slots.pop();
        assert!(descriptors.take().is_some());
    }

    #[test]
    fn some_files_are_held_however_few_descriptors_there_are() {
        assert_eq!(Descriptors::new(10).limit(), FEWEST);
    }
}
