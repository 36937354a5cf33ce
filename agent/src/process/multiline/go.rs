//! Panics and fatal errors of Go, with all goroutines that are printed.

use super::rule::{
    State::{Ended, Frames, Function, Gap, Named, Outside, Registers},
    Ways,
};

const GOROUTINE: &str = r"\bgoroutine \d+ [^\[]*\[[^\]]+\]:\s*$";

/// Where the states lead. `Frames` waits for a function, `Function` for its place.
pub(super) const WAYS: &Ways = &[
    (&[Named, Gap], GOROUTINE, Frames),
    (&[Named, Gap], r"^runtime stack:\s*$", Frames),
    (&[Named], r"^\[(?:signal|recovered|originating) ?", Named),
    // A second panic, or the next line of a value.
    (&[Named], r"^\t", Named),
    (&[Named], r"^(?:panic|fatal error|runtime): |^PC=0x", Named),
    (&[Named], r"^\s*$", Named),
    (
        &[Frames],
        r"^[\w/.%@~-]+\.\S.*\)\s*$|^panic\(.*\)\s*$|^created by \S|^\[originating from ",
        Function,
    ),
    (
        &[Frames],
        r"^\.\.\..*frames elided\.\.\.\s*$|^\s+goroutine running on other thread",
        Frames,
    ),
    (&[Function], r"^\s+\S.*:\d+(?:\s|$)", Frames),
    (&[Frames, Registers], r"^\s*$", Gap),
    (
        &[Gap, Registers],
        r"^[a-z][a-z0-9]+ +0x[0-9a-f]+\s*$",
        Registers,
    ),
    (
        &[Named, Frames, Gap, Registers],
        r"^exit status \d+\s*$",
        Ended,
    ),
    (
        &[Outside],
        r"\bpanic: |http: panic serving |^fatal error: |^runtime: goroutine stack exceeds |^SIG[A-Z]+: |^unexpected fault address ",
        Named,
    ),
    (&[Outside], GOROUTINE, Frames),
];
