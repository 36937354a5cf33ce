//! Audit policies: which events the platform's event tracker is to write, and how it is told.
//!
//! ```text
//!  AuditPolicy ── validate ──▶ Policy ──┐
//!  Installation { vocabulary } ─────────┼─ plan ─▶ Plan { events } ─ render ─▶ ConfigMap
//!  what the tracker was told last ──────┘            └─ summarize ─▶ Status
//! ```

mod candidate;
mod event;
mod events;
mod policy;
mod status;
mod tracker;

pub use candidate::Candidate;
pub use event::{EventName, InvalidEventName, Vocabulary};
pub use events::due;
pub use policy::{Policy, retention_of, validate};
pub use status::{Facts, summarize};
pub use tracker::{InvalidTrackerName, Plan, Told, TrackerName, config_map, plan};
