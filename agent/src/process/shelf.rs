//! The patterns of all policies of a pod: each is compiled once, and together they take only so much memory. Applies none.

use std::{collections::BTreeMap, rc::Rc};

use katonic_log_config::{
    MultilineRule, Pattern, Policy,
    processing::{InvalidExpression, LARGE, MAX_COMPILED_OF_POD},
};

use super::{
    Processing,
    filter::Filters,
    multiline::{Multiline, Rule},
    pattern::{Caches, Matcher},
};

/// The patterns that are in use, by how they are written.
#[derive(Debug, Default)]
pub struct Shelf {
    patterns: BTreeMap<Pattern, Rc<Matcher>>,
    /// The rules of languages; they are few and small, and not counted.
    languages: Vec<(MultilineRule, Rc<Rule>)>,
    /// How much each pattern takes that was looked at, in use or not: to find out again would cost its compilation.
    sizes: BTreeMap<Pattern, usize>,
    caches: Rc<Caches>,
}

/// A shelf that is filled anew, as far as there is room.
///
/// Which policies fit follows from their order and from their patterns alone, never from what was on the shelf before.
#[derive(Debug)]
pub struct Filling {
    before: Shelf,
    now: Shelf,
    left: usize,
}

/// Why a policy cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// One of its patterns cannot be used.
    #[error("{part}: {error}")]
    Pattern {
        /// Where it stands.
        part: String,
        /// In the compiler's words.
        error: InvalidExpression,
    },
    /// Its patterns do not fit beside those of the older policies.
    #[error(
        "the patterns of the policies of this pod take more than {} MiB once compiled, and this policy is not among the \
         oldest that fit: {LARGE}, or use the same patterns in several policies",
        MAX_COMPILED_OF_POD >> 20
    )]
    NoRoom,
}

impl Shelf {
    /// Begins to fill it anew; what is used again is not compiled again.
    pub fn refill(self) -> Filling {
        Filling {
            now: Self {
                caches: Rc::clone(&self.caches),
                ..Self::default()
            },
            before: self,
            left: MAX_COMPILED_OF_POD,
        }
    }
}

/// The patterns of a policy, each with its place.
fn patterns(policy: &Policy) -> impl Iterator<Item = (String, &Pattern)> {
    let first_line = policy.multiline.iter();
    let first_line = first_line.filter_map(|multiline| match &multiline.rule {
        MultilineRule::FirstLine(pattern) => Some(("multiline".to_owned(), pattern)),
        MultilineRule::Java | MultilineRule::Python | MultilineRule::Go | MultilineRule::Node => {
            None
        }
    });
    let filters = policy.filters.iter().enumerate();
    let filters = filters
        .filter_map(|(index, filter)| Some((format!("filters[{index}]"), filter.pattern()?)));
    first_line.chain(filters)
}

/// Whether a policy has patterns at all.
pub fn has_patterns(policy: &Policy) -> bool {
    patterns(policy).next().is_some()
}

impl Filling {
    /// Puts the patterns of a policy on the shelf, all of them or none.
    ///
    /// # Errors
    /// When one cannot be used, or they have no room beside those that are there.
    pub fn put(&mut self, policy: &Policy) -> Result<(), Unfit> {
        let mut left = self.left;
        let mut new: BTreeMap<&Pattern, Option<Rc<Matcher>>> = BTreeMap::new();
        for (part, pattern) in patterns(policy) {
            if self.now.patterns.contains_key(pattern) || new.contains_key(pattern) {
                continue;
            }
            let mut matcher = self.before.patterns.get(pattern).cloned();
            let known = matcher.as_ref().map(|matcher| matcher.memory());
            let known = known.or_else(|| self.before.sizes.get(pattern).copied());
            let size = if let Some(known) = known {
                known
            } else {
                let made = self.compile(part, pattern)?;
                matcher.insert(made).memory()
            };
            self.now.sizes.insert(pattern.clone(), size);
            left = left.checked_sub(size).ok_or(Unfit::NoRoom)?;
            new.insert(pattern, matcher);
        }
        for (part, pattern) in patterns(policy) {
            let Some(made) = new.remove(pattern) else {
                continue;
            };
            let matcher = made.map_or_else(|| self.compile(part, pattern), Ok)?;
            self.now.patterns.insert(pattern.clone(), matcher);
        }
        self.left = left;
        Ok(())
    }

    fn compile(&self, part: String, pattern: &Pattern) -> Result<Rc<Matcher>, Unfit> {
        let compiled = pattern.compile();
        let compiled = compiled.map_err(|error| Unfit::Pattern { part, error })?;
        Ok(Matcher::new(compiled, &self.now.caches))
    }

    /// What a policy does with lines; its patterns have been put on the shelf.
    ///
    /// # Errors
    /// When they have not.
    pub fn take(&mut self, policy: &Policy) -> Result<Processing, Unfit> {
        let multiline = policy.multiline.as_ref();
        let multiline = multiline.map(|multiline| {
            let rule = self.rule(&multiline.rule)?;
            Ok::<_, Unfit>(Multiline::new(rule, multiline))
        });
        Ok(Processing {
            multiline: multiline.transpose()?,
            filters: Filters::new(policy, |pattern| self.matcher(pattern))?,
            waits: None,
        })
    }

    fn matcher(&self, pattern: &Pattern) -> Result<Rc<Matcher>, Unfit> {
        let matcher = self.now.patterns.get(pattern);
        matcher.cloned().ok_or(Unfit::NoRoom)
    }

