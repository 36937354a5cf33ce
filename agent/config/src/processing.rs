//! What is done to a record before it is sent: typed steps, no language of their own.

use std::{
    collections::BTreeSet,
    fmt,
    num::{NonZeroU8, NonZeroU32},
};

use regex_automata::{
    meta::{BuildError, Regex},
    util::syntax,
};
use serde::{Deserialize, Serialize};

use crate::CredentialKey;

/// Longest text of a pattern, in bytes.
pub const MAX_PATTERN: usize = 1024;

/// Most memory that a pattern's automaton may take, in bytes.
pub const MAX_COMPILED: usize = 1 << 20;

/// Most memory that the patterns of all filters of a policy may take together, once compiled.
pub const MAX_COMPILED_TOGETHER: usize = 4 << 20;

/// Most memory that the patterns of all policies of a pod may take together, once compiled: its agent has 32 MiB, and is
/// ended if it needs more.
pub const MAX_COMPILED_OF_POD: usize = 6 << 20;

/// A pattern that runs out of this while it runs is slow, however small it is.
const LEAST_CACHE: usize = 256 << 10;

/// A regular expression (syntax of the `regex` crate: no look-around, time linear in the record's length).
///
/// Holds the text: an agent decodes two thousand policies and compiles the patterns of the few that are its own.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

/// A step, in the order of the policy.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Filter {
    /// Records that match are not sent.
    Drop(Pattern),
    /// Records that do not match are not sent.
    Keep(Pattern),
    /// What matches is replaced.
    Redact(Redact),
    /// Of the records only a part is sent, always the same one.
    Sample(Sample),
    /// Of a container only so many records a second are sent.
    RateLimit(RateLimit),
}

/// Replaces each match of a pattern.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redact {
    /// What is not to be seen.
    pub pattern: Pattern,
    /// What is seen instead.
    pub with: Replacement,
}

/// What is seen instead of a match.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Replacement {
    /// This text as it is: `$1` means nothing in it.
    Text(String),
    /// The beginning of the match's HMAC-SHA-256 under this key: equal matches can be told to be equal, and no more.
    Hash(CredentialKey),
}

/// Sends a part of the records, chosen by their ids: the same ones however often they are read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sample {
    /// Which records are meant; none: all. The others are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// How many of a hundred are sent.
    pub percent: Percent,
}

/// 1 to 100.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "NonZeroU8", into = "NonZeroU8")]
pub struct Percent(NonZeroU8);

/// Sends at most so many records of a container for each second of its log.
///
/// The second is that of the record, not of the clock, so a log that is read late or twice loses no more than one that
/// is read at once.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// Records of one container that are sent for one second.
    pub records_per_second: NonZeroU32,
}

/// How lines that belong together are found. Each stream of a container by itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Multiline {
    /// Which lines belong together.
    pub rule: MultilineRule,
    /// How long a record may wait for its next line, in milliseconds.
    pub timeout_ms: NonZeroU32,
    /// How long a record may become, in bytes; what comes after begins another.
    pub max_bytes: NonZeroU32,
}

/// Which lines belong to the one before.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum MultilineRule {
    /// Frames and causes of a Java exception.
    Java,
    /// Frames and the message of a Python traceback.
    Python,
    /// Goroutines of a Go panic.
    Go,
    /// Frames and causes of a Node.js error.
    Node,
    /// Every line that does not match.
    FirstLine(Pattern),
}

impl Pattern {
    /// The pattern, ready to be used; its `memory_usage` is what it takes without what it needs while it runs.
    ///
    /// # Errors
    /// When it is no regular expression or needs more than [`MAX_COMPILED`].
    pub fn compile(&self) -> Result<Regex, InvalidExpression> {
        let regex = self.build(LEAST_CACHE)?;
        let bytes = regex.memory_usage();
        if bytes <= LEAST_CACHE {
            return Ok(regex);
        }
        // With less it would be slow for its size.
        self.build(bytes.next_power_of_two().min(MAX_COMPILED))
    }

