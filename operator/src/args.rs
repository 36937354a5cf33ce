//! The command line.

use std::{
    ffi::OsStr,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use katonic_logging_core::{external::External, names, webhook::configuration::Reach};

use crate::{
    access::ClusterArgs,
    audit::{self, AuditArgs},
    doctor,
    inject::{self, InjectArgs},
    lint::{self, LintArgs},
    logs::{self, LogsArgs},
    manual::{self, CompletionArgs, ExplainArgs, ManArgs},
    render::{self, RenderArgs},
};

/// What kubectl calls a plugin `kubectl katonic-logging` (Kubernetes, "Extend kubectl with plugins": `-` in its name is `_` in its file).
const PLUGIN: &str = "kubectl-katonic_logging";

/// The command line, under the name by which `program` was called.
pub fn command(program: Option<&OsStr>) -> clap::Command {
    let file = program.map(Path::new).and_then(Path::file_stem);
    let command = Args::command();
    if file == Some(OsStr::new(PLUGIN)) {
        command.bin_name("kubectl katonic-logging")
    } else {
        command
    }
}

/// Manages logging as custom resources.
#[derive(Debug, Parser)]
#[command(name = "katonic-logging", version, about)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes the cluster match its logging policies, until it is told to stop.
    Controller(Box<ControllerArgs>),
    /// Shows the policies, their sinks and their pods.
    #[command(after_help = STATUS_HELP)]
    Status(StatusArgs),
    /// Looks through the installation as a support engineer would, and says of each thing whether it is well, and what to do.
    #[command(long_about = doctor::ABOUT, after_help = doctor::HELP)]
    Doctor(DoctorArgs),
    /// Shows the log of an execution, from the archive and from its running pods, and whether it is complete.
    #[command(long_about = logs::ABOUT, after_help = logs::HELP)]
    Logs(Box<LogsArgs>),
    /// Reads audit events back from their record: lists them, and proves that none is missing.
    #[command(long_about = audit::ABOUT)]
    Audit(Box<AuditArgs>),
    /// Answers API servers that ask about pods, until it is told to stop; for Kubernetes below 1.36.
    Webhook(WebhookArgs),
    /// Says what is wrong with policies in files, without a cluster.
    #[command(long_about = lint::ABOUT, after_help = lint::HELP)]
    Lint(LintArgs),
    /// Prints what the operator would write for policies in files.
    #[command(long_about = render::ABOUT, after_help = render::HELP)]
    Render(RenderArgs),
    /// Says what a kind or a field of a policy means, as `kubectl explain` does, without a cluster.
    #[command(after_help = manual::EXPLAIN_HELP)]
    Explain(ExplainArgs),
    /// Prints the custom resource definitions as YAML.
    Crds,
    /// Prints what a shell completes the commands with.
    #[command(after_help = manual::COMPLETION_HELP)]
    Completion(CompletionArgs),
    /// Writes a manual page for each command into a folder.
    #[command(hide = true)]
    Man(ManArgs),
    /// Adds the log agent to manifests, as the API server would add it to their pods.
    #[command(long_about = inject::ABOUT)]
    Inject(InjectArgs),
}

const STATUS_HELP: &str = "\
Exit codes:
  0  every policy that is shown is Ready
  1  a policy is not Ready
  2  the command line is wrong
  3  the cluster could not be asked, or has no such policy

With --watch it runs until it is interrupted, or until nobody reads any more.
Colours appear on a terminal only, and not where NO_COLOR is set.";

/// What is shown, and of which cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct StatusArgs {
    /// Policies to show; all, if none is named.
    pub policies: Vec<String>,
    /// List the selected pods that lack the log agent or have an older one, each with what mends it.
    #[arg(long)]
    pub pods: bool,
    /// Show it again whenever something changes: on a terminal the whole of it, else one line for each change.
    #[arg(short, long, conflicts_with = "pods")]
    pub watch: bool,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    #[expect(missing_docs, reason = "its flags stand here, not itself")]
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Which installation is looked through.
#[derive(Clone, Debug, clap::Args)]
pub struct DoctorArgs {
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    #[expect(missing_docs, reason = "its flags stand here, not itself")]
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// The form of an output.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Output {
    /// Lines for people.
    Text,
    /// For programs.
    Json,
    /// For programs, and easier to read.
    Yaml,
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
    /// Seconds between two looks at the lifecycle rules of a bucket, to put right what others have changed.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub retention_interval: u64,
    /// Address of a webhook that runs outside of the cluster, for example <https://webhook.example.com:8443>; without it, API
    /// servers reach the webhook by its Service.
    #[arg(long, value_parser = Reach::url)]
    pub webhook_url: Option<Reach>,
    /// Address where agents report while this instance leads, over TLS; of an IPv6 cluster `[::]:8444`.
    #[arg(long, default_value = "0.0.0.0:8444")]
    pub report_address: SocketAddr,
    /// Where agents report to an operator that runs outside of the cluster, for example <https://logging.example.com:8444>; without it,
    /// they do so by its Service.
    #[arg(long, value_parser = External::parse)]
    pub report_url: Option<External>,
    /// Address of this instance's pod, to which the Service for reports leads while it leads; with neither this nor `--report-url`
    /// agents do not report.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: Option<IpAddr>,
}

/// How the webhook runs.
#[derive(Clone, Debug, clap::Args)]
pub struct WebhookArgs {
    /// Address that API servers reach by the Service, over TLS.
    #[arg(long, default_value = "0.0.0.0:8443")]
    pub address: SocketAddr,
    /// Folder with the certificate `tls.crt` and its key `tls.key`; changes are taken up for new connections.
    #[arg(long, default_value = "/etc/katonic-logging/tls")]
    pub certificates: PathBuf,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub health_address: SocketAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_program_answers_under_the_name_of_a_plugin() {
        let usage = |program: &str| {
            let mut command = command(Some(OsStr::new(program)));
            let error = command
                .try_get_matches_from_mut([program, "lint"])
                .unwrap_err();
            error.to_string()
        };
        let plugin = usage("/root/.krew/bin/kubectl-katonic_logging");
        assert!(
            plugin.contains("Usage: kubectl katonic-logging lint"),
            "{plugin}"
        );
        let program = usage("/usr/local/bin/katonic-logging");
        assert!(program.contains("Usage: katonic-logging lint"), "{program}");
    }
}
