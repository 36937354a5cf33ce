//! A pattern at work. What all patterns need while they run is bounded together. Knows no policy.

use std::{
    cell::{Cell, RefCell},
    ops::{ControlFlow, Range},
    rc::{Rc, Weak},
};

use katonic_log_config::processing::InvalidExpression;
use regex_automata::{
    Input,
    meta::{Cache, Regex},
    util::{iter::Searcher, syntax},
};

/// Most memory that all patterns together keep for running, in bytes. Beyond it all of them begin anew: what a search
/// has learnt makes the next one fast, and is found again.
const MOST: usize = 4 << 20;

/// What a pattern of ours may keep while it runs.
const CACHE: usize = 256 << 10;

/// What patterns keep while they run.
#[derive(Debug)]
pub struct Caches {
    most: usize,
    of: RefCell<Vec<Weak<Matcher>>>,
    held: Cell<usize>,
}

impl Default for Caches {
    fn default() -> Self {
        Self::of_at_most(MOST)
    }
}

/// A compiled pattern.
#[derive(Debug)]
pub struct Matcher {
    regex: Regex,
    cache: RefCell<Option<Cache>>,
    held: Cell<usize>,
    caches: Rc<Caches>,
}

impl Matcher {
    /// A pattern that runs within these bounds.
    pub fn new(regex: Regex, caches: &Rc<Caches>) -> Rc<Self> {
        let matcher = Rc::new(Self {
            regex,
            cache: RefCell::default(),
            held: Cell::default(),
            caches: Rc::clone(caches),
        });
        let mut of = caches.of.borrow_mut();
        of.retain(|one| one.strong_count() > 0);
        of.push(Rc::downgrade(&matcher));
        drop(of);
        matcher
    }

    /// A pattern of ours, of bytes: a line that is not UTF-8 is a line, too.
    pub(super) fn of_ours(
        pattern: &str,
        caches: &Rc<Caches>,
    ) -> Result<Rc<Self>, InvalidExpression> {
        let config = Regex::config()
            .utf8_empty(false)
            .dfa(false)
            .hybrid_cache_capacity(CACHE);
        let regex = Regex::builder()
            .configure(config)
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .build(pattern)?;
        Ok(Self::new(regex, caches))
    }

    /// What it takes, in bytes, without what it keeps while it runs.
    pub fn memory(&self) -> usize {
        self.regex.memory_usage()
    }

    /// Whether it matches anywhere.
    pub fn is_match(&self, text: &[u8]) -> bool {
        let input = Input::new(text).earliest(true);
        self.run(|regex, cache| regex.search_half_with(cache, &input).is_some())
    }

    /// Shows its matches, which do not overlap, from the left to the right until `each` breaks.
    pub fn each_match(&self, text: &[u8], mut each: impl FnMut(Range<usize>) -> ControlFlow<()>) {
        let mut searcher = Searcher::new(Input::new(text));
        self.run(|regex, cache| {
            while let Some(found) = searcher.advance(|input| Ok(regex.search_with(cache, input))) {
                if each(found.range()).is_break() {
                    break;
                }
            }
        });
    }

    fn run<T>(&self, search: impl FnOnce(&Regex, &mut Cache) -> T) -> T {
        let mut kept = self.cache.borrow_mut();
        let cache = kept.get_or_insert_with(|| self.regex.create_cache());
        let found = search(&self.regex, cache);
        let held = cache.memory_usage();
        drop(kept);
        self.caches.note(self.held.replace(held), held);
        found
    }
}

impl Drop for Matcher {
    fn drop(&mut self) {
        self.caches.note(self.held.get(), 0);
    }
}

impl Caches {
    fn of_at_most(bytes: usize) -> Self {
        Self {
            most: bytes,
            of: RefCell::default(),
            held: Cell::default(),
        }
    }

    /// One of them held so much before and holds so much now.
    fn note(&self, before: usize, now: usize) {
        let held = (self.held.get() + now).saturating_sub(before);
        self.held.set(held);
        if held > self.most {
            self.forget();
        }
    }

    fn forget(&self) {
        for matcher in self.of.borrow().iter().filter_map(Weak::upgrade) {
            matcher.cache.take();
            matcher.held.set(0);
        }
        self.held.set(0);
    }
}

#[cfg(test)]
mod tests {
    use katonic_log_config::Pattern;
    use proptest::prelude::*;

    use super::*;

    fn matcher(pattern: &str, caches: &Rc<Caches>) -> Rc<Matcher> {
        let pattern = Pattern::try_from(pattern.to_owned()).unwrap();
        Matcher::new(pattern.compile().unwrap(), caches)
    }

    /// A pattern that learns much from a text without end of it.
    fn learn(matcher: &Matcher, seed: u64) {
        let mut state = seed;
        let text: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            b"abcxyz019 "[(state >> 33) as usize % 10]
        })
        .take(5_000)
        .collect();
        matcher.each_match(&text, |_| ControlFlow::Continue(()));
    }

    #[test]
    fn all_patterns_together_keep_only_so_much_and_find_the_same() {
        const MOST: usize = 200 << 10;
        let caches = Rc::new(Caches::of_at_most(MOST));
        let pattern = |number| matcher(&format!("[a-z]*a[a-z0-9]{{12}}{number}"), &caches);
        let matchers: Vec<_> = (0..16).map(pattern).collect();
        let mut most = 0;
        for seed in 0..3 {
            for matcher in &matchers {
                learn(matcher, seed);
                most = most.max(caches.held.get());
                let held: usize = matchers.iter().map(|one| one.held.get()).sum();
                assert_eq!(caches.held.get(), held);
            }
        }
        assert!(most > MOST / 2 && most <= MOST, "{most}");
        assert!(matchers[7].is_match(b"xxa0123456789ab7"));
        assert!(!matchers[7].is_match(b"xxa0123456789ab8"));
        drop(matchers);
        assert_eq!(caches.held.get(), 0);
    }

    proptest! {
        #[test]
        fn it_finds_what_the_usual_library_finds(
            pattern in "[a-c.*?|()]{1,8}",
            text in proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'c'), any::<u8>()], 0..40),
        ) {
            let Ok(expected) = regex::bytes::Regex::new(&pattern) else {
                return Ok(());
            };
            let matcher = matcher(&pattern, &Rc::default());
            prop_assert_eq!(matcher.is_match(&text), expected.is_match(&text));
            let mut found = Vec::new();
            matcher.each_match(&text, |range| {
                found.push(range);
                ControlFlow::Continue(())
            });
            let expected: Vec<_> = expected.find_iter(&text).map(|found| found.range()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
