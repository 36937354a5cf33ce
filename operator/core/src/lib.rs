//! Every decision of the operator: pure, synchronous, without clock or client.
//!
//! ```text
//!  LoggingPolicy ── validate ──▶ Policy ─┐
//!  installation.yaml ─ validate ▶ Installation ─┤
//!  Observed { namespaces, credentials, ─────────┴─ plan ─▶ Plan { bundles, admission }
//!             last good }                                    │ apply (the shell) ─▶ Report
//!  Pods ── coverage ─▶ Coverage ─────────────────────────────┼─ summarize ─▶ Status ─▶ Event
//!  reports of agents ── survey ─▶ Delivery ──────────────────┘
//! ```
//!
//! The shell observes and applies; nothing else happens there. Equal inputs give equal outputs here, in any order.

pub mod acknowledgement;
pub mod admission;
pub mod audit;
pub mod bundle;
pub mod candidate;
pub mod cel;
pub mod certificate;
pub mod claim;
pub mod condition;
pub mod coverage;
pub mod credential;
pub mod delivery;
pub mod diagnosis;
pub mod digest;
pub mod event;
pub mod execution;
pub mod explain;
pub mod external;
pub mod history;
pub mod injection;
pub mod installation;
pub mod lint;
pub mod manifest;
pub mod names;
pub mod node;
pub mod overview;
pub mod plan;
pub mod policy;
pub mod preview;
pub mod probe;
pub mod quantity;
pub mod reporting;
pub mod restart;
pub mod retention;
pub mod sidecar;
pub mod status;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trail;
pub mod trial;
pub mod way;
pub mod webhook;

pub use candidate::Candidate;
pub use installation::Installation;
pub use policy::Policy;
