//! A stand-in for the platform's event tracker: honours its ConfigMap and writes audit events, as `docs/audit-events.md` has both.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    thread,
};

use jiff::Timestamp;

use crate::lines::Options;

/// What happens, in turn: the event, what it is done to, and what else is known of it.
const ACTIONS: [(&str, &str); 10] = [
    ("ModelCreated", "{}"),
    ("ModelVersionPublished", r#"{"version":2}"#),
    ("ModelVersionStopped", r#"{"version":1}"#),
    ("ModelVersionStarted", r#"{"version":2}"#),
    (
        "ModelCollaboratorAdded",
        r#"{"collaborator":"grace","role":"Reader"}"#,
    ),
    (
        "ModelCollaboratorChanged",
        r#"{"collaborator":"grace","from":"Reader","to":"Owner"}"#,
    ),
    ("ModelCollaboratorRemoved", r#"{"collaborator":"grace"}"#),
    (
        "ModelSettingsChanged",
        r#"{"setting":"visibility","from":"Private","to":"\u00d6ffentlich"}"#,
    ),
    ("ModelArchived", "{}"),
    ("DatasetDeleted", "{}"),
];

/// Lets one action after the other happen; never returns by itself. What is enabled is read anew for each, as a tracker does that
/// follows its configuration without being restarted.
pub fn track(folder: &Path, options: &Options) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for (number, (event, details)) in (1_u64..).zip(ACTIONS.into_iter().cycle()) {
        writeln!(stdout, "action {number:06}")?;
        if is_enabled(folder, event) {
            let time = Timestamp::now();
            writeln!(
                stdout,
                r#"{{"audit":1,"event":"{event}","time":"{time}","id":"event-{number:06}","actor":"ada","target":"model-{number}","project":"forecast","details":{details}}}"#
            )?;
        }
        stdout.flush()?;
        thread::sleep(options.pause());
    }
    Ok(())
}

/// Without a configuration nothing is.
fn is_enabled(folder: &Path, event: &str) -> bool {
    let read = |key: &str| fs::read_to_string(folder.join(key)).unwrap_or_default();
    read("audit.enabled").trim() == "true"
        && read("audit.events")
            .split(',')
            .any(|name| name.trim() == event)
}