    fn rule(&mut self, rule: &MultilineRule) -> Result<Rc<Rule>, Unfit> {
        if let MultilineRule::FirstLine(pattern) = rule {
            return Ok(Rc::new(Rule::FirstLine(self.matcher(pattern)?)));
        }
        let is_it = |(known, _): &&(MultilineRule, Rc<Rule>)| known == rule;
        if let Some((_, made)) = self.now.languages.iter().find(is_it) {
            return Ok(Rc::clone(made));
        }
        let made = if let Some((_, made)) = self.before.languages.iter().find(is_it) {
            Rc::clone(made)
        } else {
            let made = Rule::of_language(rule, &self.now.caches);
            let part = "multiline".to_owned();
            Rc::new(made.map_err(|error| Unfit::Pattern { part, error })?)
        };
        self.now.languages.push((rule.clone(), Rc::clone(&made)));
        Ok(made)
    }

    /// The shelf as it is now; what is used no more is gone.
    pub fn done(self) -> Shelf {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use katonic_log_config::{Filter, Multiline, Redact, Replacement};

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::try_from(text.to_owned()).unwrap()
    }

    /// A policy with so many patterns of about 0.8 MiB each, which no other policy has.
    fn large(name: &str, patterns: usize) -> Policy {
        let filter = |number| Filter::Drop(pattern(&format!(r"\w{{15}}{name}{number}")));
        Policy {
            filters: (0..patterns).map(filter).collect(),
            ..Policy::of_everything(name, name, Vec::new())
        }
    }

    fn small(name: &str) -> Policy {
        let redact = Redact {
            pattern: pattern(&format!("password-of-{name}=[^ ]+")),
            with: Replacement::Text("***".to_owned()),
        };
        Policy {
            filters: vec![Filter::Redact(redact)],
            ..Policy::of_everything(name, name, Vec::new())
        }
    }

    /// Which of the policies fit, in this order.
    fn fitting(shelf: Shelf, policies: &[Policy]) -> (Vec<&str>, Shelf) {
        let mut filling = shelf.refill();
        let fits = policies.iter().filter(|policy| {
            let is_put = filling.put(policy).is_ok();
            assert_eq!(filling.take(policy).is_ok(), is_put, "{}", policy.name);
            is_put
        });
        let names = fits.map(|policy| policy.name.as_str()).collect();
        let shelf = filling.done();
        let memory: usize = shelf.patterns.values().map(|one| one.memory()).sum();
        assert!(memory <= MAX_COMPILED_OF_POD, "{memory}");
        (names, shelf)
    }

    #[test]
    fn the_oldest_policies_fit_and_small_ones_beside_them_whatever_was_there_before() {
        let policies = [
            large("a", 3),
            small("b"),
            large("c", 3),
            large("d", 2),
            large("e", 1),
            small("f"),
        ];
        let expected = ["a", "b", "c", "e", "f"];
        let (fit, shelf) = fitting(Shelf::default(), &policies);
        assert_eq!(fit, expected);
        // Not even where younger ones were there first.
        let (fit, younger) = fitting(Shelf::default(), &policies[3..]);
        assert_eq!(fit, ["d", "e", "f"]);
        assert_eq!(fitting(younger, &policies).0, expected);
        assert_eq!(fitting(shelf, &policies).0, expected);
    }

    #[test]
    fn a_pattern_that_several_policies_use_is_compiled_once_and_again_only_when_it_is_new() {
        let many: Vec<Policy> = (0..40)
            .map(|number| Policy {
                name: number.to_string(),
                ..large("same", 4)
            })
            .collect();
        let (fit, shelf) = fitting(Shelf::default(), &many);
        assert_eq!((fit.len(), shelf.patterns.len()), (40, 4));
        let before: Vec<_> = shelf.patterns.values().cloned().collect();
        let (_, shelf) = fitting(shelf, &many[..1]);
        assert!(
            shelf
                .patterns
                .values()
                .zip(&before)
                .all(|(one, other)| Rc::ptr_eq(one, other))
        );
        let (_, shelf) = fitting(shelf, &[small("b")]);
        assert_eq!(shelf.patterns.len(), 1);
    }

    #[test]
    fn the_pattern_of_first_lines_counts_and_a_language_is_compiled_once() {
        let joining = |name: &str, rule| Policy {
            multiline: Some(Multiline {
                rule,
                timeout_ms: NonZeroU32::MIN,
                max_bytes: NonZeroU32::MIN,
            }),
            ..large(name, 0)
        };
        let first_line = |text: &str| joining(text, MultilineRule::FirstLine(pattern(text)));
        let policies = [
            large("a", 7),
            first_line(r"^\w{15}"),
            first_line(r"^[0-9]{4}-"),
        ];
        let (fit, _) = fitting(Shelf::default(), &policies);
        assert_eq!(fit, ["a", "^[0-9]{4}-"]);
        let java = [
            joining("one", MultilineRule::Java),
            joining("other", MultilineRule::Java),
        ];
        let (fit, shelf) = fitting(Shelf::default(), &java);
        assert_eq!((fit.len(), shelf.languages.len()), (2, 1));
        let memory: usize = shelf.languages.iter().map(|(_, rule)| rule.memory()).sum();
        assert!(memory < 1 << 20, "{memory}");
    }

    #[test]
    fn a_policy_that_does_not_fit_is_told_what_to_do() {
        let mut filling = Shelf::default().refill();
        filling.put(&large("a", 7)).unwrap();
        let told = filling.put(&large("b", 1)).unwrap_err().to_string();
        assert!(told.contains("more than 6 MiB once compiled"), "{told}");
        assert!(
            told.contains("shorten repetitions such as `\\w{1,60}`"),
            "{told}"
        );
        let bad = Policy {
            filters: vec![Filter::Keep(pattern("("))],
            ..large("c", 0)
        };
        let told = filling.put(&bad).unwrap_err().to_string();
        assert!(told.starts_with("filters[0]: "), "{told}");
    }
}
