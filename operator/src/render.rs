//! `katonic-logging render`: reads files, has the core plan for them, and prints what the operator would write. Talks to no cluster.

use std::{
    fmt,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use katonic_logging_core::{
    lint::{Surroundings, finding::Severity, format, read},
    names,
    preview::{Preview, preview},
};

use crate::lint::{Unreadable, read_file, sources};

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
    /// Files with manifests in YAML or JSON, folders of such files, or - for stdin.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    pub output: Output,
    /// Secret that the cluster has already, in the operator's namespace; may be repeated.
    #[arg(long = "secret", value_name = "NAME")]
    pub secrets: Vec<String>,
    /// The installation: installation.yaml, or the ConfigMap that holds it; otherwise its ConfigMap is looked for among the files.
    #[arg(long, value_name = "FILE")]
    pub installation: Option<PathBuf>,
    /// Namespace of the operator, and of the Secrets that policies name.
    #[arg(short, long, default_value = names::OPERATOR_NAMESPACE)]
    pub namespace: String,
}

/// The form in which objects are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Output {
    /// Documents of YAML.
    Yaml,
    /// A List in JSON.
    Json,
}

/// Why nothing is printed.
enum Stop {
    Unreadable(Unreadable),
    Wrong(String),
}

/// Plans for the files and prints the plan.
pub fn run(args: &RenderArgs) -> ExitCode {
    let preview = match planned(args) {
        Ok(preview) => preview,
        Err(Stop::Unreadable(error)) => return stopped(3, &error),
        Err(Stop::Wrong(error)) => return stopped(1, &error),
    };
    for why in &preview.left_out {
        eprintln!("left out: {why}");
    }
    match print(&preview, args.output) {
        // Whoever has read enough closes the pipe.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            stopped(3, &format!("failed to write to stdout: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn stopped(code: u8, error: &dyn fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(code)
}

fn planned(args: &RenderArgs) -> Result<Preview, Stop> {
    let installation = args.installation.as_deref().map(read_file).transpose();
    let surroundings = Surroundings {
        namespace: args.namespace.clone(),
        secrets: args.secrets.iter().cloned().collect(),
        installation: installation.map_err(Stop::Unreadable)?,
    };
    let sources = sources(&args.files).map_err(Stop::Unreadable)?;
    let (mut outcome, content) = read(&sources, &surroundings);
    outcome
        .findings
        .retain(|finding| finding.severity == Severity::Error);
    if !outcome.findings.is_empty() {
        let findings = format::text(&outcome);
        return Err(Stop::Wrong(format!(
            "nothing is rendered of files with mistakes:\n{}",
            findings.trim_end()
        )));
    }
    let installation = content.installation.as_ref().ok_or_else(|| {
        Stop::Wrong(format!(
            "there is no installation among the files: name it with --installation, or name the file with the ConfigMap {}",
            names::INSTALLATION
        ))
    })?;
    preview(&content, installation, &args.namespace).map_err(|error| Stop::Wrong(error.to_string()))
}

fn print(preview: &Preview, output: Output) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match output {
        Output::Yaml => {
            for object in &preview.objects {
                let options = serde_saphyr::ser_options! {
                    // Long text stays on its line: folding it helps nobody who compares.
                    folded_wrap_chars: usize::MAX,
                };
                let yaml = serde_saphyr::to_string_with_options(object, options);
                write!(stdout, "---\n{}", yaml.map_err(io::Error::other)?)?;
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