    /// As `regex::bytes` builds it, and everywhere alike, whatever else the program has of the library.
    fn build(&self, cache: usize) -> Result<Regex, InvalidExpression> {
        let config = Regex::config()
            .utf8_empty(false)
            .dfa(false)
            .nfa_size_limit(Some(MAX_COMPILED))
            .hybrid_cache_capacity(cache);
        Regex::builder()
            .configure(config)
            .syntax(syntax::Config::new().utf8(false))
            .build(&self.0)
            .map_err(InvalidExpression::from)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the compiler says, without the drawing around it: a condition of a policy is read on one line.
fn on_one_line(error: &BuildError) -> String {
    if error.size_limit().is_some() {
        let limit = MAX_COMPILED >> 20;
        return format!("it takes more than {limit} MiB once compiled: {LARGE}");
    }
    let text = error
        .syntax_error()
        .map_or_else(|| error.to_string(), ToString::to_string);
    let said = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("error: "));
    let Some(said) = said else {
        return text.split_whitespace().collect::<Vec<_>>().join(" ");
    };
    // Patterns of one line are drawn four columns to the right, the place of the mistake below them.
    let place = text.lines().find_map(|line| {
        let marker = line.strip_prefix("    ")?;
        let is_marker = marker.contains('^') && marker.trim_matches([' ', '^']).is_empty();
        is_marker.then(|| marker.find('^'))?
    });
    match place {
        Some(column) => format!("{said} at character {}", column + 1),
        None => said.to_owned(),
    }
}

impl TryFrom<String> for Pattern {
    type Error = InvalidExpression;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if (1..=MAX_PATTERN).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(InvalidExpression(format!(
                "a pattern has 1 to {MAX_PATTERN} bytes"
            )))
        }
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

impl Percent {
    /// The number.
    pub fn get(self) -> u8 {
        self.0.get()
    }
}

impl TryFrom<NonZeroU8> for Percent {
    type Error = InvalidPercent;

    fn try_from(number: NonZeroU8) -> Result<Self, Self::Error> {
        if number.get() <= 100 {
            Ok(Self(number))
        } else {
            Err(InvalidPercent(number.get()))
        }
    }
}

impl From<Percent> for NonZeroU8 {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What to do about patterns that are too large.
pub const LARGE: &str = r"shorten repetitions such as `\w{1,60}`, write `[0-9A-Za-z_]` for `\w` and `[0-9]` for `\d`, or leave filters out";

/// Checks that the patterns of the filters of a policy can be used, one by one and together.
///
/// # Errors
/// With the place of the filter, when its pattern cannot be used or those up to it need more than
/// [`MAX_COMPILED_TOGETHER`].
pub fn check(filters: &[Filter]) -> Result<(), (usize, InvalidExpression)> {
    let mut together = 0;
    let mut known = BTreeSet::new();
    for (index, filter) in filters.iter().enumerate() {
        let Some(pattern) = filter.pattern().filter(|pattern| known.insert(*pattern)) else {
            continue;
        };
        let compiled = pattern.compile().map_err(|error| (index, error))?;
        together += compiled.memory_usage();
        if together > MAX_COMPILED_TOGETHER {
            let limit = MAX_COMPILED_TOGETHER >> 20;
            let error = format!(
                "the patterns of the filters up to this one take more than {limit} MiB once compiled: {LARGE}"
            );
            return Err((index, InvalidExpression(error)));
        }
    }
    Ok(())
}

impl Filter {
    /// The credential that it needs.
    pub fn credential(&self) -> Option<&CredentialKey> {
        match self {
            Self::Redact(Redact {
                with: Replacement::Hash(key),
                ..
            }) => Some(key),
            _ => None,
        }
    }

