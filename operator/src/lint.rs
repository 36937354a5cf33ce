//! `katonic-logging lint`: reads files, has the core look at them, and prints what it finds. Talks to no cluster.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use katonic_logging_core::lint::{Outcome, finding::Severity, format, lint};

use crate::files::{FilesArgs, printed, stopped};

/// What the command says of itself.
pub const ABOUT: &str = "\
Looks at policies in files and says everything that the API server and the operator would say, without a cluster.

The definitions of the policies and their rules are those that this program installs. What several objects have among each \
other is looked at as well: policies that ask different things of one place, Secrets, and the installation, if its ConfigMap is \
among the files. Objects of other kinds are passed over and counted.

Folders are gone through with all that is in them, .yaml, .yml and .json files, without what is hidden. What `helm template` or \
`kustomize build` prints is read from stdin, as -.";

/// How it ends, and how it is used.
pub const HELP: &str = "\
Exit codes:
  0  nothing is wrong; there may be warnings
  1  something is wrong, or, with --strict, there is a warning
  2  the command line is wrong
  3  a file cannot be read

Examples:
  katonic-logging lint policies/
  kustomize build overlays/production | katonic-logging lint --strict -
  katonic-logging lint -o github --secret splunk --installation installation.yaml policies/";

/// What is looked at, and how it is told.
#[derive(Clone, Debug, clap::Args)]
pub struct LintArgs {
    /// What is looked at.
    #[command(flatten)]
    pub input: FilesArgs,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Warnings are errors.
    #[arg(long)]
    pub strict: bool,
}

/// The form in which findings are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Output {
    /// A line for each finding: `file:line:column: error: what is wrong`.
    Text,
    /// For programs.
    Json,
    /// SARIF 2.1.0, for forges that show findings beside the lines.
    Sarif,
    /// Annotations of GitHub Actions.
    Github,
}

/// Looks at the files and prints what is found.
pub fn run(args: &LintArgs) -> ExitCode {
    let (sources, surroundings) = match args.input.read() {
        Ok(read) => read,
        Err(error) => return stopped(error.code(), &error),
    };
    let outcome = lint(&sources, &surroundings);
    if let Err(code) = printed(print(&outcome, args.output)) {
        return code;
    }
    let is_wrong =
        outcome.count(Severity::Error) > 0 || (args.strict && !outcome.findings.is_empty());
    ExitCode::from(u8::from(is_wrong))
}

fn print(outcome: &Outcome, output: Output) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match output {
        Output::Text => stdout.write_all(format::text(outcome).as_bytes())?,
        Output::Github => stdout.write_all(format::github(outcome).as_bytes())?,
        Output::Json => writeln!(stdout, "{:#}", format::json(outcome))?,
        Output::Sarif => writeln!(stdout, "{:#}", format::sarif(outcome))?,
    }
    stdout.flush()?;
    if matches!(output, Output::Text | Output::Github) {
        writeln!(io::stderr(), "{}", format::summary(outcome))?;
    }
    Ok(())
}
