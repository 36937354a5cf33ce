//! A report as it is sent: never larger than it may be. Chooses no policy.

use katonic_log_config::{
    Report,
    report::{MAX_SIZE, PolicyReport},
};

/// The report with as many of these policies as have room, and the number of the others; those that matter come first.
pub fn fill(head: Report, policies: impl IntoIterator<Item = PolicyReport>) -> Vec<u8> {
    let mut report = Report {
        policies: Vec::new(),
        omitted: u64::MAX,
        ..head
    };
    let mut room = MAX_SIZE.saturating_sub(json(&report).len());
    report.omitted = 0;
    for policy in policies {
        // With the comma.
        match room.checked_sub(json(&policy).len() + 1) {
            Some(left) => {
                room = left;
                report.policies.push(policy);
            }
            None => report.omitted += 1,
        }
    }
    json(&report)
}

/// These types always serialise.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use katonic_log_config::report::{SinkReport, SinkState, shortened};

    use super::*;

    fn policy(number: usize, message: &str) -> PolicyReport {
        PolicyReport {
            uid: format!("01234567-89ab-cdef-0123-{number:012}"),
            revision: Some("0123456789ab".to_owned()),
            refused: None,
            sinks: vec![SinkReport {
                name: "sink".to_owned(),
                state: SinkState::Unreachable,
                message: Some(shortened(message)),
                ..SinkReport::default()
            }],
        }
    }

    fn read(bytes: &[u8]) -> Report {
        assert!(bytes.len() <= MAX_SIZE, "{} bytes", bytes.len());
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn what_has_room_is_told_whole() {
        let head = Report {
            agent: "1".to_owned(),
            ..Report::default()
        };
        let report = read(&fill(head, (0..3).map(|number| policy(number, "no"))));
        assert_eq!((report.policies.len(), report.omitted), (3, 0));
        assert_eq!(report.agent, "1");
    }

    #[test]
    fn the_first_of_too_many_are_told_and_the_others_counted() {
        for message in ["no route to host", &"\"".repeat(300), &"ü".repeat(300)] {
            let policies = (0..2000).map(|number| policy(number, message));
            let bytes = fill(Report::default(), policies);
            let report = read(&bytes);
            let told = report.policies.len();
            assert_eq!(told as u64 + report.omitted, 2000);
            assert_eq!(report.policies[told - 1].uid, policy(told - 1, "").uid);
            let one = json(&policy(0, message)).len();
            assert!(bytes.len() + one + 40 > MAX_SIZE, "room is used");
        }
    }

    #[test]
    fn one_that_is_too_large_by_itself_takes_nobodys_place() {
        let mut fat = policy(0, "");
        fat.sinks = vec![fat.sinks[0].clone(); 2000];
        let report = read(&fill(Report::default(), [fat, policy(1, "no")]));
        assert_eq!((report.policies.len(), report.omitted), (1, 1));
        assert_eq!(report.policies[0], policy(1, "no"));
    }
}
