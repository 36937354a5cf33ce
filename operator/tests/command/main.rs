//! `katonic-logging` as a user runs it where there is no cluster.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

mod inject;
mod lint;
mod manual;
mod program;
mod render;
