//! Reading audit events back from their record: what proves that none is missing, was changed, was added or stands elsewhere, and
//! what another copy has of them. Reads and writes nothing.
//!
//! ```text
//!  object ─ line ─▶ Entry ──▶ Stream ──▶ Findings ──▶ Summary { verdict, exit code }
//!     │               └─────▶ Index  ◀── Told ◀── line of a syslog file or an export
//!     └─ run and its record ─▶ Ends ────▶ Open ──────▶ Summary
//! ```

mod comparison;
mod ends;
mod entry;
mod finding;
mod place;
mod query;
mod stream;
mod summary;

pub use comparison::{Compared, Few, Index, Told};
pub use ends::{Ends, Open};
pub use entry::{Entry, Event};
pub use finding::{Finding, Findings, Spot};
pub use place::{Named, Place, Unplaced, place};
pub use query::{Query, Window, as_json, heading, listed};
pub use stream::Stream;
pub use summary::{Summary, Verdict};
