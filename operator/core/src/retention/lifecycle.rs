//! The lifecycle rules of a place where objects are stored, whoever runs it: what is understood of any rule, ours, and how they
//! are merged. What is not ours goes back as it came, understood or not.

pub mod azure;
pub mod gcs;
mod json;
mod rule;
pub mod s3;
pub mod setting;

use std::collections::BTreeMap;

pub use rule::{Expiry, Facts, Rule};

use super::xml::Malformed;

/// What the ids of our rules begin with.
pub const OURS: &str = "katonic-logging-";

/// All lifecycle rules of a bucket, or of a storage account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lifecycle {
    /// Of a bucket of S3.
    S3(s3::Configuration),
    /// Of a bucket of Google's.
    Gcs(gcs::Rules),
    /// Of a storage account of Azure's, for all its containers.
    Azure(azure::Rules),
    /// Of what has one number for everything, which is always ours: an index, an account.
    Setting(setting::Setting),
}

/// What has to be written so that the wanted rules are there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Merged<T> {
    /// Nothing.
    Same,
    /// This.
    Changed(T),
    /// It cannot be: there would be more rules than there can be.
    TooMany,
}

impl<T> Merged<T> {
    fn map<U>(self, wrap: impl FnOnce(T) -> U) -> Merged<U> {
        match self {
            Self::Same => Merged::Same,
            Self::Changed(changed) => Merged::Changed(wrap(changed)),
            Self::TooMany => Merged::TooMany,
        }
    }
}

impl Lifecycle {
    /// What its rules say, in their order.
    pub fn rules(&self) -> Box<dyn Iterator<Item = &Facts> + '_> {
        match self {
            Self::S3(configuration) => Box::new(configuration.rules()),
            Self::Gcs(rules) => Box::new(rules.facts()),
            Self::Azure(rules) => Box::new(rules.facts()),
            Self::Setting(setting) => Box::new(setting.facts()),
        }
    }

    /// The first rule with this id.
    pub fn rule(&self, id: &str) -> Option<&Facts> {
        self.rules().find(|facts| facts.id.as_deref() == Some(id))
    }

    /// With these rules and without those of their ids that are not to be, each by its id.
    ///
    /// # Guarantees
    /// Every other rule is there as it was, in its order. What is there as it is wanted stays as it is written.
    ///
    /// # Errors
    /// When the result is no configuration, which no input is known to cause.
    pub fn with(&self, wanted: &BTreeMap<String, Option<Rule>>) -> Result<Merged<Self>, Malformed> {
        Ok(match self {
            Self::S3(configuration) => configuration.with(wanted)?.map(Self::S3),
            Self::Gcs(rules) => rules.with(wanted).map(Self::Gcs),
            Self::Azure(rules) => rules.with(wanted).map(Self::Azure),
            Self::Setting(setting) => setting.with(wanted).map(Self::Setting),
        })
    }
}
