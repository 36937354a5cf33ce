//! Stack traces of the Java virtual machine, with causes and suppressed ones; those of .NET look the same.

use super::rule::{
    State::{Announced, Frames, Named, Outside},
    Ways,
};

const FRAME: &str = r"^\s+(?:eval )?at [^\s(][^(]*\(";
const CAUSE: &str = r"^\s*(?:Caused by|Suppressed|Wrapped by): ";
const INSIDE: &[super::rule::State] = &[Named, Frames];

/// Where the states lead.
pub(super) const WAYS: &Ways = &[
    (INSIDE, FRAME, Frames),
    (
        INSIDE,
        r"^\s*\.\.\. \d+ (?:more|common frames omitted)",
        Frames,
    ),
    (INSIDE, CAUSE, Named),
    (INSIDE, r"^\s*\[CIRCULAR REFERENCE: ?", Frames),
    (
        INSIDE,
        r"^\s+\(Coroutine (?:boundary|creation stacktrace)\)",
        Frames,
    ),
    (INSIDE, r"^\s*--- End of ", Frames),
    (INSIDE, r"^ ---> ", Named),
    (&[Named], r"^\s*nested exception is:\s*$", Announced),
    (&[Named], r"^\s*nested exception is: ", Named),
    (&[Announced], r"\S", Named),
    // A message may end in an empty line; after frames it belongs to nothing.
    (&[Named], r"^\s*$", Named),
    (
        &[Outside],
        r"\w(?:Exception|Error|Throwable)(?::|\s*$)",
        Named,
    ),
    (&[Outside], r#"^Exception in thread ""#, Named),
    // By its qualified name, whatever that is.
    (&[Outside], r"^(?:[a-z_]\w*\.)+[A-Z][\w$]*(?::|\s*$)", Named),
    (&[Outside], CAUSE, Named),
    // After a message of several lines: then at least the frames are one record.
    (&[Outside], FRAME, Frames),
];
