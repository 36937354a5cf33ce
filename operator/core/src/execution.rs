//! Reading an execution's log back: which objects belong to which run of a container, where the archive and a running pod
//! join, and what proves that no line is missing. Reads and writes nothing.

pub mod catalogue;
pub mod container;
pub mod kind;
pub mod line;
pub mod location;
pub mod proof;
pub mod restarts;
pub mod seam;
pub mod subject;
pub mod succession;
pub mod summary;
pub mod terminal;
pub mod versions;

pub use catalogue::{Catalogue, Run};
pub use container::{Container, Opened};
pub use kind::Kind;
pub use location::Location;
pub use proof::{Damage, Proof, Standing};
pub use restarts::Which;
pub use seam::{Seam, Tail};
pub use subject::Subject;
pub use succession::Succession;
pub use summary::{Summary, Verdict};
pub use versions::{Judged, Page, Version, Versions};
