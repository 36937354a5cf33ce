//! When restarts may begin.

use std::fmt;

use k8s_openapi::jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Days of the week and a span of time on each of them, in UTC. One that ends before it begins ends on the next day.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Window {
    days: Vec<Day>,
    from: TimeOfDay,
    to: TimeOfDay,
}

/// As it is written in the installation.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    days: Vec<String>,
    from: String,
    to: String,
}

/// What is wrong with a window, with what to write instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidWindow {
    /// Not a day.
    #[error(
        "`{0}` in logging.rollout.window.days is not a day: write for example [Saturday, Sunday]"
    )]
    Day(String),
    /// Not a time of day.
    #[error(
        "logging.rollout.window.{field} is `{value}`, which is not a time of day: write hours and minutes of UTC, for example '22:00'"
    )]
    Time {
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// It has no length.
    #[error(
        "logging.rollout.window begins and ends at {0}: for whole days write from: '00:00' and to: '24:00'"
    )]
    Empty(String),
}

/// A day of the week.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Day(i8);

const NAMES: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// Minutes since midnight.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct TimeOfDay(u16);

impl Window {
    /// Whether restarts may begin.
    pub fn is_open(&self, now: Timestamp) -> bool {
        let today = now.to_zoned(TimeZone::UTC).date();
        let spans = [today.yesterday().ok(), Some(today)].into_iter().flatten();
        spans
            .filter_map(|date| self.begins_on(date))
            .any(|begin| begin <= now && now < begin + self.length())
    }

    /// When it opens next, after this time.
    pub fn opens(&self, now: Timestamp) -> Timestamp {
        let mut date = now.to_zoned(TimeZone::UTC).date();
        // The same day of the next week is the latest.
        for _ in 0..=NAMES.len() {
            if let Some(begin) = self.begins_on(date).filter(|begin| *begin > now) {
                return begin;
            }
            match date.tomorrow() {
                Ok(tomorrow) => date = tomorrow,
                Err(_) => break,
            }
        }
        Timestamp::MAX
    }

    fn begins_on(&self, date: Date) -> Option<Timestamp> {
        let day = Day(date.weekday().to_monday_zero_offset());
        if !self.days.contains(&day) {
            return None;
        }
        let midnight = date.to_zoned(TimeZone::UTC).ok()?.timestamp();
        Some(midnight + SignedDuration::from_mins(self.from.0.into()))
    }

    fn length(&self) -> SignedDuration {
        let minutes = if self.to > self.from {
            self.to.0 - self.from.0
        } else {
            self.to.0 + DAY - self.from.0
        };
        SignedDuration::from_mins(minutes.into())
    }
}

impl TryFrom<Written> for Window {
    type Error = InvalidWindow;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let day = |name: &String| Day::parse(name).ok_or_else(|| InvalidWindow::Day(name.clone()));
        let mut days = written
            .days
            .iter()
            .map(day)
            .collect::<Result<Vec<_>, _>>()?;
        if days.is_empty() {
            days = (0..7).map(Day).collect();
        }
        days.sort_unstable();
        days.dedup();
        let time = |field, value: &str| {
            TimeOfDay::parse(value).ok_or_else(|| InvalidWindow::Time {
                field,
                value: value.to_owned(),
            })
        };
        let (from, to) = (time("from", &written.from)?, time("to", &written.to)?);
        if from.0 == DAY {
            return Err(InvalidWindow::Time {
                field: "from",
                value: written.from,
            });
        }
        if from == to {
            return Err(InvalidWindow::Empty(written.from));
        }
        Ok(Self { days, from, to })
    }
}

impl From<Window> for Written {
    fn from(window: Window) -> Self {
        Self {
            days: window.days.iter().map(ToString::to_string).collect(),
            from: window.from.to_string(),
            to: window.to.to_string(),
        }
    }
}

impl Day {
    /// A whole name, or its first three letters.
    fn parse(name: &str) -> Option<Self> {
        let found = NAMES.iter().position(|full| {
            full.eq_ignore_ascii_case(name) || full[..3].eq_ignore_ascii_case(name)
        });
        found.and_then(|index| i8::try_from(index).ok()).map(Self)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = usize::try_from(self.0).ok().and_then(|day| NAMES.get(day));
        formatter.write_str(name.copied().unwrap_or_default())
    }
}

