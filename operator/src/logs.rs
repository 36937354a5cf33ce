//! `katonic-logging logs`: reads the log of an execution from its archive and from its pods, shows it, and says whether it is
//! complete. What joins, and what is missing, is decided by the core.

mod archived;
mod args;
mod follow;
mod merge;
mod place;
mod reader;
mod running;
mod show;
mod source;
mod store;

use std::{process::ExitCode, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::execution::{Standing, Summary, Verdict, location::Unlocated};

use crate::access;
use args::Place;
pub use args::{ABOUT, HELP, LogsArgs};
use reader::{Planned, Reader};
use show::{Output, say};
use source::Source;

/// Why an execution's log cannot be shown.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Access(#[from] access::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Unlocated(#[from] Unlocated),
    #[error(transparent)]
    Output(#[from] show::Error),
    #[error("{0}")]
    Unreadable(String),
    #[error("--follow reads pods: remove it, or --from archive")]
    NothingToFollow,
    #[error(
        "no cluster is asked which namespace the compute plane is: write --unidentified <namespace>/<pod>"
    )]
    NoNamespace,
}

/// Shows what was asked for. The exit code is told in the help of the command.
pub async fn run(args: LogsArgs) -> ExitCode {
    match read(&args).await {
        Ok(verdict) => ExitCode::from(verdict.exit_code()),
        // What was not read is not proven.
        Err(Failure::Output(show::Error::Closed)) => ExitCode::from(Verdict::Open.exit_code()),
        Err(failure @ (Failure::NothingToFollow | Failure::NoNamespace)) => {
            say(&failure.to_string());
            ExitCode::from(2)
        }
        Err(failure) => {
            say(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn read(args: &LogsArgs) -> Result<Verdict, Failure> {
    if args.follow && args.from == Place::Archive {
        return Err(Failure::NothingToFollow);
    }
    let reader = Arc::new(place::reader(args, Timestamp::now()).await?);
    // Pods first: one that ends meanwhile has its record in the archive by then.
    let containers = reader.containers().await?;
    let sources = reader.sources(&containers).await?;
    let bytes = sources.iter().map(|planned| planned.size).sum();
    let mut output = Output::new(bytes, args.output);
    let mut finished = merge::merge(&reader, sources, &mut output).await?;
    output.flush()?;
    if args.follow {
        finished = follow::follow(&reader, finished, &mut output).await?;
        output.flush()?;
    }
    output.done();
    let mut summary = Summary::default();
    for source in finished {
        summarize(source, &mut summary);
    }
    summary.close();
    for damage in summary.damages() {
        say(&damage.to_string());
    }
    let verdict = summary.verdict();
    match verdict {
        Verdict::Nothing => say(&reader.nothing()),
        _ => say(&summary.to_string()),
    }
    Ok(verdict)
}

fn summarize(source: Source, summary: &mut Summary) {
    let which = source.which.clone();
    let (archived, live) = source.into_parts();
    summary.live(live);
    match archived {
        Some(archived) => {
            summary.unread(archived.passed());
            let (lines, (standing, damages)) = archived.finish_proof();
            let standing = match standing {
                // The container has printed more since.
                Standing::Whole { .. } if live > 0 => Standing::Open,
                standing => standing,
            };
            summary.run(&which, lines, (standing, damages));
        }
        None => summary.unarchived(&which),
    }
}
