//! What is told of log files that could not be read as they should. Reads none.

use std::io;

use serde_json::{Value, json};

use crate::{
    cursor::FileKey,
    tell::{Level, tell},
};

/// Of so many starts without files an archive keeps a record; of more nobody looks at each.
const MOST_NOTED: u32 = 100;

/// Something that is wrong with a log file.
#[derive(Debug)]
pub struct Trouble {
    file: FileKey,
    kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// It is tried again.
    Unreadable(io::Error),
    /// Compressed, and cannot be read to its end.
    Damaged,
    /// It was deleted or truncated before this many bytes of it, or more, were read.
    Gone(u64),
    /// It was deleted while no agent was running, and could have been added to.
    Unseen,
    /// It, and those of the starts up to this one, came and went while no agent was running.
    Missed(u32),
}

impl Trouble {
    pub(super) fn new(file: &FileKey, kind: Kind) -> Self {
        Self {
            file: file.clone(),
            kind,
        }
    }

    /// The file.
    pub(super) fn file(&self) -> &FileKey {
        &self.file
    }

    /// A file of each start that it is about, at most so many that they can be written down.
    pub(super) fn files(&self) -> Vec<FileKey> {
        let through = match self.kind {
            Kind::Missed(through) => through.min(self.file.restart.saturating_add(MOST_NOTED)),
            _ => self.file.restart,
        };
        let file = |restart| FileKey {
            restart,
            ..self.file.clone()
        };
        (self.file.restart..=through).map(file).collect()
    }

    /// Tells it; `route` says whose trouble it is.
    pub fn tell(&self, mut route: Value) {
        route["container"] = (*self.file.container).into();
        route["restart"] = self.file.restart.into();
        let message = match &self.kind {
            Kind::Unreadable(error) => {
                route["reason"] = error.to_string().into();
                "failed to read a log file"
            }
            Kind::Damaged => {
                "a compressed log file is damaged; what could not be read of it is lost"
            }
            Kind::Gone(bytes) => {
                route["bytes"] = json!(bytes);
                "a log file was gone before it was read to its end; the rest is lost"
            }
            Kind::Unseen => {
                "a log file was deleted while no agent was running; what was written to it meanwhile is lost"
            }
            Kind::Missed(through) => {
                route["through_restart"] = json!(through);
                "a container was started and ended while no agent was running, and its log is gone; what was in it is lost"
            }
        };
        tell(Level::Error, message, route);
    }
}
