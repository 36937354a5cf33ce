//! `katonic-logging audit`: reads audit events back from their record, lists them, and proves that none is missing. What that needs
//! is decided by the core.

mod args;
mod list;
mod place;
mod read;
mod verify;

use std::process::ExitCode;

use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::trail::Verdict;

pub use args::{ABOUT, AuditArgs, AuditCommand};

use crate::logs::{
    Failure,
    show::{self, say},
};

/// Does what was asked for. The exit codes are told in the help of the commands.
pub async fn run(args: AuditArgs) -> ExitCode {
    let now = Timestamp::now();
    let done = match &args.command {
        AuditCommand::Verify(args) => verify::verify(args, now).await,
        AuditCommand::List(args) => list::list(args, now).await,
    };
    match done {
        Ok(verdict) => ExitCode::from(verdict.exit_code()),
        // Whoever reads has seen enough, and has not seen the end.
        Err(Failure::Output(show::Error::Closed)) => ExitCode::from(Verdict::Damaged.exit_code()),
        Err(failure) => {
            say(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}
