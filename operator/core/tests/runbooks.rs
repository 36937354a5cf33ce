//! Every reason for which a policy may not be ready has a section of the runbooks that says what to do.

use std::{collections::BTreeSet, fs, path::Path};

use katonic_log_config::report::SinkState;

/// The words of reasons, as the source spells them out.
fn reasons() -> BTreeSet<String> {
    let sources = [
        include_str!("../src/condition.rs"),
        include_str!("../src/credential.rs"),
    ];
    let arms = sources
        .iter()
        .flat_map(|source| source.lines())
        .filter_map(|line| line.trim().split_once(" => \"")?.1.strip_suffix("\","));
    let states = SinkState::ALL.map(SinkState::as_str);
    arms.chain(states).map(str::to_owned).collect()
}

/// Questions and states, and reasons of what is as it should be.
const NOTHING_TO_DO: [&str; 28] = [
    "Accepted",
    "SecretsResolved",
    "Injected",
    "RolledOut",
    "Delivering",
    "RetentionEnforced",
    "TrackerConfigured",
    "EventsSeen",
    "NoEventsYet",
    "Ready",
    "Reconciling",
    "Stalled",
    "True",
    "False",
    "Unknown",
    "Valid",
    "Resolved",
    "AllPods",
    "NoPods",
    "NoAgents",
    "AllAgents",
    "Acknowledged",
    "NothingSent",
    "Enforced",
    "ProviderManaged",
    "Configured",
    "Suspended",
    "InForce",
];

#[test]
fn every_reason_has_a_section() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbooks.md");
    let page = fs::read_to_string(page).unwrap();
    let headings = page.lines().filter(|line| line.starts_with("####"));
    let sections: BTreeSet<&str> = headings
        .map(|line| line.trim_start_matches('#').trim().trim_matches('`'))
        .collect();
    let reasons = reasons();
    assert!(reasons.contains("LinesLost") && reasons.contains("SecretMissing"));
    assert!(reasons.contains("Unreachable"));
    for reason in &reasons {
        let is_told = sections.contains(reason.as_str());
        let is_well = NOTHING_TO_DO.contains(&reason.as_str());
        assert!(
            is_told != is_well,
            "`#### {reason}` in docs/runbooks.md: the alert KatonicLoggingPolicyNotReady leads there"
        );
    }
    for section in sections {
        assert!(reasons.contains(section), "nothing is called {section}");
    }
}
