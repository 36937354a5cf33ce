//! Names of objects. They say which bytes of which log are in them, so what is missing is seen in a listing.

use std::fmt::{self, Write as _};

use crate::bundle::hex_digest;

/// Ends the name of an object with records: gzip of one JSON object a line.
const OBJECT: &str = ".ndjson.gz";

/// Ends the name of a completeness record.
const RECORD: &str = "-complete.json";

/// What the folders of a layout stand below.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Top {
    /// `executions/<execution id>`.
    Execution(String),
    /// `unidentified/<namespace>`: pods of executions whose id nobody knows.
    Unidentified(String),
    /// `application/<namespace>`.
    Application(String),
    /// `audit/<namespace>`.
    Audit(String),
}

/// Where the objects of a container stand, below the sink's prefix.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Folder {
    /// The execution or the namespace.
    pub top: Top,
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod: one that comes back may have the same name.
    pub pod_uid: String,
    /// Name of the container.
    pub container: String,
}

/// What all names of a run begin with, for one sink of one policy: sorted by name they are in the order of the log.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RunName {
    /// A [`Folder`] as it is written; ends in `/`.
    pub folder: String,
    /// How often the container had been restarted.
    pub restart: u32,
    /// A sink of a policy, in eight hexadecimal digits.
    pub route: String,
}

/// Which bytes of a log are in an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Range {
    /// Number of the object within the run.
    pub number: u64,
    /// The log file, as the ids of its records begin.
    pub file: String,
    /// First byte of the log file.
    pub first: u64,
    /// First byte that is not in it.
    pub next: u64,
}

/// How much of a route's digest sets it apart from others that archive the same container.
const ROUTE: usize = 8;

/// A sink of a policy as keys have it.
pub fn route(policy_uid: &str, sink: &str) -> String {
    let digest = hex_digest(format!("{policy_uid}/{sink}").as_bytes());
    digest.get(..ROUTE).unwrap_or_default().to_owned()
}

/// What the name of an object says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Name {
    /// An object with records.
    Object(RunName, Range),
    /// The completeness record of a run.
    Record(RunName),
}

impl fmt::Display for Top {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (top, name) = match self {
            Self::Execution(id) => ("executions", id),
            Self::Unidentified(namespace) => ("unidentified", namespace),
            Self::Application(namespace) => ("application", namespace),
            Self::Audit(namespace) => ("audit", namespace),
        };
        write!(formatter, "{top}/{}", escaped(name))
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            top,
            pod,
            pod_uid,
            container,
        } = self;
        let (pod, pod_uid, container) = (escaped(pod), escaped(pod_uid), escaped(container));
        write!(formatter, "{top}/{pod}_{pod_uid}/{container}/")
    }
}

impl Folder {
    /// Reads a folder as it is written; none where no agent would write it so.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_suffix('/')?.split('/');
        let mut part = || parts.next();
        let (top, name, pod, container) = (part()?, part()?, part()?, part()?);
        let name = unescaped(name)?;
        // A UID has no `_`.
        let (pod, pod_uid) = pod.rsplit_once('_')?;
        let folder = Self {
            top: match top {
                "executions" => Top::Execution(name),
                "unidentified" => Top::Unidentified(name),
                "application" => Top::Application(name),
                "audit" => Top::Audit(name),
                _ => return None,
            },
            pod: unescaped(pod)?,
            pod_uid: unescaped(pod_uid)?,
            container: unescaped(container)?,
        };
        (folder.to_string() == text).then_some(folder)
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            folder,
            restart,
            route,
        } = self;
        write!(formatter, "{folder}{restart:04}-{route}")
    }
}

impl RunName {
    /// The name of an object of the run.
    pub fn object(&self, range: &Range) -> String {
        let Range {
            number,
            file,
            first,
            next,
        } = range;
        format!("{self}-{number:08}-{file}-{first}-{next}{OBJECT}")
    }

    /// The name of the run's completeness record.
    pub fn record(&self) -> String {
        format!("{self}{RECORD}")
    }
}

impl Name {
    /// Reads a name below the sink's prefix; none where no agent would write it so.
    pub fn parse(text: &str) -> Option<Self> {
        let name = if let Some(start) = text.strip_suffix(RECORD) {
            Self::Record(run(start)?)
        } else {
            let mut parts = text.strip_suffix(OBJECT)?.rsplitn(5, '-');
            let mut part = || parts.next();
            let (next, first, file, number) = (part()?, part()?, part()?, part()?);
            let range = Range {
                number: number.parse().ok()?,
                file: Some(file).filter(|file| is_plain(file))?.to_owned(),
                first: first.parse().ok()?,
                next: next.parse().ok()?,
            };
            Self::Object(run(part()?)?, range)
        };
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(run, range) => formatter.write_str(&run.object(range)),
            Self::Record(run) => formatter.write_str(&run.record()),
        }
    }
}

