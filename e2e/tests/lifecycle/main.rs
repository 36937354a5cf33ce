//! Every kind of owner and every kind of end on a real node: what was written is what arrived, or somebody says what did not.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

mod agent;
mod cases;
mod ends;
mod log_files;
mod owners;
mod process;
mod seen;
mod world;
