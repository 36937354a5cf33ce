//! Which events are wanted, and how they are listed.

use std::{borrow::Cow, fmt::Write as _};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{Entry, Event};

/// Widths of the columns of a list, but for the last one; a longer value pushes the others aside.
const WIDTHS: [usize; 4] = [24, 26, 20, 24];

/// The heading of a list.
const HEADING: [&str; 5] = ["TIME", "EVENT", "ACTOR", "TARGET", "PROJECT"];

/// Which events are wanted: those that meet all of it.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Of one of these names; none: of any.
    pub events: Vec<String>,
    /// By one of these actors; none: by anybody.
    pub actors: Vec<String>,
    /// Done to one of these targets; none: to anything.
    pub targets: Vec<String>,
    /// When their lines were written.
    pub window: Window,
}

/// A span of time: when the lines of events were written, by the clocks of their nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// From this time on.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
}

impl Window {
    /// Whether a time is in it.
    pub fn holds(&self, time: Timestamp) -> bool {
        self.from.is_none_or(|from| time >= from) && !self.is_before(time)
    }

    /// Whether it ends before a time.
    pub fn is_before(&self, time: Timestamp) -> bool {
        self.to.is_some_and(|to| time >= to)
    }
}

impl Query {
    /// Whether an event is wanted.
    pub fn wants(&self, entry: &Entry<'_>, event: &Event<'_>) -> bool {
        let is_one = |wanted: &[String], is: &str| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted == is)
        };
        self.window.holds(entry.time)
            && is_one(&self.events, &event.event)
            && is_one(&self.actors, &event.actor)
            && is_one(&self.targets, &event.target)
    }
}

/// The heading of a list, with the end of its line.
pub fn heading() -> String {
    row(HEADING.map(Cow::Borrowed))
}

/// An event in a list, with the end of its line; of what is meant as one and is none, why.
pub fn listed(entry: &Entry<'_>, event: &Event<'_>) -> String {
    let or_dash = |text: &str| {
        let text = if text.is_empty() { "-" } else { text };
        // What a user has chosen must not pass for a line of its own, or for a command to the terminal.
        let shown = |one: char| if one.is_control() { '\u{fffd}' } else { one };
        Cow::Owned(text.chars().map(shown).collect())
    };
    let name = match &entry.fault {
        Some(fault) => format!("({fault})"),
        None => event.event.to_string(),
    };
    let time = if event.time.is_empty() {
        entry.time.to_string()
    } else {
        event.time.to_string()
    };
    row([
        or_dash(&time),
        or_dash(&name),
        or_dash(&event.actor),
        or_dash(&event.target),
        or_dash(event.project.as_deref().unwrap_or_default()),
    ])
}

fn row(cells: [Cow<'_, str>; 5]) -> String {
    let [first @ .., last] = cells;
    let mut row = String::new();
    for (cell, width) in first.iter().zip(WIDTHS) {
        // Writing to a text cannot fail.
        let _ = write!(row, "{cell:width$}  ");
    }
    row.push_str(&last);
    row.push('\n');
    row
}

/// An event for programs, with the end of its line: what it says, and where it stands.
pub fn as_json(entry: &Entry<'_>) -> String {
    let said: Value = serde_json::from_str(&entry.text).unwrap_or_else(|_| json!(entry.text));
    let [namespace, pod, container] = &entry.origin;
    let mut record = json!({
        "time": entry.time.to_string(),
        "namespace": namespace,
        "pod": pod,
        "container": container,
        "restart": entry.restart,
        "record_id": entry.id,
        "event": said,
    });
    if let Some(link) = entry.link {
        record["sequence"] = link.sequence.into();
        record["chain"] = link.chain().into();
    }
    if let Some(fault) = &entry.fault {
        record["audit_fault"] = json!(fault);
    }
    format!("{record}\n")
}

#[cfg(test)]
mod tests {
    use super::{super::entry::tests::lines, *};

    fn shown(line: &str) -> String {
        let entry = Entry::read(line.as_bytes()).unwrap();
        listed(&entry, &entry.event())
    }

    #[test]
    fn events_are_wanted_by_name_actor_target_and_time() {
        let lines = lines(3);
        let wanted = |query: &Query| -> Vec<usize> {
            let wants = |line: &str| {
                let entry = Entry::read(line.as_bytes()).unwrap();
                query.wants(&entry, &entry.event())
            };
            (1..=3).filter(|number| wants(&lines[number - 1])).collect()
        };
        let list = |text: &str| vec![text.to_owned()];
        let time = |text: &str| Some(text.parse().unwrap());
        assert_eq!(wanted(&Query::default()), [1, 2, 3]);
        let of_two = Query {
            targets: vec!["model-2".to_owned(), "model-9".to_owned()],
            ..Query::default()
        };
        assert_eq!(wanted(&of_two), [2]);
        for nothing in [
            Query {
                actors: list("eve"),
                ..of_two.clone()
            },
            Query {
                events: list("ModelArchived"),
                ..Query::default()
            },
        ] {
            assert_eq!(wanted(&nothing), Vec::<usize>::new());
        }
        let window = Window {
            from: time("2026-11-30T09:12:02.5Z"),
            to: time("2026-11-30T09:12:03.5Z"),
        };
        let query = Query {
            window,
            ..Query::default()
        };
        assert_eq!(wanted(&query), [2], "the end is not part of it");
    }

    #[test]
    fn a_list_has_the_events_own_time_and_forges_no_line() {
        let lines = lines(1);
        assert_eq!(
            heading() + &shown(&lines[0]),
            "TIME                      EVENT                       ACTOR                 TARGET                    PROJECT\n\
             2026-11-30T09:12:44Z      ModelCreated                ada                   model-1                   -\n"
        );
        let forged = lines[0].replace("ada", r"eve\n2026 \u001b[2J");
        assert!(shown(&forged).contains("eve\u{fffd}2026 \u{fffd}[2J"));
        let faulty = r#"{"time":"2026-11-30T09:12:44Z","audit_fault":"missing actor","fields":{"audit":1,"event":"ModelCreated","target":"t"}}"#;
        let shown = shown(faulty);
        assert!(
            shown.starts_with("2026-11-30T09:12:44Z      (missing actor)             -"),
            "{shown}"
        );
    }

    #[test]
    fn programs_get_what_the_event_says_and_where_it_stands() {
        let lines = lines(2);
        let entry = Entry::read(lines[1].as_bytes()).unwrap();
        let json: Value = serde_json::from_str(&as_json(&entry)).unwrap();
        assert_eq!(json["event"]["target"], "model-2");
        assert_eq!(
            (&json["sequence"], &json["pod"]),
            (&json!(2), &json!("tracker-1"))
        );
        assert_eq!(json["chain"], entry.link.unwrap().chain());
    }
}
