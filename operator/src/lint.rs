//! `katonic-logging lint`: reads files, has the core look at them, and prints what it finds. Talks to no cluster.

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use katonic_logging_core::{
    lint::{
        Outcome, Source, Surroundings,
        finding::{Severity, shown},
        format, lint,
    },
    names,
};

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
    /// Files with manifests in YAML or JSON, folders of such files, or - for stdin.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Warnings are errors.
    #[arg(long)]
    pub strict: bool,
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

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} cannot be read: {source}: name a file or a folder that there is, or - for stdin",
    shown(name)
)]
pub struct Unreadable {
    name: String,
    source: io::Error,
}

/// Looks at the files and prints what is found.
pub fn run(args: &LintArgs) -> ExitCode {
    let stopped = |error: &dyn fmt::Display| {
        eprintln!("error: {error}");
        ExitCode::from(3)
    };
    let stdin = Path::new("-");
    if args.installation.as_deref() == Some(stdin) && args.files.iter().any(|file| file == stdin) {
        eprintln!(
            "error: stdin can be the installation or a file with policies, and not both: name a file for one of them"
        );
        return ExitCode::from(2);
    }
    let (sources, surroundings) = match read(args) {
        Ok(read) => read,
        Err(error) => return stopped(&error),
    };
    let outcome = lint(&sources, &surroundings);
    if let Err(error) = print(&outcome, args.output) {
        // Whoever has read enough closes the pipe.
        if error.kind() != io::ErrorKind::BrokenPipe {
            return stopped(&format!("failed to write to stdout: {error}"));
        }
    }
    let is_wrong =
        outcome.count(Severity::Error) > 0 || (args.strict && !outcome.findings.is_empty());
    ExitCode::from(u8::from(is_wrong))
}

fn read(args: &LintArgs) -> Result<(Vec<Source>, Surroundings), Unreadable> {
    let surroundings = Surroundings {
        namespace: args.namespace.clone(),
        secrets: args.secrets.iter().cloned().collect(),
        installation: args.installation.as_deref().map(read_file).transpose()?,
    };
    Ok((sources(&args.files)?, surroundings))
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

/// Every file that is named, once, in the order in which they are named; those of folders in the order of their names.
///
/// # Errors
/// When one of them cannot be read.
pub fn sources(paths: &[PathBuf]) -> Result<Vec<Source>, Unreadable> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            folder(path, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        let name = paths.first().map(|path| path.display().to_string());
        return Err(Unreadable {
            name: name.unwrap_or_default(),
            source: io::Error::other("there is no .yaml, .yml or .json file in it"),
        });
    }
    let mut seen = BTreeSet::new();
    // By whichever way it was come to.
    files.retain(|file| seen.insert(fs::canonicalize(file).unwrap_or_else(|_| file.clone())));
    files.iter().map(|file| read_file(file)).collect()
}

fn folder(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Unreadable> {
    let failed = |source| Unreadable {
        name: path.display().to_string(),
        source,
    };
    let entries = fs::read_dir(path).map_err(failed)?;
    let mut entries = entries.collect::<io::Result<Vec<_>>>().map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        // A link to a folder may lead back.
        if entry.file_type().map_err(failed)?.is_dir() {
            folder(&path, files)?;
            continue;
        }
        let extension = path.extension().and_then(|extension| extension.to_str());
        // A link that leads nowhere cannot be read, and that is told.
        if matches!(extension, Some("yaml" | "yml" | "json")) && !path.is_dir() {
            files.push(path);
        }
    }
    Ok(())
}

/// A file, or stdin.
///
/// # Errors
/// When it cannot be read.
pub fn read_file(file: &Path) -> Result<Source, Unreadable> {
    let (name, bytes) = if file == Path::new("-") {
        let mut bytes = Vec::new();
        let read = io::stdin().read_to_end(&mut bytes);
        ("stdin".to_owned(), read.map(|_| bytes))
    } else {
        (file.display().to_string(), fs::read(file))
    };
    match bytes {
        Ok(bytes) => Ok(Source { name, bytes }),
        Err(source) => Err(Unreadable { name, source }),
    }
}
