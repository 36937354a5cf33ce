//! How many files the process may open: as many as the container's runtime allows it to allow itself.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::files::Descriptors;

/// POSIX lets every process have as many (`_POSIX_OPEN_MAX` is less).
const FEWEST: u64 = 256;

/// Raises the soft limit to the hard one; gives what log files may have of it.
pub(super) fn limit() -> Descriptors {
    let limit = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() => hard,
        Ok((soft, _)) => soft,
        Err(_) => FEWEST,
    };
    Descriptors::new(limit)
}
