//! Names of an archive's objects and the form of its completeness records: what the agent writes is what a reader reads.

mod name;
mod record;

pub use name::{Folder, Name, Range, RunName, Top, escaped, route};
pub use record::{Completeness, FORMAT, Spot, chain};
