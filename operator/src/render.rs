//! `katonic-logging render`: reads files, has the core plan for them, and prints what the operator would write. Talks to no cluster.

use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
};

use katonic_logging_core::{
    lint::{finding::Severity, format, read},
    names,
    preview::{Preview, preview},
};

use crate::{
    files::{FilesArgs, printed, stopped},
    inject,
};

/// What the command says of itself.
pub const ABOUT: &str = "\
Prints what the operator would write to a cluster for policies in files, without a cluster.

That is what agents are told (as they read it, with no credential in it), what is done to new pods, and what the event tracker is told. \
Equal files give equal output, so that two versions of them can be compared. It is there to be read: no API server takes it.

The files are those that lint takes; with an error in them nothing is printed. What a policy asks for and does not get is said on stderr.";

/// How it ends, and how it is used.
pub const HELP: &str = "\
Exit codes:
  0  everything is printed; what was left out is said on stderr
  1  something is wrong with the files, or there is no installation among them
  2  the command line is wrong
  3  a file cannot be read

Examples:
  katonic-logging render --installation manifests/installation.yaml --secret splunk policies/
  kustomize build overlays/production | katonic-logging render -";

/// What is planned for, and the form of the output.
#[derive(Clone, Debug, clap::Args)]
pub struct RenderArgs {
    /// What is planned for.
    #[command(flatten)]
    pub input: FilesArgs,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    pub output: Output,
}

/// The form in which objects are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Output {
    /// Documents of YAML.
    Yaml,
    /// A List in JSON.
    Json,
}

/// Plans for the files and prints the plan.
pub fn run(args: &RenderArgs) -> ExitCode {
    let preview = match planned(&args.input) {
        Ok(preview) => preview,
        Err(code) => return code,
    };
    for why in &preview.left_out {
        eprintln!("left out: {why}");
    }
    match printed(print(&preview, args.output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}

fn planned(input: &FilesArgs) -> Result<Preview, ExitCode> {
    let wrong = |why: &dyn fmt::Display| stopped(1, why);
    let (sources, surroundings) = input
        .read()
        .map_err(|error| stopped(error.code(), &error))?;
    let (mut outcome, content) = read(&sources, &surroundings);
    outcome
        .findings
        .retain(|finding| finding.severity == Severity::Error);
    if !outcome.findings.is_empty() {
        let findings = format::text(&outcome);
        return Err(wrong(&format_args!(
            "nothing is rendered of files with mistakes:\n{}",
            findings.trim_end()
        )));
    }
    let installation = content.installation.as_ref().ok_or_else(|| {
        wrong(&format_args!(
            "there is no installation among the files: name it with --installation, or name the file with the ConfigMap {}",
            names::INSTALLATION
        ))
    })?;
    preview(&content, installation, &input.namespace).map_err(|error| wrong(&error))
}

fn print(preview: &Preview, output: Output) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match output {
        Output::Yaml => {
            for object in &preview.objects {
                let yaml = inject::document(object).map_err(io::Error::other)?;
                write!(stdout, "{yaml}")?;
            }
        }
        Output::Json => {
            let list =
                serde_json::json!({"apiVersion": "v1", "kind": "List", "items": preview.objects});
            writeln!(stdout, "{list:#}")?;
        }
    }
    stdout.flush()
}
