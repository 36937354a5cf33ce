//! The log agent: delivers the container logs of its own pod to the sinks of the policies that take them.
//!
//! The log file is the queue. For each sink of each policy a cursor in each log file says what the sink has
//! acknowledged; only what is being sent is in memory. A sink that is slow or dead delays no other, and a crash loses
//! nothing: reading begins again at the cursor, and a record that is sent twice has the same id.

pub mod access;
pub mod agent;
pub mod archive;
pub mod assemble;
pub mod backoff;
pub mod batch;
pub mod bundle;
pub mod client;
pub mod counts;
pub mod credential;
pub mod cri;
pub mod cursor;
pub mod deliver;
pub mod dial;
pub mod drain;
pub mod encode;
pub mod files;
pub mod panic;
pub mod pod;
pub mod process;
pub mod reader;
pub mod report;
pub mod route;
pub mod settings;
pub mod signature;
pub mod sink;
pub mod split;
pub mod tell;
pub mod termination;
pub mod timestamp;
pub mod tls;
pub mod window;
pub mod wire;
