//! The supervisor of a test cluster: the parent of all its components. Started by the harness, never by hand, except
//! `cluster-supervisor stop`, which ends the clusters that were kept.

use std::{env, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use katonic_logging_e2e::cluster::{
    run::Run,
    stop_kept,
    supervisor::{
        isolation::{inner, outer},
        serve::{become_component, serve},
    },
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match supervise(
        &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
        &arguments,
    ) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster-supervisor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn supervise(words: &[&str], arguments: &[String]) -> Result<()> {
    match *words {
        ["plain", directory] => {
            let run = Run::join(Path::new(directory))?;
            let served = serve(run.directory(), None);
            run.clean()?;
            served
        }
        ["isolated", directory] => {
            let run = Run::join(Path::new(directory))?;
            let served = outer(run.directory());
            run.clean()?;
            served
        }
        ["inner", directory, forward] => {
            let run = Run::join(Path::new(directory))?;
            inner(
                run.directory(),
                forward
                    .parse()
                    .context("failed to read the port of the forward")?,
            )
        }
        ["become", parent, program, ..] => become_component(parent, program, &arguments[3..]),
        ["stop"] => stop_kept(),
        _ => bail!(
            "this program is started by the test harness; by hand only `cluster-supervisor stop`"
        ),
    }
}
