//! What a pod says, made fit for statuses, Events, logs and terminals: it may have been written by anybody who can create a pod.

use std::collections::HashSet;

use katonic_log_config::report::{Report, shortened};

/// The longest UID, revision, version and name of a sink that is looked at, in bytes; those that are made are far shorter.
const LONGEST_NAME: usize = 128;

/// Stands for a character that nobody should print.
const REPLACEMENT: char = '\u{fffd}';

/// The report with sentences that are short and harmless, and without policies and sinks whose names are none or are there already.
#[must_use]
pub fn fit(mut report: Report) -> Report {
    let is_name = |name: &str| name.len() <= LONGEST_NAME;
    report.agent = sentence(&report.agent);
    tame(&mut report.bundle_refused);
    let mut uids = HashSet::new();
    report
        .policies
        .retain(|policy| is_name(&policy.uid) && uids.insert(policy.uid.clone()));
    for policy in &mut report.policies {
        policy.revision.take_if(|revision| !is_name(revision));
        if let Some(refused) = &mut policy.refused {
            refused.message = sentence(&refused.message);
        }
        let mut names = HashSet::new();
        policy
            .sinks
            .retain(|sink| is_name(&sink.name) && names.insert(sink.name.clone()));
        for sink in &mut policy.sinks {
            tame(&mut sink.message);
            tame(&mut sink.rejection);
            if let Some(audit) = &mut sink.audit {
                tame(&mut audit.fault);
            }
        }
    }
    report
}

fn tame(words: &mut Option<String>) {
    if let Some(words) = words {
        *words = sentence(words);
    }
}

fn sentence(words: &str) -> String {
    // First what is longest, so that no more than that is looked at.
    shortened(words).chars().map(visible).collect()
}

fn visible(character: char) -> char {
    match character {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
        character if character.is_control() || is_format(character) => REPLACEMENT,
        character => character,
    }
}

/// Characters that are not seen and change what is seen around them (Unicode 16.0, general category Cf).
fn is_format(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use katonic_log_config::report::{
        AuditReport, MAX_SENTENCE, PolicyReport, Refused, RefusedReason, SinkReport,
    };

    use super::*;

    /// A report in which these words stand wherever there is room for any.
    fn said(words: &str) -> Report {
        let sink = SinkReport {
            name: words.into(),
            message: Some(words.into()),
            rejection: Some(words.into()),
            audit: Some(AuditReport {
                fault: Some(words.into()),
                ..AuditReport::default()
            }),
            ..SinkReport::default()
        };
        let named = SinkReport {
            name: "splunk".into(),
            ..sink.clone()
        };
        let policy = PolicyReport {
            uid: words.into(),
            revision: Some(words.into()),
            refused: Some(Refused {
                reason: RefusedReason::Other,
                message: words.into(),
            }),
            sinks: vec![sink, named],
        };
        let known = PolicyReport {
            uid: "uid-of-logs".into(),
            ..policy.clone()
        };
        Report {
            agent: words.into(),
            bundle_refused: Some(words.into()),
            policies: vec![policy, known],
            ..Report::default()
        }
    }

    #[test]
    fn a_sentence_of_a_hundred_kibibytes_is_two_hundred_characters_and_a_name_of_that_length_is_none()
     {
        let fitted = fit(said(&"\u{1b}[31mü".repeat(16 << 10)));
        let [policy] = &fitted.policies[..] else {
            panic!("{} policies", fitted.policies.len());
        };
        let [sink] = &policy.sinks[..] else {
            panic!("{} sinks", policy.sinks.len());
        };
        assert_eq!((&*policy.uid, &policy.revision), ("uid-of-logs", &None));
        assert_eq!(sink.name, "splunk");
        let sentences = [
            Some(&fitted.agent),
            fitted.bundle_refused.as_ref(),
            policy.refused.as_ref().map(|refused| &refused.message),
            sink.message.as_ref(),
            sink.rejection.as_ref(),
            sink.audit.as_ref().and_then(|audit| audit.fault.as_ref()),
        ];
        for sentence in sentences.map(Option::unwrap) {
            assert_eq!(sentence.chars().count(), MAX_SENTENCE);
            assert!(sentence.starts_with("\u{fffd}[31mü"), "{sentence}");
        }
    }

    #[test]
    fn what_is_said_of_one_sink_is_said_once() {
        let mut twice = said("a");
        twice.policies[1].uid = "a".into();
        twice.policies[0].sinks[1].name = "a".into();
        let fitted = fit(twice);
        assert_eq!(fitted.policies.len(), 1);
        assert_eq!(fitted.policies[0].sinks.len(), 1);
    }

    #[test]
    fn nothing_that_moves_cursors_lines_or_directions_is_left() {
        let fitted = fit(said(
            "all is well\r\n\u{1b}]0;root\u{7}\u{202e}lleh\u{2028}\u{200b}\u{feff}\u{e0041}\u{9b}2J\0",
        ));
        let message = fitted.policies[1].sinks[1].message.as_deref();
        let shown = "all is well  \u{fffd}]0;root\u{fffd}\u{fffd}lleh \u{fffd}\u{fffd}\u{fffd}\u{fffd}2J\u{fffd}";
        assert_eq!(message, Some(shown));
        let words = "Zürich: „größer“ 日本語 – 404 …";
        assert_eq!(fit(said(words)), said(words));
    }
}
