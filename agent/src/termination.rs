//! The container's termination message: what became of the records. Counts nothing itself.

use std::{fs, io, path::Path};

use serde::Serialize;

use crate::route::Counts;

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
}

#[derive(Serialize)]
struct Message<'a> {
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

/// The message; with very many sinks, those that lost something come first and the last are left out.
pub fn message(total: Counts, mut sinks: Vec<SinkCounts>) -> String {
    sinks.sort_by_key(|sink| std::cmp::Reverse((sink.counts.lost, sink.counts.rejected)));
    let mut shown = sinks.len();
    loop {
        let message = Message {
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
    fs::write(path, message)
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
                rejected: 0,
                lost: number,
            },
        }
    }

    #[test]
    fn the_message_is_what_people_and_the_operator_read() {
        let counts = sink(2).counts;
        let text = message(counts, vec![sink(2)]);
        let expected = r#"{"delivered":1,"rejected":0,"lost":2,"sinks":[{"policy":"policy-2","sink":"splunk","delivered":1,"rejected":0,"lost":2}]}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn a_long_message_keeps_the_sinks_that_lost_something() {
        let text = message(Counts::default(), (0..500).map(sink).collect());
        assert!(text.len() <= LONGEST);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["sinks"][0]["policy"], "policy-499");
        let shown = value["sinks"].as_array().unwrap().len() as u64;
        assert_eq!(value["omitted"], 500 - shown);
    }
}
