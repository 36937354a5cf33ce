//! Whether a line goes on with the record before it. Looks at one line at a time and keeps none.
//!
//! The languages' rules are machines with a state: a line is only joined to one that has begun an error, so that
//! indented or empty lines of ordinary output stay what they are (the idea of Google's `detect-exceptions`, which Fluent
//! Bit follows). To take a line for the beginning costs nothing but the wait for the next one; to join one that belongs
//! elsewhere would be wrong. So what may begin is seen generously here, and what may follow strictly.

use std::rc::Rc;

use katonic_log_config::{MultilineRule, processing::InvalidExpression};

use super::{
    super::pattern::{Caches, Matcher},
    go, java, node, python,
};

/// Which lines belong together.
#[derive(Debug)]
pub(in crate::process) enum Rule {
    /// Every line that does not match belongs to the one before.
    FirstLine(Rc<Matcher>),
    /// As a machine says.
    Machine(Vec<Way>),
}

/// How far the error has come of which the last line was one. Each language uses some of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// No error: the line is a record of its own.
    Outside,
    /// What went wrong was said, and not yet where.
    Named,
    /// What went wrong is said in the next line.
    Announced,
    /// Where it happened.
    Frames,
    /// A function was named; its place comes next.
    Function,
    /// What went wrong was said, after all its frames.
    Message,
    /// The members of a value that is printed with the error.
    Members,
    /// Several errors, printed as a tree.
    Tree,
    /// An empty line, after which the error may go on.
    Gap,
    /// Another error is announced that caused this one or was caused by it.
    Chained,
    /// The place in the source, before it is shown.
    Source,
    /// The line of the source.
    Code,
    /// The mark below it.
    Mark,
    /// Registers of the processor.
    Registers,
    /// The last line.
    Ended,
}

/// From a state to another, by a line that matches.
#[derive(Debug)]
pub(in crate::process) struct Way {
    from: &'static [State],
    pattern: Rc<Matcher>,
    to: State,
}

/// From these states to that one by a line that matches; the first that fits counts.
pub(super) type Ways = [(&'static [State], &'static str, State)];

/// What a line is to the record before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// It goes on with it.
    Joins(State),
    /// It begins a record that may go on.
    Begins(State),
    /// It is a record of its own.
    Alone,
}

impl Rule {
    /// The rule of a language.
    ///
    /// # Errors
    /// None for the patterns that we have; the signature says what the library says.
    pub(in crate::process) fn of_language(
        rule: &MultilineRule,
        caches: &Rc<Caches>,
    ) -> Result<Self, InvalidExpression> {
        let ways = match rule {
            MultilineRule::FirstLine(pattern) => {
                let matcher = Matcher::new(pattern.compile()?, caches);
                return Ok(Self::FirstLine(matcher));
            }
            MultilineRule::Java => java::WAYS,
            MultilineRule::Python => python::WAYS,
            MultilineRule::Go => go::WAYS,
            MultilineRule::Node => node::WAYS,
        };
        let compiled = ways.iter().map(|(from, pattern, to)| {
            Ok(Way {
                from,
                pattern: Matcher::of_ours(pattern, caches)?,
                to: *to,
            })
        });
        let compiled: Result<_, InvalidExpression> = compiled.collect();
        Ok(Self::Machine(compiled?))
    }

    /// What its patterns take, in bytes.
    #[cfg(test)]
    pub(in crate::process) fn memory(&self) -> usize {
        match self {
            Self::FirstLine(pattern) => pattern.memory(),
            Self::Machine(ways) => ways.iter().map(|way| way.pattern.memory()).sum(),
        }
    }

    /// What a line is after a record in this state; none when no record has begun.
    pub(super) fn step(&self, open: Option<State>, line: &[u8]) -> Step {
        match self {
            Self::FirstLine(pattern) => match open {
                Some(state) if !pattern.is_match(line) => Step::Joins(state),
                _ => Step::Begins(State::Message),
            },
            Self::Machine(ways) => {
                let next = |state| {
                    ways.iter()
                        .find(|way| way.from.contains(&state) && way.pattern.is_match(line))
                        .map(|way| way.to)
                };
                match (open.and_then(next), next(State::Outside)) {
                    (Some(state), _) => Step::Joins(state),
                    (None, Some(state)) => Step::Begins(state),
                    (None, None) => Step::Alone,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state that nothing leads to would be a mistake in a table, and so would one that begins nothing.
    #[test]
    fn every_state_of_a_machine_is_reached_and_every_pattern_compiles() {
        for rule in [
            MultilineRule::Java,
            MultilineRule::Python,
            MultilineRule::Go,
            MultilineRule::Node,
        ] {
            let Rule::Machine(ways) = Rule::of_language(&rule, &Rc::default()).unwrap() else {
                panic!("{rule:?} is a machine");
            };
            let mut reached = vec![State::Outside];
            for _ in 0..ways.len() {
                for way in &ways {
                    if way.from.iter().any(|from| reached.contains(from)) {
                        reached.push(way.to);
                    }
                }
            }
            for from in ways.iter().flat_map(|way| way.from) {
                assert!(reached.contains(from), "{rule:?}: {from:?}");
            }
        }
    }
}
