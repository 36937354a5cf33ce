//! How far each sink has acknowledged each log file, and how that survives a restart. Reads no log file.

mod store;

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use store::{Crash, LoadError, Store};

use crate::{archive::ledger::Ledger, counts::Counts, process::trail::Trail};

/// A place in a log file: everything that was complete before `next` is acknowledged.
///
/// A line of one stream can still be open while the other stream goes on. Reading therefore begins again where the
/// earliest open line begins, and passes over what each stream has behind it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Position {
    /// The first byte that was not read.
    pub next: u64,
    /// Where the open line of each stream begins, by [`Stream::index`](crate::cri::Stream::index).
    pub open: [Option<u64>; 2],
}

impl Position {
    /// Where a stream, by [`Stream::index`](crate::cri::Stream::index), has something that is not acknowledged.
    pub fn resume(&self, stream: usize) -> u64 {
        self.open[stream].unwrap_or(self.next)
    }

    /// The place from which on everything is that one of two places lacks.
    #[must_use]
    pub fn lower(self, other: Self) -> Self {
        let next = self.next.min(other.next);
        let open = [0, 1].map(|stream| {
            let resume = self.resume(stream).min(other.resume(stream));
            (resume < next).then_some(resume)
        });
        Self { next, open }
    }

    /// Where reading begins again.
    pub fn start(&self) -> u64 {
        self.open
            .iter()
            .flatten()
            .fold(self.next, |start, open| start.min(*open))
    }
}

/// What makes a log file the same file for good, whatever it is called and whether or not it was compressed.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct FileKey {
    /// Name of the container.
    pub container: Arc<str>,
    /// How often the container had been restarted.
    pub restart: u32,
    /// How it begins.
    pub beginning: Beginning,
}

/// Digest of the beginning of a file, which holds the time of the first line to the nanosecond.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Beginning(u64);

impl Beginning {
    /// The first eight bytes of SHA-256.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let start = digest.first_chunk().copied().unwrap_or_default();
        Self(u64::from_be_bytes(start))
    }

    /// As a number.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Beginning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// What is known of a log file.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Place {
    /// How far it is acknowledged.
    pub position: Position,
    /// How large it was when it was seen last, before compression.
    pub size: u64,
    /// Whether nothing will be added to it and everything in it is acknowledged.
    pub done: bool,
    /// Of a file that the policy no longer takes: how many of its records were not acknowledged by then. They count as
    /// dropped once the file is gone or the pod ends, and not at all if the policy takes the file again before.
    pub declined: Option<u64>,
}

impl Place {
    /// Everything of a file of this size is acknowledged.
    pub fn done_at(size: u64) -> Self {
        Self {
            position: Position {
                next: size,
                open: [None, None],
            },
            size,
            done: true,
            declined: None,
        }
    }

    /// The place of the one that has come less far.
    #[must_use]
    pub fn lower(self, other: Self) -> Self {
        match (self.done, other.done) {
            (true, _) => other,
            (_, true) => self,
            (false, false) => Self {
                position: self.position.lower(other.position),
                size: self.size.max(other.size),
                done: false,
                declined: None,
            },
        }
    }

    /// How many bytes were seen and not acknowledged.
    pub fn unread(&self) -> u64 {
        self.size.saturating_sub(self.position.start())
    }

    /// Whether something was seen that is not acknowledged.
    pub fn has_more(&self) -> bool {
        !self.done && self.unread() > 0
    }
}

/// What one sink of one policy has acknowledged.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Progress {
    /// What became of records so far.
    pub counts: Counts,
    /// Places by file.
    pub files: Vec<(FileKey, Place)>,
    /// What was archived, where the sink is an archive.
    pub ledger: Ledger,
    /// The audit events of each container, where the policy is about those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trails: Vec<(Arc<str>, Trail)>,
}

impl Progress {
    /// Whether what the sink has is numbered: objects of an archive, or audit events.
    pub fn is_numbered(&self) -> bool {
        !self.ledger.is_empty() || !self.trails.is_empty()
    }

    /// What has become of records if nothing more is read: what nobody wants any more was dropped.
    pub fn settled(&self) -> Counts {
        let mut counts = self.counts;
        let unwanted = |place: &Place| {
            // Where that was never counted, it is at least one.
            place.declined.unwrap_or_else(|| place.has_more().into())
        };
        let unwanted = self.files.iter().map(|(_, place)| unwanted(place));
        counts.dropped += unwanted.sum::<u64>();
        counts
    }
}

/// A sink of a policy. The sink's address and credentials are not part of it: they may change.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct RouteKey {
    /// UID of the policy.
    pub policy_uid: String,
    /// Name of the sink.
    pub sink: String,
}

/// What each sink has acknowledged.
pub type Cursors = BTreeMap<RouteKey, Progress>;

/// Everything that is saved.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct State {
    /// Grows with each time that it is saved.
    pub sequence: u64,
    /// The cursors.
    pub cursors: Cursors,
    /// What became of the records of policies that are gone: the counts are of the pod.
    pub retired: Counts,
}
