//! Tracebacks of Python, with those that they are chained to, and groups of exceptions.

use super::rule::{
    State::{Chained, Frames, Gap, Message, Outside, Tree},
    Ways,
};

const TRACEBACK: &str = r"Traceback \(most recent call last\):\s*$";
const GROUP: &str = r"^\s*\+ Exception Group Traceback \(most recent call last\):\s*$";

/// Where the states lead.
pub(super) const WAYS: &Ways = &[
    (&[Frames], r"^[\t ]+\S", Frames),
    (
        &[Frames],
        r"^[A-Za-z_\x80-\xff][\w.<>\x80-\xff]*(?::|\s*$)",
        Message,
    ),
    (&[Message], r"^[\t ]+\S", Message),
    (&[Message, Tree], r"^\s*$", Gap),
    (
        &[Gap],
        r"^(?:During handling of the above exception, another exception occurred|The above exception was the direct cause of the following exception):\s*$",
        Chained,
    ),
    (&[Chained], r"^\s*$", Chained),
    (&[Chained, Outside], GROUP, Tree),
    (&[Chained, Outside], TRACEBACK, Frames),
    (&[Tree], r"^\s+[|+]", Tree),
    // The interpreter's own end says before the frames what went wrong.
    (
        &[Outside],
        r"^(?:Current thread|Thread) 0x[0-9a-f]+ .*\(most recent call first\):\s*$",
        Message,
    ),
    (&[Outside], r#"^  File "[^"]+", line \d+"#, Frames),
];
