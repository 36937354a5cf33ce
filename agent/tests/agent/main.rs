//! The agent as a process, over a simulated pod's folders and against servers that behave as a test says.

mod acknowledgement;
mod archive;
mod bundle;
mod delivery;
mod echo;
mod ending;
mod fallback;
mod faults;
mod files;
mod gone;
mod guarded;
mod panic;
mod patterns;
mod pod;
mod processing;
mod refusal;
mod relay;
mod rfc5424;
mod server;
mod state;
mod syslog;
mod syslog_messages;
mod syslog_server;
mod tls;
mod vendors;
mod witness;
