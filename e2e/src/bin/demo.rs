//! `make demo`: shows the whole product and counts what arrives. `demo stop` ends what `KEEP=1` left up.

use std::{env, process::ExitCode};

use anyhow::Result;
use katonic_logging_e2e::{cluster::stop_kept, demo};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => show(),
        ["stop"] => stop_kept().map(|()| ExitCode::SUCCESS),
        _ => {
            eprintln!("usage: demo [stop]; the environment variable KEEP=1 leaves the cluster up");
            return ExitCode::FAILURE;
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("demo: {error:#}");
        ExitCode::FAILURE
    })
}

#[tokio::main]
async fn show() -> Result<ExitCode> {
    let keep = env::var("KEEP").is_ok_and(|keep| !keep.is_empty() && keep != "0");
    let outcome = demo::run(keep).await?;
    println!("{outcome}");
    Ok(if outcome.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
