//! The container's termination message: what became of the records. Counts nothing itself.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

use crate::counts::Counts;

/// The kubelet shows no more than this (Kubernetes: "Customizing the termination message").
const LONGEST: usize = 4096;

/// The counts of one sink.
#[derive(Clone, Debug, Serialize)]
pub struct SinkCounts {
    /// Name of the policy.
    pub policy: String,
    /// Name of the sink.
    pub sink: String,
    /// What became of its records.
    #[serde(flatten)]
    pub counts: Counts,
    /// About how many bytes are not acknowledged, and at the end for how many there was no time to count their records; none once
    /// all is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Message<'a> {
    /// Whether more will come: if this is the last that is seen, the agent was killed before it was done.
    #[serde(skip_serializing_if = "is_false")]
    ending: bool,
    #[serde(flatten)]
    total: Counts,
    sinks: &'a [SinkCounts],
    #[serde(skip_serializing_if = "is_zero")]
    omitted: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// The message, or while the agent is `ending` what it would be so far; with very many sinks, those that lost something come first and the last are left out.
pub fn message(total: Counts, mut sinks: Vec<SinkCounts>, ending: bool) -> String {
    sinks.sort_by_key(|sink| {
        std::cmp::Reverse((sink.counts.lost, sink.pending_bytes, sink.counts.rejected))
    });
    let mut shown = sinks.len();
    loop {
        let message = Message {
            ending,
            total,
            sinks: &sinks[..shown],
            omitted: sinks.len() - shown,
        };
        // Numbers and strings always serialise.
        let text = serde_json::to_string(&message).unwrap_or_default();
        if text.len() <= LONGEST || shown == 0 {
            return text;
        }
        shown -= 1;
    }
}

/// Writes the message where the kubelet looks for it.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, message: &str) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    // In this order there is a message at any moment. The file itself cannot be replaced: it is mounted.
    file.write_all(message.as_bytes())?;
    file.set_len(message.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(number: u64) -> SinkCounts {
        SinkCounts {
            policy: format!("policy-{number}"),
            sink: "splunk".into(),
            counts: Counts {
                delivered: 1,
                lost: number,
                ..Counts::default()
            },
            pending_bytes: None,
        }
    }

    #[test]
    fn the_message_is_what_people_and_the_operator_read() {
        let counts = sink(2).counts;
        let text = message(counts, vec![sink(2)], false);
        let expected = concat!(
            r#"{"delivered":1,"rejected":0,"dropped":0,"lost":2,"fallback":0,"sinks":[{"policy":"policy-2","#,
            r#""sink":"splunk","delivered":1,"rejected":0,"dropped":0,"lost":2,"fallback":0}]}"#
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_message_that_is_not_the_last_says_so() {
        let mut pending = sink(0);
        pending.pending_bytes = Some(7);
        let text = message(pending.counts, vec![pending], true);
        assert!(
            text.starts_with(r#"{"ending":true,"delivered":1,"#),
            "{text}"
        );
        assert!(text.contains(r#""pending_bytes":7"#), "{text}");
    }

    #[test]
    fn a_shorter_message_leaves_nothing_of_a_longer_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        write(&path, "a longer one").unwrap();
        write(&path, "short").unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"short");
    }

    #[test]
    fn a_long_message_keeps_the_sinks_that_lost_something() {
        let text = message(Counts::default(), (0..500).map(sink).collect(), false);
        assert!(text.len() <= LONGEST);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["sinks"][0]["policy"], "policy-499");
        let shown = value["sinks"].as_array().unwrap().len() as u64;
        assert_eq!(value["omitted"], 500 - shown);
    }
}
