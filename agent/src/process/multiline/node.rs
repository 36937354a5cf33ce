//! Errors of Node.js, with the causes, members and collected errors that it prints, and its own end.

use super::rule::{
    State::{Code, Ended, Frames, Gap, Mark, Members, Message, Named, Outside, Source},
    Ways,
};

const FRAME: &str =
    r"^\s+at (?:\S.*)?(?::\d+:\d+\)?|\(<anonymous>\)|\(native\)|<anonymous>|\(index \d+\)),?\s*$";
const FRAME_WITH_MEMBERS: &str =
    r"^\s+(?:at \S.*|\.\.\. \d+ lines matching cause stack trace \.\.\.) \{\s*$";
const CAUSE: &str = r"^\s*[Cc]aused by: ";

/// Where the states lead.
pub(super) const WAYS: &Ways = &[
    // An error that nobody has caught: place, source, mark, then whatever was thrown.
    (&[Source], r"\S", Code),
    (&[Code], r"^\s*\^+\s*$", Mark),
    (&[Mark], r"^\s*$", Mark),
    (&[Mark], r" \{\s*$", Members),
    (&[Mark], r"\S", Named),
    (&[Named, Frames], FRAME_WITH_MEMBERS, Members),
    (&[Named, Frames], FRAME, Frames),
    (
        &[Named, Frames],
        r"^\s+\.\.\. \d+ lines matching cause stack trace \.\.\.\s*$",
        Frames,
    ),
    (&[Named, Frames, Message], CAUSE, Named),
    (
        &[Named, Frames],
        r"^\s*(?:From previous event|Thrown at):\s*$",
        Frames,
    ),
    (&[Named], r"^\(Use `node --trace-", Message),
    (&[Members], r"^[\t ]+\S", Members),
    (&[Members], r"^[}\]]", Message),
    (&[Named, Frames, Message], r"^\s*$", Gap),
    (&[Gap], r"^Node\.js v\d", Ended),
    (
        &[Outside],
        r"^(?:file://)?(?:/|[A-Za-z]:[\\/]|node:)\S*:\d+\s*$",
        Source,
    ),
    (
        &[Outside],
        r"\[[\w$]*(?:Error|Exception)\b[^\]]*\] \{\s*$",
        Members,
    ),
    (
        &[Outside],
        r"(?:Error|Exception)(?: \[\w+\])?(?::|\]|\s*$)",
        Named,
    ),
    (&[Outside], r"^\(node:\d+\) ", Named),
    // By its name, whatever that is.
    (
        &[Outside],
        r"^(?:Uncaught )?[A-Z][A-Z$_]*[a-z][\w$]*: ",
        Named,
    ),
    (&[Outside], CAUSE, Named),
    (&[Outside], FRAME_WITH_MEMBERS, Members),
    (&[Outside], FRAME, Frames),
];
