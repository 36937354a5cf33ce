//! What is told when the agent has a fault of its own, which ends it: where, and never what it was working on.

use std::{
    fs,
    panic::{Location, PanicHookInfo, set_hook},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use crate::{
    tell::{Level, tell},
    termination,
};

/// Has a panic told on stderr and in the termination message. The agent that is started next goes on from the saved cursors.
pub fn tell_of_any(termination_log: PathBuf) {
    set_hook(Box::new(move |info| tell_of(info, &termination_log)));
}

/// The message of a panic may quote a line, so it is not told.
fn tell_of(info: &PanicHookInfo<'_>, termination_log: &Path) {
    let place = info
        .location()
        .map_or_else(String::new, Location::to_string);
    tell(
        Level::Error,
        "the agent has a fault and ends; what is not acknowledged is sent by the next one",
        json!({"panicked": place}),
    );
    let before = fs::read_to_string(termination_log).unwrap_or_default();
    // There is nobody left to tell of a failure.
    let _ = termination::write(termination_log, &last_message(&before, &place));
}

/// What was told of the records before, if anything, and where the fault is.
fn last_message(before: &str, place: &str) -> String {
    let mut message: Map<String, Value> = serde_json::from_str(before).unwrap_or_default();
    message.insert("panicked".to_owned(), place.into());
    Value::Object(message).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_so_far_stay_in_the_message() {
        let before = r#"{"ending":true,"delivered":7,"sinks":[]}"#;
        let message: Value = serde_json::from_str(&last_message(before, "a.rs:1:2")).unwrap();
        let expected = json!({"ending": true, "delivered": 7, "sinks": [], "panicked": "a.rs:1:2"});
        assert_eq!(message, expected);
        for none in ["", "{", "[]"] {
            assert_eq!(last_message(none, "a.rs:1:2"), r#"{"panicked":"a.rs:1:2"}"#);
        }
    }
}
