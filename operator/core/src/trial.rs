//! Whether a change of injection may reach users' pods: from what became of pods that tried it.

use std::collections::{BTreeMap, BTreeSet};

/// What became of the trial pods of one namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// They came back with exactly this revision; those that are not taken without the agent either are not counted.
    Passed,
    /// The API server does not apply the policy yet.
    NotYet,
    /// One was refused because of the agent; the API server's words.
    Refused(String),
    /// No pod is taken there at present, with the agent or without, so nothing can be learnt; the API server's words.
    Silent(String),
    /// The API server gave no answer; why not.
    Unanswered(String),
}

/// What to do about the change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Try again.
    Wait(Wait),
    /// Leave everything as it is.
    Refuse {
        /// What to tell.
        refusal: Refusal,
        /// Every namespace that refuses it.
        namespaces: BTreeSet<String>,
    },
    /// Put it in force in these namespaces.
    Accept(BTreeSet<String>),
}

/// What is waited for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wait {
    /// For the API server to apply the policy.
    TakenUp,
    /// For an answer from this namespace; why there was none.
    Answer(Refusal),
}

/// A namespace, and the API server's words about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The namespace.
    pub namespace: String,
    /// The words.
    pub message: String,
}

/// Judges a change by its trials.
///
/// One refusal is enough to refuse it for all namespaces: it has one form for all of them. But it counts only when the policy
/// is `settled`: until then it may be about another one that had the same name a moment ago. A namespace in which nothing can
/// be learnt follows the others, or, where there are no others, the policy's age: had it kept
/// pods out, they would have been refused in other words than without it. One that gave no answer holds the change up if
/// it is `bound`, and is left out if it is not.
pub fn judge(
    outcomes: &BTreeMap<String, Outcome>,
    bound: &BTreeSet<String>,
    settled: bool,
) -> Verdict {
    let refusal = |namespace: &String, message: &String| Refusal {
        namespace: namespace.clone(),
        message: message.clone(),
    };
    let refused = outcomes
        .iter()
        .filter_map(|(namespace, outcome)| match outcome {
            Outcome::Refused(message) => Some((namespace, message)),
            _ => None,
        });
    let namespaces = refused.clone().map(|(namespace, _)| namespace.clone());
    match refused.clone().next() {
        Some((namespace, message)) if settled => {
            return Verdict::Refuse {
                refusal: refusal(namespace, message),
                namespaces: namespaces.collect(),
            };
        }
        Some(_) => return Verdict::Wait(Wait::TakenUp),
        None => {}
    }
    if outcomes.values().any(|outcome| *outcome == Outcome::NotYet) {
        return Verdict::Wait(Wait::TakenUp);
    }
    let mut unanswered = outcomes
        .iter()
        .filter_map(|(namespace, outcome)| match outcome {
            Outcome::Unanswered(message) => Some((namespace, message)),
            _ => None,
        });
    let answered = outcomes.len() - unanswered.clone().count();
    let missing = unanswered.find(|(namespace, _)| answered == 0 || bound.contains(*namespace));
    if let Some((namespace, message)) = missing {
        return Verdict::Wait(Wait::Answer(refusal(namespace, message)));
    }
    if !settled && !outcomes.values().any(|outcome| *outcome == Outcome::Passed) {
        return Verdict::Wait(Wait::TakenUp);
    }
    let accepted = outcomes
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Passed | Outcome::Silent(_)));
    Verdict::Accept(accepted.map(|(namespace, _)| namespace.clone()).collect())
}

