//! What an audit policy remembers of a container: the place in the chain of its events, and how they were. Reads no line.

use std::{borrow::Cow, collections::BTreeMap};

use katonic_log_config::audit::{Fingerprint, Link, Said};
use serde::{Deserialize, Serialize};

use super::{
    audit::{Audited, Verdict},
    filter::RecordId,
    rate_limit::Passed,
};
use crate::{assemble::Record, encode::CONTINUES};

/// What a policy's steps remember of a container.
///
/// A value, so that it can be kept with a batch and gone back to.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What has passed the rate limits.
    pub limits: Passed,
    /// The audit events.
    pub trail: Trail,
}

/// The audit events of a container as far as one sink has them. It is saved with the cursors, so the same lines get the same
/// numbers when they are sent again.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Trail {
    /// The place of the last one.
    pub link: Link,
    /// When the newest line with an event was written, in seconds since 1970.
    pub newest: Option<i64>,
    /// How many are meant as events and are none, by reason.
    pub faults: BTreeMap<Cow<'static, str>, u64>,
}

impl Trail {
    /// Whether there has been none.
    pub fn is_empty(&self) -> bool {
        self.link.sequence == 0
    }

    /// The place of a record that comes next.
    pub fn audited(&self, record: &Record<'_>, id: RecordId, verdict: Verdict) -> Audited {
        let mut text = String::from_utf8_lossy(record.content);
        if record.continues {
            text.to_mut().push_str(CONTINUES);
        }
        let id = format!("{:016x}-{}", id.file, id.offset);
        let fault = match verdict {
            Verdict::Event => None,
            Verdict::Faulty(fault) => Some(fault.as_str()),
        };
        let said = Said {
            record_id: &id,
            written: record.time.micros(),
            fault,
            text: Fingerprint::of(&text),
        };
        Audited {
            verdict,
            link: self.link.next(&said),
        }
    }

    /// The record is on its way.
    pub fn add(&mut self, record: &Record<'_>, audited: Audited) {
        self.link = audited.link;
        match audited.verdict {
            Verdict::Event => self.newest = self.newest.max(Some(record.time.seconds)),
            Verdict::Faulty(fault) => {
                *self.faults.entry(fault.as_str().into()).or_default() += 1;
            }
        }
    }
}