/// Whether a text has letters and digits alone, so that it is nothing else to whoever shows it.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn run(start: &str) -> Option<RunName> {
    let (folder, name) = start.rsplit_once('/')?;
    let (restart, route) = name.split_once('-')?;
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if route.len() != ROUTE || !route.bytes().all(is_digit) {
        return None;
    }
    Some(RunName {
        folder: format!("{folder}/"),
        restart: restart.parse().ok()?,
        route: route.to_owned(),
    })
}

/// Text as one part of a key: what is neither letter, digit, `-`, `_` nor `.` becomes `!` and two hexadecimal digits of
/// each byte, which no store and no file system takes for anything else.
pub fn escaped(text: &str) -> String {
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

/// The text that is written so.
fn unescaped(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'!' {
            let (digits, after) = after.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folder(top: Top) -> Folder {
        Folder {
            top,
            pod: "run-1".into(),
            pod_uid: "u-1".into(),
            container: "run".into(),
        }
    }

    #[test]
    fn an_execution_is_found_by_its_id_whatever_the_id_is_made_of() {
        for (id, written) in [
            ("63d1", "63d1"),
            ("a/b ü%", "a!2Fb!20!C3!BC!25"),
            ("..", "!2E!2E"),
            (".", "!2E"),
            ("", ""),
        ] {
            let folder = folder(Top::Execution(id.into()));
            assert_eq!(
                folder.to_string(),
                format!("executions/{written}/run-1_u-1/run/")
            );
            assert_eq!(Folder::parse(&folder.to_string()), Some(folder));
        }
    }

    #[test]
    fn names_sort_as_the_log_goes() {
        let named = |restart, number| {
            let run = RunName {
                folder: folder(Top::Application("compute".into())).to_string(),
                restart,
                route: "5c3e9a01".into(),
            };
            let file = "00ff".into();
            run.object(&Range {
                number,
                file,
                first: 7,
                next: 9,
            })
        };
        let sorted = [named(0, 9), named(0, 10), named(2, 0), named(10, 0)];
        assert!(sorted.is_sorted(), "{sorted:?}");
        let name = "application/compute/run-1_u-1/run/0000-5c3e9a01-00000009-00ff-7-9.ndjson.gz";
        assert_eq!(sorted[0], name);
    }

    #[test]
    fn what_no_agent_would_write_is_no_name() {
        for text in [
            "",
            "0000-a-complete.json",
            "executions/1/p_u/c/0-aaaaaaaa-complete.json",
            "executions/1/p_u/c/0000-aaaaaaaa-1-f-0-1.ndjson.gz",
            "executions/1/p_u/c/0000-aaaaaaaa-00000001-f-00-1.ndjson.gz",
            "executions/1/p_u/c/0000-aaaaaaaa-00000001-f-0-1.ndjson",
            "executions/1/p_u/c/+000-aaaaaaaa-00000001-f-0-1.ndjson.gz",
            "executions/1/p_u/c/0000-a-complete.json",
            "executions/1/p_u/c/0000-aaaaaaag-complete.json",
            "executions/1/p_u/c/0000-AAAAAAAA-complete.json",
            "executions/1/p_u/c/0000-aaaa\u{1b}[8m-complete.json",
            "executions/1/p_u/c/0000-aaaaaaaa-bbbbbbbb-complete.json",
            "executions/1/p_u/c/0000-aaaaaaaa-00000001-f\u{1b}-0-1.ndjson.gz",
        ] {
            assert_eq!(
                Name::parse(text).map(|name| name.to_string()),
                None,
                "{text}"
            );
        }
        for text in [
            "executions/1/p/c/",
            "executions/a b/p_u/c/",
            "a/1/p_u/c/",
            "executions/1/p_u/c",
            "executions/!2/p_u/c/",
            "executions/1/p_u/c/d/",
        ] {
            assert_eq!(Folder::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_read_back(id in any::<String>(), pod in "[a-z0-9.-]{1,63}", container in "[a-z0-9-]{1,63}",
                                   restart in any::<u32>(), number in any::<u64>(), first in any::<u64>(), next in any::<u64>()) {
            let folder = Folder { top: Top::Execution(id), pod, pod_uid: "0f9c-1".into(), container };
            let run = RunName { folder: folder.to_string(), restart, route: "5c3e9a01".into() };
            prop_assert_eq!(Folder::parse(&run.folder), Some(folder));
            let range = Range { number, file: "8a6c1f22e0b94d17".into(), first, next };
            prop_assert_eq!(Name::parse(&run.object(&range)), Some(Name::Object(run.clone(), range)));
            prop_assert_eq!(Name::parse(&run.record()), Some(Name::Record(run)));
        }

        #[test]
        fn anything_else_is_refused_and_never_a_panic(text in "[-_!./0-9a-z]{0,60}") {
            if let Some(name) = Name::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
