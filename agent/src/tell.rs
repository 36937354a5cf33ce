//! What the agent says of itself on stderr: one JSON object a line, for changes of state only. Never a line's content.

use std::{io::Write, time::SystemTime};

use serde_json::{Map, Value};

use crate::timestamp::Timestamp;

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// As it should be.
    Info,
    /// It is retried, or somebody should know.
    Warn,
    /// Something is lost.
    Error,
}

/// Says something; `details` is an object.
pub fn tell(level: Level, message: &str, details: Value) {
    let mut time = Vec::new();
    Timestamp::from(SystemTime::now()).write_rfc3339(&mut time);
    let mut line = Map::new();
    line.insert("time".into(), String::from_utf8_lossy(&time).into());
    let level = match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    line.insert("level".into(), level.into());
    line.insert("message".into(), message.into());
    if let Value::Object(details) = details {
        line.extend(details);
    }
    // With nobody to tell, the agent still has work to do.
    let _ = writeln!(std::io::stderr().lock(), "{}", Value::Object(line));
}
