//! The log agent's process.

use std::{error::Error, process::ExitCode};

use katonic_log_agent::{
    agent::Agent,
    panic,
    settings::Settings,
    tell::{Level, tell},
};
use nix::{sys::prctl::set_dumpable, unistd::geteuid};
use serde_json::json;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    task::LocalSet,
};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(
                Level::Error,
                "failed to start",
                json!({"reason": error.to_string()}),
            );
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    // In a pod it is root, and so may be others that share its process namespace: none of them reads credentials from its memory,
    // or its files through /proc/<pid>/root (prctl(2), PR_SET_DUMPABLE). Elsewhere whoever has started it may look at it.
    if geteuid().is_root() {
        set_dumpable(false)?;
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // Before anything else: the first process of a container never sees a signal that comes while it has no handler for
    // it (pid_namespaces(7)), and would be killed at the end of the grace period.
    let terminate = {
        let _context = runtime.enter();
        signal(SignalKind::terminate())?
    };
    let Some(settings) = Settings::read(std::env::args_os().skip(1))? else {
        print!("{}", Settings::help());
        return Ok(());
    };
    panic::tell_of_any(settings.termination_log.clone());
    LocalSet::new().block_on(&runtime, async {
        tell(
            Level::Info,
            "started",
            json!({"version": env!("CARGO_PKG_VERSION"), "pod": settings.pod.name, "namespace": settings.pod.namespace}),
        );
        Agent::new(settings).run(terminate).await;
    });
    // A name that nobody resolves, or a disk that does not answer, must not hold up the end of the pod.
    runtime.shutdown_background();
    Ok(())
}
