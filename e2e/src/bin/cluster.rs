//! A cluster to try things on by hand: starts one, says how to use it, and ends it on Ctrl-C.

use std::env;

use anyhow::{Context as _, Result, bail};
use katonic_logging_e2e::cluster::{Cluster, Tier};
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let tier = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["api-server"] => Tier::ApiServer,
        ["controllers"] => Tier::Controllers,
        [] | ["node"] => Tier::Node,
        _ => bail!("usage: cluster [api-server | controllers | node]"),
    };
    let mut interrupted = signal(SignalKind::interrupt()).context("failed to watch for Ctrl-C")?;
    let mut terminated = signal(SignalKind::terminate()).context("failed to watch for SIGTERM")?;
    let cluster = Cluster::start(tier).await?;
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    eprintln!("Ctrl-C ends the cluster.");
    select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    Ok(())
}
