//! The agent as a process, over a simulated pod's folders and against servers that behave as a test says.

mod delivery;
mod pod;
mod server;
mod witness;
