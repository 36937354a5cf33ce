//! `katonic-logging`: the operator's command line.

use std::{io::Write, process::ExitCode};

use anyhow::Context as _;
use clap::FromArgMatches as _;
use katonic_logging_crds::manifest;
use katonic_logging_operator::{
    args::{self, Args, Command},
    audit, controller, doctor, inject, lint, logs, manual, render, status, telemetry, webhook,
};

fn main() -> anyhow::Result<ExitCode> {
    let program = std::env::args_os().next();
    let matches = args::command(program.as_deref()).get_matches();
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match args.command {
        Command::Controller(args) => serve(controller::run(*args)),
        Command::Webhook(args) => serve(webhook::run(args)),
        Command::Status(args) => ask(status::run(args)),
        Command::Doctor(args) => ask(doctor::run(args)),
        Command::Logs(args) => read(logs::run(*args)),
        Command::Audit(args) => read(audit::run(*args)),
        Command::Inject(args) => inject::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Lint(args) => Ok(lint::run(&args)),
        Command::Render(args) => Ok(render::run(&args)),
        Command::Explain(args) => Ok(manual::explain_field(&args)?),
        Command::Completion(args) => Ok(manual::completion(&args)?),
        Command::Man(args) => Ok(manual::man(&args)?),
        Command::Crds => {
            let mut stdout = std::io::stdout().lock();
            for (_, yaml) in manifest::files()? {
                writeln!(stdout, "---\n{yaml}")?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs what reads an archive.
fn read(reading: impl Future<Output = ExitCode>) -> anyhow::Result<ExitCode> {
    choose_crypto()?;
    // Objects are fetched while others are unpacked.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let code = runtime.block_on(reading);
    // A stream that nobody reads any more must not hold up the end.
    runtime.shutdown_background();
    Ok(code)
}

/// Asks a cluster for something, and shows it.
fn ask(question: impl Future<Output = ExitCode>) -> anyhow::Result<ExitCode> {
    choose_crypto()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    Ok(runtime.block_on(question))
}

/// Runs what runs until it is told to stop.
fn serve(process: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    telemetry::init();
    choose_crypto()?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the runtime")?
        .block_on(process)?;
    Ok(ExitCode::SUCCESS)
}

/// One crypto provider for all of TLS, chosen here because the libraries refuse to guess.
fn choose_crypto() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("failed to choose the crypto provider"))
}
