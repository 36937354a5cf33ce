//! The command line.

use std::net::SocketAddr;

use clap::{Parser, Subcommand};
use katonic_logging_core::names;

/// Manages logging as custom resources.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes the cluster match its logging policies, until it is told to stop.
    Controller(ControllerArgs),
    /// Prints the custom resource definitions as YAML.
    Crds,
}

/// How the controller runs.
#[derive(Clone, Debug, clap::Args)]
pub struct ControllerArgs {
    /// Namespace of the operator: its installation and the sinks' Secrets are there.
    #[arg(long, env = "POD_NAMESPACE", default_value = names::OPERATOR_NAMESPACE)]
    pub namespace: String,
    /// Name of this instance in the lease; each instance needs its own.
    #[arg(long, env = "POD_NAME", default_value = "katonic-logging")]
    pub identity: String,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub health_address: SocketAddr,
}
