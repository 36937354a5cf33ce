//! What the command line says of itself: completions of shells, manual pages, and what a field of a policy means. Asks no cluster.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use katonic_logging_core::explain::explain;

use crate::args::Args;

/// How completions are set up.
pub const COMPLETION_HELP: &str = "\
Examples:
  katonic-logging completion bash > /etc/bash_completion.d/katonic-logging
  katonic-logging completion zsh > \"${fpath[1]}/_katonic-logging\"
  katonic-logging completion fish > ~/.config/fish/completions/katonic-logging.fish";

/// How a field is named.
pub const EXPLAIN_HELP: &str = "\
Exit codes: 0 when it is explained, 1 when there is no such kind or field, 2 when the command line is wrong.

Examples:
  katonic-logging explain lp.spec.sinks.splunk
  katonic-logging explain auditpolicy --recursive";

/// Whose completion.
#[derive(Clone, Debug, clap::Args)]
pub struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Completed,
}

/// A shell.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Completed {
    /// GNU Bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// fish.
    Fish,
}

/// Where manual pages go.
#[derive(Clone, Debug, clap::Args)]
pub struct ManArgs {
    /// Folder; it is made if it is not there.
    pub folder: PathBuf,
}

/// What is explained.
#[derive(Clone, Debug, clap::Args)]
pub struct ExplainArgs {
    /// A kind, or a field of one, with dots between: lp.spec.retention.
    #[arg(value_name = "KIND.FIELD")]
    pub path: String,
    /// List everything below it, without descriptions.
    #[arg(long)]
    pub recursive: bool,
}

/// Prints what a shell completes the commands with.
///
/// # Errors
/// When stdout cannot be written to.
pub fn completion(args: &CompletionArgs) -> io::Result<ExitCode> {
    let shell = match args.shell {
        Completed::Bash => Shell::Bash,
        Completed::Zsh => Shell::Zsh,
        Completed::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut Args::command(), "katonic-logging", &mut script);
    print(&script)
}

/// Whoever has read enough closes the pipe.
fn print(text: &[u8]) -> io::Result<ExitCode> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Writes a manual page for each command.
///
/// # Errors
/// When a file cannot be written.
pub fn man(args: &ManArgs) -> io::Result<ExitCode> {
    fs::create_dir_all(&args.folder)?;
    let mut command = Args::command();
    command.build();
    pages(&command, "katonic-logging", &args.folder)?;
    Ok(ExitCode::SUCCESS)
}

fn pages(command: &clap::Command, name: &str, folder: &Path) -> io::Result<()> {
    let mut page = Vec::new();
    Man::new(command.clone()).title(name).render(&mut page)?;
    fs::write(folder.join(format!("{name}.1")), page)?;
    let shown = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help");
    for command in shown {
        pages(command, &format!("{name}-{}", command.get_name()), folder)?;
    }
    Ok(())
}

/// Prints what a field means.
///
/// # Errors
/// When stdout cannot be written to.
pub fn explain_field(args: &ExplainArgs) -> io::Result<ExitCode> {
    match explain(&args.path, args.recursive) {
        Ok(text) => print(text.as_bytes()),
        Err(unknown) => {
            eprintln!("error: {unknown}");
            Ok(ExitCode::FAILURE)
        }
    }
}
