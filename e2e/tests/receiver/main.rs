//! The contract of the receivers: each documented refusal, word for word, and each fault.

mod client;
mod faults;
mod json;
mod loggly;
mod new_relic;
mod otel_collector;
mod rsyslog;
mod splunk;
mod wire;
