//! What an administrator says to have seen of what sinks have not got: an annotation, with a time for the whole policy or one for each of its sinks.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::jiff::Timestamp;

/// Stands between the name of a sink and a time.
const OF: char = '@';

/// Until when an administrator has seen what there was.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Acknowledged {
    /// Of every sink.
    policy: Option<Timestamp>,
    /// Of single ones, by name.
    sinks: BTreeMap<String, Timestamp>,
}

impl Acknowledged {
    /// As the annotation has it: `<time>` for every sink, `<sink>@<time>` for one, or several of them with commas between. What is
    /// neither acknowledges nothing: the status goes on telling what to write.
    pub fn read(annotation: &str) -> Self {
        let mut acknowledged = Self::default();
        for part in annotation.split(',') {
            let (sink, time) = match part.split_once(OF) {
                Some((sink, time)) => (Some(sink.trim()), time),
                None => (None, part),
            };
            let Ok(time) = time.trim().parse::<Timestamp>() else {
                continue;
            };
            match sink {
                Some(sink) => {
                    let until = acknowledged.sinks.entry(sink.to_owned()).or_insert(time);
                    *until = time.max(*until);
                }
                None => acknowledged.policy = acknowledged.policy.max(Some(time)),
            }
        }
        acknowledged
    }

    /// Of every sink until then.
    pub fn all(until: Timestamp) -> Self {
        Self {
            policy: Some(until),
            sinks: BTreeMap::new(),
        }
    }

    /// Until when what there was of a sink was seen.
    pub fn until(&self, sink: &str) -> Option<Timestamp> {
        self.policy.max(self.sinks.get(sink).copied())
    }

    /// The same, and this sink until then: what was said of others is not taken back.
    #[must_use]
    pub fn and(&self, sink: &str, until: Timestamp) -> Self {
        let mut sinks = self.sinks.clone();
        sinks.insert(sink.to_owned(), until);
        Self { sinks, ..*self }
    }
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.policy.map(|time| time.to_string());
        let sinks = self.sinks.iter();
        let sinks = sinks.map(|(sink, time)| format!("{sink}{OF}{time}"));
        let all: Vec<String> = policy.into_iter().chain(sinks).collect();
        formatter.write_str(&all.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_time_is_for_the_policy_or_for_the_sink_that_it_names() {
        let read = Acknowledged::read(" 1970-01-01T00:01:00Z ");
        assert_eq!(read, Acknowledged::all(at(60)));
        assert_eq!(read.until("splunk"), Some(at(60)));
        let read = Acknowledged::read("splunk@1970-01-01T00:01:00Z");
        assert_eq!(
            (read.until("splunk"), read.until("other")),
            (Some(at(60)), None)
        );
        let all = "1970-01-01T00:00:30Z,other@1970-01-01T00:00:10Z,splunk@1970-01-01T00:01:00Z";
        let read = Acknowledged::read(all);
        assert_eq!(read.to_string(), all);
        let until = ["splunk", "other", "third"].map(|sink| read.until(sink));
        assert_eq!(until, [Some(at(60)), Some(at(30)), Some(at(30))]);
        // The later one counts, wherever it stands.
        let read = Acknowledged::read("splunk@1970-01-01T00:01:00Z, splunk@1970-01-01T00:00:10Z");
        assert_eq!(read.until("splunk"), Some(at(60)));
    }

    #[test]
    fn what_is_no_time_acknowledges_nothing() {
        for wrong in [
            "",
            "yes",
            "splunk",
            "splunk@",
            "splunk@yesterday",
            "@",
            ",",
            "1970-01-01",
        ] {
            assert_eq!(
                Acknowledged::read(wrong),
                Acknowledged::default(),
                "{wrong}"
            );
        }
        // And takes nothing from what is one.
        let read = Acknowledged::read("splunk@soon,other@1970-01-01T00:00:10Z");
        assert_eq!(
            (read.until("splunk"), read.until("other")),
            (None, Some(at(10)))
        );
    }

    #[test]
    fn what_was_said_of_others_stays() {
        let read = Acknowledged::read("other@1970-01-01T00:00:10Z");
        let both = "other@1970-01-01T00:00:10Z,splunk@1970-01-01T00:01:00Z";
        assert_eq!(read.and("splunk", at(60)).to_string(), both);
    }
}
