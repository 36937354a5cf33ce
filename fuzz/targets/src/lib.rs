//! What the agent's readers and encoders are held to, for any bytes: readers never panic and agree with what is written
//! back, encoders write what a strict reader reads as the same.
//!
//! Each target takes bytes and panics when something does not hold. They run over a kept corpus and over changes of it in
//! this crate's tests, and guided by coverage with `make fuzz`.

#![expect(
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a target fails by panicking"
)]

mod encoders;
mod input;
mod processing;
mod readers;
mod strict;

#[path = "../../../agent/src/encode/tests/logs_proto.rs"]
mod logs_proto;
#[path = "../../../agent/tests/agent/rfc5424.rs"]
mod rfc5424;

pub use encoders::{new_relic, objects, otlp, splunk, syslog};
pub use processing::{filters, multiline};
pub use readers::{bundle, cri, cursors, reader};

/// Holds the agent to something, for any bytes.
pub type Target = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const TARGETS: [(&str, Target); 11] = [
    ("bundle", bundle),
    ("cri", cri),
    ("cursors", cursors),
    ("filters", filters),
    ("multiline", multiline),
    ("new_relic", new_relic),
    ("objects", objects),
    ("otlp", otlp),
    ("reader", reader),
    ("splunk", splunk),
    ("syslog", syslog),
];
