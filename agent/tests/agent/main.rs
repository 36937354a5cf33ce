//! The agent as a process, over a simulated pod's folders and against servers that behave as a test says.

mod bundle;
mod delivery;
mod ending;
mod files;
mod pod;
mod refusal;
mod server;
mod tls;
mod witness;
