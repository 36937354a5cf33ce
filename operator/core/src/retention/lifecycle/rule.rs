//! One lifecycle rule, whoever's it is.

use std::num::NonZeroU32;

/// A rule of ours: objects below a prefix expire after some days.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// What the keys begin with.
    pub prefix: String,
    /// After so many days.
    pub days: NonZeroU32,
    /// Where versions are kept an object that has expired is only hidden; it is deleted after so many days, counted as the
    /// vendor counts them. None where nothing has to be said for that.
    pub noncurrent_days: Option<NonZeroU32>,
}

/// When a rule deletes objects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expiry {
    /// So many days after they were stored.
    Days(u32),
    /// On a day, and every day after it, however old they are.
    Date(String),
    /// At once what was stored before a day, and nothing that was stored later.
    Before(String),
    /// In a way that is not understood.
    Unknown,
}

/// What is understood of a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Its id.
    pub id: Option<String>,
    /// Whether it is in effect.
    pub enabled: bool,
    /// What the keys of its objects begin with, one of these; none: all.
    pub prefixes: Vec<String>,
    /// Whether it is about objects alone that agents never make: with a tag, with a time of their own, of another type.
    pub is_elsewhere: bool,
    /// When it deletes the current version of its objects.
    pub expiry: Option<Expiry>,
    /// What it is, if it is one that could be ours.
    pub(super) plain: Option<Rule>,
}

impl Facts {
    /// Whether it does what that rule does, and nothing else.
    pub fn is(&self, rule: &Rule) -> bool {
        self.enabled && self.plain.as_ref() == Some(rule)
    }

    /// Whether it is in effect for all that begins with a prefix.
    pub fn covers(&self, prefix: &str) -> bool {
        let mut prefixes = self.prefixes.iter();
        let is_within = self.prefixes.is_empty() || prefixes.any(|own| prefix.starts_with(own));
        self.enabled && !self.is_elsewhere && is_within
    }

    /// Of what it deletes, what is among that which begins with a prefix: the beginning of its keys.
    pub fn reaches(&self, prefix: &str) -> Option<&str> {
        if !self.enabled || self.is_elsewhere {
            return None;
        }
        let overlaps = |own: &&String| prefix.starts_with(*own) || own.starts_with(prefix);
        match self.prefixes.iter().find(overlaps) {
            Some(own) => Some(own),
            None if self.prefixes.is_empty() => Some(""),
            None => None,
        }
    }
}
