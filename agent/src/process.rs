//! What a policy does with lines before they are sent: joins those that belong together, filters records. Reads no
//! file and sends nothing.

pub mod audit;
pub mod filter;
pub mod multiline;
pub mod pattern;
pub mod rate_limit;
mod redact;
mod sample;
pub mod shelf;
pub mod trail;

use std::{path::Path, rc::Rc, time::Instant};

use katonic_log_config::{CredentialKey, Policy};
use ring::hmac;

use crate::credential::{self, CredentialError};
use filter::Filters;
use multiline::{Joining, Multiline};
use shelf::{Shelf, Unfit};

/// Shortest key of a keyed hash, in bytes: a shorter one could be found by trying all of them.
const SHORTEST_KEY: usize = 16;

/// What a policy does with lines, ready to be done but for the credentials that it needs.
#[derive(Debug, Default)]
pub struct Processing {
    /// Which lines belong together; none: each line is a record.
    pub multiline: Option<Multiline>,
    filters: Filters,
    /// Why none of it is there yet.
    waits: Option<Waits>,
}

/// What the patterns of a policy wait for. Without them nothing may be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waits {
    /// For a container that the policy takes: until there is one they would take memory for nothing.
    ForContainer,
    /// For room beside those of older policies.
    ForRoom,
}

/// With the credentials, too: without them no record can be made.
#[derive(Debug)]
pub struct Ready {
    processing: Rc<Processing>,
    keys: Vec<hmac::Key>,
}

/// Why nothing can be sent as the policy says.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// A key of a keyed hash is not there.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// A key that protects nothing.
    #[error("the hash key `{0}` is shorter than {SHORTEST_KEY} bytes")]
    ShortKey(CredentialKey),
    /// Its patterns are too large beside those of older policies.
    #[error("{}", Unfit::NoRoom)]
    NoRoom,
    /// Nothing was to be read.
    #[error("the policy takes none of the containers that are known")]
    NoContainer,
}

impl Processing {
    /// What a policy says, alone in its pod.
    ///
    /// # Errors
    /// When one of its patterns cannot be used; then the policy must not be applied in part.
    pub fn of(policy: &Policy) -> Result<Self, Unfit> {
        let mut filling = Shelf::default().refill();
        filling.put(policy)?;
        filling.take(policy)
    }

    /// Nothing yet: records wait with it.
    pub fn waiting(waits: Waits) -> Self {
        Self {
            waits: Some(waits),
            ..Self::default()
        }
    }

    /// What it waits for, if it does.
    pub fn waits(&self) -> Option<Waits> {
        self.waits
    }

    /// How lines are joined from now on; none when each is a record.
    pub fn joining(&self) -> Option<Joining<'_>> {
        self.multiline.as_ref().map(|multiline| Joining {
            multiline,
            now: Instant::now(),
        })
    }

    /// Reads the credentials that it needs.
    ///
    /// # Errors
    /// When one is missing or too short, or the policy's patterns are. Nothing may be sent then: it would be sent
    /// unprotected.
    pub fn ready(self: &Rc<Self>, credentials: &Path) -> Result<Ready, NotReady> {
        match self.waits {
            None => {}
            Some(Waits::ForContainer) => return Err(NotReady::NoContainer),
            Some(Waits::ForRoom) => return Err(NotReady::NoRoom),
        }
        let key = |key: &CredentialKey| {
            let secret = credential::read(credentials, key)?;
            if secret.reveal().len() < SHORTEST_KEY {
                return Err(NotReady::ShortKey(key.clone()));
            }
            Ok(hmac::Key::new(hmac::HMAC_SHA256, secret.reveal()))
        };
        Ok(Ready {
            keys: self
                .filters
                .hash_keys()
                .map(key)
                .collect::<Result<_, _>>()?,
            processing: Rc::clone(self),
        })
    }

    /// Filters whose records are counted and never sent: their keyed hashes are left empty.
    pub fn for_counting(self: &Rc<Self>) -> Ready {
        Ready {
            processing: Rc::clone(self),
            keys: Vec::new(),
        }
    }
}

impl Ready {
    /// How lines are joined from now on; none when each is a record.
    pub fn joining(&self) -> Option<Joining<'_>> {
        self.processing.joining()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use katonic_log_config::{Filter, Multiline, MultilineRule, Pattern, Redact, Replacement};
    use std::num::NonZeroU32;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::try_from(text.to_owned()).unwrap()
    }

    fn hashing() -> Policy {
        let key = CredentialKey::try_from("salt".to_owned()).unwrap();
        let redact = Redact {
            pattern: pattern("x"),
            with: Replacement::Hash(key),
        };
        let mut policy = Policy::of_everything("p", "u", Vec::new());
        policy.filters = vec![Filter::Redact(redact)];
        policy
    }

    #[test]
    fn without_a_key_worth_the_name_nothing_is_ready() {
        let directory = tempfile::tempdir().unwrap();
        let processing = Rc::new(Processing::of(&hashing()).unwrap());
        let ready = || processing.ready(directory.path());
        let said = |ready: Result<Ready, NotReady>| ready.unwrap_err().to_string();
        assert_eq!(said(ready()), "the credential `salt` is missing");
        for (value, reason) in [
            ("\n", "the credential `salt` is empty"),
            (
                "fifteen bytes..\n",
                "the hash key `salt` is shorter than 16 bytes",
            ),
        ] {
            fs::write(directory.path().join("salt"), value).unwrap();
            assert_eq!(said(ready()), reason);
        }
        fs::write(directory.path().join("salt"), "sixteen bytes...").unwrap();
        let ready = ready().unwrap();
        assert!(!format!("{ready:?}").contains("sixteen"), "{ready:?}");
    }

    #[test]
    fn a_policy_with_a_pattern_that_does_not_compile_is_unusable_as_a_whole() {
        let mut policy = hashing();
        policy.filters.push(Filter::Drop(pattern("(")));
        let error = Processing::of(&policy).unwrap_err().to_string();
        assert!(error.starts_with("filters[1]: "), "{error}");
        let mut policy = hashing();
        policy.multiline = Some(Multiline {
            rule: MultilineRule::FirstLine(pattern("[")),
            timeout_ms: NonZeroU32::MIN,
            max_bytes: NonZeroU32::MIN,
        });
        let error = Processing::of(&policy).unwrap_err().to_string();
        assert!(error.starts_with("multiline: "), "{error}");
    }
}
