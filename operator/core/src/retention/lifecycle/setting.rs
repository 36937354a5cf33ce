//! A retention that is one number of days for all that is there: of an index of Splunk's, of the logs of an account of New Relic's.

use std::{collections::BTreeMap, num::NonZeroU32};

use serde_json::Value;

use super::{Expiry, Facts, Merged, Rule};
use crate::retention::xml::Malformed;

/// What the one rule that such a place has is called.
pub const ID: &str = "retention";

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// Longest time that Splunk Enterprise takes, in seconds (Splunk: `indexes.conf`, `frozenTimePeriodInSecs`).
const MOST_SECONDS: u64 = 4_294_967_295;

/// How long everything is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// Days; none where nothing was set and nobody says how long that is.
    days: Option<NonZeroU32>,
    /// Whether it is exactly so many days.
    is_exact: bool,
    /// The longest that can be set, in days, where that is known.
    pub most: Option<NonZeroU32>,
    /// Above how much what is oldest is deleted sooner, in MB.
    pub most_megabytes: Option<u64>,
    facts: Option<Facts>,
}

impl Setting {
    /// So many days; none where nothing was set.
    pub fn new(days: Option<NonZeroU32>, most: Option<NonZeroU32>) -> Self {
        Self {
            days,
            is_exact: true,
            most,
            most_megabytes: None,
            facts: days.map(facts),
        }
    }

    /// Reads an index of Splunk Enterprise, as JSON.
    ///
    /// # Errors
    /// When it is no index.
    pub fn of_splunk_enterprise(text: &str) -> Result<Self, Malformed> {
        let answer = json(text)?;
        let content = &answer["entry"][0]["content"];
        let number = |name: &str| {
            let value = &content[name];
            value.as_u64().or_else(|| value.as_str()?.parse().ok())
        };
        let seconds = number("frozenTimePeriodInSecs").ok_or(Malformed::Unexpected("index"))?;
        // A day that has begun counts: to take it away is to keep less.
        let days = u32::try_from(seconds.div_ceil(DAY)).ok();
        let mut setting = Self::new(
            days.map(|days| NonZeroU32::new(days).unwrap_or(NonZeroU32::MIN)),
            u32::try_from(MOST_SECONDS / DAY)
                .ok()
                .and_then(NonZeroU32::new),
        );
        setting.is_exact = seconds > 0 && seconds % DAY == 0;
        setting.most_megabytes = number("maxTotalDataSizeMB").filter(|most| *most > 0);
        Ok(setting)
    }

    /// Reads an index of Splunk Cloud.
    ///
    /// # Errors
    /// When it is no index.
    pub fn of_splunk_cloud(text: &str) -> Result<Self, Malformed> {
        let index = json(text)?;
        let days = index["searchableDays"].as_u64();
        let days = days.and_then(|days| NonZeroU32::new(u32::try_from(days).ok()?));
        let days = days.ok_or(Malformed::Unexpected("index"))?;
        let mut setting = Self::new(Some(days), None);
        // 0: as much as the stack has.
        setting.most_megabytes = index["maxDataSizeMB"].as_u64().filter(|most| *most > 0);
        Ok(setting)
    }

    /// Reads the rule of a namespace of an account of New Relic's, and how long the account can keep it.
    ///
    /// # Errors
    /// When it is no such answer.
    pub fn of_new_relic(text: &str, namespace: &str) -> Result<Self, Malformed> {
        let answer = json(text)?;
        let management = &answer["data"]["actor"]["account"]["dataManagement"];
        if !management.is_object() {
            return Err(Malformed::Unexpected("account"));
        }
        let days = |value: &Value| NonZeroU32::new(u32::try_from(value.as_u64()?).ok()?);
        let namespaces = management["customizableRetention"]["eventNamespaces"].as_array();
        let mut namespaces = namespaces.into_iter().flatten();
        let most = namespaces
            .find(|one| one["namespace"] == namespace)
            .and_then(|one| days(&one["maxRetentionInDays"]));
        let rule = &management["eventRetentionRule"];
        Ok(Self::new(days(&rule["retentionInDays"]), most))
    }

    /// Days; none where nothing was set.
    pub fn days(&self) -> Option<NonZeroU32> {
        self.days
    }

    /// What it says, as a rule for everything.
    pub fn facts(&self) -> impl Iterator<Item = &Facts> {
        self.facts.iter()
    }

    pub(super) fn with(&self, wanted: &BTreeMap<String, Option<Rule>>) -> Merged<Self> {
        // Nothing can be kept without an end, and what was set cannot be taken back.
        let Some(Some(rule)) = wanted.get(ID) else {
            return Merged::Same;
        };
        if self.is_exact && self.days == Some(rule.days) {
            return Merged::Same;
        }
        let mut setting = Self::new(Some(rule.days), self.most);
        setting.most_megabytes = self.most_megabytes;
        Merged::Changed(setting)
    }
}

fn json(text: &str) -> Result<Value, Malformed> {
    serde_json::from_str(text).map_err(|error| Malformed::of_json(&error))
}

fn facts(days: NonZeroU32) -> Facts {
    Facts {
        id: Some(ID.to_owned()),
        enabled: true,
        prefixes: Vec::new(),
        is_elsewhere: false,
        expiry: Some(Expiry::Days(days.get())),
        plain: None,
    }
}

#[cfg(test)]
mod tests;
