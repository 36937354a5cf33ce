//! Names of objects. They say which bytes of which log are in them, so what is missing is seen in a listing.

use std::fmt::Write as _;

use katonic_log_config::{ArchiveLayout, bundle::hex_digest};

use super::ledger::Run;
use crate::{cursor::RouteKey, pod::Pod};

/// How much of a route's digest sets it apart from others that archive the same container.
const ROUTE: usize = 8;

/// Where the objects of a container stand, below the sink's prefix; ends in `/`.
///
/// An execution's pod whose id nobody knows has a place of its own: what is stored there can be found and told.
pub fn folder(
    layout: ArchiveLayout,
    pod: &Pod,
    execution_id: Option<&str>,
    container: &str,
) -> String {
    let top = match (layout, execution_id) {
        (ArchiveLayout::Executions, Some(id)) => format!("executions/{}", part(id)),
        (ArchiveLayout::Executions, None) => format!("unidentified/{}", part(&pod.namespace)),
        (ArchiveLayout::Application, _) => format!("application/{}", part(&pod.namespace)),
    };
    format!(
        "{top}/{}_{}/{}/",
        part(&pod.name),
        part(&pod.uid),
        part(container)
    )
}

/// The name of the next object of a run, with bytes `first` to `next` of a log file.
pub fn object(run: &Run, route: &RouteKey, file: &str, first: u64, next: u64) -> String {
    format!(
        "{}-{:08}-{file}-{first}-{next}.ndjson.gz",
        start(run, route),
        run.objects
    )
}

/// The name of the completeness record of a run.
pub fn record(run: &Run, route: &RouteKey) -> String {
    format!("{}-complete.json", start(run, route))
}

/// What all objects of a run begin with, for one sink of one policy: sorted by name they are in the order of the log.
fn start(run: &Run, route: &RouteKey) -> String {
    format!("{}{:04}-{}", run.folder, run.restart, short(route))
}

/// A route in a few characters.
pub fn short(route: &RouteKey) -> String {
    let digest = hex_digest(format!("{}/{}", route.policy_uid, route.sink).as_bytes());
    digest.get(..ROUTE).unwrap_or_default().to_owned()
}

/// Text as one part of a key: what is neither letter, digit, `-`, `_` nor `.` becomes `!` and two hexadecimal digits of
/// each byte, which no store and no file system takes for anything else.
fn part(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let escape_all = matches!(text, "." | "..");
    text.bytes().fold(String::new(), |mut part, byte| {
        if is_plain(byte) && !escape_all {
            part.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(part, "!{byte:02X}");
        }
        part
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ledger::Spot;

    fn pod() -> Pod {
        Pod {
            namespace: "compute".into(),
            name: "run-1".into(),
            uid: "u-1".into(),
            node: String::new(),
        }
    }

    fn folder(layout: ArchiveLayout, id: Option<&str>) -> String {
        super::folder(layout, &pod(), id, "run")
    }

    #[test]
    fn an_execution_is_found_by_its_id_whatever_the_id_is_made_of() {
        use ArchiveLayout::{Application, Executions};
        assert_eq!(
            folder(Executions, Some("63d1")),
            "executions/63d1/run-1_u-1/run/"
        );
        assert_eq!(
            folder(Executions, Some("a/b ü%")),
            "executions/a!2Fb!20!C3!BC!25/run-1_u-1/run/"
        );
        assert_eq!(
            folder(Executions, Some("..")),
            "executions/!2E!2E/run-1_u-1/run/"
        );
        assert_eq!(
            folder(Executions, None),
            "unidentified/compute/run-1_u-1/run/"
        );
        assert_eq!(
            folder(Application, Some("63d1")),
            "application/compute/run-1_u-1/run/"
        );
    }

    #[test]
    fn names_sort_as_the_log_goes() {
        let route = RouteKey {
            policy_uid: "p".into(),
            sink: "s".into(),
        };
        let named = |restart, objects| {
            let first = Spot {
                file: String::new(),
                offset: 0,
            };
            let mut run = Run::new(&"run".into(), restart, "f/".into(), first);
            run.objects = objects;
            object(&run, &route, "00ff", 7, 9)
        };
        let sorted = [named(0, 9), named(0, 10), named(2, 0), named(10, 0)];
        assert!(sorted.is_sorted(), "{sorted:?}");
        assert!(
            sorted[0].starts_with("f/0000-") && sorted[0].ends_with("-00000009-00ff-7-9.ndjson.gz")
        );
    }
}
