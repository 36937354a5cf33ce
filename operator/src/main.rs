//! `katonic-logging`: the operator's command line.

use std::io::Write;

use anyhow::Context as _;
use clap::Parser;
use katonic_logging_crds::manifest;
use katonic_logging_operator::{
    args::{Args, Command},
    controller, telemetry,
};

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Controller(args) => {
            telemetry::init();
            // One crypto provider for all of TLS, chosen here because the libraries refuse to guess.
            rustls::crypto::ring::default_provider()
                .install_default()
                .map_err(|_| anyhow::anyhow!("failed to choose the crypto provider"))?;
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .context("failed to start the runtime")?
                .block_on(controller::run(args))
        }
        Command::Crds => {
            let mut stdout = std::io::stdout().lock();
            for (_, yaml) in manifest::files()? {
                writeln!(stdout, "---\n{yaml}")?;
            }
            Ok(())
        }
    }
}