/// What the pods of one namespace came to, together.
pub fn together(outcomes: impl IntoIterator<Item = Outcome>) -> Outcome {
    let weight = |outcome: &Outcome| match outcome {
        Outcome::Refused(_) => 0,
        Outcome::NotYet => 1,
        Outcome::Unanswered(_) => 2,
        Outcome::Passed => 3,
        Outcome::Silent(_) => 4,
    };
    outcomes
        .into_iter()
        .min_by_key(weight)
        .unwrap_or(Outcome::NotYet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn judged(outcomes: &[(&str, Outcome)], bound: &[&str], settled: bool) -> Verdict {
        let outcomes = outcomes
            .iter()
            .map(|(namespace, outcome)| ((*namespace).to_owned(), outcome.clone()));
        judge(&outcomes.collect(), &named(bound), settled)
    }

    fn words(namespace: &str) -> Refusal {
        Refusal {
            namespace: namespace.into(),
            message: "words".into(),
        }
    }

    #[test]
    fn what_passed_everywhere_is_accepted() {
        let outcomes = [("a", Outcome::Passed), ("b", Outcome::Passed)];
        assert_eq!(
            judged(&outcomes, &["a"], false),
            Verdict::Accept(named(&["a", "b"]))
        );
    }

    #[test]
    fn one_refusal_refuses_the_change_for_all() {
        let outcomes = [
            ("a", Outcome::Passed),
            ("b", Outcome::Refused("words".into())),
            ("c", Outcome::NotYet),
        ];
        let refuse = |namespaces: &[&str]| Verdict::Refuse {
            refusal: words(namespaces[0]),
            namespaces: named(namespaces),
        };
        assert_eq!(judged(&outcomes, &[], true), refuse(&["b"]));
        assert_eq!(judged(&outcomes, &[], false), Verdict::Wait(Wait::TakenUp));
    }

    #[test]
    fn every_namespace_that_refuses_is_named() {
        let refused = || Outcome::Refused("words".into());
        let outcomes = [("a", refused()), ("b", Outcome::NotYet), ("c", refused())];
        let verdict = Verdict::Refuse {
            refusal: words("a"),
            namespaces: named(&["a", "c"]),
        };
        assert_eq!(judged(&outcomes, &["a", "c"], true), verdict);
    }

    #[test]
    fn what_is_not_applied_yet_is_waited_for() {
        let outcomes = [("a", Outcome::Passed), ("b", Outcome::NotYet)];
        assert_eq!(judged(&outcomes, &[], true), Verdict::Wait(Wait::TakenUp));
    }

    #[test]
    fn a_namespace_without_an_answer_holds_up_a_change_only_where_it_is_bound() {
        let outcomes = [
            ("a", Outcome::Passed),
            ("b", Outcome::Unanswered("words".into())),
        ];
        assert_eq!(
            judged(&outcomes, &["b"], false),
            Verdict::Wait(Wait::Answer(words("b")))
        );
        assert_eq!(
            judged(&outcomes, &["a"], false),
            Verdict::Accept(named(&["a"]))
        );
        assert_eq!(
            judged(&outcomes[1..], &[], true),
            Verdict::Wait(Wait::Answer(words("b")))
        );
    }

    #[test]
    fn where_nothing_can_be_learnt_the_others_decide_or_time() {
        let full = || Outcome::Silent("exceeded quota".into());
        let outcomes = [("a", Outcome::Passed), ("b", full())];
        assert_eq!(
            judged(&outcomes, &[], false),
            Verdict::Accept(named(&["a", "b"]))
        );
        let alone = [("b", full())];
        assert_eq!(judged(&alone, &[], false), Verdict::Wait(Wait::TakenUp));
        assert_eq!(judged(&alone, &[], true), Verdict::Accept(named(&["b"])));
    }

    #[test]
    fn the_worst_pod_speaks_for_its_namespace_and_one_that_nobody_takes_for_none() {
        use Outcome::{NotYet, Passed, Refused, Silent};
        let refused = Refused("words".into());
        let silent = Silent("words".into());
        assert_eq!(together([Passed, silent.clone()]), Passed);
        assert_eq!(together([Passed, NotYet, silent.clone()]), NotYet);
        assert_eq!(together([NotYet, refused.clone(), Passed]), refused);
        assert_eq!(together([silent.clone()]), silent);
    }
}
