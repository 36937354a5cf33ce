use std::collections::BTreeMap;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use katonic_logging_crds::LoggingPolicyStatus;

use super::*;
use crate::{
    delivery::{Failing, Refusing, Unreported},
    status::{self, Difference},
    testing::policy,
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn candidate() -> Candidate {
    Candidate::readable(&policy("logs"))
}

/// So many agents, all of which run the policy, and one sink.
fn delivery(agents: usize, sink: SinkDelivery) -> Delivery {
    Delivery {
        agents,
        current: agents,
        sinks: [("splunk".to_owned(), sink)].into(),
        ..Delivery::default()
    }
}

fn acknowledging() -> SinkDelivery {
    SinkDelivery {
        acknowledging: 1,
        ..SinkDelivery::default()
    }
}

fn failing(state: SinkState) -> SinkDelivery {
    let failing = Failing {
        agents: 2,
        pod: "katonic-compute/a".into(),
        message: "the endpoint answered 401".into(),
    };
    SinkDelivery {
        failing: [(state, failing)].into(),
        ..SinkDelivery::default()
    }
}

fn lost() -> SinkDelivery {
    let pod = PodLosses {
        lost: 5,
        ..PodLosses::default()
    };
    SinkDelivery {
        losses: Some(Losses {
            lost: 5,
            rejected: 0,
            unreported: 0,
            last: Timestamp::from_second(1_800_000_000).unwrap(),
            rejection: None,
            pods: [(("katonic-compute".to_owned(), "a".to_owned()), pod)].into(),
            more_pods: 0,
        }),
        ..acknowledging()
    }
}

/// What is said of the sink and of the policy's delivery.
fn told(candidate: &Candidate, delivery: &Delivery) -> (SinkStatus, Answer) {
    let policy = candidate.policy.as_ref().unwrap();
    let sink = SinkStatus {
        name: "splunk".into(),
        kind: "splunk".into(),
        in_force: true,
        reason: "Configured".into(),
        message: None,
        delivery: of_sink(candidate, policy, delivery, "splunk", NOW),
        losses: None,
        unidentified: None,
        retention: None,
    };
    let answer = delivering(candidate, policy, delivery, std::slice::from_ref(&sink));
    (sink, answer)
}

/// The policy after this was said of it.
fn after(candidate: &Candidate, (sink, answer): (SinkStatus, Answer)) -> Candidate {
    let now = Timestamp::from_second(0).unwrap();
    Candidate {
        status: Some(LoggingPolicyStatus {
            conditions: vec![answer.condition(&[], candidate.generation, now)],
            sinks: vec![sink],
            ..LoggingPolicyStatus::default()
        }),
        ..candidate.clone()
    }
}

fn state_of(sink: &SinkStatus) -> &str {
    state(sink).unwrap()
}

#[test]
fn every_agent_has_to_run_the_policy() {
    let candidate = candidate();
    let policy = candidate.policy.as_ref().unwrap();
    let answer = |delivery: Delivery| {
        let answer = rolled_out(policy, &delivery);
        (answer.state, answer.reason)
    };
    let all = delivery(3, acknowledging());
    assert_eq!(answer(all.clone()), (State::True, Reason::AllAgents));
    assert_eq!(
        answer(delivery(0, SinkDelivery::default())),
        (State::True, Reason::NoAgents)
    );
    let outdated = Delivery {
        current: 2,
        outdated: 1,
        ..all.clone()
    };
    assert_eq!(answer(outdated), (State::False, Reason::RollingOut));
    let refusing = Refusing {
        agents: 1,
        pod: "katonic-compute/a".into(),
        message: "unknown variant".into(),
    };
    let older = Delivery {
        current: 2,
        refusing: [(RefusedReason::UnsupportedByAgent, refusing)].into(),
        ..all.clone()
    };
    assert_eq!(answer(older), (State::False, Reason::UnsupportedByAgent));
    let refusing_bundle = |held_back| Delivery {
        current: 3 - held_back,
        held_back,
        refusing_bundle: Some(Refusing {
            agents: 1,
            pod: "katonic-compute/a".into(),
            message: "format 9 is newer than this agent".into(),
        }),
        ..all.clone()
    };
    assert_eq!(
        answer(refusing_bundle(1)),
        (State::False, Reason::BundleRefused)
    );
    // A policy that runs as it is written is told all the same that nothing more gets through.
    assert_eq!(answer(refusing_bundle(0)), (State::True, Reason::AllAgents));
    for held_back in [0, 1] {
        let words = rolled_out(policy, &refusing_bundle(held_back)).message;
        let what = "1 cannot use Secret katonic-logs as it is now";
        assert!(words.contains(what), "{words}");
        assert!(
            words
                .ends_with("katonic-compute/a for example says: format 9 is newer than this agent"),
            "{words}"
        );
    }
    let silent = |is_learning| Delivery {
        current: 2,
        silent: 1,
        silent_pod: Some("katonic-compute/a".into()),
        is_learning,
        ..all.clone()
    };
    assert_eq!(
        answer(silent(true)),
        (State::Unknown, Reason::AgentsUnknown)
    );
    assert_eq!(
        answer(silent(false)),
        (State::Unknown, Reason::AgentsSilent)
    );
    let words = rolled_out(policy, &silent(false)).message;
    assert!(
        words.contains("kubectl -n katonic-compute logs a -c katonic-log-agent"),
        "{words}"
    );
}

#[test]
fn a_failing_sink_is_told_with_its_agents_words_and_recovers_after_a_while() {
    let candidate = candidate();
    let bad = delivery(3, failing(SinkState::AuthenticationFailed));
    let said = told(&candidate, &bad);
    assert_eq!(state_of(&said.0), "AuthenticationFailed");
    assert_eq!(
        said.1.reason,
        Reason::SinkFailing(SinkState::AuthenticationFailed)
    );
    assert_eq!(
        said.1.message,
        "sink splunk is refusing the credential for 2 of 3 agents, katonic-compute/a for example: the endpoint answered 401"
    );
    let candidate = after(&candidate, said.clone());
    let wavering = SinkDelivery {
        was_failing: true,
        ..acknowledging()
    };
    let still = told(&candidate, &delivery(3, wavering));
    assert_eq!((&still.0, &still.1), (&said.0, &said.1));
    let well = told(&candidate, &delivery(3, acknowledging()));
    assert_eq!(state_of(&well.0), "Delivering");
    assert_eq!(
        (well.1.state, well.1.reason),
        (State::True, Reason::Acknowledged)
    );
}

#[test]
fn a_sink_that_fails_in_two_ways_is_told_by_that_of_most_agents() {
    let mut both = failing(SinkState::AuthenticationFailed);
    let mut few = failing(SinkState::Misconfigured).failing;
    for failing in few.values_mut() {
        failing.agents = 1;
    }
    both.failing.extend(few);
    let (sink, answer) = told(&candidate(), &delivery(3, both));
    assert_eq!(state_of(&sink), "AuthenticationFailed");
    assert_eq!(
        answer.reason,
        Reason::SinkFailing(SinkState::AuthenticationFailed)
    );
    assert!(
        answer.message.contains("for 1 of 3 agents"),
        "{}",
        answer.message
    );
}

#[test]
fn a_sink_that_has_delivered_stays_so_while_nobody_sends_and_the_policy_is_the_same() {
    let candidate = candidate();
    let quiet = SinkDelivery {
        quiet: 1,
        ..SinkDelivery::default()
    };
    let quiet = delivery(1, quiet);
    let first = told(&candidate, &quiet);
    assert_eq!(state_of(&first.0), "NothingSent");
    assert_eq!(
        (first.1.state, first.1.reason),
        (State::True, Reason::NothingSent)
    );
    let candidate = after(&candidate, told(&candidate, &delivery(1, acknowledging())));
    assert_eq!(state_of(&told(&candidate, &quiet).0), "Delivering");
    let nobody = delivery(0, SinkDelivery::default());
    let (sink, answer) = told(&candidate, &nobody);
    assert_eq!(
        (state_of(&sink), answer.reason),
        ("Delivering", Reason::Acknowledged)
    );
    let changed = Candidate {
        generation: 2,
        ..candidate
    };
    assert_eq!(state_of(&told(&changed, &quiet).0), "NothingSent");
}

#[test]
fn losses_stand_in_the_way_until_they_are_acknowledged() {
    let (_, answer) = told(&candidate(), &delivery(1, lost()));
    assert_eq!(
        (answer.state, answer.reason),
        (State::False, Reason::LinesLost)
    );
    assert_eq!(
        answer.message,
        "sink splunk will never get 5 records of katonic-compute/a (5), last heard of at 2027-01-15T08:00:00Z; when you have seen to it: `kubectl annotate --overwrite lp logs logging.katonic.ai/acknowledge-losses=splunk@2027-01-15T08:00:00Z`"
    );
    let mut refused = lost();
    let losses = refused.losses.as_mut().unwrap();
    losses.rejected = std::mem::take(&mut losses.lost);
    losses.rejection = Some("event is too large".into());
    for pod in losses.pods.values_mut() {
        pod.rejected = std::mem::take(&mut pod.lost);
    }
    let (_, answer) = told(&candidate(), &delivery(1, refused));
    assert_eq!(
        (answer.state, answer.reason),
        (State::True, Reason::Acknowledged)
    );
    assert!(
        answer.message.contains(
            "has refused 5 records of katonic-compute/a (5) for their content (event is too large)"
        ),
        "{}",
        answer.message
    );
}

#[test]
fn a_pod_of_which_nobody_knows_is_told_with_its_time_and_is_no_loss() {
    let mut unknown = lost();
    let losses = unknown.losses.as_mut().unwrap();
    (losses.lost, losses.unreported) = (0, 12);
    for pod in losses.pods.values_mut() {
        pod.lost = 0;
        pod.unreported = Some(Unreported {
            pending: 4096,
            heard: Timestamp::from_second(1_799_999_940).unwrap(),
        });
    }
    losses.more_pods = 11;
    let (_, answer) = told(&candidate(), &delivery(1, unknown.clone()));
    assert_eq!(
        (answer.state, answer.reason),
        (State::True, Reason::Acknowledged)
    );
    let words = "12 pods ended without a last report while sink splunk had not acknowledged all of their lines, katonic-compute/a (4096 bytes, last heard of at 2027-01-15T07:59:00Z) and 11 more, and nobody knows whether those arrived; when you have seen to it: `kubectl annotate --overwrite lp logs logging.katonic.ai/acknowledge-losses=splunk@2027-01-15T08:00:00Z`";
    assert!(answer.message.ends_with(words), "{}", answer.message);
    let losses = unknown.losses.unwrap();
    assert_eq!(Losses::read(&losses.status()), losses);
}

#[test]
fn the_first_delivery_is_remembered_for_as_long_as_the_policy_is_the_same() {
    let candidate = candidate();
    let first = |sink: &SinkStatus| sink.delivery.as_ref().unwrap().first.clone();
    let said = told(&candidate, &delivery(1, acknowledging()));
    assert_eq!(first(&said.0), Some(Time(NOW)));
    let mut candidate = after(&candidate, said);
    let status = candidate.status.as_mut().unwrap();
    let earlier = Time(Timestamp::from_second(-60).unwrap());
    status.sinks[0].delivery.as_mut().unwrap().first = Some(earlier.clone());
    let bad = delivery(1, failing(SinkState::Unreachable));
    for delivery in [delivery(1, acknowledging()), bad] {
        assert_eq!(first(&told(&candidate, &delivery).0), Some(earlier.clone()));
    }
    candidate.generation = 2;
    let again = told(&candidate, &delivery(1, acknowledging()));
    assert_eq!(first(&again.0), Some(Time(NOW)));
}

#[test]
fn a_sink_that_is_far_behind_does_not_deliver() {
    let behind = SinkDelivery {
        behind: 1,
        lag: 340,
        lag_pod: Some("katonic-compute/a".into()),
        ..acknowledging()
    };
    let (sink, answer) = told(&candidate(), &delivery(2, behind));
    assert_eq!(state_of(&sink), "Backlogged");
    assert_eq!(
        (answer.state, answer.reason),
        (State::False, Reason::Backlogged)
    );
    assert!(
        answer
            .message
            .contains("behind for 1 of 2 agents, by 5 minutes for katonic-compute/a"),
        "{}",
        answer.message
    );
}

#[test]
fn where_all_agents_are_silent_nobody_knows() {
    let silent = Delivery {
        agents: 2,
        silent: 2,
        silent_pod: Some("katonic-compute/a".into()),
        ..Delivery::default()
    };
    let (sink, answer) = told(&candidate(), &silent);
    assert_eq!(state_of(&sink), "Unknown");
    assert_eq!(
        (answer.state, answer.reason),
        (State::Unknown, Reason::AgentsSilent)
    );
}

#[test]
fn pods_whose_execution_nobody_knows_are_told_with_what_to_do_and_keep_nobody_from_being_ready() {
    let mut delivery = delivery(2, acknowledging());
    let sink = delivery.sinks.get_mut("splunk").unwrap();
    sink.unidentified = Some(Unidentified {
        pods: [("compute".to_owned(), "odd-1".to_owned())].into(),
        more_pods: 2,
        last: Timestamp::UNIX_EPOCH,
    });
    let (_, answer) = told(&candidate(), &delivery);
    assert_eq!(
        (answer.state, answer.reason),
        (State::True, Reason::Acknowledged)
    );
    for says in [
        "sink splunk has logs of 3 pods whose execution nobody knows below unidentified/, compute/odd-1 for example: give such pods the label that logging.executionIdLabel",
        "`katonic-logging logs --unidentified compute/odd-1` reads them",
        "logging.katonic.ai/acknowledge-losses=splunk@1970-01-01T00:00:00Z`",
    ] {
        assert!(answer.message.contains(says), "{}", answer.message);
    }
}

#[test]
fn what_was_lost_is_told_on_while_the_policy_cannot_be_read_and_after_a_restart() {
    let mut candidate = candidate();
    let losing = lost();
    let (mut sink, _) = told(&candidate, &delivery(1, losing.clone()));
    sink.losses = losing.losses.as_ref().map(Losses::status);
    candidate.status = Some(LoggingPolicyStatus {
        sinks: vec![sink.clone()],
        ..LoggingPolicyStatus::default()
    });
    candidate.policy = Err(Vec::new());
    candidate.generation += 1;
    let status = |candidate: &Candidate, delivery: Option<&Delivery>| {
        let facts = status::Facts {
            plan: None,
            report: &status::Report::default(),
            problem: None,
            coverage: &BTreeMap::new(),
            restarts: &BTreeMap::new(),
            retention: &BTreeMap::new(),
            delivery,
        };
        status::summarize(candidate, facts, Timestamp::UNIX_EPOCH)
    };
    // Where nobody listens, and where somebody does who has read it from there.
    assert_eq!(status(&candidate, None).sinks, [sink.clone()]);
    let remembered = delivery(1, losing);
    assert_eq!(status(&candidate, Some(&remembered)).sinks, [sink.clone()]);
    // Until somebody has acknowledged it.
    let acknowledged = delivery(1, SinkDelivery::default());
    let sinks = status(&candidate, Some(&acknowledged)).sinks;
    assert_eq!((&*sinks[0].name, &sinks[0].losses), ("splunk", &None));
    candidate.status = None;
    assert_eq!(status(&candidate, None).sinks, []);
}

#[test]
fn sinks_that_deliver_are_counted() {
    let sink = |state: Option<&str>| SinkStatus {
        delivery: state.map(|state| SinkDeliveryStatus {
            state: state.into(),
            message: None,
            first: None,
        }),
        ..told(&candidate(), &delivery(1, acknowledging())).0
    };
    assert_eq!(
        summary(&[sink(Some("Delivering")), sink(Some("Unreachable"))]).as_deref(),
        Some("1/2")
    );
    assert_eq!(summary(&[sink(None)]), None);
    assert_eq!(summary(&[]), None);
}

#[test]
fn figures_alone_can_wait_and_a_change_of_state_cannot() {
    let now = Time(Timestamp::UNIX_EPOCH);
    let status = |candidate: &Candidate, delivery: &Delivery| {
        let (mut sink, answer) = told(candidate, delivery);
        let losses = delivery.sinks.get("splunk");
        let losses = losses.and_then(|sink| sink.losses.as_ref());
        sink.losses = losses.map(Losses::status);
        LoggingPolicyStatus {
            conditions: vec![answer.condition(&[], 1, now.0)],
            sinks: vec![sink],
            ..LoggingPolicyStatus::default()
        }
    };
    let candidate = candidate();
    let more = |number: u64| {
        let mut sink = lost();
        let losses = sink.losses.as_mut().unwrap();
        losses.lost = number;
        delivery(1, sink)
    };
    let (few, many) = (more(1), more(1000));
    let differs = |before: &Delivery, after: &Delivery| {
        Difference::between(&status(&candidate, before), &status(&candidate, after))
    };
    assert_eq!(differs(&few, &many), Difference::Counts);
    let none = delivery(1, acknowledging());
    assert_eq!(differs(&none, &few), Difference::Reports);
    let bad = |agents| {
        let mut sink = failing(SinkState::Unreachable);
        for failing in sink.failing.values_mut() {
            failing.agents = agents;
        }
        delivery(9, sink)
    };
    assert_eq!(differs(&bad(1), &bad(5)), Difference::Counts);
    assert_eq!(differs(&bad(1), &none), Difference::Reports);
}
