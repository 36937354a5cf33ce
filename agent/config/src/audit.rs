//! Audit events in the log of a platform's event tracker: which of them a policy wants.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Of a log its audit events are meant, and nothing else. How they are written is in `docs/audit-events.md`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Audit {
    /// Events by name; none: every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<BTreeSet<String>>,
}

impl Audit {
    /// Whether an event of this name is wanted.
    pub fn wants(&self, event: &str) -> bool {
        self.events
            .as_ref()
            .is_none_or(|events| events.contains(event))
    }
}