impl TimeOfDay {
    fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let number = |text: &str| {
            let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse::<u16>().ok()).flatten()
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let time = hours * 60 + minutes;
        (minutes < 60 && time <= DAY).then_some(Self(time))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(yaml: &str) -> Result<Window, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_is_open_from_its_beginning_until_its_end() {
        // 2026-11-28 is a Saturday.
        let weekend = window("{days: [Sat, Sunday], from: '08:30', to: '12:00'}").unwrap();
        for (time, open) in [
            ("2026-11-28T08:29:59Z", false),
            ("2026-11-28T08:30:00Z", true),
            ("2026-11-29T11:59:59Z", true),
            ("2026-11-29T12:00:00Z", false),
            ("2026-11-30T09:00:00Z", false),
        ] {
            assert_eq!(weekend.is_open(at(time)), open, "{time}");
        }
        assert_eq!(
            weekend.opens(at("2026-11-26T05:00:00Z")),
            at("2026-11-28T08:30:00Z")
        );
        assert_eq!(
            weekend.opens(at("2026-11-29T12:00:00Z")),
            at("2026-12-05T08:30:00Z")
        );
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = window("{days: [friday], from: '22:00', to: '04:00'}").unwrap();
        for (time, open) in [
            ("2026-11-27T21:59:00Z", false),
            ("2026-11-27T22:00:00Z", true),
            ("2026-11-28T03:59:00Z", true),
            ("2026-11-28T04:00:00Z", false),
            ("2026-11-28T22:30:00Z", false),
            ("2026-11-27T03:00:00Z", false),
        ] {
            assert_eq!(night.is_open(at(time)), open, "{time}");
        }
    }

    #[test]
    fn without_days_it_is_every_day() {
        let daily = window("{from: '00:00', to: '24:00'}").unwrap();
        assert!(daily.is_open(at("2026-11-26T23:59:59Z")));
        assert!(daily.is_open(at("2026-11-27T00:00:00Z")));
    }

    #[test]
    fn what_is_no_window_says_what_to_write() {
        for (yaml, says) in [
            (
                "{days: [Caturday], from: '22:00', to: '04:00'}",
                "write for example [Saturday, Sunday]",
            ),
            ("{from: '22', to: '04:00'}", "window.from is `22`"),
            ("{from: '22:00', to: '24:01'}", "for example '22:00'"),
            ("{from: '24:00', to: '04:00'}", "window.from is `24:00`"),
            ("{from: '22:60', to: '04:00'}", "window.from is `22:60`"),
            ("{from: '22:00', to: '22:00'}", "to: '24:00'"),
            ("{from: '22:00'}", "to"),
            ("{from: '22:00', to: '04:00', zone: CET}", "zone"),
        ] {
            let error = window(yaml).unwrap_err();
            assert!(error.contains(says), "{yaml}: {error}");
        }
    }

    proptest! {
        #[test]
        fn it_opens_when_it_says_and_not_before(
            days in prop::collection::vec(prop::sample::select(NAMES.to_vec()), 0..4),
            from in 0..1440_u16,
            length in 1..1440_u16,
            now in 1_700_000_000..1_900_000_000_i64,
            part in 0.0..1.0,
        ) {
            let to = (from + length) % 1440;
            let written = Written {
                days: days.into_iter().map(str::to_owned).collect(),
                from: TimeOfDay(from).to_string(),
                to: TimeOfDay(to).to_string(),
            };
            let window = Window::try_from(written).unwrap();
            let now = Timestamp::from_second(now).unwrap();
            let opens = window.opens(now);
            prop_assert!(opens > now);
            prop_assert!(opens.duration_since(now) <= SignedDuration::from_hours(7 * 24));
            prop_assert!(window.is_open(opens));
            prop_assert!(!window.is_open(opens + window.length()) || window.begins_on(opens.to_zoned(TimeZone::UTC).date().tomorrow().unwrap()).is_some());
            // Nothing between now and then is a beginning.
            if !window.is_open(now) {
                let between = now + (opens.duration_since(now)).mul_f64(part);
                prop_assert!(between == opens || !window.is_open(between));
            }
            let again: Window = serde_json::from_str(&serde_json::to_string(&window).unwrap()).unwrap();
            prop_assert_eq!(again, window);
        }
    }
}