    /// Its pattern.
    pub fn pattern(&self) -> Option<&Pattern> {
        match self {
            Self::Drop(pattern) | Self::Keep(pattern) => Some(pattern),
            Self::Redact(redact) => Some(&redact.pattern),
            Self::Sample(sample) => sample.pattern.as_ref(),
            Self::RateLimit(_) => None,
        }
    }
}

/// A text that is no usable regular expression.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a usable regular expression: {0}")]
pub struct InvalidExpression(String);

impl From<BuildError> for InvalidExpression {
    fn from(error: BuildError) -> Self {
        Self(on_one_line(&error))
    }
}

/// A number that is no percentage.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0} is not a percentage: use 1 to 100")]
pub struct InvalidPercent(u8);

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_pattern_that_would_take_too_much_memory_is_refused() {
        assert!(pattern(r"\b\d{3}-\d{2}-\d{4}\b").compile().is_ok());
        assert!(pattern(r"(\p{L}{100}){100}").compile().is_err());
        assert!(pattern("(").compile().is_err());
        assert!(Pattern::try_from(String::new()).is_err());
        assert!(Pattern::try_from("a".repeat(MAX_PATTERN + 1)).is_err());
    }

    #[test]
    fn patterns_that_would_take_too_much_memory_together_are_refused() {
        let filters = |text: &str| -> Vec<Filter> {
            let pattern = |number| pattern(&format!("{text}{number}"));
            (0..32)
                .map(|number| Filter::Drop(pattern(number)))
                .collect()
        };
        assert_eq!(check(&filters(r"[0-9A-Za-z_]+@[0-9A-Za-z_.]+")), Ok(()));
        let large = r"\w{15}";
        assert!(pattern(large).compile().is_ok());
        let (index, error) = check(&filters(large)).unwrap_err();
        assert_eq!(index, 4);
        let error = error.to_string();
        assert!(error.contains("more than 4 MiB once compiled"), "{error}");
        // The same one is compiled once.
        assert_eq!(check(&vec![Filter::Keep(pattern(large)); 32]), Ok(()));
    }

    #[test]
    fn the_compilers_words_fit_on_one_line() {
        for (text, says) in [
            ("a(b", "unclosed group at character 2"),
            ("^", ""),
            (
                r"(?<=a)b",
                "look-around, including look-ahead and look-behind, is not supported at character 1",
            ),
            (r"(a)\1", "backreferences are not supported at character 4"),
            ("a\nb(", "unclosed group"),
            (
                r"(\p{L}{100}){100}",
                "it takes more than 1 MiB once compiled: shorten repetitions",
            ),
        ] {
            let said = pattern(text).compile().err().map(|error| error.to_string());
            let said = said.unwrap_or_default();
            assert!(said.contains(says), "{text:?}: {said}");
            assert!(!said.contains('\n'), "{said}");
        }
    }

    #[test]
    fn a_filter_is_written_by_its_kind() {
        let filters = vec![
            Filter::Drop(pattern("GET /healthz")),
            Filter::Redact(Redact {
                pattern: pattern("secret"),
                with: Replacement::Text("***".into()),
            }),
            Filter::Sample(Sample {
                pattern: None,
                percent: Percent::try_from(NonZeroU8::new(10).unwrap()).unwrap(),
            }),
        ];
        let json = serde_json::to_string(&filters).unwrap();
        assert_eq!(
            json,
            r#"[{"drop":"GET /healthz"},{"redact":{"pattern":"secret","with":{"text":"***"}}},{"sample":{"percent":10}}]"#
        );
        assert_eq!(serde_json::from_str::<Vec<Filter>>(&json).unwrap(), filters);
    }

    #[test]
    fn a_percentage_above_a_hundred_is_refused() {
        assert!(serde_json::from_str::<Percent>("101").is_err());
        assert!(serde_json::from_str::<Percent>("0").is_err());
        assert_eq!(serde_json::from_str::<Percent>("100").unwrap().get(), 100);
    }
}
