//! How much memory is held by lines that have begun and not ended. Cuts none.

use std::{cell::Cell, rc::Rc};

/// So much may be held for all sinks together; beyond it lines are sent in shorter pieces. A container that never ends a
/// line must not cost the agent its life.
const ENOUGH: usize = 8 << 20;

/// What all readers hold together, in bytes.
#[derive(Debug, Default)]
pub struct Room(Cell<usize>);

impl Room {
    /// Whether no more should be held.
    pub fn is_short(&self) -> bool {
        self.0.get() > ENOUGH
    }
}

/// What one reader holds.
#[derive(Debug)]
pub(super) struct Share {
    room: Rc<Room>,
    bytes: usize,
}

impl Share {
    /// Nothing yet.
    pub(super) fn new(room: &Rc<Room>) -> Self {
        Self {
            room: Rc::clone(room),
            bytes: 0,
        }
    }

    /// It is so much by now.
    pub(super) fn hold(&mut self, bytes: usize) {
        let others = self.room.0.get().saturating_sub(self.bytes);
        self.room.0.set(others + bytes);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.hold(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_until_it_is_let_go() {
        let room = Rc::default();
        let mut shares = [Share::new(&room), Share::new(&room)];
        shares[0].hold(ENOUGH);
        shares[0].hold(ENOUGH - 1);
        shares[1].hold(1);
        assert!(!room.is_short());
        shares[1].hold(2);
        assert!(room.is_short());
        drop(shares);
        assert_eq!(room.0.get(), 0);
    }
}
