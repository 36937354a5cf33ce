//! The operator's own log: one JSON object a line.

use tracing_subscriber::EnvFilter;

/// Starts logging to standard output; `RUST_LOG` sets the level, `info` by default.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .init();
}
